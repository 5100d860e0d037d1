//! Slow callers: none keeps its place for ever, and none slows another.

use crate::support::client::{Raw, Request};
use crate::support::gateway::{ALL, Setup};
use crate::support::tls::H2;
use crate::support::upstream::Answer;
use crate::support::within;
use bytes::Bytes;
use keygate::values::clock::Clock;
use std::time::Duration;

fn with(limits: &str) -> String {
    let tls = "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]";
    ALL.replace("listen: [{ address: 127.0.0.1:0 }]", tls) + &format!("limits: {{ {limits} }}\n")
}

/// Nothing but the pace of bodies ends anything.
const PATIENT: &str = "upstream_first_byte_timeout: 1h, stream_idle_timeout: 1h";

/// The head of an upload of so many bytes by the token `free`.
fn head(setup: &Setup, length: usize) -> String {
    format!(
        "POST /v1/files HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
        setup.token("free")
    )
}

/// Until so many bytes of bodies have reached the upstream.
async fn arrived(setup: &Setup, bytes: usize) {
    within("the body to arrive", async {
        while setup.upstream.received().iter().map(|r| r.body.len()).sum::<usize>() < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_drips_is_ended_and_one_that_keeps_its_pace_is_not() {
    let setup = Setup::with(&with(PATIENT)).await;
    let (mut drips, mut keeps) =
        (Raw::connect(setup.addr()).await, Raw::connect(setup.addr()).await);
    drips.send(head(&setup, 1_000_000)).await;
    keeps.send(head(&setup, 10 * 32_768)).await;
    let mut sent = 0;
    for _ in 0..5 {
        drips.send("x").await;
        keeps.send(vec![b'x'; 32_768]).await;
        sent += 32_769;
        arrived(&setup, sent).await;
        setup.clock.advance(11_000);
    }
    setup.clock.advance(4_000);
    // Both have had 59 seconds; one has brought five bytes.
    keeps.send(vec![b'x'; 32_768]).await;
    arrived(&setup, sent + 32_768).await;
    setup.clock.advance(2_000);
    let answer = drips.read_response().await;
    answer.assert_denied(400, "invalid_body");
    assert!(answer.text().contains("too slowly"), "{}", answer.text());
    drips.assert_closed().await;
    keeps.send(vec![b'x'; 4 * 32_768]).await;
    keeps.read_response().await.assert_status(200);
    let seen = setup.upstream.received();
    assert_eq!(seen.iter().filter(|r| r.complete).count(), 1, "the other one stays incomplete");
    let slow = setup.metric(r#"keygate_sessions_cut_total{reason="slow_body"}"#);
    assert_eq!(slow, 1.0, "it is counted");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn on_http2_a_body_that_drips_ends_alone() {
    let setup = Setup::with(&with(PATIENT)).await;
    let h2 = H2::connect(setup.tls()).await;
    let request = http::Request::post("https://gate.test/v1/files")
        .header("authorization", format!("Bearer {}", setup.token("free")));
    let (response, mut body) = h2.begin(request.body(()).expect("good parts"), false).await;
    body.send_data(Bytes::from_static(b"x"), false).expect("it is open");
    arrived(&setup, 1).await;
    setup.clock.advance(61_000);
    let answer = within("the refusal", response).await.expect("it is answered");
    assert_eq!(answer.status(), 400);
    setup.assert_nothing_is_left_open().await;
    h2.send(setup.chat("free")).await.assert_status(200);
    assert_eq!(setup.upstream.received().iter().filter(|r| r.complete).count(), 1);
}

#[tokio::test]
async fn answers_and_sockets_have_no_pace() {
    let setup = Setup::with(&with(PATIENT)).await;
    setup.upstream.answer(Answer::sse(["one", "two"]).gated());
    let mut stream = setup.chat("free").open().await;
    setup.upstream.release();
    assert_eq!(stream.next_event().await.expect("an event").data, "one");
    setup.clock.advance(10 * 60_000);
    // The sweep has looked twice by then.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    setup.upstream.release();
    assert!(stream.rest().await.complete, "the request's body had long ended");
}

#[tokio::test]
async fn a_body_that_is_read_first_has_its_time_and_no_more() {
    let setup = Setup::at(&with("idle_timeout: 1s"), Clock::system()).await;
    let mut raw = Raw::connect(setup.addr()).await;
    let head = head(&setup, 60_000).replace(setup.token("free"), setup.token("scoped"));
    raw.send(head.replace("/v1/files", "/v1/chat/completions")).await;
    let dripping = async {
        while raw.try_send("x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // It drips for as long as it is let; the answer is there, and the drain has an end too.
    within("the end of the drain", dripping).await;
    setup.assert_nothing_is_left_open().await;
    assert!(setup.upstream.received().is_empty(), "the upstream saw nothing");
    let line = within("a line", async {
        while setup.access_log().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        setup.access_log().remove(0)
    })
    .await;
    assert_eq!(
        (line["status"].as_u64(), line["denial"].as_str()),
        (Some(400), Some("invalid_body"))
    );
}

/// Sends a request whose answer never ends, and reads its head alone.
async fn unread(setup: &Setup, request: Request) -> crate::support::client::Open {
    setup.upstream.answer_next(Answer::sse(["flood".repeat(1_000)]).flood());
    let open = request.open().await;
    assert_eq!(open.status, 200);
    open
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_the_provider_back_and_is_ended() {
    let limits = "upstream_first_byte_timeout: 30s, stream_idle_timeout: 2s";
    let mut setup = Setup::at(&with(limits), Clock::system()).await;
    let stalled = unread(&setup, setup.chat("free")).await;
    setup.chat("free").send().await.assert_status(200);
    // Nobody reads, so nothing moves; that is what ends it.
    setup.assert_nothing_is_left_open().await;
    within("the provider's connection to end", async {
        while setup.upstream.connections().iter().filter(|c| c.closed.is_some()).count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let log = setup.access_log();
    let line = log.iter().find(|l| l["denial"] == "upstream_timeout").expect("its line");
    // What two sockets and the gateway between them hold, and no more.
    let bytes = line["bytes_out"].as_u64().expect("a number");
    assert!(bytes < 32 << 20, "{bytes} bytes went through a gateway that nobody reads from");
    drop(stalled);
    setup.stop().await;
}

#[tokio::test]
async fn good_callers_are_served_among_two_hundred_slow_ones() {
    let limits = format!("{PATIENT}, connections_per_address: 1000");
    let setup = Setup::with(&with(&limits)).await;
    let (mut heads, mut bodies, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..70 {
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send("GET /v1/models HTTP/1.1\r\nHost: h\r\nX-A: ").await;
        heads.push(raw);
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(head(&setup, 1_000_000) + "x").await;
        bodies.push(raw);
        if n % 2 == 0 {
            readers.push(unread(&setup, setup.chat("free")).await);
        } else {
            let mut raw = Raw::connect(setup.addr()).await;
            raw.send(
                setup.chat("free").header("Expect", "100-continue").to_bytes()[..100].to_vec(),
            )
            .await;
            heads.push(raw);
        }
    }
    for _ in 0..20 {
        setup.chat("free").send().await.assert_status(200);
        setup.chat("scoped").send().await.assert_status(200);
        H2::connect(setup.tls()).await.send(setup.chat("free")).await.assert_status(200);
    }
    assert_eq!(heads.len() + bodies.len() + readers.len(), 210, "all are there");
}

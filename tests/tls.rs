//! TLS listeners and HTTP/2: what holds on a bare socket holds here too, certificates are exchanged
//! under load, and one stream can be ended without its neighbours.

use crate::support::client::{Raw, Request};
use crate::support::gateway::{ALL, Setup};
use crate::support::process;
use crate::support::tls::{self, H2, Pair, bridge, shake_hands, shown};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// The promise of a second, and what a loaded machine may add.
const SOON: Duration = Duration::from_secs(3);

fn config() -> String {
    let plain = "listen: [{ address: 127.0.0.1:0 }]";
    assert!(ALL.contains(plain), "the usual listener");
    ALL.replace(plain, "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]")
}

fn with_limits(limits: &str) -> String {
    format!("{}limits: {{ {limits} }}\n", config())
}

/// Waits until a metric has come up to `count`: it is counted behind what a caller sees of it.
async fn counted(setup: &Setup, series: &str, count: f64) {
    within(series, async {
        while setup.metric(series) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_upstream_sees_one_canonical_request_whatever_carried_it() {
    let setup = Setup::with(&config()).await;
    let bridged = bridge(setup.tls()).await;
    let h2 = H2::connect(setup.tls()).await;
    setup.chat("free").to(bridged).send().await.assert_status(200);
    h2.send(setup.chat("free")).await.assert_status(200);
    h2.send(setup.chat("scoped").chunked(7)).await.assert_status(200);
    let key = format!("Bearer {}", setup.key("openai"));
    for seen in setup.upstream.wait_for(3).await {
        assert_eq!(seen.target, "/v1/chat/completions", "the origin form");
        assert_eq!(seen.version, "HTTP/1.1");
        assert_eq!(format!("http://{}", seen.header("host").unwrap()), setup.upstream.url());
        assert_eq!(seen.header("authorization"), Some(&*key));
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        assert!(!raw.contains(setup.token("free")) && !raw.contains(setup.token("scoped")));
        assert_eq!(seen.json()["model"], "gpt-4o-mini", "the body arrived");
    }
}

#[tokio::test]
async fn a_protocol_is_agreed_upon_or_http_1_is_spoken() {
    let setup = Setup::with(&config()).await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = shake_hands(setup.tls(), offered).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    assert!(shake_hands(setup.tls(), &["spdy/1"]).await.is_err(), "nothing in common");
    let refused = r#"keygate_connections_refused_total{reason="tls_handshake"}"#;
    counted(&setup, refused, 1.0).await;
    assert!(shake_hands(setup.addr(), &[]).await.is_err(), "a plain listener has no TLS");
}

#[tokio::test]
async fn a_model_is_found_in_a_body_that_no_header_announces() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    let other = setup
        .request("POST", "/v1/chat/completions")
        .bearer(setup.token("scoped"))
        .json(r#"{"model":"gpt-5"}"#);
    h2.send(other.clone().chunked(4)).await.assert_denied(403, "model_not_allowed");
    h2.send(other).await.assert_denied(403, "model_not_allowed");
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
}

#[tokio::test]
async fn an_empty_last_frame_leaves_nothing_behind_on_the_connection_to_the_provider() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    let path = "/v1/chat/completions";
    let empty = setup.request("POST", path).bearer(setup.token("free")).body("text/plain", "");
    // Bodies without a length are ended by a frame of their own, which is empty.
    for request in [setup.chat("free").chunked(7), empty.chunked(7), setup.chat("free")] {
        h2.send(request).await.assert_status(200);
    }
    let seen = setup.upstream.received();
    let targets: Vec<_> = seen.iter().map(|request| &*request.target).collect();
    assert_eq!(targets, [path; 3], "a stray chunk reads as a request: {seen:#?}");
    for request in &seen[..2] {
        let ends = request.raw.windows(5).filter(|w| w == b"0\r\n\r\n").count();
        assert_eq!(ends, 1, "one last chunk: {}", String::from_utf8_lossy(&request.raw));
    }
    assert_eq!(setup.upstream.connections().len(), 1, "the connection is kept");
}

#[tokio::test]
async fn refusals_are_seen_behind_large_bodies_and_the_connection_goes_on() {
    let setup = Setup::with(&with_limits("max_body: 6MiB")).await;
    let h2 = H2::connect(setup.tls()).await;
    let body = |token: &str, size: usize| {
        let path = "/v1/chat/completions";
        setup.request("POST", path).bearer(token).body("application/json", vec![b' '; size])
    };
    for _ in 0..3 {
        h2.send(body("ptk_unknown", 5 << 20)).await.assert_denied(401, "token_invalid");
        h2.send(body(setup.token("scoped"), 5 << 20)).await.assert_denied(400, "invalid_body");
        h2.send(body(setup.token("scoped"), 7 << 20)).await.assert_denied(413, "body_too_large");
        h2.send(body(setup.token("free"), 7 << 20)).await.assert_denied(413, "body_too_large");
        let chunked = body(setup.token("free"), 7 << 20).chunked(9);
        h2.send(chunked).await.assert_denied(413, "body_too_large");
        h2.send(setup.chat("free")).await.assert_status(200);
    }
    h2.send(body(setup.token("free"), 5 << 20)).await.assert_status(200);
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn locations_lead_back_by_the_scheme_and_name_that_the_caller_used() {
    let setup = Setup::with(&config()).await;
    let there = setup.upstream.url();
    setup.upstream.answer(Answer::json(201, "{}").header("Location", format!("{there}/v1/y")));
    let ask = || setup.request("POST", "/v1/x").bearer(setup.token("free")).host("gate.test:99");
    let bridged = bridge(setup.tls()).await;
    let h2 = H2::connect(setup.tls()).await;
    for answer in [ask().to(bridged).send().await, h2.send(ask()).await] {
        assert_eq!(answer.header("location"), Some("https://gate.test:99/v1/y"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_error_answer_is_searched_on_http2_too() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    let leaky = format!(r#"{{"error":{{"message":"bad key {}"}}}}"#, setup.key("openai"));
    setup.upstream.answer(Answer::json(500, leaky));
    let answer = h2.send(setup.chat("free")).await;
    answer.assert_status(500);
    assert!(answer.text().contains("bad key") && !answer.text().contains(setup.key("openai")));
    setup.upstream.answer(Answer::json(401, r#"{"error":{"code":"invalid_api_key"}}"#));
    h2.send(setup.chat("free")).await.assert_denied(502, "upstream_rejected_key");
}

#[tokio::test]
async fn cookies_that_http2_has_split_reach_a_generic_provider_as_one() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    let request = setup.request("GET", "/tools/x").bearer(setup.token("free"));
    h2.send(request.header("cookie", "a=1").header("cookie", "b=2")).await.assert_status(200);
    assert_eq!(setup.upstream.only_request().header("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn what_http2_has_no_place_for_is_refused_and_harms_nobody() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    let connect = http::Request::connect("gate.test:443").body(()).expect("a request");
    let (answer, _) = h2.begin(connect, true).await;
    assert_eq!(within("an answer", answer).await.expect("an answer").status(), 405);
    let socket = setup.request("GET", "/v1/realtime?model=gpt-realtime").bearer("ptk_x");
    h2.send(socket.header("sec-websocket-version", "13")).await.assert_denied(401, "token_invalid");
    for (name, value) in [("x-big", "x".repeat(40_000)), ("x-huge", "x".repeat(100_000))] {
        // The one is refused in words, the other before the gate sees it.
        let answer = h2.try_open(setup.chat("free").header(name, value)).await;
        assert!(answer.is_err() || answer.is_ok_and(|a| a.status == 431), "{name}");
    }
    h2.send(setup.chat("free")).await.assert_status(200);
    assert_eq!(setup.upstream.received().len(), 1, "only the good one");
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` for gate.test, as HPACK has it.
fn get() -> Vec<u8> {
    [&[0x82, 0x87, 0x84, 0x41, 9][..], b"gate.test"].concat()
}

/// Sends frames on one connection until the other side ends it, and gives whether it said why.
async fn flood(setup: &Setup, next: impl Fn(u32) -> Vec<u8>) -> bool {
    let tls = shake_hands(setup.tls(), &["h2"]).await.expect("a handshake");
    let (mut reader, mut writer) = tokio::io::split(tls);
    let read = async {
        let mut got = Vec::new();
        let _ = reader.read_to_end(&mut got).await;
        got
    };
    let write = async {
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        let mut sent = writer.write_all(&preface).await;
        let mut number = 0;
        while sent.is_ok() {
            let batch: Vec<u8> = (0..100).flat_map(|n| next(number + n)).collect();
            number += 100;
            sent = writer.write_all(&batch).await;
        }
    };
    let (got, ()) = within("the flood to be ended", async { tokio::join!(read, write) }).await;
    let calm = 11_u32.to_be_bytes();
    got.windows(4).any(|window| window == calm)
}

#[tokio::test]
async fn floods_end_their_connection_and_others_are_served_meanwhile() {
    let setup = Setup::with(&config()).await;
    let odd = |number: u32| number * 2 + 1;
    let resets = flood(&setup, |number| {
        let headers = frame(HEADERS, END_HEADERS, odd(number), &get());
        [headers, frame(RST_STREAM, 0, odd(number), &8_u32.to_be_bytes())].concat()
    });
    let endless = flood(&setup, |number| match number {
        0 => frame(HEADERS, 0, 1, &get()),
        _ => frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 100][..], &[b'y'; 100]].concat()),
    });
    let good = async {
        let h2 = H2::connect(setup.tls()).await;
        for _ in 0..20 {
            h2.send(setup.chat("free")).await.assert_status(200);
        }
    };
    let (resets, endless, ()) = tokio::join!(resets, endless, good);
    assert!(resets, "rapid resets are told to calm down");
    assert!(endless, "and so are headers without an end");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn pings_that_nobody_reads_the_answers_of_are_not_piled_up() {
    let setup = Setup::with(&config()).await;
    let mut tls = shake_hands(setup.tls(), &["h2"]).await.expect("a handshake");
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    tls.write_all(&preface).await.expect("written");
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    let mut sent = 0_usize;
    // Unread answers must push back: a bounded amount is taken, then nothing, or an end.
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_millis(500), tls.write_all(&pings)).await
    {
        sent += pings.len();
        assert!(sent < 64 << 20, "pings are taken without end");
    }
    let h2 = H2::connect(setup.tls()).await;
    h2.send(setup.chat("free")).await.assert_status(200);
}

/// Handshakes, one after the other on several connections, until told to stop.
fn handshakes(setup: &Setup, stop: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> JoinSet<()> {
    let addr = setup.tls();
    let mut all = JoinSet::new();
    for _ in 0..4 {
        let (stop, count) = (stop.clone(), count.clone());
        all.spawn(async move {
            while !stop.load(SeqCst) {
                let h2 = H2::connect(addr).await;
                let answer = h2.send(Request::get(addr, "/v1/models")).await;
                answer.assert_denied(401, "token_missing");
                count.fetch_add(1, SeqCst);
            }
        });
    }
    all
}

async fn shows(setup: &Setup, pair: &Pair) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let expected = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
    shown(&shake_hands(setup.tls(), &["h2"]).await.expect("a handshake")) == expected
}

#[tokio::test]
async fn a_certificate_is_exchanged_under_load_and_a_bad_pair_never_replaces_a_good_one() {
    let mut setup = Setup::with(&config()).await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = handshakes(&setup, &stop, &count);
    let series = r#"keygate_certificate_not_after_seconds{listener="127.0.0.1:0"}"#;
    let mut last = setup.metric(series);
    assert!(last > 3e9, "its end is told: {last}");
    for year in [2080, 2070, 2060] {
        let pair = Pair::until(year);
        pair.write(setup.dir());
        setup.reload(&config()).await.expect("a good pair");
        assert!(shows(&setup, &pair).await, "a reload shows the new one");
        assert!(setup.metric(series) < last, "the metric follows");
        last = setup.metric(series);

        // Half of another pair, and rubbish.
        let other = Pair::until(2050);
        let cert = setup.dir().join("cert.pem");
        for (bad, file) in [(other.cert.as_str(), "cert"), ("", "cert"), ("rubbish", "cert")] {
            std::fs::write(&cert, bad).expect("writing");
            let why = setup.reload(&config()).await.expect_err("a bad pair");
            assert!(why.contains("listen[1].tls."), "{file}: {why}");
            assert!(shows(&setup, &pair).await, "the old pair is kept");
        }
        std::fs::remove_file(&cert).expect("removing");
        let why = setup.reload(&config()).await.expect_err("no certificate");
        assert!(why.contains("listen[1].tls.cert: can't read"), "{why}");
        assert!(shows(&setup, &pair).await, "the old pair is kept");
    }
    let so_far = count.load(SeqCst);
    within("handshakes after it all", async {
        while count.load(SeqCst) < so_far + 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stop.store(true, SeqCst);
    // Each of them panics where it fails.
    within("the last handshakes", load.join_all()).await;
    let failed = setup.metric(r#"keygate_connections_refused_total{reason="tls_handshake"}"#);
    assert_eq!(failed, 0.0, "not one handshake failed");
}

#[tokio::test]
async fn files_that_change_by_themselves_are_noticed() {
    let setup = Setup::with(&config()).await;
    let bad = Pair::until(2085);
    std::fs::write(setup.dir().join("cert.pem"), &bad.cert).expect("writing");
    let loads = |result| format!(r#"keygate_certificate_loads_total{{result="{result}"}}"#);
    within("the bad pair to be noticed", async {
        while setup.metric(&loads("failed")) == 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!shows(&setup, &bad).await, "a key of another certificate is not used");
    let good = Pair::until(2086);
    good.write(setup.dir());
    within("the new certificate to be shown", async {
        while !shows(&setup, &good).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(setup.metric(&loads("ok")), 1.0);
}

#[tokio::test]
async fn requests_keep_their_deadlines_while_a_certificate_can_not_be_read() {
    use std::os::unix::fs::OpenOptionsExt;
    const O_NONBLOCK: i32 = 0o4000;
    let yaml = with_limits("upstream_first_byte_timeout: 1s, stream_idle_timeout: 9s");
    let setup = Setup::at(&yaml, keygate::values::clock::Clock::system()).await;
    // A file that answers as a disk does that has gone: never.
    let cert = setup.dir().join("cert.pem");
    std::fs::remove_file(&cert).expect("removing");
    let made = std::process::Command::new("mkfifo").arg(&cert).status().expect("mkfifo runs");
    assert!(made.success(), "a pipe");
    let _reading = within("the gateway to read it", async {
        loop {
            // It opens as soon as somebody waits at the other end.
            let end = std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&cert);
            match end {
                Ok(end) => return end,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    setup.upstream.answer(Answer::hang());
    setup.chat("free").send().await.assert_denied(504, "upstream_timeout");
}

#[tokio::test]
async fn what_needs_a_restart_is_said_by_the_reload() {
    let mut setup = Setup::with(&config()).await;
    let without = config().replace(", tls: $TLS", "");
    let why = setup.reload(&without).await.expect_err("a listener can't lose its TLS");
    assert!(why.starts_with("listen: "), "{why}");
}

#[tokio::test]
async fn the_deadline_of_headers_covers_the_handshake_and_unfinished_ones_are_counted() {
    let limits = "header_timeout: 300ms, connections_per_address: 3";
    let setup = Setup::with(&with_limits(limits)).await;
    let begun = Instant::now();
    let mut silent = Raw::connect(setup.tls()).await;
    let mut half = Raw::connect(setup.tls()).await;
    half.send(b"\x16\x03\x01\x02\x00\x01").await;
    let shaken = H2::connect(setup.tls()).await;
    within("three connections", async {
        while setup.running().gateway().connections.open() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(shake_hands(setup.tls(), &["h2"]).await.is_err(), "a fourth is too many");
    silent.read_until_close().await;
    half.read_until_close().await;
    let _ = shaken.ended().await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < SOON, "ended after {took:?}");
    let h2 = H2::connect(setup.tls()).await;
    h2.send(setup.chat("free")).await.assert_status(200);
    // Between requests nothing is due.
    tokio::time::sleep(Duration::from_millis(500)).await;
    h2.send(setup.chat("free")).await.assert_status(200);
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let setup = Setup::with(&with_limits("idle_timeout: 500ms, header_timeout: 300ms")).await;
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let busy = H2::connect(setup.tls()).await;
    let mut stream = busy.open(setup.chat("free")).await;
    stream.next().await.expect("an event");
    setup.upstream.answer(Answer::json(200, "{}"));
    let idle = H2::connect(setup.tls()).await;
    idle.send(setup.chat("free")).await.assert_status(200);
    busy.send(setup.chat("free")).await.assert_status(200);
    let begun = Instant::now();
    let _ = idle.ended().await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    // Bytes between requests, while a stream is open, begin no deadline.
    tokio::time::sleep(Duration::from_millis(700)).await;
    busy.send(setup.chat("free")).await.assert_status(200);
    assert!(!busy.is_over(), "a stream is open on it");
}

/// Streams of both tokens on one connection, which answer by their path.
async fn two_streams(setup: &Setup, h2: &H2) -> (tls::Stream, tls::Stream) {
    setup.upstream.answer_with(|request| match &*request.target {
        "/v1/quiet" => Answer::sse(["quiet"]).endless(),
        "/v1/close" => Answer::sse(["close"]).until_close().endless(),
        "/v1/flood" => Answer::sse(["flood".repeat(3_000)]).flood(),
        "/v1/hang" => Answer::hang(),
        _ => Answer::sse((0..400).map(|n| n.to_string())).pause(Duration::from_millis(50)),
    });
    let busy = setup.request("GET", "/v1/busy").bearer(setup.token("free"));
    let quiet = setup.request("GET", "/v1/quiet").bearer(setup.token("other"));
    let (mut busy, mut quiet) = (h2.open(busy).await, h2.open(quiet).await);
    assert!(busy.next().await.expect("an event").is_some());
    assert!(quiet.next().await.expect("an event").is_some());
    (busy, quiet)
}

fn other(disabled: bool) -> String {
    format!("{}  - {{ name: other, sha256: $SHA(other), disabled: {disabled} }}\n", config())
}

async fn goes_on(stream: &mut tls::Stream) {
    for _ in 0..3 {
        assert!(stream.next().await.expect("a neighbour is unharmed").is_some());
    }
}

#[tokio::test]
async fn disabling_a_token_ends_its_stream_and_not_its_neighbours() {
    let mut setup = Setup::with(&other(false)).await;
    let h2 = H2::connect(setup.tls()).await;
    for path in ["/v1/quiet", "/v1/close", "/v1/flood"] {
        let (mut busy, _) = two_streams(&setup, &h2).await;
        let doomed = setup.request("GET", path).bearer(setup.token("other"));
        let mut doomed = h2.open(doomed).await;
        assert!(doomed.next().await.expect("an event").is_some());
        let begun = Instant::now();
        setup.reload(&other(true)).await.expect("a good file");
        let end = doomed.end().await.expect_err("it ends visibly unfinished");
        assert!(end.is_reset() && end.is_remote(), "the stream alone is reset: {end}");
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
        goes_on(&mut busy).await;
        let denied = setup.request("GET", "/v1/x").bearer(setup.token("other"));
        h2.send(denied).await.assert_denied(401, "token_invalid");
        setup.reload(&other(false)).await.expect("a good file");
        goes_on(&mut busy).await;
    }
    let log = setup.access_log();
    let cut = log.iter().filter(|l| l["denial"] == "token_revoked" && l["path"] != "/v1/x");
    assert!(cut.count() >= 3, "each has its line: {log:#?}");
}

#[tokio::test]
async fn over_tls_a_stream_of_http_1_is_ended_too() {
    let mut setup = Setup::with(&other(false)).await;
    let bridged = bridge(setup.tls()).await;
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let doomed = setup.request("GET", "/v1/quiet").bearer(setup.token("other")).to(bridged);
    let mut doomed = doomed.open().await;
    assert_eq!(doomed.next_event().await.expect("an event").data, "one");
    let begun = Instant::now();
    setup.reload(&other(true)).await.expect("a good file");
    assert!(!doomed.rest().await.complete, "it ends visibly unfinished");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refusal_that_is_not_read_does_not_hold_its_stream_for_ever() {
    let setup = Setup::with(&with_limits("idle_timeout: 500ms")).await;
    let mut settings = h2::client::Builder::new();
    let h2 = H2::with(setup.tls(), settings.initial_window_size(0)).await;
    let unread = h2.open(setup.request("GET", "/v1/models").bearer("ptk_x")).await;
    assert_eq!(unread.status, 401);
    within("its line in the log", async {
        while setup.access_log().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_caller_does_not_read_is_ended_too() {
    let mut setup = Setup::with(&other(false)).await;
    // What one stream leaves unread must not take the others' share of the connection.
    let mut settings = h2::client::Builder::new();
    let h2 = H2::with(setup.tls(), settings.initial_connection_window_size(1 << 20)).await;
    let (mut busy, _quiet) = two_streams(&setup, &h2).await;
    let flood = setup.request("GET", "/v1/flood").bearer(setup.token("other"));
    let _unread = h2.open(flood).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    setup.reload(&other(true)).await.expect("a good file");
    within("the stalled stream to be over", async {
        while setup.running().gateway().registry.open() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    goes_on(&mut busy).await;
    let log = setup.access_log();
    let line = log.iter().find(|l| l["path"] == "/v1/flood").expect("a line all the same");
    assert_eq!(
        (line["denial"].as_str(), line["status"].as_u64()),
        (Some("token_revoked"), Some(200))
    );
}

#[tokio::test]
async fn a_stream_that_times_out_ends_alone_before_and_after_its_first_byte() {
    // Pingora waits as long as the longer of both; the shorter is our own timer's.
    for (first_byte, idle) in [("1s", "9s"), ("9s", "1s")] {
        let limits = format!(
            "limits: {{ upstream_first_byte_timeout: {first_byte}, stream_idle_timeout: {idle} }}\n"
        );
        let clock = keygate::values::clock::Clock::system();
        let setup = Setup::at(&(other(false) + &limits), clock).await;
        let h2 = H2::connect(setup.tls()).await;
        let (mut busy, mut quiet) = two_streams(&setup, &h2).await;
        if idle == "1s" {
            assert!(quiet.end().await.expect_err("nothing moved on it").is_reset());
        } else {
            let hang = setup.request("GET", "/v1/hang").bearer(setup.token("other"));
            h2.send(hang).await.assert_denied(504, "upstream_timeout");
        }
        counted(&setup, r#"keygate_sessions_cut_total{reason="upstream_timeout"}"#, 1.0).await;
        goes_on(&mut busy).await;
        let begun = Instant::now();
        drop((busy, quiet));
        setup.assert_nothing_is_left_open().await;
        assert!(begun.elapsed() < SOON, "a caller that goes away ends its request");
    }
}

#[tokio::test]
async fn a_caller_that_resets_its_stream_is_logged_as_one_that_left_not_as_one_refused() {
    let setup = Setup::with(&config()).await;
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let h2 = H2::connect(setup.tls()).await;
    let mut stream = h2.open(setup.chat("free")).await;
    assert!(stream.next().await.expect("it begins").is_some());
    drop(stream);
    let line = within("its line in the log", async {
        loop {
            if let Some(line) = setup.access_log().pop() {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let line = line.await;
    assert_eq!((line["status"].as_u64(), line["denial"].as_str()), (Some(200), None), "{line}");
}

#[tokio::test]
async fn a_connection_to_the_provider_is_kept_and_not_hung_up_on_the_next_request() {
    let mut setup = Setup::with(&other(false)).await;
    let h2 = H2::connect(setup.tls()).await;
    for _ in 0..20 {
        let request = setup.request("GET", "/v1/models").bearer(setup.token("other"));
        h2.send(request).await.assert_status(200);
        setup.reload(&other(true)).await.expect("a good file");
        h2.send(setup.chat("free")).await.assert_status(200);
        setup.reload(&other(false)).await.expect("a good file");
    }
    assert_eq!(setup.upstream.connections().len(), 1, "one connection served all of them");
}

#[tokio::test]
async fn stopping_lets_streams_finish_and_says_goodbye() {
    let mut setup = Setup::with(&config()).await;
    let mut idle = shake_hands(setup.tls(), &["h2"]).await.expect("a handshake");
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get());
    idle.write_all(&[preface, request].concat()).await.expect("written");
    within("a denial", idle.read_exact(&mut [0; 100])).await.expect("an answer");
    setup.upstream.answer(Answer::sse(["one", "two"]).gated());
    let h2 = H2::connect(setup.tls()).await;
    setup.upstream.release();
    let mut stream = h2.open(setup.chat("free")).await;
    stream.next().await.expect("an event");
    let release = setup.upstream.releaser();
    let ((), (rest, ended, goodbye)) = tokio::join!(setup.stop(), async {
        (0..3).for_each(|_| release());
        // What had not been read of the answer, then the end.
        let mut goodbye = Vec::new();
        let _ = within("a goodbye", idle.read_to_end(&mut goodbye)).await;
        let rest = stream.end().await;
        (rest, h2.ended().await, goodbye)
    });
    assert!(rest.is_ok(), "the stream ran to its own end: {rest:?}");
    let goaway = [GOAWAY, 0, 0, 0, 0, 0];
    assert!(goodbye.windows(6).any(|w| w == goaway), "an idle connection is told: {goodbye:?}");
    assert!(ended.is_ok() || ended.is_err_and(|e| e.is_io()), "and one that was busy has ended");
}

#[tokio::test]
async fn a_drain_that_is_over_resets_what_is_left() {
    let mut setup = Setup::with(&with_limits("drain: 300ms")).await;
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let h2 = H2::connect(setup.tls()).await;
    let mut stream = h2.open(setup.chat("free")).await;
    stream.next().await.expect("an event");
    let begun = Instant::now();
    let ((), end) = tokio::join!(setup.stop(), stream.end());
    assert!(end.is_err(), "it ends visibly unfinished");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stream_to_a_provider_with_tls_is_ended_by_disabling_its_token() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::sse(["one"]).endless());
    let plain = upstream.url().strip_prefix("http://").expect("http").parse().expect("an address");
    let front = tls::front(plain).await;
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let (token, key) = (crate::support::canary::token(), crate::support::canary::key("openai"));
    let digest = keygate::values::ids::TokenDigest::of(token.as_bytes()).to_hex();
    Pair::until(2090).write(dir.path());
    std::fs::write(dir.path().join("ca.pem"), tls::authority()).expect("writing");
    std::fs::write(dir.path().join("openai.key"), key).expect("writing");
    let text = |disabled: bool| {
        let at = dir.path().display();
        format!(
            "listen: [{{ address: 127.0.0.1:0, tls: {{ cert: {at}/cert.pem, key: {at}/key.pem }} }}]\n\
             access_log: none\n\
             providers:\n  openai: {{ kind: openai, url: \"https://localhost:{}\", keys: [{{ file: {at}/openai.key }}] }}\n\
             tokens: [{{ name: t, sha256: \"{digest}\", disabled: {disabled} }}]\n",
            front.port()
        )
    };
    let file = dir.path().join("keygate.yaml");
    std::fs::write(&file, text(false)).expect("writing");
    let launch = process::keygate_in(&dir, ["serve", "-c"]).arg(&file);
    let ca = dir.path().join("ca.pem");
    let mut process = launch.env("SSL_CERT_FILE", &ca.display().to_string()).start();
    let log = process.wait_for_stderr("listening on ").await;
    let (_, addr) = log.split_once("listening on ").expect("it says where");
    let addr = addr.lines().next().and_then(|a| a.trim().parse().ok()).expect("an address");
    let h2 = H2::connect(addr).await;
    let request = Request::post(addr, "/v1/responses").bearer(&token).json("{}");
    let mut stream = h2.open(request).await;
    assert_eq!(stream.status, 200);
    assert!(stream.next().await.expect("an event").is_some());
    std::fs::write(&file, text(true)).expect("writing");
    let begun = Instant::now();
    process.signal("HUP");
    let end = stream.end().await.expect_err("it ends visibly unfinished");
    assert!(end.is_reset(), "{end}");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

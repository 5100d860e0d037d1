//! Deadlines and limits of connections, streams and answers.

use crate::support::client::Raw;
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;
use keygate::values::clock::Clock;
use std::time::{Duration, Instant};

fn with(limits: &str) -> String {
    format!("{ALL}limits: {{ {limits} }}\n")
}

#[tokio::test]
async fn headers_that_trickle_are_cut_off_at_an_absolute_deadline() {
    let setup = Setup::with(&with("header_timeout: 400ms")).await;
    let mut raw = Raw::connect(setup.addr()).await;
    let begun = Instant::now();
    raw.send("GET /v1/models HTTP/1.1\r\n").await;
    // A byte now and then resets a timeout per read, not an absolute one.
    while raw.try_send("x").await.is_ok() && begun.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "trickling went on for {:?}",
        begun.elapsed()
    );
    let mut silent = Raw::connect(setup.addr()).await;
    silent.assert_closed().await;
}

#[tokio::test]
async fn the_deadline_begins_anew_with_each_request_and_not_between_them() {
    let setup = Setup::with(&with("header_timeout: 400ms, idle_timeout: 20s")).await;
    let mut raw = Raw::connect(setup.addr()).await;
    setup.chat("free").send_on(&mut raw).await.assert_status(200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    setup.chat("free").send_on(&mut raw).await.assert_status(200);
    setup.upstream.answer(Answer::json(200, "{}").delay(Duration::from_millis(700)));
    setup.chat("free").send_on(&mut raw).await.assert_status(200);
    raw.send("GET /v1/mo").await;
    let begun = Instant::now();
    raw.assert_closed().await;
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "it had its time: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let setup = Setup::with(&with("idle_timeout: 1s")).await;
    let mut raw = Raw::connect(setup.addr()).await;
    setup.chat("free").send_on(&mut raw).await.assert_status(200);
    let begun = Instant::now();
    raw.assert_closed().await;
    assert!(begun.elapsed() >= Duration::from_millis(800), "not before: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_them_back() {
    let setup = Setup::with(&with("connections_per_address: 2")).await;
    let mut first = Raw::connect(setup.addr()).await;
    let mut second = Raw::connect(setup.addr()).await;
    setup.chat("free").send_on(&mut first).await.assert_status(200);
    setup.chat("free").send_on(&mut second).await.assert_status(200);
    let mut third = Raw::connect(setup.addr()).await;
    third.assert_closed().await;
    drop(first);
    crate::support::within("a place to come free", async {
        loop {
            let mut raw = Raw::connect(setup.addr()).await;
            if raw
                .exchange(&setup.chat("free").to_bytes(), false)
                .await
                .is_ok_and(|r| r.status == 200)
            {
                break;
            }
        }
    })
    .await;
    assert!(setup.metric(r#"keygate_connections_refused_total{reason="per_address"}"#) >= 1.0);
}

#[tokio::test]
async fn a_provider_that_keeps_silent_is_given_up_at_the_deadline() {
    let limits = "upstream_first_byte_timeout: 500ms, stream_idle_timeout: 30s";
    let setup = Setup::at(&with(limits), Clock::system()).await;
    setup.upstream.answer(Answer::hang());
    let answer = setup.chat("free").send().await;
    answer.assert_denied(504, "upstream_timeout");
    assert_eq!(answer.header("x-should-retry"), Some("false"), "the request was sent");
    assert_eq!(setup.upstream.received().len(), 1, "and is not repeated");
    setup.upstream.wait_for_close().await;
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_moves_is_ended_and_one_that_moves_is_kept() {
    let limits = "upstream_first_byte_timeout: 30s, stream_idle_timeout: 1s";
    let setup = Setup::at(&with(limits), Clock::system()).await;
    setup
        .upstream
        .answer(Answer::sse(["a", "b", "c", "d", "e", "f"]).pause(Duration::from_millis(400)));
    let whole = setup.chat("free").send().await;
    assert!(
        whole.complete && whole.text().contains('f'),
        "2.4 s in all, never idle for one: {whole:?}"
    );
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let rest = setup.chat("free").open().await.rest().await;
    assert!(!rest.complete, "it ends visibly unfinished");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn concurrency_is_given_back_however_a_request_ends() {
    let yaml = ALL.replace("policies:", "policies:\n  one: { concurrency: 1 }")
        + "  - { name: one, sha256: $SHA(one), policy: one }\n";
    let setup = Setup::with(&yaml).await;
    let endings = [
        Answer::json(200, "{}"),
        Answer::json(500, "{}"),
        Answer::json(401, "{}"),
        Answer::reset(),
        Answer::sse(["a", "b"]).die_after(3),
    ];
    for answer in endings {
        setup.upstream.answer(answer);
        let _ = setup.chat("one").open().await.rest().await;
        setup.assert_nothing_is_left_open().await;
    }
    // The caller leaves in the middle.
    setup.upstream.answer(Answer::sse(["a"]).endless());
    drop(setup.chat("one").open().await);
    setup.assert_nothing_is_left_open().await;
    setup.upstream.answer(Answer::json(200, "{}"));
    setup.chat("one").send().await.assert_status(200);
}

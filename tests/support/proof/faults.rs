//! What dies, hangs or floods is seen as what it is, from both sides.

use super::*;

async fn answered(answer: Answer) -> Result<crate::support::client::Response, ClientHow> {
    let upstream = Upstream::start().await;
    upstream.answer(answer);
    let answer = Request::post(upstream.addr(), "/").json("{}").try_send().await;
    answer.map_err(|ended| ended.how)
}

#[tokio::test]
async fn unfinished_answers_are_seen_as_unfinished() {
    let long = || Answer::body(200, "text/plain", "0123456789");
    for (answer, body) in [
        (long().die_after(4), "0123"),
        (long().split(3).die_after(4), "0123"),
        (long().split(5).die_after(10), "0123456789"),
        (Answer::status(200).chunks(["01", "23"]).truncate_chunked(), "0123"),
    ] {
        let response = answered(answer.clone()).await.expect("the head came");
        assert_eq!(response.text(), body, "{answer:?}");
        assert!(!response.complete, "{answer:?} must not look finished: {response:?}");
    }
    let reset = answered(long().until_close().reset_after(4)).await;
    assert!(!reset.is_ok_and(|r| r.complete), "a reset is no end");
}

#[tokio::test]
async fn connection_without_an_answer_is_told_apart() {
    assert_eq!(answered(Answer::reset()).await.unwrap_err(), ClientHow::Reset);
    assert_eq!(answered(Answer::raw("")).await.unwrap_err(), ClientHow::Fin);
    let raw = answered(Answer::raw("HTTP/1.1 299 Odd\r\ncontent-length: 1\r\n\r\nx")).await;
    assert_eq!(raw.expect("a head came").status, 299);
}

#[tokio::test]
async fn upstream_that_hangs_notices_how_the_caller_leaves() {
    for how in [How::Fin, How::Reset] {
        let upstream = Upstream::start().await;
        upstream.answer(Answer::hang());
        let mut raw = Raw::connect(upstream.addr()).await;
        raw.send(Request::get(upstream.addr(), "/").to_bytes()).await;
        upstream.wait_for(1).await;
        assert!(upstream.connections()[0].closed.is_none(), "it is still open");
        let left = Instant::now();
        match how {
            How::Reset => raw.reset(),
            _ => drop(raw),
        }
        let closed = upstream.wait_for_close().await;
        assert_eq!(closed.how, how);
        assert!(closed.at >= left, "it was open until then");
    }
}

#[tokio::test]
async fn dropped_upstream_ends_its_streams() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::sse(["one"]).endless());
    let mut stream = Request::get(upstream.addr(), "/").open().await;
    assert_eq!(stream.next_event().await.expect("the first event").data, "one");
    drop(upstream);
    assert!(stream.next_event().await.is_none(), "nothing more comes");
    assert!(!stream.rest().await.complete, "and that was not its proper end");
}

#[tokio::test]
async fn flood_flows_until_the_caller_leaves() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::status(200).chunks([vec![b'x'; 10_000]]).flood());
    let mut stream = Request::get(upstream.addr(), "/").open().await;
    let mut read = 0;
    while read < 500_000 {
        read += stream.next_chunk().await.expect("there is always more").len();
    }
    drop(stream);
    upstream.wait_for_close().await;
}

//! Events come when they are sent, and not before they may.

use super::*;

#[tokio::test]
async fn events_come_one_by_one_with_their_times() {
    let upstream = Upstream::start().await;
    let pause = Duration::from_millis(60);
    let events = ["one", "event: e\nid: 7\ndata: two\ndata: lines", ": comment", "[DONE]"];
    upstream.answer(Answer::sse(events).pause(pause));
    let mut stream = Request::get(upstream.addr(), "/").open().await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let mut seen = Vec::new();
    while let Some(event) = stream.next_event().await {
        seen.push(event);
    }
    let data: Vec<_> = seen.iter().map(|e| e.data.as_str()).collect();
    assert_eq!(data, ["one", "two\nlines", "", "[DONE]"]);
    assert_eq!((seen[1].event.as_deref(), seen[1].id.as_deref()), (Some("e"), Some("7")));
    let spread = seen[3].at - seen[0].at;
    // The reader may be late for the first event, but not by two pauses out of three.
    assert!(spread >= pause, "the events came apart: {spread:?}");
    assert!(stream.rest().await.complete, "the last chunk was seen");
}

#[tokio::test]
async fn gate_lets_one_chunk_pass_at_a_time() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::sse(["one", "two"]).gated());
    let mut stream = Request::get(upstream.addr(), "/").open().await;
    assert_eq!(stream.status, 200, "the head does not wait");
    let early = tokio::time::timeout(Duration::from_millis(50), stream.next_chunk()).await;
    assert!(early.is_err(), "nothing comes before its release");
    upstream.release();
    assert_eq!(stream.next_event().await.expect("released").data, "one");
    upstream.release();
    assert_eq!(stream.next_event().await.expect("released").data, "two");
    assert!(stream.next_event().await.is_none());
}

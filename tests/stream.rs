//! Streaming answers pass chunk by chunk as they come, and end as they end.

use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;

#[tokio::test]
async fn each_event_is_there_before_the_next_one_is_sent() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::sse(["one", "two", "three"]).gated());
    let mut stream = setup.chat("scoped").open().await;
    assert_eq!(stream.status, 200);
    for expected in ["one", "two", "three"] {
        // The upstream holds the next event back until it is told: nothing can be buffered.
        setup.upstream.release();
        let event = stream.next_event().await.expect("an event");
        assert_eq!(event.data, expected);
    }
    setup.upstream.release();
    assert!(stream.rest().await.complete, "the end is the upstream's own");
    setup.assert_nothing_is_left_open().await;
    let line = setup.access_log().pop().expect("a line");
    assert_eq!((line["transport"].as_str(), line["status"].as_u64()), (Some("sse"), Some(200)));
}

#[tokio::test]
async fn the_log_says_when_a_request_began_not_when_it_ended() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::sse(["one"]).gated());
    let stream = setup.chat("free").open().await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    setup.upstream.release();
    setup.upstream.release();
    assert!(stream.rest().await.complete);
    setup.assert_nothing_is_left_open().await;
    let line = setup.access_log().pop().expect("a line");
    let time = line["time"].as_str().expect("a text");
    let began = keygate::values::timestamp::parse(time).expect("a time");
    let lasted = line["duration_us"].as_u64().expect("a number") / 1_000;
    assert!(lasted >= 20, "it was held open: {line}");
    // The wall clock of the tests stands still.
    assert_eq!(began + lasted, setup.clock.wall_ms(), "{line}");
}

#[tokio::test]
async fn a_truncated_upstream_is_visible_as_truncated() {
    let setup = Setup::all().await;
    for answer in [
        Answer::sse(["one", "two", "three"]).die_after(8),
        Answer::sse(["one", "two", "three"]).truncate_chunked(),
        Answer::json(200, "{\"a\":\"a long enough body\"}").die_after(5),
    ] {
        setup.upstream.answer(answer);
        let whole = setup.chat("free").open().await.rest().await;
        assert!(!whole.complete, "the caller must see that it is not all: {whole:?}");
    }
    setup.upstream.answer(Answer::json(200, "{}"));
    setup.chat("free").send().await.assert_status(200);
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn bodies_and_encodings_pass_verbatim() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::json(200, r#"{"a":"b"}"#).gzip());
    let answer = setup.chat("free").header("Accept-Encoding", "gzip").send().await;
    answer.assert_status(200);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.text(), r#"{"a":"b"}"#);
    assert_eq!(setup.upstream.only_request().header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_large_upload_of_an_unscoped_token_streams_through() {
    let setup = Setup::all().await;
    let body = vec![b'x'; 3 << 20];
    let upload = setup.request("POST", "/v1/chat/completions").bearer(setup.token("free"));
    upload.body("application/octet-stream", body.clone()).send().await.assert_status(200);
    assert_eq!(setup.upstream.only_request().body, body, "every byte arrived");
}

#[tokio::test]
async fn locations_lead_back_here_and_cookies_stay_with_the_provider() {
    let setup = Setup::all().await;
    let here = format!("http://{}", setup.addr());
    let there = setup.upstream.url();
    for (path, sent, expected) in [
        ("/v1/x", format!("{there}/v1/y?z"), format!("{here}/v1/y?z")),
        ("/openai/v1/x", format!("{there}/v1/y"), format!("{here}/openai/v1/y")),
        ("/openai/v1/x", "/v1/y".to_owned(), "/openai/v1/y".to_owned()),
        ("/v1/x", "https://elsewhere.test/y".to_owned(), "https://elsewhere.test/y".to_owned()),
    ] {
        setup
            .upstream
            .answer(Answer::json(201, "{}").header("Location", &sent).header("Set-Cookie", "a=b"));
        let answer =
            setup.request("POST", path).bearer(setup.token("free")).json("{}").send().await;
        assert_eq!(answer.header("location"), Some(&*expected), "{path} {sent}");
        assert_eq!(answer.header("set-cookie"), None, "an AI provider's cookies are dropped");
    }
    let public = Setup::with(&format!("{ALL}public_url: https://gate.example\n")).await;
    public.upstream.answer(
        Answer::json(201, "{}")
            .header("Location", "/v1/y")
            .header("Content-Location", format!("{}/v1/y", public.upstream.url())),
    );
    let answer =
        public.request("POST", "/v1/x").bearer(public.token("free")).json("{}").send().await;
    assert_eq!(answer.header("content-location"), Some("https://gate.example/v1/y"));
}

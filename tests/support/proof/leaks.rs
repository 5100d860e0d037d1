//! The harness notices a planted leak wherever it passes.

use super::*;
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether the client fails a test that gets this answer.
async fn is_noticed(answer: Answer) -> bool {
    let upstream = Upstream::start().await;
    upstream.answer(answer);
    let request = Request::get(upstream.addr(), "/").try_send();
    AssertUnwindSafe(request).catch_unwind().await.is_err()
}

#[tokio::test]
async fn client_notices_a_key_in_an_answer() {
    let body = format!("you sent {}, which is wrong", canary::planted_key());
    assert!(is_noticed(Answer::json(401, &body)).await, "as it is");
    assert!(is_noticed(Answer::json(401, &body).split(3)).await, "in chunks");
    assert!(is_noticed(Answer::json(401, &body).gzip()).await, "compressed");
    assert!(is_noticed(Answer::json(401, &body).brotli().split(3)).await, "both");
    assert!(is_noticed(Answer::json(401, &body).zstd().die_after(70)).await, "cut off");
    assert!(is_noticed(Answer::status(302).header("location", &body)).await, "in a header");
    assert!(is_noticed(Answer::raw(body.clone())).await, "instead of an answer");
    assert!(!is_noticed(Answer::json(401, "you sent something wrong")).await, "no leak");
}

#[tokio::test]
async fn client_notices_a_token_in_a_stream_and_in_a_message() {
    let token = canary::planted_token();
    let upstream = Upstream::start().await;
    upstream.answer(Answer::sse([&token]).endless());
    let mut stream = Request::get(upstream.addr(), "/").open().await;
    stream.next_event().await.expect("the event itself comes");
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(stream)));
    assert!(dropped.is_err(), "what was read of a stream is searched when it is dropped");

    // The message may be read together with the 101.
    upstream.answer(Answer::websocket().greet([format!("hello {token}")]));
    let talk = async {
        let (mut socket, _) = ws::connect(upstream.addr(), "/", &[], &[]).await.expect("granted");
        socket.hear().await
    };
    let heard = AssertUnwindSafe(talk).catch_unwind().await;
    assert!(heard.is_err(), "messages are searched as they come");
}

#[tokio::test]
async fn upstream_notices_a_token_but_takes_a_key() {
    let (key, token) = (canary::planted_key(), canary::planted_token());
    for (secret, may_come) in [(&key, true), (&token, false)] {
        let upstream = Upstream::start().await;
        let post = Request::post(upstream.addr(), "/").bearer(secret);
        post.send().await.assert_status(200);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(upstream)));
        assert_eq!(dropped.is_ok(), may_come, "{secret} in a header");

        let upstream = Upstream::start().await;
        let post = Request::post(upstream.addr(), "/").body("text/plain", secret.as_str());
        post.chunked(3).send().await.assert_status(200);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(upstream)));
        assert_eq!(dropped.is_ok(), may_come, "{secret} in a chunked body");

        let upstream = Upstream::start().await;
        upstream.answer(Answer::websocket().quiet());
        let (mut socket, _) = ws::connect(upstream.addr(), "/", &[], &[]).await.expect("granted");
        socket.say(secret).await;
        upstream.wait_for_texts(1).await;
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(upstream)));
        assert_eq!(dropped.is_ok(), may_come, "{secret} in a masked frame");
    }
}

#[test]
fn log_lines_are_searched_but_for_the_client_s_own() {
    use log::Log;
    let line = format!("sending {}", canary::planted_key());
    let logged = |target: &str| {
        catch_unwind(|| {
            let mut record = log::Record::builder();
            crate::support::log::ToCanary
                .log(&record.target(target).args(format_args!("{line}")).build());
        })
    };
    assert!(logged("keygate::proxy").is_err(), "a line of the gateway");
    assert!(logged("tungstenite::client").is_ok(), "the client may say what it sends");
}

//! Odd answers and slow parties: nothing of a key passes, nothing hangs, the caller sees an answer.

use crate::support::client::Raw;
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::{Answer, Refusing};
use crate::support::ws;
use keygate::values::clock::Clock;
use std::time::Duration;

#[tokio::test]
async fn a_reason_phrase_carries_no_key() {
    let setup = Setup::all().await;
    let key = setup.key("openai").to_owned();
    for status in [200, 302, 429, 404] {
        setup.upstream.answer(Answer::raw(format!(
            "HTTP/1.1 {status} bad {key}\r\nContent-Length: 2\r\n\r\n{{}}"
        )));
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(setup.chat("free").header("Connection", "close").to_bytes()).await;
        let (bytes, _) = raw.read_until_close().await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(&key), "{text}");
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
    }
}

#[tokio::test]
async fn an_interim_answer_carries_no_key() {
    let setup = Setup::all().await;
    let key = setup.key("openai").to_owned();
    for interim in [100, 102, 103, 199] {
        setup.upstream.answer(Answer::raw(format!(
            "HTTP/1.1 {interim} X\r\nX-Echo: {key}\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}"
        )));
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(
            setup
                .chat("free")
                .header("Connection", "close")
                .header("Expect", "100-continue")
                .to_bytes(),
        )
        .await;
        let (bytes, _) = raw.read_until_close().await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(&key), "{text}");
        assert!(text.contains("200 OK"), "{text}");
    }
}

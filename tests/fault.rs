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

#[tokio::test]
async fn odd_error_answers_are_answered() {
    let setup = Setup::all().await;
    let key = setup.key("openai").to_owned();
    for (n, answer) in [
        "HTTP/1.1 400 X\r\nContent-Length: 00\r\n\r\n".to_owned(),
        "HTTP/1.1 400 X\r\nContent-Length: 2\r\nConnection: keep-alive, x-foo\r\nX-Foo: 1\r\nTrailer: a\r\nUpgrade: h2c\r\n\r\n{}".to_owned(),
        "HTTP/1.1 400 X\r\n\r\n{}".to_owned(),
        "HTTP/1.0 400 X\r\n\r\n{}".to_owned(),
        "HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: KEY\r\n\r\n".replace("KEY", &key),
        "HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 416 X\r\nContent-Length: 2\r\nContent-Range: bytes */3\r\n\r\n{}".to_owned(),
        format!("HTTP/1.1 400 X\r\nContent-Length: {}\r\n\r\n{key}", key.len()),
        "HTTP/1.1 407 X\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        for version in ["1.1", "1.0"] {
            setup.upstream.answer(Answer::raw(answer.clone()));
            let bytes = setup.chat("free").header("Connection", "close").to_bytes();
            let bytes = String::from_utf8(bytes).unwrap().replace("HTTP/1.1", &format!("HTTP/{version}"));
            let mut raw = Raw::connect(setup.addr()).await;
            raw.send(bytes).await;
            let (bytes, _) = raw.read_until_close().await;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(text.starts_with("HTTP/1."), "{n} {version}: {text:?}");
            assert!(!text.contains(&key));
        }
    }
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_101_nobody_asked_for_is_a_bad_upstream() {
    let setup = Setup::all().await;
    let key = setup.key("openai").to_owned();
    setup.upstream.answer(Answer::raw(format!(
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n{key}"
    )));
    let answer = setup.chat("free").send().await;
    assert_eq!(answer.status, 502);
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn an_http_1_0_caller_gets_no_chunks() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::sse(["one", "two"]));
    let bytes =
        String::from_utf8(setup.chat("free").to_bytes()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(bytes).await;
    let (bytes, _) = raw.read_until_close().await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.to_lowercase().contains("chunked"), "{text}");
}

#[tokio::test]
async fn a_refused_socket_does_not_point_at_the_key() {
    // Location to the provider with its key in the query, of a gemini socket.
    let setup = Setup::all().await;
    let key = setup.key("gemini").to_owned();
    setup.upstream.answer(
        Answer::json(307, "{}")
            .header("Location", format!("/ws/google.ai.generativelanguage.x?key={key}"))
            .header("Link", format!("</x?key={}>", key.replace('-', "%2D"))),
    );
    let auth = format!("Bearer {}", setup.token("free"));
    let refused = ws::connect(
        setup.addr(),
        "/ws/google.ai.generativelanguage.x",
        &[("Authorization", &auth)],
        &[],
    )
    .await
    .expect_err("refused");
    assert_eq!(refused.status, 307);
    assert!(refused.header("location").is_none() && refused.header("link").is_none());
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn an_answer_that_comes_early_is_seen() {
    let setup = Setup::all().await;
    for status in [200, 400, 413, 401] {
        setup.upstream.answer(Answer::json(status, "{}").early());
        let answer = setup
            .request("POST", "/v1/files")
            .bearer(setup.token("free"))
            .body("text/plain", vec![b'x'; 5 << 20])
            .sends_first()
            .send()
            .await;
        let expected = if status == 401 { 502 } else { status };
        assert_eq!(answer.status, expected);
    }
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn an_upload_that_moves_is_not_cut_at_the_first_byte_timeout() {
    let yaml =
        format!("{ALL}limits: {{ upstream_first_byte_timeout: 1s, stream_idle_timeout: 10s }}\n");
    let setup = Setup::at(&yaml, Clock::system()).await;
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Length: 40\r\n\r\n",
        setup.token("free")
    ))
    .await;
    for _ in 0..10 {
        raw.try_send("abcd").await.expect("it is still open");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    raw.read_response().await.assert_status(200);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_is_given_up() {
    let yaml =
        format!("{ALL}limits: {{ upstream_first_byte_timeout: 1s, stream_idle_timeout: 2s }}\n");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = yaml.replace("$UPSTREAM", &format!("http://{}", listener.local_addr().unwrap()));
    let setup = Setup::at(&yaml, Clock::system()).await;
    let held = tokio::spawn(async move {
        let one = listener.accept().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(one);
    });
    let request = setup
        .request("POST", "/v1/chat/completions")
        .bearer(setup.token("free"))
        .body("text/plain", vec![b'x'; 30 << 20]);
    let mut raw = Raw::connect(setup.addr()).await;
    let answer =
        tokio::time::timeout(Duration::from_secs(9), raw.exchange(&request.to_bytes(), false))
            .await;
    let open = setup.running().gateway().registry.open();
    held.abort();
    assert!(answer.is_ok(), "it hangs, {open} open");
    answer.unwrap().expect("answered").assert_denied(504, "upstream_timeout");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_caller_that_was_told_to_go_on_sees_a_late_refusal() {
    let refusing = Refusing::reserve();
    let setup = Setup::with(&ALL.replace("$UPSTREAM", &refusing.url())).await;
    for _ in 0..5 {
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
            setup.token("free")
        )).await;
        let go = raw.read_some().await;
        assert!(go.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&go));
        // A blocking client sends everything before it reads.
        let sent = raw.try_send(vec![b'x'; 5_000_000]).await;
        let mut all = go;
        all.extend(raw.read_until_close().await.0);
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(text.contains("upstream_unreachable"), "{sent:?} {text}");
        sent.expect("no broken pipe");
    }
}

#[tokio::test]
async fn errors_after_100_are_seen() {
    let yaml = format!("{ALL}limits: {{ upstream_first_byte_timeout: 1s }}\n");
    let setup = Setup::at(&yaml, Clock::system()).await;
    for (answer, status) in [
        (Answer::json(400, "{}"), 400),
        (Answer::json(401, "{}"), 502),
        (Answer::reset(), 502),
        (Answer::hang(), 504),
    ] {
        setup.upstream.answer(answer);
        for token in ["free", "scoped"] {
            let answer = setup
                .request("POST", "/v1/chat/completions")
                .bearer(setup.token(token))
                .header("Expect", "100-continue")
                .json(r#"{"model":"gpt-4o-mini"}"#)
                .send()
                .await;
            assert_eq!(answer.status, status, "{token}");
        }
    }
}

#[tokio::test]
async fn a_body_of_exactly_64_kib_passes() {
    let setup = Setup::all().await;
    let mut body = r#"{"model":"gpt-4o-mini","pad":""#.to_owned();
    body.push_str(&"x".repeat((64 << 10) - body.len() - 2));
    body.push_str("\"}");
    assert_eq!(body.len(), 65_536);
    for chunk in [None, Some(1000)] {
        let mut request =
            setup.request("POST", "/v1/chat/completions").bearer(setup.token("scoped")).json(&body);
        if let Some(size) = chunk {
            request = request.chunked(size);
        }
        request.send().await.assert_status(200);
    }
    assert!(setup.upstream.received().iter().all(|r| r.body == body.as_bytes()));
}

#[tokio::test]
async fn a_denied_head_has_no_body_and_the_connection_goes_on() {
    let setup = Setup::all().await;
    let mut raw = Raw::connect(setup.addr()).await;
    for _ in 0..2 {
        raw.send(setup.request("HEAD", "/v1/models").to_bytes()).await;
        let head = raw.read_response_to_head().await;
        assert_eq!(head.status, 401);
    }
    setup.upstream.answer(Answer::json(400, r#"{"error":1}"#));
    raw.send(setup.request("GET", "/v1/models").bearer(setup.token("free")).to_bytes()).await;
    raw.read_response().await.assert_status(400);
}

#[tokio::test]
async fn bytes_behind_an_answer_never_reach_the_next_caller() {
    let setup = Setup::all().await;
    let stray = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let last = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
    for (method, wire) in [
        ("GET", format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{{}}{stray}")),
        ("GET", format!("HTTP/1.1 200 OK\r\n{last}\r\n{stray}")),
        ("GET", format!("HTTP/1.1 200 OK\r\n{last}x-trailer: 1\r\n\r\n{stray}")),
        ("GET", format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{last}\r\n{stray}")),
        ("GET", format!("HTTP/1.1 204 No Content\r\ncontent-length: 42\r\n\r\n{stray}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 42\r\n\r\n{stray}")),
        ("GET", format!("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n{stray}")),
        ("HEAD", format!("HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n{stray}")),
        ("HEAD", format!("HTTP/1.1 404 Not Found\r\ncontent-length: 42\r\n\r\n{stray}")),
    ] {
        setup.upstream.answer_next(Answer::raw(wire.clone()).endless());
        let first = setup.request(method, "/v1/models").bearer(setup.token("free")).send().await;
        assert!(!first.text().contains("evil"), "{wire:?}: {}", first.text());
        for _ in 0..2 {
            let next = setup.request("GET", "/v1/models").bearer(setup.token("scoped"));
            assert_eq!(next.send().await.text(), r#"{"ok":true}"#, "behind {wire:?}");
        }
    }
    setup.assert_nothing_is_left_open().await;
}

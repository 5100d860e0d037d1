//! Ordinary requests and answers: framing, order, reuse, compression, early answers.

use super::*;

#[tokio::test]
async fn request_is_recorded_as_it_was_on_the_wire() {
    let upstream = Upstream::start().await;
    let request = Request::post(upstream.addr(), "/v1/%2E%2e/x?a=1&a=%41")
        .header("X-Twice", "1")
        .header("x-twice", "2")
        .json(json!({"model": "m"}));
    let wire = request.to_bytes();
    request.send().await.assert_status(200);
    let seen = upstream.only_request();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/%2E%2e/x?a=1&a=%41"));
    assert_eq!(seen.headers[1], ("X-Twice".to_owned(), b"1".to_vec()), "order and case stay");
    assert_eq!(seen.headers_named("X-TWICE"), [b"1", b"2"]);
    assert_eq!(seen.json(), json!({"model": "m"}));
    assert!(seen.complete);
    assert_eq!(seen.raw, wire, "every byte, and no other");
    assert_eq!(upstream.raw_bytes(), wire);
}

#[tokio::test]
async fn bodies_arrive_in_every_framing() {
    let upstream = Upstream::start().await;
    let body = "x".repeat(300_000);
    let post = || Request::post(upstream.addr(), "/").body("text/plain", body.clone());
    post().send().await.assert_status(200);
    post().chunked(1_000).send().await.assert_status(200);
    for seen in upstream.received() {
        assert!(seen.complete && seen.text() == body, "{seen:?}");
    }
    for answer in [
        Answer::body(200, "text/plain", body.clone()),
        Answer::status(200).chunks([&body[..1], "", &body[1..]]),
        Answer::body(200, "text/plain", body.clone()).until_close(),
    ] {
        upstream.answer(answer);
        let response = Request::get(upstream.addr(), "/").send().await;
        response.assert_status(200);
        assert!(response.text() == body, "{response:?}");
    }
}

#[tokio::test]
async fn connection_is_kept_for_the_next_request_unless_closed() {
    let upstream = Upstream::start().await;
    upstream.answer_next(Answer::status(204));
    upstream.answer_next(Answer::json(200, json!([1, 2])));
    upstream.answer_next(Answer::json(200, json!({})).close());
    let mut raw = Raw::connect(upstream.addr()).await;
    Request::get(upstream.addr(), "/1").send_on(&mut raw).await.assert_status(204);
    let head = Request::new(upstream.addr(), "HEAD", "/2").send_on(&mut raw).await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));
    Request::get(upstream.addr(), "/3").send_on(&mut raw).await.assert_status(200);
    raw.assert_closed().await;
    assert_eq!(upstream.connections().len(), 1, "all three came on one connection");
    assert_eq!(upstream.connections()[0].requests, 3);
}

#[tokio::test]
async fn rule_answers_by_the_request() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|request| match request.json()["model"].as_str() {
        Some("good") => Answer::json(200, r#"{"id":1}"#),
        _ => Answer::json(404, r#"{"id":0}"#),
    });
    let post =
        |model: &str| Request::post(upstream.addr(), "/").json(json!({ "model": model })).send();
    assert_eq!(post("good").await.json(), json!({"id": 1}));
    assert_eq!(post("bad").await.status, 404);
}

#[tokio::test]
async fn compressed_answers_read_as_what_they_were() {
    let upstream = Upstream::start().await;
    let text = "so it goes, and so it went. ".repeat(50);
    let whole = || Answer::body(200, "text/plain", text.clone());
    let halves = || Answer::status(200).chunks([&text[..70], &text[70..]]);
    for answer in [
        whole().gzip(),
        whole().brotli(),
        whole().zstd(),
        halves().gzip(),
        halves().brotli(),
        halves().zstd(),
        whole().gzip().split(3),
    ] {
        upstream.answer(answer.clone());
        let response = Request::get(upstream.addr(), "/").send().await;
        response.assert_status(200);
        assert!(response.text() == text, "{answer:?} became {response:?}");
        assert!(response.body.len() < text.len() / 2, "it was compressed: {response:?}");
    }
}

#[tokio::test]
async fn early_answer_comes_before_the_body() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::json(413, "{}").early().close());
    let mut raw = Raw::connect(upstream.addr()).await;
    raw.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345").await;
    raw.read_response().await.assert_status(413);
    drop(raw);
    let seen = &upstream.wait_for(1).await[0];
    assert!(!seen.complete, "the body never ended: {seen:?}");
    assert_eq!(seen.body, b"12345", "what came of it is recorded");
}

#[tokio::test]
async fn client_that_waits_for_100_gets_it() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::json(200, "{}").says_continue());
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut raw = Raw::connect(upstream.addr()).await;
    raw.send(head).await;
    let first = raw.read_some().await;
    assert_eq!(first, b"HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("{}").await;
    raw.read_response().await.assert_status(200);
    let mut raw = Raw::connect(upstream.addr()).await;
    raw.send(format!("{head}{{}}")).await;
    assert_eq!(raw.read_response().await.interim, [100], "passed over, but told");
}

#[tokio::test]
async fn address_that_refuses_does() {
    let refusing = Refusing::reserve();
    let addr: std::net::SocketAddr = refusing.url()["http://".len()..].parse().unwrap();
    let error = tokio::net::TcpStream::connect(addr).await.expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

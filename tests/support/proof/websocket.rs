//! Sockets: what is said, by whom it is ended, what was refused.

use super::*;

#[tokio::test]
async fn messages_are_echoed_and_recorded() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::websocket().choose_protocol(Some("realtime")).greet(["hi", "there"]));
    let protocols = ["realtime", "openai-beta.realtime-v1"];
    let (mut socket, chosen) =
        ws::connect(upstream.addr(), "/v1/realtime?x=1", &[("X-A", "b")], &protocols)
            .await
            .expect("the upgrade is granted");
    assert_eq!(chosen.as_deref(), Some("realtime"));
    assert_eq!((socket.hear().await, socket.hear().await), ("hi".to_owned(), "there".to_owned()));
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");
    socket.send(ws::Message::binary(vec![0, 1, 2])).await.expect("open");
    socket.send(ws::Message::Ping("p".into())).await.expect("open");
    assert_eq!(socket.next().await.unwrap().unwrap(), ws::Message::binary(vec![0, 1, 2]));
    assert_eq!(socket.next().await.unwrap().unwrap(), ws::Message::Pong("p".into()));
    upstream.say("from the upstream itself");
    assert_eq!(socket.hear().await, "from the upstream itself");
    socket.close(4_001, "bye").await;
    assert_eq!(upstream.wait_for_close_frame().await, Some((4_001, "bye".to_owned())));
    assert_eq!(socket.hear_close().await, (4_001, "bye".to_owned()), "the close is answered");
    assert_eq!(upstream.texts(), ["hello"]);
    let request = upstream.only_request();
    assert_eq!(request.header("x-a"), Some("b"));
    assert_eq!(
        request.header("sec-websocket-protocol"),
        Some("realtime, openai-beta.realtime-v1"),
        "the offer as it was made"
    );
}

#[tokio::test]
async fn upstream_may_close_first_and_choose_nothing() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::websocket().quiet().then_close(1_011, "broken"));
    let (mut socket, chosen) =
        ws::connect(upstream.addr(), "/", &[], &["a"]).await.expect("granted");
    assert_eq!(chosen, None);
    assert_eq!(socket.hear_close().await, (1_011, "broken".to_owned()));
}

#[tokio::test]
async fn refusal_comes_with_its_body() {
    let upstream = Upstream::start().await;
    let body = json!({"error": "x".repeat(20_000)});
    upstream.answer(Answer::json(403, &body).header("x-why", "because"));
    let refused = ws::connect(upstream.addr(), "/", &[], &[]).await.expect_err("403");
    assert_eq!((refused.status, refused.header("x-why")), (403, Some("because")));
    assert_eq!(refused.json(), body, "all of the body");
    assert!(upstream.sockets().is_empty(), "no socket was opened");
}

#[tokio::test]
async fn fragments_and_broken_frames_are_recorded_as_they_came() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::websocket());
    let (mut raw, _) = ws::upgrade(upstream.addr(), "/", &[], &[]).await.expect("granted");
    let mut first = Frame::new(frame::TEXT, "hel").masked();
    first.fin = false;
    let last = Frame::new(frame::CONTINUATION, "lo").masked();
    let odd = Frame { rsv: 5, ..Frame::new(0x3, "?") };
    let wire: Vec<u8> = [&first, &last, &odd].iter().flat_map(|f| f.to_bytes()).collect();
    for byte in wire.chunks(3) {
        raw.send(byte).await;
    }
    assert_eq!(upstream.wait_for_texts(1).await, ["hello"], "fragments are one message");
    raw.reset();
    assert_eq!(upstream.wait_for_close_of(0).await.how, How::Reset);
    assert_eq!(upstream.sockets()[0].frames, [first, last, odd]);
}

#[tokio::test]
async fn bytes_behind_a_refused_upgrade_are_the_next_request() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::json(400, "{}"));
    let mut raw = Raw::connect(upstream.addr()).await;
    let upgrade = "GET /a HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n";
    raw.send(format!("{upgrade}GET /b HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    raw.read_response().await.assert_status(400);
    raw.read_response().await.assert_status(400);
    let targets: Vec<_> = upstream.received().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/a", "/b"]);
}

//! WebSockets through the same gate: echo, limits, refusals before the 101, and the yield trap.

use crate::support::client::Raw;
use crate::support::frame::Frame;
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::{Answer, Upstream};
use crate::support::ws;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::ServerApp;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const LIVE: &str = "/v1/realtime?model=gpt-realtime";

fn bearer(setup: &Setup, name: &str) -> String {
    format!("Bearer {}", setup.token(name))
}

#[tokio::test]
async fn messages_pass_both_ways_and_the_close_does_too() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    let auth = bearer(&setup, "scoped");
    let (mut socket, _) =
        ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("it opens");
    for text in ["{}", &format!(r#"{{"x":"{}"}}"#, "x".repeat(100_000)), r#"{"type":"x"}"#] {
        socket.say(text).await;
        assert_eq!(socket.hear().await, text, "the echo");
    }
    socket.close(1000, "done").await;
    assert_eq!(setup.upstream.wait_for_close_frame().await, Some((1000, "done".into())));
    setup.assert_nothing_is_left_open().await;
    let line = setup.access_log().pop().expect("a line");
    assert_eq!(
        (line["transport"].as_str(), line["status"].as_u64()),
        (Some("websocket"), Some(101))
    );
    assert_eq!(line["model"], "gpt-realtime");
}

#[tokio::test]
async fn a_socket_is_refused_before_the_101() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    let auth = bearer(&setup, "scoped");
    let open = |path: &'static str, headers: Vec<(&'static str, String)>| {
        let addr = setup.addr();
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            ws::connect(addr, path, &headers, &[]).await.expect_err("it must be refused")
        }
    };
    open(LIVE, vec![]).await.assert_denied(401, "token_missing");
    open("/v1/realtime?model=other", vec![("Authorization", auth.clone())])
        .await
        .assert_denied(403, "model_not_allowed");
    open("/v1/realtime", vec![("Authorization", auth.clone())])
        .await
        .assert_denied(403, "model_not_allowed");
    open("/v1/realtime?model=gpt-realtime&model=other", vec![("Authorization", auth.clone())])
        .await
        .assert_denied(400, "ambiguous_model");
    open("/v1/responses?model=other", vec![("Authorization", auth)])
        .await
        .assert_denied(403, "model_not_allowed");
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
}

#[tokio::test]
async fn what_is_pipelined_behind_a_refused_upgrade_is_not_a_request() {
    let setup = Setup::all().await;
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(format!(
        "GET {LIVE} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: h\r\nx-api-key: {}\r\n\r\n",
        setup.token("free")
    ))
    .await;
    raw.read_response().await.assert_denied(401, "token_missing");
    raw.assert_closed().await;
    assert!(setup.upstream.received().is_empty(), "the second request must not be served");
}

#[tokio::test]
async fn an_upstream_that_refuses_the_upgrade_is_heard() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::json(403, r#"{"error":"no such session"}"#));
    let auth = bearer(&setup, "free");
    let refused = ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[])
        .await
        .expect_err("refused");
    assert_eq!((refused.status, refused.text().as_str()), (403, r#"{"error":"no such session"}"#));
    setup.upstream.answer(Answer::json(401, r#"{"error":"bad api key"}"#));
    let refused = ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[])
        .await
        .expect_err("refused");
    refused.assert_denied(502, "upstream_rejected_key");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_socket_before_the_upstream_sees_it() {
    let setup = Setup::with(&format!("{ALL}limits: {{ max_ws_message: 1KiB }}\n")).await;
    setup.upstream.answer(Answer::websocket());
    let auth = bearer(&setup, "free");
    let (mut socket, _) =
        ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("it opens");
    socket.say(&"a".repeat(1_024)).await;
    assert_eq!(socket.hear().await.len(), 1_024, "the limit itself passes");
    socket.say(&"b".repeat(1_025)).await;
    assert_eq!(socket.hear_close().await, (1009, "message_too_big".into()));
    assert_eq!(setup.upstream.texts().len(), 1, "the provider never got it");
    // In fragments, with a ping between them.
    let (mut raw, _) =
        ws::upgrade(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("it opens");
    let first = Frame { fin: false, ..Frame::new(1, vec![b'c'; 600]) }.masked();
    let ping = Frame::new(9, vec![b'p'; 100]).masked();
    let last = Frame { fin: true, ..Frame::new(0, vec![b'c'; 600]) }.masked();
    for frame in [first, ping, last] {
        let _ = raw.try_send(frame.to_bytes()).await;
    }
    let (bytes, _) = raw.read_until_close().await;
    assert!(bytes.windows(15).any(|w| w == b"message_too_big"), "the close frame says why");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn the_concurrency_limit_counts_a_socket_once_and_gives_its_place_back() {
    let yaml = ALL.replace("policies:", "policies:\n  one: { concurrency: 1 }")
        + "  - { name: one, sha256: $SHA(one), policy: one }\n";
    let setup = Setup::with(&yaml).await;
    setup.upstream.answer(Answer::websocket());
    let auth = bearer(&setup, "one");
    let headers = [("Authorization", auth.as_str())];
    for _ in 0..3 {
        let (mut socket, _) =
            ws::connect(setup.addr(), LIVE, &headers, &[]).await.expect("it opens");
        let second =
            ws::connect(setup.addr(), LIVE, &headers, &[]).await.expect_err("one at a time");
        second.assert_denied(429, "concurrency_limited");
        socket.close(1000, "").await;
        drop(socket);
        setup.assert_nothing_is_left_open().await;
    }
}

/// How many of `count` sockets, opened at once, do not echo.
async fn torn(addr: SocketAddr, auth: &str, count: usize) -> usize {
    let mut torn = 0;
    for _ in 0..count.div_ceil(50) {
        let batch = (0..50).map(|n| async move {
            let Ok((mut raw, _)) = ws::upgrade(addr, LIVE, &[("Authorization", auth)], &[]).await
            else {
                return false;
            };
            let text = format!(r#"{{"message":{n}}}"#);
            let frame = Frame::new(1, &*text).masked();
            if raw.try_send(frame.to_bytes()).await.is_err() {
                return false;
            }
            let expected = Frame::new(1, text).to_bytes();
            let mut got = Vec::new();
            while got.len() < expected.len() {
                let some = raw.read_some().await;
                if some.is_empty() {
                    return false;
                }
                got.extend(some);
            }
            got == expected
        });
        torn += futures_util::future::join_all(batch).await.into_iter().filter(|ok| !ok).count();
    }
    torn
}

/// A passthrough that yields where keygate must not.
struct Yielding(SocketAddr);

#[async_trait]
impl ProxyHttp for Yielding {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(
        &self,
        _: &mut Session,
        (): &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        (): &mut (),
    ) -> pingora_core::Result<()> {
        if !session.was_upgraded() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn yielding(upstream: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let mut proxy = HttpProxy::new(Yielding(upstream), Arc::default());
    proxy.handle_init_modules();
    let proxy = Arc::new(proxy);
    tokio::spawn(async move {
        let (_keep, shutdown) = tokio::sync::watch::channel(false);
        while let Ok((stream, _)) = listener.accept().await {
            let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
            let stream = pingora_core::protocols::l4::stream::Stream::from(stream);
            tokio::spawn(async move { proxy.process_new(Box::new(stream), &shutdown).await });
        }
    });
    addr
}

#[tokio::test]
async fn no_socket_is_torn_down_and_the_test_would_notice() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    for token in ["free", "scoped"] {
        let torn = torn(setup.addr(), &bearer(&setup, token), 400).await;
        assert_eq!(torn, 0, "{token}: a phase yields before the upgrade");
    }
    let upstream = Upstream::start().await;
    upstream.answer(Answer::websocket());
    let trap = yielding(upstream.addr()).await;
    assert!(
        torn(trap, "x", 50).await > 0,
        "a yield in the body filter must show, or this test guards nothing"
    );
}

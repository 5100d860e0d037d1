//! Cutting off: a token that is disabled, deleted or narrowed ends what is open, within a second.

mod cross;

use crate::support::gateway::{ALL, Setup, record};
use crate::support::upstream::Answer;
use crate::support::ws;
use keygate::store::Sqlite;
use keygate::token::store::{Change, Record, TokenStore};
use std::time::{Duration, Instant};

const LIVE: &str = "/v1/realtime?model=gpt-realtime";
/// The promise, and what a loaded machine may add.
const SOON: Duration = Duration::from_secs(3);

/// A stored token, written as another process would.
fn stored(setup: &Setup, token: &str) -> (Sqlite, Record) {
    let store =
        Sqlite::open(setup.dir().join("keygate.db")).expect("the store opens beside the gateway");
    let record = record("test", token);
    store.create(&record).expect("a token is created");
    (store, record)
}

async fn accepted(setup: &Setup, token: &str) {
    let begun = Instant::now();
    while setup.request("GET", "/v1/models").bearer(token).send().await.status != 200 {
        assert!(begun.elapsed() < SOON, "a new token must be known soon");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn disabling_and_deleting_end_open_streams_and_sockets() {
    let yaml = format!("{ALL}limits: {{ failed_auth: {{ requests: 10000, per: 60s }} }}\n");
    for delete in [false, true] {
        let setup = Setup::with(&yaml).await;
        let token = crate::support::canary::token();
        let (store, record) = stored(&setup, &token);
        setup.upstream.answer(Answer::json(200, "{}"));
        accepted(&setup, &token).await;

        setup.upstream.answer(Answer::sse(["one"]).endless());
        let mut stream = setup.request("GET", "/v1/stream").bearer(&token).open().await;
        assert_eq!(stream.next_event().await.expect("an event").data, "one");
        setup.upstream.answer(Answer::websocket());
        let auth = format!("Bearer {token}");
        let (mut socket, _) = ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[])
            .await
            .expect("it opens");
        socket.say("still here").await;
        assert_eq!(socket.hear().await, "still here");
        let free = format!("Bearer {}", setup.token("free"));
        let (mut neighbour, _) = ws::connect(setup.addr(), LIVE, &[("Authorization", &free)], &[])
            .await
            .expect("it opens");

        let begun = Instant::now();
        if delete {
            store.delete(&record.id).expect("deleted");
        } else {
            store
                .update(&record.id, &Change { disabled: Some(true), ..Change::default() })
                .expect("disabled");
        }
        assert_eq!(socket.hear_close().await, (1008, "token_revoked".into()));
        assert!(!stream.rest().await.complete, "a stream that is cut ends visibly unfinished");
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
        setup
            .request("GET", "/v1/models")
            .bearer(&token)
            .send()
            .await
            .assert_denied(401, "token_invalid");
        neighbour.say("unharmed").await;
        assert_eq!(neighbour.hear().await, "unharmed", "another token's socket goes on");
        assert!(setup.metric(r#"keygate_sessions_cut_total{reason="token_revoked"}"#) >= 2.0);
    }
}

#[tokio::test]
async fn a_cut_ends_a_stream_whose_caller_does_not_read() {
    let mut setup = Setup::all().await;
    setup.upstream.answer(Answer::sse(["flood"]).flood());
    let stream = setup.chat("free").open().await;
    assert_eq!(stream.status, 200);
    // Nobody reads: buffers fill until the gateway has to wait.
    tokio::time::sleep(Duration::from_millis(300)).await;
    setup
        .reload(&ALL.replace("sha256: $SHA(free) }", "sha256: $SHA(free), disabled: true }"))
        .await
        .expect("a good file");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_reload_that_narrows_or_removes_counts_as_revoking() {
    let narrowed = ALL.replace("scoped: { models:", "scoped: { providers: [gemini], models:");
    let fewer = ALL.replace(", gpt-realtime]", "]");
    let removed = ALL.replace("  - { name: scoped, sha256: $SHA(scoped), policy: scoped }\n", "");
    for after in [narrowed, fewer, removed] {
        let mut setup = Setup::all().await;
        setup.upstream.answer(Answer::websocket());
        let auth = format!("Bearer {}", setup.token("scoped"));
        let headers = [("Authorization", auth.as_str())];
        let (mut socket, _) =
            ws::connect(setup.addr(), LIVE, &headers, &[]).await.expect("it opens");
        setup.reload(ALL).await.expect("a good file");
        socket.say("{}").await;
        assert_eq!(socket.hear().await, "{}", "a reload that changes nothing ends nothing");
        setup.reload(&after).await.expect("a good file");
        assert_eq!(socket.hear_close().await, (1008, "token_revoked".into()));
    }
}

#[tokio::test]
async fn a_close_frame_never_lands_inside_another() {
    let mut setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket().quiet());
    let auth = format!("Bearer {}", setup.token("scoped"));
    let (mut raw, _) =
        ws::upgrade(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("it opens");
    // The header of a 100-byte frame, and five bytes of it.
    setup.upstream.push(b"\x82\x64abcde".to_vec());
    let mut got = Vec::new();
    while got.len() < 7 {
        got.extend(raw.read_some().await);
    }
    setup
        .reload(&ALL.replace("  - { name: scoped, sha256: $SHA(scoped), policy: scoped }\n", ""))
        .await
        .expect("good");
    let (rest, _) = raw.read_until_close().await;
    assert!(rest.is_empty(), "bytes of a close frame would read as payload: {rest:?}");
}

/// A listener whose queue is full, and what fills it: who connects waits.
fn full() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("listening");
    let listener: std::net::TcpListener = socket.into();
    let address = listener.local_addr().expect("bound");
    let mut waiting = Vec::new();
    let brief = Duration::from_millis(300);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, brief) {
        waiting.push(stream);
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_request_that_is_cut_while_it_connects_never_reaches_the_provider() {
    let (listener, waiting) = full();
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let yaml = ALL.replace("$UPSTREAM", &url);
    let mut setup = Setup::with(&yaml).await;
    let request = setup.chat("free");
    let asking = tokio::spawn(async move { request.try_send().await.map(|answer| answer.status) });
    crate::support::within("the request to be on its way", async {
        while setup.running().gateway().registry.open() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let disabled = "sha256: $SHA(free), disabled: true }";
    let after = yaml.replace("sha256: $SHA(free) }", disabled);
    setup.reload(&after).await.expect("a good file");
    let came = tokio::task::spawn_blocking(move || {
        for _ in &waiting {
            listener.accept().expect("it waits");
        }
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let mut came = Vec::new();
        stream.set_read_timeout(Some(crate::support::DEADLINE)).expect("a socket");
        let _ = std::io::Read::read(&mut stream, &mut [0; 1]).map(|n| came.resize(n, 0));
        came
    });
    let came = crate::support::within("the connection", came).await.expect("no panic");
    assert!(came.is_empty(), "nothing of the request may be sent, and no key");
    assert_ne!(asking.await.expect("no panic").ok(), Some(200), "it was not answered");
    setup.assert_nothing_is_left_open().await;
}

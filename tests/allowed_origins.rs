//! `Stream-Allowed-Origins`: who may read a stream, by what the stream server received and what pages got.

use crate::support::client::{Request, Response};
use crate::support::gateway::{NEW_YEAR_MS, Setup};
use crate::support::tls::H2;
use crate::support::upstream::{Answer, Received, Upstream};
use keygate::stream::Name;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

pub(crate) const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
server_names: [gate.test]
providers:
  streams: { kind: durable-streams, url: $UPSTREAM, cookie: keygate_token }
tokens:
  - { name: free, sha256: $SHA(free) }
";

const STREAM: &str = "/v1/stream/user-42/chat";
const OWN: &str = "http://gate.test";
const APP: &str = "https://app.test";
const EVIL: &str = "https://evil.test";

/// A stream server of the fewest words: which streams there are, and nothing in them.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<BTreeSet<String>>>);

impl Server {
    pub(crate) fn behind(upstream: &Upstream) -> Self {
        let server = Self::default();
        let answers = server.clone();
        upstream.answer_with(move |request| answers.answer(request));
        server
    }

    fn answer(&self, request: &Received) -> Answer {
        let path = request.target.split('?').next().expect("a path").to_owned();
        let mut streams = self.0.lock().expect("nobody panics with it");
        let there = streams.contains(&path);
        match (&*request.method, there) {
            ("PUT", true) => Answer::status(200),
            ("PUT", false) => {
                streams.insert(path.clone());
                Answer::status(201).header("Location", path)
            }
            ("DELETE", true) => {
                streams.remove(&path);
                Answer::status(204)
            }
            (_, false) => Answer::status(404),
            ("POST", true) => Answer::status(204),
            // A server that has heard of the header says nothing that counts.
            _ => Answer::body(200, "text/plain", "secret").header("Stream-Allowed-Origins", "*"),
        }
    }

    /// It comes into being, and nobody tells.
    pub(crate) fn create(&self, path: &str) {
        self.0.lock().expect("nobody panics with it").insert(path.to_owned());
    }

    /// It expires, and nobody tells.
    pub(crate) fn expire(&self, path: &str) {
        self.0.lock().expect("nobody panics with it").remove(path);
    }
}

async fn setup() -> (Setup, Server) {
    let setup = Setup::with(CONFIG).await;
    let server = Server::behind(&setup.upstream);
    (setup, server)
}

fn ask(setup: &Setup, method: &str, target: &str) -> Request {
    setup.request(method, target).host("gate.test").bearer(setup.token("free"))
}

async fn put(setup: &Setup, stream: &str, origins: Option<&str>) -> Response {
    let request = ask(setup, "PUT", stream);
    match origins {
        Some(origins) => request.header("Stream-Allowed-Origins", origins).send().await,
        None => request.send().await,
    }
}

async fn reads(setup: &Setup, stream: &str, origin: &str) -> u16 {
    ask(setup, "GET", stream).origin(origin).send().await.status
}

/// What the table says, once a policy is stored.
enum Caller {
    Origin(&'static str),
    Site(&'static str),
    Program,
}

impl Caller {
    fn of(&self, request: Request) -> Request {
        match self {
            Self::Origin(origin) => request.origin(origin),
            Self::Site(site) => request.header("Sec-Fetch-Site", site),
            Self::Program => request,
        }
    }
}

const CALLERS: [Caller; 14] = [
    Caller::Origin(APP),
    Caller::Origin("https://two.test:8443"),
    Caller::Origin(OWN),
    Caller::Origin(EVIL),
    Caller::Origin("null"),
    Caller::Origin("https://APP.test"),
    Caller::Origin("https://app.test.evil.test"),
    Caller::Origin("https://app.test."),
    Caller::Origin("http://app.test"),
    Caller::Site("same-origin"),
    Caller::Site("same-site"),
    Caller::Site("cross-site"),
    Caller::Site("none"),
    Caller::Program,
];

/// Every method, and every way of reading.
const ASKED: [(&str, &str); 10] = [
    ("GET", ""),
    ("GET", "?offset=-1"),
    ("GET", "?offset=now&live=long-poll&cursor=1"),
    ("GET", "?offset=-1&live=sse"),
    ("HEAD", ""),
    ("POST", ""),
    ("PUT", ""),
    ("PATCH", ""),
    ("OPTIONS", ""),
    ("DELETE", ""),
];

#[tokio::test]
async fn the_table_holds_for_every_method_and_every_way_of_reading() {
    let (setup, server) = setup().await;
    // Which of the callers above get through.
    let through = |allowed: &[usize]| std::array::from_fn(|n| allowed.contains(&n));
    let rows: [(&str, Option<&str>, [bool; 14]); 4] = [
        ("none", None, [true; 14]),
        ("any", Some("*"), [true; 14]),
        ("own", Some("same-origin"), through(&[2, 9, 12, 13])),
        ("list", Some("https://TWO.test:8443, https://app.test"), through(&[0, 1, 12, 13])),
    ];
    for (name, stored, row) in rows {
        let stream = format!("/v1/stream/{name}");
        for (caller, allowed) in CALLERS.iter().zip(row) {
            for (method, query) in ASKED {
                if !server.0.lock().expect("it").contains(&stream) {
                    put(&setup, &stream, stored).await.assert_status(201);
                }
                let what = format!("{stored:?} {method} {query} as {}", show(caller));
                let asked = caller.of(ask(&setup, method, &format!("{stream}{query}")));
                holds(&setup, caller, (asked, allowed), &what).await;
            }
        }
    }
    setup.assert_nothing_is_left_open().await;
}

/// One cell: what the caller gets, what its page may read of it, and what the stream server saw.
async fn holds(setup: &Setup, caller: &Caller, (asked, allowed): (Request, bool), what: &str) {
    let before = setup.upstream.received().len();
    let answer = asked.send().await;
    let forwarded = setup.upstream.received().len() - before;
    if allowed {
        assert!(answer.status < 300, "{what}: {answer:?}");
        assert_eq!(forwarded, 1, "{what}");
    } else {
        assert_eq!(answer.status, 403, "{what}: {answer:?}");
        assert_eq!(answer.header("x-keygate-error"), Some("origin_not_allowed"));
        assert_eq!(forwarded, 0, "{what}: the stream server saw nothing");
    }
    if let Caller::Origin(origin) = caller {
        let reflected = allowed.then_some(*origin);
        assert_eq!(answer.header("access-control-allow-origin"), reflected, "{what}");
    }
}

fn show(caller: &Caller) -> String {
    match caller {
        Caller::Origin(origin) => (*origin).to_owned(),
        Caller::Site(site) => format!("Sec-Fetch-Site: {site}"),
        Caller::Program => "a program".to_owned(),
    }
}

#[tokio::test]
async fn two_origins_are_no_origin_and_a_name_that_nobody_answers_to_is_refused() {
    let (setup, _) = setup().await;
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    let twice = ask(&setup, "GET", STREAM).origin(APP).origin(APP).send().await;
    twice.assert_denied(403, "origin_not_allowed");
    // A page that rebinds its own name to the gateway is of the gateway's origin, to the browser.
    let rebound = ask(&setup, "GET", STREAM).host("evil.test").origin("http://evil.test");
    rebound.send().await.assert_denied(421, "wrong_host");
    let rebound = ask(&setup, "GET", STREAM).host("evil.test");
    let rebound = rebound.header("Sec-Fetch-Site", "same-origin").send().await;
    rebound.assert_denied(421, "wrong_host");
}

#[tokio::test]
async fn what_is_no_policy_is_refused_and_nothing_is_forwarded_or_stored() {
    let (setup, _) = setup().await;
    let many: Vec<_> = (0..21).map(|n| format!("https://a{n}.test")).collect();
    let many = many.join(",");
    for wrong in
        ["", "null", "*, https://a.test", "https://a.test/x", "a.test", "Same-origin", &many]
    {
        let answer = put(&setup, STREAM, Some(wrong)).await;
        answer.assert_denied(400, "malformed_request");
        assert!(answer.text().contains("Stream-Allowed-Origins"), "{}", answer.text());
    }
    let twice = ask(&setup, "PUT", STREAM).header("Stream-Allowed-Origins", APP);
    let twice = twice.header("Stream-Allowed-Origins", APP).send().await;
    twice.assert_denied(400, "malformed_request");
    let slash = ask(&setup, "GET", &format!("{STREAM}/")).send().await;
    slash.assert_denied(400, "malformed_request");
    assert!(setup.upstream.received().is_empty(), "the stream server saw nothing");
    assert!(setup.running().gateway().streams.is_empty(), "nothing was stored");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn same_origin_needs_server_names() {
    let setup = Setup::with(&CONFIG.replace("server_names: [gate.test]", "")).await;
    Server::behind(&setup.upstream);
    let answer = put(&setup, STREAM, Some("same-origin")).await;
    answer.assert_denied(400, "malformed_request");
    assert!(answer.text().contains("server_names"), "{}", answer.text());
    assert!(setup.upstream.received().is_empty());
}

#[tokio::test]
async fn the_policy_is_in_the_answers_and_not_in_what_the_server_gets() {
    let (setup, _) = setup().await;
    let created = put(&setup, STREAM, Some("https://b.test:443,https://A.test")).await;
    created.assert_status(201);
    let canonical = Some("https://a.test, https://b.test");
    assert_eq!(created.header("stream-allowed-origins"), canonical);
    let seen = setup.upstream.only_request();
    assert_eq!(seen.header("stream-allowed-origins"), None, "it is the gateway's own");
    let head = ask(&setup, "HEAD", STREAM).send().await;
    assert_eq!((head.status, head.header("stream-allowed-origins")), (200, canonical));
    let again = put(&setup, STREAM, None).await;
    assert_eq!((again.status, again.header("stream-allowed-origins")), (200, canonical));
    let get = ask(&setup, "GET", STREAM).send().await;
    assert_eq!(get.header("stream-allowed-origins"), None, "nor is the server's believed");
    put(&setup, "/v1/stream/plain", None).await.assert_status(201);
    let plain = ask(&setup, "HEAD", "/v1/stream/plain").send().await;
    assert_eq!(plain.header("stream-allowed-origins"), None);
}

#[tokio::test]
async fn an_existing_stream_keeps_its_policy() {
    let (setup, server) = setup().await;
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    put(&setup, STREAM, Some("https://APP.test:443")).await.assert_status(200);
    for other in ["*", "same-origin", EVIL, "https://app.test, https://evil.test"] {
        put(&setup, STREAM, Some(other)).await.assert_denied(409, "conflict");
        assert_eq!(reads(&setup, STREAM, EVIL).await, 403, "after {other}");
        assert_eq!(reads(&setup, STREAM, APP).await, 200, "after {other}");
    }
    // The server itself refuses, or fails.
    for status in [400, 401, 403, 409, 500, 503] {
        setup.upstream.answer_next(Answer::json(status, "{}"));
        let status = put(&setup, STREAM, Some("*")).await.status;
        assert!(status >= 400, "{status}");
        assert_eq!(reads(&setup, STREAM, EVIL).await, 403, "after {status}");
    }
    // One that had none never gets one.
    put(&setup, "/v1/stream/open", None).await.assert_status(201);
    put(&setup, "/v1/stream/open", Some(APP)).await.assert_denied(409, "conflict");
    assert_eq!(reads(&setup, "/v1/stream/open", EVIL).await, 200, "it is as open as before");
    // Created anew after it expired: what it brings is all that counts, also nothing.
    server.expire(STREAM);
    put(&setup, STREAM, Some(EVIL)).await.assert_status(201);
    assert_eq!((reads(&setup, STREAM, EVIL).await, reads(&setup, STREAM, APP).await), (200, 403));
    server.expire(STREAM);
    put(&setup, STREAM, None).await.assert_status(201);
    assert_eq!((reads(&setup, STREAM, EVIL).await, reads(&setup, STREAM, APP).await), (200, 200));
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_deleted_stream_has_no_policy() {
    let (setup, _) = setup().await;
    for status in [204, 404, 410] {
        put(&setup, STREAM, Some(APP)).await.assert_status(201);
        if status != 204 {
            setup.upstream.answer_next(Answer::status(status));
        }
        ask(&setup, "DELETE", STREAM).send().await.assert_status(status);
        assert!(setup.running().gateway().streams.is_empty(), "{status}: the policy is gone");
        assert_eq!(stored(&setup), [], "{status}: in the store too");
        ask(&setup, "DELETE", STREAM).send().await;
    }
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    setup.upstream.answer_next(Answer::status(500));
    ask(&setup, "DELETE", STREAM).send().await.assert_status(500);
    assert_eq!(reads(&setup, STREAM, EVIL).await, 403, "what was not deleted is protected");
}

/// What the store has, as another process reads it: current and pending.
fn stored(setup: &Setup) -> Vec<(Option<String>, Option<String>)> {
    let file = rusqlite::Connection::open(setup.dir().join("keygate.db")).expect("the store");
    let sql = "SELECT policy, pending FROM streams WHERE policy NOT NULL OR pending NOT NULL";
    let mut statement = file.prepare(sql).expect("the table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[tokio::test]
async fn a_fork_has_its_sources_policy_unless_it_brings_its_own() {
    let (setup, _) = setup().await;
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    let fork = |to: &str| ask(&setup, "PUT", to).header("Stream-Forked-From", STREAM);
    let heir = fork("/v1/stream/heir").send().await;
    assert_eq!((heir.status, heir.header("stream-allowed-origins")), (201, Some(APP)));
    assert_eq!(reads(&setup, "/v1/stream/heir", EVIL).await, 403);
    let own = fork("/v1/stream/own").header("Stream-Allowed-Origins", "*").send().await;
    assert_eq!((own.status, own.header("stream-allowed-origins")), (201, Some("*")));
    // Made again as it was.
    fork("/v1/stream/heir").send().await.assert_status(200);
    fork("/v1/stream/own").send().await.assert_status(200);
    assert_eq!(reads(&setup, "/v1/stream/own", EVIL).await, 200);
    let before = setup.upstream.received().len();
    // Whoever may not read the source may not read a copy of it.
    let copy = fork("/v1/stream/copy").origin(EVIL).header("Stream-Allowed-Origins", "*");
    copy.send().await.assert_denied(403, "origin_not_allowed");
    for wrong in ["http://x.test/v1/stream/a", "user-42/chat", "/v1/stream/../a", "/v1/stream/a/"] {
        let copy = ask(&setup, "PUT", "/v1/stream/copy").header("Stream-Forked-From", wrong);
        copy.send().await.assert_denied(400, "malformed_request");
    }
    assert_eq!(setup.upstream.received().len(), before, "nothing was forwarded");
}

#[tokio::test]
async fn preflights_and_credentials_follow_the_policy() {
    let (setup, _) = setup().await;
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    put(&setup, "/v1/stream/any", Some("*")).await.assert_status(201);
    let preflight = async |stream: &str, origin: &str| {
        let asked = Request::preflight(setup.addr(), stream, "PUT", "authorization");
        asked.host("gate.test").origin(origin).send().await
    };
    let credentials = "access-control-allow-credentials";
    for (stream, origin, reflected, with) in [
        (STREAM, APP, Some(APP), Some("true")),
        (STREAM, EVIL, None, None),
        (STREAM, "null", None, None),
        ("/streams/v1/stream/user-42/chat", EVIL, None, None),
        ("/v1/stream/any", EVIL, Some(EVIL), None),
        ("/v1/stream/other", EVIL, Some(EVIL), None),
    ] {
        let answer = preflight(stream, origin).await;
        answer.assert_status(204);
        assert_eq!(answer.header("access-control-allow-origin"), reflected, "{stream} {origin}");
        assert_eq!(answer.header(credentials), with, "{stream} {origin}");
        let answer = ask(&setup, "GET", stream).origin(origin).send().await;
        assert_eq!(answer.header("access-control-allow-origin"), reflected, "{stream} {origin}");
        assert_eq!(answer.header(credentials), with, "{stream} {origin}");
    }
    assert!(setup.upstream.received().iter().all(|r| r.method != "OPTIONS"), "answered here");
}

#[tokio::test]
async fn spellings_of_a_path_are_no_way_around_its_policy() {
    let (setup, _) = setup().await;
    put(&setup, "/v1/stream/a!", Some(APP)).await.assert_status(201);
    let before = setup.upstream.received().len();
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let other = ask(&setup, method, "/v1/stream/a%21").origin(EVIL).send().await;
        assert_eq!(other.status, 400, "{method}: {other:?}");
    }
    put(&setup, "/v1/stream/a%21", Some("*")).await.assert_denied(400, "malformed_request");
    put(&setup, "/v1/stream/a%21", None).await.assert_denied(400, "malformed_request");
    assert_eq!(setup.upstream.received().len(), before, "the stream server saw nothing");
    put(&setup, "/v1/stream/%C3%A9", Some(APP)).await.assert_status(201);
    assert_eq!(reads(&setup, "/v1/stream/%C3%A9", APP).await, 200);
    assert_eq!(reads(&setup, "/streams/v1/stream/%C3%A9", EVIL).await, 403);
    assert_eq!(reads(&setup, "/v1/stream/%c3%a9", APP).await, 400);
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let (mut setup, _) = setup().await;
    put(&setup, STREAM, Some(APP)).await.assert_status(201);
    setup.restart().await;
    assert_eq!((reads(&setup, STREAM, EVIL).await, reads(&setup, STREAM, APP).await), (403, 200));
    let name = Name::of("streams", STREAM);
    let told = setup.running().gateway().streams.told(&name).expect("it has a policy");
    assert_eq!(told.as_str(), APP);
    assert!(setup.clock.wall_ms() >= NEW_YEAR_MS);
}

#[tokio::test]
async fn it_holds_over_http_2_and_where_a_proxy_says_which_host_was_asked() {
    let listen = "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]";
    let config = CONFIG.replace("listen: [{ address: 127.0.0.1:0 }]", listen);
    let setup = Setup::with(&format!("{config}trusted_proxies: [127.0.0.1]\n")).await;
    Server::behind(&setup.upstream);
    let h2 = H2::connect(setup.tls()).await;
    let create = ask(&setup, "PUT", STREAM).header("Stream-Allowed-Origins", "same-origin");
    let created = h2.send(create.body("text/plain", "first")).await;
    assert_eq!(
        (created.status, created.header("stream-allowed-origins")),
        (201, Some("same-origin"))
    );
    assert_eq!(setup.upstream.only_request().body, b"first");
    let secure = "https://gate.test";
    for (origin, forwarded, status) in [
        (secure, None, 200),
        (OWN, None, 403),
        (EVIL, None, 403),
        (OWN, Some("http"), 200),
        (secure, Some("http"), 403),
    ] {
        let read = ask(&setup, "GET", STREAM).origin(origin);
        let read = match forwarded {
            Some(scheme) => read.header("X-Forwarded-Proto", scheme),
            None => read,
        };
        assert_eq!(h2.send(read).await.status, status, "{origin} {forwarded:?}");
    }
    let fetched = ask(&setup, "GET", STREAM).header("Sec-Fetch-Site", "same-origin");
    assert_eq!(h2.send(fetched).await.status, 200, "its own page need not say more");
    // A body without a length.
    let again = ask(&setup, "PUT", STREAM).header("Stream-Allowed-Origins", "*");
    h2.send(again.body("text/plain", "more").chunked(2)).await.assert_denied(409, "conflict");
    assert_eq!(h2.send(ask(&setup, "GET", STREAM).origin(EVIL)).await.status, 403);
    setup.assert_nothing_is_left_open().await;
}

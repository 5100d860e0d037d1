//! Streams while they are created: races, answers that never come, kills, a store that fails. Nobody
//! reads beyond what a stream was created with.

use crate::allowed_origins::{CONFIG, Server};
use crate::support::DEADLINE;
use crate::support::client::{Raw, Request, Response};
use crate::support::gateway::Setup;
use crate::support::process::{Process, keygate_in};
use crate::support::upstream::{Answer, Received, Refusing, Upstream};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STREAM: &str = "/v1/stream/user-42/chat";
const APP: &str = "https://app.test";
const EVIL: &str = "https://evil.test";

async fn setup() -> (Setup, Server) {
    let setup = Setup::with(CONFIG).await;
    let server = Server::behind(&setup.upstream);
    (setup, server)
}

fn ask(setup: &Setup, method: &str, target: &str) -> Request {
    setup.request(method, target).host("gate.test").bearer(setup.token("free"))
}

fn creation(setup: &Setup, origins: &str) -> Request {
    ask(setup, "PUT", STREAM).header("Stream-Allowed-Origins", origins)
}

async fn reads(setup: &Setup, origin: &str) -> u16 {
    ask(setup, "GET", STREAM).origin(origin).send().await.status
}

/// Current and pending, as the store has them.
fn stored(setup: &Setup) -> Option<(Option<String>, Option<String>)> {
    let file = rusqlite::Connection::open(setup.dir().join("keygate.db")).expect("the store");
    let sql = "SELECT policy, pending FROM streams WHERE policy NOT NULL OR pending NOT NULL";
    file.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).ok()
}

/// Asks for the stream until what a creation has left is settled; the stream server is asked once a second
/// at most.
async fn settled(setup: &Setup, expected: Option<(Option<String>, Option<String>)>) {
    let begun = Instant::now();
    while stored(setup) != expected {
        assert!(begun.elapsed() < DEADLINE, "it is still {:?}", stored(setup));
        ask(setup, "GET", STREAM).send().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_reads_nothing_during_a_thousand_hostile_creations() {
    let (setup, _) = setup().await;
    creation(&setup, APP).send().await.assert_status(201);
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = ask(&setup, "GET", STREAM).origin(EVIL);
    let (ended, count) = (done.clone(), asked.clone());
    let addr = setup.addr();
    let reading = tokio::spawn(async move {
        let mut raw = Raw::connect(addr).await;
        while !ended.load(Acquire) {
            let answer = reader.clone().send_on(&mut raw).await;
            answer.assert_denied(403, "origin_not_allowed");
            count.fetch_add(1, AcqRel);
        }
    });
    let mut raw = Raw::connect(setup.addr()).await;
    for n in 0..1_000 {
        // The stream server says that it exists, or refuses.
        if n % 3 == 0 {
            setup.upstream.answer_next(Answer::status(409));
        }
        let answer = creation(&setup, "*").send_on(&mut raw).await;
        assert_eq!(answer.status, 409, "{n}: {answer:?}");
        if answer.header("connection") == Some("close") {
            raw = Raw::connect(setup.addr()).await;
        }
    }
    done.store(true, Release);
    reading.await.expect("the reader read nothing");
    let asked = asked.load(Acquire);
    assert!(asked > 100, "the reader has asked {asked} times only");
    assert_eq!(stored(&setup), Some((Some(APP.to_owned()), None)), "all is as it was");
    setup.assert_nothing_is_left_open().await;
}

/// Lets the stream server answer one request at a time, when the test says so.
fn hold(
    setup: &Setup,
    method: &'static str,
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Sender<()> {
    let (go, held) = channel::<()>();
    let held = Mutex::new(held);
    let created = AtomicBool::new(false);
    setup.upstream.answer_with(move |request| {
        if request.method == method {
            let held = held.lock().expect("nobody panics with it");
            let _ = tokio::task::block_in_place(|| held.recv_timeout(DEADLINE));
            return answer();
        }
        match &*request.method {
            "PUT" if !created.swap(true, AcqRel) => Answer::status(201),
            "PUT" => Answer::status(200),
            _ => Answer::body(200, "text/plain", "secret"),
        }
    });
    go
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_was_under_way_when_the_stream_was_created_gets_nothing_of_it() {
    let setup = Setup::with(CONFIG).await;
    let go = hold(&setup, "GET", || Answer::body(200, "text/plain", "secret"));
    let early = tokio::spawn(ask(&setup, "GET", STREAM).origin(EVIL).send());
    setup.upstream.wait_for_heads(1).await;
    creation(&setup, APP).send().await.assert_status(201);
    go.send(()).expect("it waits");
    let answer = early.await.expect("an answer");
    answer.assert_denied(403, "origin_not_allowed");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creations_of_a_stream_take_turns_and_meanwhile_both_policies_count() {
    let setup = Setup::with(CONFIG).await;
    let go = hold(&setup, "PUT", || Answer::status(201));
    let first = tokio::spawn(creation(&setup, "https://one.test, https://two.test").send());
    setup.upstream.wait_for(1).await;
    let second = tokio::spawn(creation(&setup, "https://two.test").send());
    assert_eq!(reads(&setup, EVIL).await, 403, "it is pending");
    assert_eq!(reads(&setup, "https://one.test").await, 200);
    go.send(()).expect("it waits");
    first.await.expect("an answer").assert_status(201);
    let puts = |seen: Vec<Received>| seen.iter().filter(|r| r.method == "PUT").count();
    until("the second creation", || puts(setup.upstream.received()) == 2).await;
    assert_eq!(reads(&setup, "https://one.test").await, 403, "both are needed");
    assert_eq!(reads(&setup, "https://two.test").await, 200);
    go.send(()).expect("it waits");
    let second = second.await.expect("an answer");
    assert_eq!(second.header("stream-allowed-origins"), Some("https://two.test"));
    assert_eq!(reads(&setup, "https://one.test").await, 403);
}

#[tokio::test]
async fn a_page_that_follows_a_stream_is_cut_off_when_it_is_created_anew_for_others() {
    let (setup, server) = setup().await;
    creation(&setup, "*").send().await.assert_status(201);
    setup.upstream.answer_next(Answer::sse(["old", "new"]).gated());
    let mut follower = ask(&setup, "GET", &format!("{STREAM}?live=sse")).origin(EVIL).open().await;
    setup.upstream.release();
    assert_eq!(follower.next_event().await.expect("an event").data, "old");
    // A hostile creation that fails cuts nobody off.
    creation(&setup, APP).send().await.assert_denied(409, "conflict");
    server.expire(STREAM);
    creation(&setup, APP).send().await.assert_status(201);
    setup.upstream.release();
    assert!(follower.next_event().await.is_none(), "what comes now is another stream's");
    assert!(!follower.rest().await.complete, "it ends visibly unfinished");
    setup.assert_nothing_is_left_open().await;
    let line = setup.access_log().into_iter().find(|line| line["transport"] == "sse");
    assert_eq!(line.expect("a line")["denial"], "origin_not_allowed");
}

#[tokio::test]
async fn a_creation_without_an_answer_leaves_both_policies_until_the_stream_is_asked_for() {
    let (setup, server) = setup().await;
    // It never came into being.
    setup.upstream.answer_next(Answer::reset());
    let lost = creation(&setup, APP).send().await;
    lost.assert_denied(502, "upstream_unreachable");
    let puts = setup.upstream.received();
    assert_eq!(puts.len(), 1, "a creation is not sent twice");
    assert_eq!(reads(&setup, EVIL).await, 403, "nobody knows, so it is in force");
    assert_eq!(stored(&setup), Some((None, Some(APP.to_owned()))));
    // What was given up becomes nobody's on another thread: until then nobody is asked.
    let begun = std::time::Instant::now();
    let asked = loop {
        assert_eq!(reads(&setup, APP).await, 404);
        match setup.upstream.received().into_iter().find(|r| r.method == "HEAD") {
            Some(asked) => break asked,
            None => assert!(begun.elapsed() < DEADLINE, "the stream server is asked"),
        }
    };
    assert_eq!(asked.target, STREAM);
    assert_eq!(reads(&setup, EVIL).await, 403, "it may still come, for a while");
    setup.clock.advance(61_000);
    settled(&setup, None).await;
    assert_eq!(reads(&setup, EVIL).await, 404, "there is no stream, and no policy");

    // It did.
    creation(&setup, APP).send().await.assert_status(201);
    server.expire(STREAM);
    setup.upstream.answer_next(Answer::reset());
    creation(&setup, "https://app.test, https://two.test").send().await.assert_status(502);
    server.create(STREAM);
    assert_eq!(reads(&setup, EVIL).await, 403);
    assert_eq!(reads(&setup, APP).await, 200, "both allow it");
    assert_eq!(reads(&setup, "https://two.test").await, 403, "one of them does not");
    settled(&setup, Some((Some(APP.to_owned()), None))).await;
    assert_eq!((reads(&setup, APP).await, reads(&setup, EVIL).await), (200, 403), "both allow it");
}

#[tokio::test]
async fn a_creation_that_was_never_whole_leaves_nothing() {
    let (setup, _) = setup().await;
    let mut raw = Raw::connect(setup.addr()).await;
    let head = creation(&setup, APP).header("Content-Length", "10").to_bytes();
    raw.send(head).await;
    raw.send("12345").await;
    setup.upstream.wait_for_heads(1).await;
    assert_eq!(stored(&setup), Some((None, Some(APP.to_owned()))), "pending before it is sent");
    raw.reset();
    until("the pending policy to go", || stored(&setup).is_none()).await;
    creation(&setup, EVIL).send().await.assert_status(201);
    assert_eq!(reads(&setup, EVIL).await, 200);

    let refusing = Refusing::reserve();
    let setup = Setup::with(&CONFIG.replace("$UPSTREAM", &refusing.url())).await;
    creation(&setup, APP).send().await.assert_denied(502, "upstream_unreachable");
    until("the pending policy to go", || stored(&setup).is_none()).await;
}

#[tokio::test]
async fn without_a_store_nothing_is_promised() {
    let setup = Setup::with(&CONFIG.replace("store: { sqlite: $DIR/keygate.db }\n", "")).await;
    Server::behind(&setup.upstream);
    creation(&setup, APP).send().await.assert_denied(503, "store_unavailable");
    assert!(setup.upstream.received().is_empty());
    ask(&setup, "PUT", STREAM).send().await.assert_status(201);
    assert_eq!(reads(&setup, EVIL).await, 200);
}

#[tokio::test]
async fn while_nobody_can_know_browsers_are_refused_and_programs_are_not() {
    let (setup, _) = setup().await;
    creation(&setup, APP).send().await.assert_status(201);
    let file = setup.dir().join("keygate.db");
    let store = rusqlite::Connection::open(&file).expect("the store");
    store.execute_batch("ALTER TABLE streams RENAME TO away").expect("renamed");
    let health = || setup.metric("keygate_store_healthy") as i64;
    until("the store to be missed", || health() == 0).await;
    for request in [
        ask(&setup, "GET", STREAM).origin(APP),
        ask(&setup, "GET", "/v1/stream/other").origin(EVIL),
        ask(&setup, "POST", STREAM).header("Sec-Fetch-Site", "same-origin"),
    ] {
        let answer = request.send().await;
        answer.assert_denied(503, "store_unavailable");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    ask(&setup, "GET", STREAM).send().await.assert_status(200);
    creation(&setup, APP).send().await.assert_denied(503, "store_unavailable");
    store.execute_batch("ALTER TABLE away RENAME TO streams").expect("renamed");
    until("the store to be back", || health() == 1).await;
    assert_eq!((reads(&setup, APP).await, reads(&setup, EVIL).await), (200, 403));
    store.execute_batch("UPDATE streams SET policy = 'broken', seq = seq + 1000").expect("changed");
    until("the change to be seen", || {
        let name = keygate::stream::Name::of("streams", STREAM);
        let told = setup.running().gateway().streams.told(&name);
        told.is_some_and(|policy| policy.as_str() != APP)
    })
    .await;
    assert_eq!((reads(&setup, APP).await, reads(&setup, EVIL).await), (503, 503), "unreadable");
}

#[tokio::test]
async fn gateways_that_share_a_store_share_policies_without_a_moment_between() {
    let (setup, server) = setup().await;
    let other = setup.another();
    let there = *other.addresses().first().expect("a listener");
    for n in 0..50 {
        let stream = format!("/v1/stream/shared-{n}");
        let made = ask(&setup, "PUT", &stream).header("Stream-Allowed-Origins", APP);
        made.send().await.assert_status(201);
        let read = |origin| ask(&setup, "GET", &stream).origin(origin).to(there).send();
        read(EVIL).await.assert_denied(403, "origin_not_allowed");
        read(APP).await.assert_status(200);
        let again = ask(&setup, "PUT", &stream).header("Stream-Allowed-Origins", "*");
        again.to(there).send().await.assert_denied(409, "conflict");
        server.expire(&stream);
        let anew = ask(&setup, "PUT", &stream).header("Stream-Allowed-Origins", EVIL);
        anew.to(there).send().await.assert_status(201);
        // What one has stored, the other removes.
        let gone = format!("/v1/stream/gone-{n}");
        let made = ask(&setup, "PUT", &gone).header("Stream-Allowed-Origins", APP);
        made.send().await.assert_status(201);
        ask(&setup, "DELETE", &gone).to(there).send().await.assert_status(204);
        ask(&setup, "GET", &gone).origin(EVIL).send().await.assert_status(404);
        ask(&setup, "GET", &stream).origin(APP).send().await.assert_status(403);
    }
    tokio::task::spawn_blocking(move || other.stop()).await.expect("it stops");
}

/// A stream server that knows what each stream was created with, and says so to whoever reads it.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<BTreeMap<String, String>>>);

impl Witness {
    fn behind(upstream: &Upstream) -> Self {
        let witness = Self::default();
        let answers = witness.clone();
        upstream.answer_with(move |request| answers.answer(request));
        witness
    }

    fn answer(&self, request: &Received) -> Answer {
        let delay = |n: u64| Duration::from_micros(n % 9_000);
        let rolled = request.header("x-roll").and_then(|n| n.parse().ok()).unwrap_or(0);
        if request.method == "PUT" {
            // Some take their time before they create, and some before they say so.
            tokio::task::block_in_place(|| std::thread::sleep(delay(rolled)));
        }
        let mut streams = self.0.lock().expect("nobody panics with it");
        let with = streams.get(&request.target).cloned();
        match (&*request.method, with) {
            ("PUT", None) => {
                let with = request.header("x-created-with").expect("the test says").to_owned();
                streams.insert(request.target.clone(), with);
                Answer::status(201).delay(delay(rolled / 9_000))
            }
            ("PUT", Some(_)) => Answer::status(200),
            (_, None) => Answer::status(404),
            (_, Some(with)) => Answer::body(200, "text/plain", with),
        }
    }
}

/// What a stream was created with before, if it was, and what the creation under way brings. All but the
/// hostile one find no stream, whatever was there before.
const KINDS: [(&str, Option<&str>, &str); 4] = [
    ("fresh", None, APP),
    ("hostile", Some(APP), "*"),
    ("anew", Some("*"), APP),
    ("moved", Some(EVIL), APP),
];

struct Killed {
    dir: Arc<TempDir>,
    upstream: Upstream,
    witness: Witness,
    roll: u64,
}

impl Killed {
    async fn start(&self) -> (Process, SocketAddr) {
        let mut process = keygate_in(&self.dir, ["serve", "-c", "keygate.yaml"]).start();
        process.wait_for_stderr("keygate is ready").await;
        let log = process.stderr();
        let (_, rest) = log.split_once("listening on ").expect("it says where");
        let addr = rest.split_whitespace().next().expect("an address").parse();
        (process, addr.expect("an address"))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.roll = self
            .roll
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.roll >> 33) % sides
    }

    /// Creations of every kind, a kill in between, and what can be read then. Gives those that were
    /// answered, and how many were left pending.
    async fn round(&mut self, n: usize) -> (usize, i64) {
        let (process, addr) = self.start().await;
        let mut streams = Vec::new();
        // How long one takes here and now.
        let mut longest = Duration::from_millis(5);
        for (kind, before, with) in KINDS {
            let begun = Instant::now();
            let stream = format!("/v1/stream/{kind}-{n}");
            if let Some(before) = before {
                let first = create(addr, &[(stream.clone(), before, 0)]).await;
                first.first().expect("an answer").1.assert_status(201);
                longest = longest.max(begun.elapsed());
                if kind != "hostile" {
                    self.witness.0.lock().expect("it").remove(&stream);
                }
            }
            let roll = self.roll(81_000_000);
            streams.push((stream, with, roll));
        }
        let within = u64::try_from((longest * 3).as_micros()).expect("a short time") + 18_000;
        let instant = Duration::from_micros(self.roll(within));
        let sent = streams.clone();
        let creating = tokio::spawn(async move { create(addr, &sent).await });
        tokio::time::sleep(instant).await;
        process.signal("KILL");
        drop(process);
        let told = creating.await.expect("no panic");
        let left = count_pending(self.dir.path());
        let (process, addr) = self.start().await;
        for (stream, ..) in streams.iter().chain(&streams) {
            self.check(addr, stream).await;
        }
        for (stream, answer) in &told {
            if answer.status == 201 {
                // Acknowledged: its own page reads it.
                let read = Request::get(addr, stream).origin(APP).send().await;
                assert_eq!(read.status, 200, "{stream} was promised to {APP}: {read:?}");
            }
        }
        process.signal("KILL");
        (told.len(), left)
    }

    /// Panics where a page of `origin` reads a stream that was not created for it.
    async fn check(&self, addr: SocketAddr, stream: &str) {
        for origin in [EVIL, APP] {
            let answer = Request::get(addr, stream).origin(origin).send().await;
            let with = answer.text();
            let allowed = with == "*" || with.contains(origin);
            assert!(
                answer.status != 200 || allowed,
                "{stream} was created with {with:?} and read from {origin}"
            );
        }
    }
}

/// Sends creations of every kind at once; those that are answered are given.
async fn create(
    addr: SocketAddr,
    streams: &[(String, &'static str, u64)],
) -> Vec<(String, Response)> {
    let sent = streams.iter().map(|(stream, with, roll)| {
        let request = Request::new(addr, "PUT", stream)
            .header("Stream-Allowed-Origins", with)
            .header("X-Created-With", with)
            .header("X-Roll", roll.to_string());
        let stream = stream.clone();
        tokio::spawn(async move {
            let mut raw = match tokio::net::TcpStream::connect(addr).await {
                Ok(stream) => Raw::new(stream),
                Err(_) => return None,
            };
            raw.try_send(request.to_bytes()).await.ok()?;
            Some((stream, raw.try_read_response().await.ok()?))
        })
    });
    let sent: Vec<_> = sent.collect();
    let mut answered = Vec::new();
    for task in sent {
        answered.extend(task.await.expect("no panic"));
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_instant_no_stream_is_read_beyond_its_policy() {
    let upstream = Upstream::start().await;
    let witness = Witness::behind(&upstream);
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let yaml = format!(
        "listen: [{{ address: 127.0.0.1:0 }}]\nstore: {{ sqlite: {d}/keygate.db }}\n\
         access_log: {{ file: {d}/access.log }}\nproviders:\n  streams: {{ kind: durable-streams, \
         url: '{u}', access: public }}\n",
        d = dir.path().display(),
        u = upstream.url(),
    );
    std::fs::write(dir.path().join("keygate.yaml"), yaml).expect("a configuration");
    let mut test = Killed { dir, upstream, witness, roll: 7 };
    let (mut answered, mut left) = (0, 0);
    for n in 0..100 {
        let (more, pending) = test.round(n).await;
        answered += more;
        left += pending;
    }
    assert!(answered > 0, "the kill came too early, a hundred times");
    assert!(answered < 400, "the kill came too late, a hundred times");
    assert!(left > 0, "no kill has left anything behind");
    assert!(
        test.upstream.received().iter().any(|r| r.method == "HEAD"),
        "leftovers were asked for"
    );
}

/// How many were under way.
fn count_pending(dir: &std::path::Path) -> i64 {
    let file = rusqlite::Connection::open(dir.join("keygate.db")).expect("the store");
    let sql = "SELECT count(*) FROM streams WHERE pending NOT NULL";
    file.query_row(sql, [], |row| row.get(0)).expect("a number")
}

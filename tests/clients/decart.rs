//! Decart's libraries: images, jobs, client tokens and realtime sessions, and what they make of a
//! refusal. Behind the gateway stands a recorder that answers as the libraries expect.

use super::install::{Environment, NODE_DECART, PYTHON_DECART, install};
use super::rig::{self, PLACES};
use super::table;
use super::tap::Tap;
use crate::support::canary;
use crate::support::process::Process;
use crate::support::upstream::{Answer, Received, Refusing, Upstream};
use keygate::values::ids::TokenDigest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const ISSUER: &str = "https://gate.test";

const CONFIG: &str = "
listen:
  - { address: '127.0.0.1:0' }
  - { address: '127.0.0.1:0', tls: { cert: cert.pem, key: cert.key } }
server_names: [127.0.0.1]
store: { sqlite: keygate.db }
access_log: { file: access.log }
limits: { max_body: 1MiB, max_ws_message: 64KiB, upstream_connect_timeout: 2s }
client_tokens: { issuer: 'https://gate.test' }
policies:
  any: { methods: [GET, POST], models: [lucy-2.5, lucy-image-2], rate_limit: { requests: 100, per: 60s } }
  # Jobs are everybody's behind the key: they need their path's name.
  worker: { models: [lucy-2.5, lucy-image-2], paths: ['/v1/jobs/*', '/v1/generate/*'] }
  minter: { providers: [decart], methods: [GET, POST] }
  other_model: { models: [some-other-model] }
  once_a_minute: { rate_limit: { requests: 1, per: 60s } }
  one_at_a_time: { concurrency: 1 }
";

/// Tokens, each of the policy of its name.
const TOKENS: [&str; 6] =
    ["any", "worker", "minter", "other_model", "once_a_minute", "one_at_a_time"];

struct Rig {
    gateway: Process,
    front: Tap,
    tls: SocketAddr,
    dir: Arc<TempDir>,
    upstream: Upstream,
    /// Ends every connection without an answer.
    drops: Upstream,
    key: String,
    tokens: BTreeMap<&'static str, String>,
    _gone: Refusing,
}

impl Rig {
    async fn start() -> Self {
        tokio::task::spawn_blocking(install).await.expect("the clients are installed");
        let (upstream, drops) = (Upstream::start().await, Upstream::start().await);
        let gone = Refusing::reserve();
        let (key, wrong) = (canary::key("decart"), canary::key("decart-wrong"));
        let right = key.clone();
        // What is said goes to every connection: none may become a later session's.
        upstream.answer_with(move |request| match is_session(request, &right) {
            true => Answer::websocket().quiet(),
            false => answer(request, &right).close(),
        });
        drops.answer(Answer::reset());

        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("it can be written");
        };
        write("decart.key", &key);
        write("wrong.key", &wrong);
        let tokens: BTreeMap<_, _> = TOKENS.map(|name| (name, canary::token())).into();
        let mut config = format!("{CONFIG}tokens:\n");
        for (name, token) in &tokens {
            let (sha, mints) = (TokenDigest::of(token.as_bytes()).to_hex(), *name == "minter");
            let _ = writeln!(
                config,
                "  - {{ name: {name}, sha256: '{sha}', policy: {name}, may_mint: {mints} }}"
            );
        }
        config.push_str("providers:\n");
        for (name, url, key) in [
            ("decart", upstream.url(), "decart.key"),
            ("decart-rejects", upstream.url(), "wrong.key"),
            ("decart-drops", drops.url(), "decart.key"),
            ("decart-gone", gone.url(), "decart.key"),
        ] {
            let _ = writeln!(
                config,
                "  {name}: {{ kind: decart, url: '{url}', keys: [{{ file: {key} }}] }}"
            );
        }
        write("keygate.yaml", &config);
        rig::certify(&dir);
        let (gateway, [plain, tls]) = rig::serve(&dir).await;
        let front = Tap::start(plain).await;
        Self { gateway, front, tls, dir, upstream, drops, key, tokens, _gone: gone }
    }

    /// Runs a script by this scheme, while the provider talks in its sessions.
    async fn run(&self, environment: Environment, script: &str, scheme: &str) -> Value {
        let _place = PLACES.acquire().await.expect("it is never closed");
        let mut command = environment.command(script);
        rig::isolate(&mut command, self.dir.path());
        let addr = if scheme == "https" { self.tls } else { self.front.addr };
        let mut tokens = json!(self.tokens);
        tokens["nobody"] = json!("ptk_nobody_has_this_token");
        command
            .env("KEYGATE_URL", format!("{scheme}://{addr}"))
            .env("KEYGATE_TOKEN", &self.tokens["worker"])
            .env("KEYGATE_MINTER", &self.tokens["minter"])
            .env("KEYGATE_TOKENS", tokens.to_string())
            .env("KEYGATE_ISSUER", ISSUER);
        tokio::select! {
            got = rig::execute(command, script, &self.gateway) => got,
            () = self.converse() => unreachable!("it has no end"),
        }
    }

    /// Decart's side of every session.
    async fn converse(&self) {
        let mut heard = 0;
        loop {
            let texts = self.upstream.texts();
            for text in texts.get(heard..).unwrap_or_default() {
                let message: Value = serde_json::from_str(text).expect("the libraries send JSON");
                for reply in replies(&message) {
                    self.upstream.say(&reply.to_string());
                }
            }
            heard = texts.len();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn holds_a_token(&self, text: &str) -> bool {
        self.tokens.values().any(|token| text.contains(&**token))
    }
}

fn is_session(request: &Received, key: &str) -> bool {
    let key = format!("api_key={key}");
    request.target.starts_with("/v1/stream?") && request.target.contains(&key)
}

/// What Decart answers over HTTP; to a wrong key that it is wrong.
fn answer(request: &Received, key: &str) -> Answer {
    if request.header("x-api-key") != Some(key) {
        return Answer::json(401, json!({"detail": "Invalid API key"}));
    }
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", target) if target.starts_with("/v1/generate/") => {
            Answer::body(200, "image/png", "an image")
        }
        ("GET", target) if target.ends_with("/content") => {
            Answer::body(200, "video/mp4", "a video")
        }
        ("GET", _) => Answer::json(200, json!({"job_id": "job_1", "status": "completed"})),
        _ => Answer::json(200, json!({"job_id": "job_1", "status": "pending"})),
    }
}

/// What Decart says in a session.
fn replies(message: &Value) -> Vec<Value> {
    match message["type"].as_str() {
        Some("livekit_join") => vec![json!({
            "type": "livekit_room_info", "livekit_url": "wss://livekit.test", "token": "of-livekit",
            "room_name": "room_1", "session_id": "sess_1",
        })],
        Some("prompt") => vec![
            json!({"type": "prompt_ack", "prompt": message["prompt"], "success": true}),
            json!({"type": "generation_tick", "seconds": 7}),
        ],
        _ => Vec::new(),
    }
}

/// Everything that the library does; `agent` is how it calls itself.
async fn client(name: &str, environment: Environment, script: &str, package: &str, agent: &str) {
    let version = environment.version(package);
    let mut slots = String::new();
    for scheme in ["http", "https"] {
        let rig = Rig::start().await;
        let got = rig.run(environment, script, scheme).await;
        assert_eq!(got["image"], "an image", "{scheme}: {got}");
        assert_eq!(got["job"], json!(["job_1", "pending", "completed", "a video"]), "{scheme}");
        let minted = assert_minted(&got);
        for form in ["api_key", "token"] {
            let session = json!({"session_id": "sess_1", "seconds": 7});
            assert_eq!(got[format!("session by {form}")], session, "{scheme}: {got}");
        }
        assert_upstream(&rig, &minted, &format!("{agent}/{version}"));
        assert_log(&rig).await;
        if scheme == "http" {
            let is_token = |text: &str| {
                rig.holds_a_token(text) || minted.iter().any(|token| text.contains(&**token))
            };
            slots = rig::slots(rig.front.seen().iter(), is_token);
        }
    }
    assert_eq!(slots, "`?api_key=`, `x-api-key`", "where the library puts its key");
    let cells = [&*version, "process, queue, tokens", "none", "`x-api-key`"];
    table::check("Requests and streams", &format!("Decart, {name}"), &cells);
    let cells = [&*version, "`ws`, `wss`", "`?api_key=`"];
    table::check("Sessions over a WebSocket", &format!("Decart realtime, {name}"), &cells);
}

/// The library has read every member of every answer; gives the tokens.
#[track_caller]
fn assert_minted(got: &Value) -> Vec<String> {
    let models = json!(["lucy-2.5"]);
    let origins = json!(["https://app.test"]);
    let length = json!({"realtime": {"maxSessionDuration": 300}});
    let mut all = Vec::new();
    for (name, permissions, constraints) in [
        ("plain", Value::Null, Value::Null),
        ("expiry", Value::Null, Value::Null),
        ("models", json!({ "models": models }), Value::Null),
        ("origins", json!({ "origins": origins }), Value::Null),
        ("length", Value::Null, length.clone()),
        ("metadata", Value::Null, Value::Null),
        ("all", json!({ "models": models, "origins": origins }), length.clone()),
    ] {
        let token = &got["tokens"][name];
        assert_eq!(token["permissions"], permissions, "{name}: {token}");
        assert_eq!(token["constraints"], constraints, "{name}: {token}");
        let form = |form: &str| token[form].as_str().unwrap_or_default().to_owned();
        assert!(form("api_key").starts_with("ek_kg"), "{name}: {token}");
        assert_eq!(form("token").split('.').count(), 3, "{name} is signed: {token}");
        assert!(form("expires_at").ends_with('Z'), "{name}: {token}");
        for text in [form("api_key"), form("token")] {
            canary::adopt_token(&text);
            all.push(text);
        }
    }
    let ends = |name: &str| got["tokens"][name]["expires_at"].as_str().map(str::to_owned);
    assert!(ends("plain") < ends("expiry"), "a minute, or two as asked: {}", got["tokens"]);
    if let Some(verified) = got.get("verified") {
        let claims = json!({"models": models, "origins": origins, "constraints": length,
            "metadata": {"role": "viewer"}});
        assert_eq!(*verified, claims, "the library verifies it with the published keys");
    }
    all
}

/// The real key in its one place, no token anywhere, the rest as the library sent it.
#[track_caller]
fn assert_upstream(rig: &Rig, minted: &[String], agent: &str) {
    let raw = String::from_utf8_lossy(&rig.upstream.raw_bytes()).into_owned();
    assert!(!rig.holds_a_token(&raw), "a token reached the provider");
    assert!(!minted.iter().any(|token| raw.contains(&**token)), "a client token did");
    let mut lines = Vec::new();
    for request in rig.upstream.received() {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let key = (path != "/v1/stream").then_some(&*rig.key);
        assert_eq!(request.header("x-api-key"), key, "{}", request.target);
        assert_eq!(request.header("authorization"), None, "{}", request.target);
        assert_eq!(request.header("origin"), None, "{}", request.target);
        if path == "/v1/stream" {
            let pairs: Vec<_> = query.split('&').collect();
            let keys = pairs.iter().filter(|pair| pair.starts_with("api_key=")).count();
            assert_eq!(keys, 1, "{query}");
            assert!(pairs.contains(&&*format!("api_key={}", rig.key)), "{query}");
            assert!(pairs.contains(&"model=lucy-2.5"), "{query}");
        } else {
            let sent = request.header("user-agent").unwrap_or_default();
            assert!(sent.starts_with(agent), "the library's own headers pass: {sent}");
        }
        if request.method == "POST" {
            assert!(request.text().contains("decart "), "the form as it was: {}", request.text());
        }
        lines.push(format!("{} {path}", request.method));
    }
    lines.sort_unstable();
    let expected = [
        "GET /v1/jobs/job_1",
        "GET /v1/jobs/job_1/content",
        "GET /v1/stream",
        "GET /v1/stream",
        "POST /v1/generate/lucy-image-2",
        "POST /v1/jobs/lucy-2.5",
    ];
    assert_eq!(lines, expected, "tokens are minted here, and the rest passes once");
    let said = rig.upstream.texts();
    let prompts = said.iter().filter(|text| text.contains("decart realtime")).count();
    assert_eq!(prompts, 2, "what is said in a session passes: {said:?}");
}

/// Seven tokens, four requests and two sessions, the latter in the name of the client token.
async fn assert_log(rig: &Rig) {
    let log = rig::log(rig.dir.path(), 13).await;
    let by_client =
        |line: &&Value| line["token_id"].as_str().is_some_and(|id| id.starts_with("ctk_"));
    let sessions: Vec<_> = log.iter().filter(by_client).collect();
    assert_eq!(sessions.len(), 2, "{log:#?}");
    for line in sessions {
        assert_eq!((&line["status"], &line["model"]), (&json!(101), &json!("lucy-2.5")), "{line}");
    }
    let minted = log
        .iter()
        .filter(|line| line["path"] == "/decart/v1/client/tokens" && line["status"] == 200);
    assert_eq!(minted.count(), 7, "{log:#?}");
}

#[tokio::test]
async fn decart_for_python_mints_and_connects() {
    client("Python", PYTHON_DECART, "decart_client.py", "decart", "decart-python-sdk").await;
}

#[tokio::test]
async fn decart_for_javascript_mints_and_connects() {
    let package = "@decartai/sdk";
    client("JavaScript", NODE_DECART, "decart_client.mjs", package, "decart-js-sdk").await;
}

/// By case over HTTP: status, what the message must say, and the access log's word.
const REFUSALS: [(&str, u64, &str, &str); 13] = [
    ("401", 401, "the token is not valid", "token_invalid"),
    ("403", 403, "the token may not use this model", "model_not_allowed"),
    ("404", 404, "no provider answers at this path", "no_route"),
    ("413", 413, "the body is too large", "body_too_large"),
    ("429", 429, "too many requests for this token", "rate_limited"),
    ("502, key rejected", 502, "rejected the gateway's own key", "upstream_rejected_key"),
    ("502, connection cut", 502, "the provider could not be reached", "upstream_unreachable"),
    ("502, unreachable", 502, "the provider could not be reached", "upstream_unreachable"),
    ("submit", 403, "the token may not use this model", "model_not_allowed"),
    ("status", 403, "its grant can name more paths", "path_not_allowed"),
    ("mint, not allowed", 403, "the token may not mint client tokens", "may_not_mint"),
    ("mint, out of range", 422, "write 1 to 3600", "invalid_field"),
    ("mint, wrong origin", 422, "it ends after host and port", "invalid_field"),
];

/// By case of a session: status, and the access log's word.
const SESSIONS: [(&str, u64, &str); 6] = [
    ("401", 401, "token_invalid"),
    ("403", 403, "model_not_allowed"),
    ("404", 404, "no_route"),
    ("too big", 1009, "message_too_big"),
    ("429", 429, "concurrency_limited"),
    ("502", 502, "upstream_rejected_key"),
];

/// A library, and what is expected of it.
struct Refused {
    name: &'static str,
    environment: Environment,
    script: &'static str,
    package: &'static str,
    /// Classes or codes of what is not done, not submitted, not told, not minted.
    classes: [&'static str; 4],
    /// Of a session that does not open, and of what is said in one that ends.
    session: [&'static str; 2],
    /// How often it asks for a session.
    tries: usize,
    /// Whether a session's refusal tells its status, and 401 is taken for final.
    tells: bool,
}

async fn refused(client: Refused) {
    let rig = Rig::start().await;
    let got = rig.run(client.environment, client.script, "http").await;
    let version = client.environment.version(client.package);
    let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let mut cells = vec![version.clone()];
    for (case, status, message, denial) in REFUSALS {
        let got = &got[case];
        let class = match case {
            "submit" => client.classes[1],
            "status" => client.classes[2],
            _ if case.starts_with("mint") => client.classes[3],
            _ => client.classes[0],
        };
        assert_eq!(got["class"], class, "{}, {case}: {got}", client.name);
        assert_eq!(got["status"], status, "{}, {case}: {got}", client.name);
        let said = got["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{}, {case}: {said} says {message}", client.name);
        *counts.entry((denial, false)).or_default() += 1;
        if cells.len() < 10 && !matches!(case, "submit" | "status") {
            cells.push(format!("`{class}`"));
        }
        if case == "429" {
            cells.push("does not retry".to_owned());
        }
    }
    let cells: Vec<_> = cells.iter().take(10).map(String::as_str).collect();
    table::check("What a refusal becomes", &format!("Decart, {}", client.name), &cells);

    let mut cells = vec![version];
    for (case, status, denial) in SESSIONS {
        let (cell, tries) = session_cell(&client, &got[format!("session, {case}")], status);
        counts.insert((denial, true), tries);
        cells.push(cell);
    }
    assert_counts(&rig, &counts).await;
    let cells: Vec<_> = cells.iter().map(String::as_str).collect();
    let row = format!("Decart realtime, {}", client.name);
    table::check("What a refused session becomes", &row, &cells);
    assert_eq!(rig.drops.connections().len(), 1, "what may have begun is not repeated");
}

/// What the table says of a refused session, and how often it was asked for.
#[track_caller]
fn session_cell(client: &Refused, got: &Value, status: u64) -> (String, usize) {
    let [before, after] = client.session;
    let class = if status == 1009 { after } else { before };
    assert_eq!(got["class"], class, "{}, {status}: {got}", client.name);
    if status == 1009 {
        return (format!("`{class}`"), 1);
    }
    if client.tells {
        assert_eq!(got["status"], status, "{}: {got}", client.name);
    }
    // It looks for the number in all of its text, in which the address stands, too.
    let is_final = got["final"] == true;
    let tries = if is_final { 1 } else { client.tries };
    let cell = match client.tells && status == 401 {
        true => format!("`{class}`"),
        false => format!("`{class}`, {} tries", client.tries),
    };
    (cell, tries)
}

/// The access log must come to have exactly so many of each denial, outside of sessions and in them.
async fn assert_counts(rig: &Rig, expected: &BTreeMap<(&str, bool), usize>) {
    let least = expected.values().sum();
    let mut log = Vec::new();
    for _ in 0..500 {
        log = rig::log(rig.dir.path(), least).await;
        let of_session =
            |line: &Value| line["path"].as_str().is_some_and(|path| path.ends_with("/v1/stream"));
        let count = |(denial, session): &(&str, bool)| {
            log.iter().filter(|l| l["denial"] == *denial && of_session(l) == *session).count()
        };
        if expected.iter().all(|(sort, times)| count(sort) == *times) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not these denials: {expected:#?}\n{log:#?}");
}

#[tokio::test]
async fn decart_for_python_tells_what_was_refused() {
    refused(Refused {
        name: "Python",
        environment: PYTHON_DECART,
        script: "decart_denials.py",
        package: "decart",
        classes: ["ProcessingError", "QueueSubmitError", "QueueStatusError", "TokenCreateError"],
        session: ["WebRTCError", "DecartSDKError"],
        tries: 5,
        tells: true,
    })
    .await;
}

#[tokio::test]
async fn decart_for_javascript_tells_what_was_refused() {
    refused(Refused {
        name: "JavaScript",
        environment: NODE_DECART,
        script: "decart_denials.mjs",
        package: "@decartai/sdk",
        classes: [
            "PROCESSING_ERROR",
            "QUEUE_SUBMIT_ERROR",
            "QUEUE_STATUS_ERROR",
            "TOKEN_CREATE_ERROR",
        ],
        session: ["Error", "Error"],
        tries: 6,
        tells: false,
    })
    .await;
}

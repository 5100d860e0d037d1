//! Real clients through the real binary: the scripts of `tests/clients/`, each of which is also
//! the example of how to use its library with keygate.
//!
//! Behind the gateway stands the mock provider of the demo, which answers as the libraries expect
//! and takes nothing but its own keys; between the two a [`Tap`] keeps every byte. Asserted is
//! what the client got and what the provider saw.

use crate::support::process::{Process, keygate_in};
use crate::support::wire::{Decoder, Head, Headers, show, value, values};
use crate::support::{canary, within};
use keygate::demo::{self, Keys};
use keygate::values::ids::TokenDigest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Seconds that a script may take: it starts an interpreter on a machine that may be busy.
const PATIENCE: &str = "120";

/// Everything that the gate can ask of these clients is asked.
const CONFIG: &str = "
listen: [{ address: '127.0.0.1:0' }]
store: { sqlite: $DIR/keygate.db }
access_log: { file: $DIR/access.log }
providers:
  openai: { kind: openai, url: 'http://$UPSTREAM', keys: [{ file: $DIR/openai.key }] }
  anthropic: { kind: anthropic, url: 'http://$UPSTREAM', keys: [{ file: $DIR/anthropic.key }] }
  gemini: { kind: gemini, url: 'http://$UPSTREAM', keys: [{ file: $DIR/gemini.key }] }
policies:
  clients:
    providers: [openai, anthropic, gemini]
    methods: [GET, POST]
    models: [gpt-4o-mini, gpt-realtime, claude-sonnet-5-5, gemini-2.5-flash]
    rate_limit: { requests: 100, per: 60s }
    concurrency: 4
tokens:
  - { name: client, sha256: '$SHA', policy: clients }
";

/// Where the tests' build output is.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is below target/")
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Installs the clients, once for all tests.
pub(crate) fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let output = Command::new(scripts().join("setup")).arg(target()).output();
        let output = output.expect("tests/clients/setup can be run");
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the clients could not be installed: {problems}");
    });
}

/// The directory with the programs of the Python environment.
pub(crate) fn python_programs() -> PathBuf {
    target().join("clients/venv/bin")
}

/// Stands between gateway and provider and keeps what the gateway sends.
struct Tap {
    addr: SocketAddr,
    raw: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A request as the provider saw it.
struct Seen {
    line: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Tap {
    async fn start(provider: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let raw = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&raw);
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                tokio::spawn(Self::pass(gateway, provider, Arc::clone(&kept)));
            }
        });
        Self { addr, raw }
    }

    async fn pass(gateway: TcpStream, provider: SocketAddr, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
        let provider = TcpStream::connect(provider).await.expect("the mock listens");
        let (mut from_gateway, mut to_gateway) = gateway.into_split();
        let (mut from_provider, mut to_provider) = provider.into_split();
        let own = {
            let mut kept = kept.lock().expect("nobody panics with it");
            kept.push(Vec::new());
            kept.len() - 1
        };
        let up = async {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from_gateway.read(&mut buffer).await {
                let bytes = &buffer[..count];
                kept.lock().expect("nobody panics with it")[own].extend_from_slice(bytes);
                if to_provider.write_all(bytes).await.is_err() {
                    break;
                }
            }
            // Either side may end first; what it said until then has been passed on.
            let _ = to_provider.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_provider, &mut to_gateway).await;
            let _ = to_gateway.shutdown().await;
        };
        tokio::join!(up, down);
    }

    /// Every request so far, by connection, each of which brings them in order.
    fn seen(&self) -> Vec<Seen> {
        let raw = self.raw.lock().expect("nobody panics with it");
        raw.iter().flat_map(|bytes| requests(bytes)).collect()
    }
}

fn requests(mut rest: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(head) = Head::parse(rest) {
        rest = &rest[head.len..];
        let mut body = Vec::new();
        rest = &rest[Decoder::new(head.framing()).feed(rest, &mut body)..];
        // What follows an upgrade is frames.
        let upgrade = value(&head.headers, "upgrade").is_some();
        let line = head.start.strip_suffix(" HTTP/1.1").unwrap_or(&head.start).to_owned();
        seen.push(Seen { line, headers: head.headers, body });
        if upgrade {
            break;
        }
    }
    seen
}

struct Setup {
    gateway: Process,
    addr: SocketAddr,
    dir: Arc<TempDir>,
    tap: Tap,
    keys: Keys,
    token: String,
    _mock: watch::Sender<bool>,
}

impl Setup {
    async fn start() -> Self {
        tokio::task::spawn_blocking(install).await.expect("the clients are installed");
        let keys = Keys {
            openai: canary::key("openai"),
            anthropic: canary::key("anthropic"),
            gemini: canary::key("gemini"),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let provider = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(demo::serve(listener, keys.clone(), stopped));
        let tap = Tap::start(provider).await;

        let token = canary::token();
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let config = CONFIG
            .replace("$DIR", &dir.path().display().to_string())
            .replace("$UPSTREAM", &tap.addr.to_string())
            .replace("$SHA", &TokenDigest::of(token.as_bytes()).to_hex());
        for (name, text) in [
            ("openai.key", &keys.openai),
            ("anthropic.key", &keys.anthropic),
            ("gemini.key", &keys.gemini),
            ("keygate.yaml", &config),
        ] {
            std::fs::write(dir.path().join(name), text).expect("the directory can be written");
        }
        let mut gateway = keygate_in(&dir, ["serve", "-c", "keygate.yaml"]).start();
        gateway.wait_for_stderr("keygate is ready").await;
        let line = gateway.wait_for_stderr("listening on ").await;
        let addr = line.rsplit(' ').next().and_then(|addr| addr.parse().ok()).expect("an address");
        Self { gateway, addr, dir, tap, keys, token, _mock: stop }
    }

    /// Runs a script and returns the line that it printed.
    async fn run(&self, program: impl AsRef<Path>, script: &str) -> Value {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE).arg(program.as_ref()).arg(scripts().join(script));
        // Nothing of ours may reach a client: libraries look for proxies and keys there.
        command.env_clear().env("HOME", self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("KEYGATE_URL", format!("http://{}", self.addr));
        command.env("KEYGATE_TOKEN", &self.token);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("it returns").expect("it can be started");
        // A library that shows its own token is not our leak; a provider's key would be.
        let shown = [output.stdout.as_slice(), &output.stderr].concat();
        canary::search(&shown, script);
        let said = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}\n{said}\n{problems}", output.status);
        serde_json::from_str(said.trim_end())
            .unwrap_or_else(|e| panic!("{script} must print one line of JSON ({e}): {said}"))
    }

    async fn python(&self, script: &str) -> Value {
        self.run(python_programs().join("python"), &format!("python/{script}")).await
    }

    /// What the provider saw: exactly these requests in whatever order, each with the real key in
    /// this header and no other credential, and the token nowhere.
    fn assert_seen(&self, expected: &[&str], slot: &str, credential: &str) -> Vec<Seen> {
        for raw in self.tap.raw.lock().expect("nobody panics with it").iter() {
            canary::observe_upstream("wire", raw);
            let found = raw.windows(self.token.len()).any(|part| part == self.token.as_bytes());
            assert!(!found, "the token reached the provider: {}", String::from_utf8_lossy(raw));
        }
        let seen = self.tap.seen();
        let mut lines: Vec<_> = seen.iter().map(|request| request.line.as_str()).collect();
        let mut expected = expected.to_vec();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "the provider must see these requests, refused ones not");
        for Seen { line, headers, .. } in &seen {
            let (shown, host) = (show(headers), self.tap.addr.to_string());
            for name in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
                let sent: Vec<_> = values(headers, name).collect();
                let right = if name == slot { vec![credential.as_bytes()] } else { vec![] };
                assert_eq!(sent, right, "{name} of {line} at the provider:\n{shown}");
            }
            assert_eq!(value(headers, "host"), Some(host.as_str()), "the provider's own: {shown}");
        }
        seen
    }

    /// Statuses of the access log, sorted; waits until there are so many lines.
    async fn statuses(&self, count: usize) -> Vec<u64> {
        let file = self.dir.path().join("access.log");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        within("the access log", async {
            while read().lines().count() < count {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        let text = read();
        canary::observe("access log", text.as_bytes());
        let status = |line: &str| serde_json::from_str::<Value>(line).ok()?["status"].as_u64();
        let mut statuses: Vec<_> = text.lines().filter_map(status).collect();
        statuses.sort_unstable();
        statuses
    }
}

/// Streams must have come in pieces.
#[track_caller]
fn assert_pieces(count: &Value) {
    assert!(count.as_u64().is_some_and(|count| count > 1), "a stream in {count} pieces is none");
}

#[tokio::test]
async fn openai_for_python() {
    let t = Setup::start().await;
    let got = t.python("openai_client.py").await;
    assert_eq!(got["chat"], "You said: openai plain chat");
    assert_eq!(got["chat_tokens"], 8, "3 words in, 5 out");
    assert_eq!(got["chat_stream"], "You said: openai streaming chat");
    assert_eq!(got["chat_stream_tokens"], 8, "the usage that was asked for comes at the end");
    assert_pieces(&got["chat_stream_pieces"]);
    assert_eq!(got["response"], "You said: openai plain response");
    assert_eq!(got["response_stream"], "You said: openai streaming response");
    assert_eq!(got["response_stream_ends"], json!(["response.created", "response.completed"]));
    assert!(got["models"].as_array().is_some_and(|m| m.contains(&json!("gpt-4o-mini"))), "{got}");
    assert_eq!(got["denied"], json!({"status": 401, "code": "token_invalid"}));

    let seen = t.assert_seen(
        &[
            "POST /v1/chat/completions",
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/responses",
            "GET /v1/models",
        ],
        "authorization",
        &format!("Bearer {}", t.keys.openai),
    );
    for request in &seen {
        let agent = value(&request.headers, "user-agent").unwrap_or_default();
        assert!(agent.starts_with("OpenAI/Python"), "the client's own headers pass: {agent}");
    }
    let bodies: String = seen.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    for said in ["openai plain chat", "openai streaming chat", "\"include_usage\""] {
        assert!(bodies.contains(said), "the body passes as it is: {said} in {bodies}");
    }
    assert_eq!(t.statuses(6).await, [200, 200, 200, 200, 200, 401]);
    drop(t.gateway);
}

#[tokio::test]
async fn anthropic_for_python_by_api_key_and_by_auth_token() {
    let t = Setup::start().await;
    let got = t.python("anthropic_client.py").await;
    for way in ["api_key", "auth_token"] {
        let got = &got[way];
        assert_eq!(got["message"], format!("You said: anthropic plain {way}"));
        assert_eq!(got["tokens"], 5);
        assert_eq!(got["stream"], format!("You said: anthropic streaming {way}"));
        assert_eq!((&got["stream_tokens"], &got["stream_stop"]), (&json!(5), &json!("end_turn")));
        assert_pieces(&got["stream_pieces"]);
    }
    let model = json!("claude-sonnet-5-5");
    assert!(got["models"].as_array().is_some_and(|m| m.contains(&model)), "{got}");
    assert_eq!(got["denied"], json!({"status": 401, "type": "authentication_error"}));

    let seen = t.assert_seen(
        &[
            "POST /v1/messages",
            "POST /v1/messages",
            "POST /v1/messages",
            "POST /v1/messages",
            "GET /v1/models",
        ],
        "x-api-key",
        &t.keys.anthropic,
    );
    for request in &seen {
        let version = value(&request.headers, "anthropic-version");
        assert_eq!(version, got["api_version"].as_str(), "{} as it was sent", request.line);
    }
    assert_eq!(t.statuses(6).await, [200, 200, 200, 200, 200, 401]);
    drop(t.gateway);
}

#[tokio::test]
async fn google_genai_for_python() {
    let t = Setup::start().await;
    let got = t.python("gemini_client.py").await;
    assert_eq!(got["content"], "You said: gemini plain");
    assert_eq!(got["tokens"], 6, "2 words in, 4 out");
    assert_eq!(got["stream"], "You said: gemini streaming");
    assert_pieces(&got["stream_pieces"]);
    let model = json!("models/gemini-2.5-flash");
    assert!(got["models"].as_array().is_some_and(|m| m.contains(&model)), "{got}");
    assert_eq!(got["denied"], json!({"code": 401, "status": "UNAUTHENTICATED"}));

    t.assert_seen(
        &[
            "POST /v1/models/gemini-2.5-flash:generateContent",
            "POST /v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            "GET /v1/models",
        ],
        "x-goog-api-key",
        &t.keys.gemini,
    );
    assert_eq!(t.statuses(4).await, [200, 200, 200, 401]);
    drop(t.gateway);
}

#[tokio::test]
async fn ws_for_node_by_header_and_by_either_subprotocol() {
    let t = Setup::start().await;
    let got = t.run("node", "node/ws_client.mjs").await;
    for (way, said, protocol) in [
        ("header", "ws header", "realtime"),
        ("openai_subprotocol", "ws openai subprotocol", "realtime"),
        ("keygate_subprotocol", "ws keygate subprotocol", "keygate"),
    ] {
        let got = &got[way];
        assert_eq!(got["text"], format!("You said: {said}"), "{way}: {got}");
        assert_eq!(got["protocol"], protocol, "{way}: {got}");
        assert_eq!(got["close"], 1000, "{way}: the close is answered: {got}");
        assert!(got["total_tokens"].as_u64() > Some(0), "{way}: {got}");
        assert_pieces(&got["pieces"]);
    }
    assert_eq!(got["denied"], json!({"status": 401, "error": "token_invalid"}));

    let line = "GET /v1/realtime?model=gpt-realtime";
    let seen =
        t.assert_seen(&[line, line, line], "authorization", &format!("Bearer {}", t.keys.openai));
    let protocols: Vec<_> =
        seen.iter().map(|r| value(&r.headers, "sec-websocket-protocol")).collect();
    assert_eq!(protocols, [Some("realtime"), Some("realtime"), None], "without the credentials");
    assert_eq!(t.statuses(4).await, [101, 101, 101, 401]);
    drop(t.gateway);
}

#[tokio::test]
async fn curl_with_the_token_as_query_parameter() {
    let t = Setup::start().await;
    let got = t.run("bash", "curl.sh").await;
    assert_eq!(got["content"], "You said: curl plain");
    assert_eq!(got["stream"], "You said: curl streaming");
    assert_pieces(&got["stream_pieces"]);
    assert_eq!(got["denied"], json!({"status": 401, "error": "token_invalid"}));

    t.assert_seen(
        &[
            "POST /v1beta/models/gemini-2.5-flash:generateContent",
            "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ],
        "x-goog-api-key",
        &t.keys.gemini,
    );
    assert_eq!(t.statuses(3).await, [200, 200, 401]);
    drop(t.gateway);
}

#[test]
fn tap_tells_the_requests_of_a_connection_apart() {
    let raw = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyPOST /b HTTP/1.1\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /c HTTP/1.1\r\n\
        upgrade: websocket\r\n\r\n\x81\x05GET /\r\n\r\n";
    let seen = requests(raw);
    let told: Vec<_> = seen.iter().map(|r| (r.line.as_str(), r.body.as_slice())).collect();
    assert_eq!(told, [("POST /a", &b"body"[..]), ("POST /b", b"abc"), ("GET /c", b"")]);
}

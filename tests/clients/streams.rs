//! The reference server of durable streams behind the real binary, and its own client before it:
//! create, append, catch up, follow by long-poll and SSE, and read on after a cut.

use super::install::{NODE_STREAMS, install};
use super::tap::Tap;
use crate::support::process::{Process, keygate_in};
use crate::support::{canary, within};
use keygate::values::ids::TokenDigest;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A script that says a line and waits for one.
struct Script {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Script {
    fn start(script: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = NODE_STREAMS.command(script);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it can be started");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (said, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| said.send(line))
        });
        Self { child, input, lines }
    }

    /// What it says next.
    async fn hear(&mut self) -> Value {
        let line = within("a script's next line", self.lines.recv()).await;
        let line = line.expect("it says something before it ends");
        canary::search(line.as_bytes(), "streams");
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"))
    }

    /// Lets it go on.
    fn answer(&mut self) {
        let input = self.input.as_mut().expect("it has not been closed");
        input.write_all(b"go on\n").expect("it listens");
    }
}

/// Scripts end with their input.
impl Drop for Script {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

fn configuration(tap: SocketAddr, any: &str, reader: &str) -> String {
    let sha = |token: &str| TokenDigest::of(token.as_bytes()).to_hex();
    format!(
        "
listen: [{{ address: '127.0.0.1:0' }}]
server_names: [127.0.0.1]
store: {{ sqlite: keygate.db }}
access_log: {{ file: access.log }}
providers:
  streams: {{ kind: durable-streams, url: 'http://{tap}', cookie: keygate_token }}
policies:
  any: {{ providers: [streams], paths: ['/v1/stream/user-42/*'] }}
  reader: {{ providers: [streams], paths: ['/v1/stream/user-42/*'], methods: [GET, HEAD] }}
tokens:
  - {{ name: any, sha256: '{}', policy: any }}
  - {{ name: reader, sha256: '{}', policy: reader }}
",
        sha(any),
        sha(reader)
    )
}

/// A token that can be disabled while it is used.
async fn store_token(dir: &Arc<TempDir>) -> (String, String) {
    let create = ["token", "create", "-c", "keygate.yaml", "--name", "gone", "--policy", "any"];
    let create = keygate_in(dir, create).arg("--json").run().await;
    let created: Value = serde_json::from_str(create.success()).expect("JSON");
    let text = |name: &str| created[name].as_str().expect("text").to_owned();
    // Shown this once; nowhere after.
    canary::adopt_token(&text("token"));
    (text("id"), text("token"))
}

async fn gateway(dir: &Arc<TempDir>) -> (Process, SocketAddr) {
    let mut gateway = keygate_in(dir, ["serve", "-c", "keygate.yaml"]).start();
    let line = gateway.wait_for_stderr("listening on ").await;
    let addr = line.split_once("listening on ").and_then(|(_, rest)| rest.split(' ').next());
    let addr = addr.and_then(|addr| addr.parse().ok()).expect("an address");
    gateway.wait_for_stderr("keygate is ready").await;
    (gateway, addr)
}

#[tokio::test]
async fn the_reference_client_follows_the_reference_server_through_cuts() {
    tokio::task::spawn_blocking(install).await.expect("the clients are installed");
    let mut server = Script::start("streams_server.mjs", &[]);
    let port = server.hear().await["port"].as_u64().expect("a port");
    let port = u16::try_from(port).expect("a port");
    let tap = Tap::start(([127, 0, 0, 1], port).into()).await;

    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let (any, reader) = (canary::token(), canary::token());
    let text = configuration(tap.addr, &any, &reader);
    std::fs::write(dir.path().join("keygate.yaml"), text).expect("it can be written");
    let (id, gone) = store_token(&dir).await;
    let (_gateway, addr) = gateway(&dir).await;

    let tokens = json!({ "any": any, "reader": reader, "gone": gone }).to_string();
    let url = format!("http://{addr}");
    let mut client =
        Script::start("streams_client.mjs", &[("KEYGATE_URL", &url), ("KEYGATE_TOKENS", &tokens)]);
    let step = client.hear().await;
    assert_eq!(step["step"], "following, cut the connection", "{step}");
    tap.cut();
    client.answer();
    let step = client.hear().await;
    assert_eq!(step["step"], "following, disable the token", "{step}");
    let disable = keygate_in(&dir, ["token", "disable", &id, "-c", "keygate.yaml"]).run().await;
    disable.success();
    client.answer();
    let said = client.hear().await;
    assert_eq!(
        said,
        json!({
            "caught": [1, 2, 3, 4],
            "unchanged": 304,
            "long-poll": ["long-poll a", "long-poll b"],
            "sse": ["sse a", "sse b"],
            "cut": ["before the cut", "cut: TypeError", "after the cut"],
            "refused": 401,
            "ended": ["before the end", "cut: TypeError", "after the end"],
            "readerAppends": 403,
            "byQuery": 12,
            "fork": 201,
            "forked": 12,
            "deleted": 404,
        })
    );
    for raw in tap.raw.lock().expect("nobody panics with it").iter() {
        canary::observe_upstream("wire", raw);
        for token in [&any, &reader, &gone] {
            let found = raw.windows(token.len()).any(|part| part == token.as_bytes());
            assert!(!found, "a token reached the server: {}", String::from_utf8_lossy(raw));
        }
    }
}

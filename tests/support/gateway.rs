//! The gateway in process, started through `keygate::app` as `keygate serve` does, in front of a
//! recording upstream, with canaries for keys and tokens.

use super::canary;
use super::client::Request;
use super::tls::Pair;
use super::upstream::Upstream;
use keygate::app::{self, Options, Running};
use keygate::config;
use keygate::control::Operations;
use keygate::token::store::Record;
use keygate::values::clock::Clock;
use keygate::values::ids::TokenDigest;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

/// A wall clock for tests that move time: 2026-01-01T00:00:00Z.
pub(crate) const NEW_YEAR_MS: u64 = 1_767_225_600_000;

/// A running gateway with its upstream.
pub(crate) struct Setup {
    pub(crate) upstream: Upstream,
    pub(crate) clock: Clock,
    running: Option<Running>,
    names: Names,
    dir: TempDir,
}

/// Tokens and keys by the names that the YAML uses.
#[derive(Default)]
struct Names {
    tokens: HashMap<String, String>,
    keys: HashMap<String, String>,
}

/// All three AI providers and a generic one behind one upstream, and two tokens: `free` may do
/// everything, `scoped` has one model.
pub(crate) const ALL: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
admin: { address: 127.0.0.1:0 }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  anthropic: { kind: anthropic, url: $UPSTREAM, keys: [{ file: $KEY(anthropic) }] }
  gemini: { kind: gemini, url: $UPSTREAM, keys: [{ file: $KEY(gemini) }] }
  internal:
    kind: generic
    url: $UPSTREAM
    routes: [/tools/]
    slot: { header: X-Internal-Key }
    model: { json: model }
    keys: [{ file: $KEY(internal) }]
policies:
  scoped: { models: [gpt-4o-mini, 'claude-haiku*', gemini-2.5-flash, gpt-realtime] }
tokens:
  - { name: free, sha256: $SHA(free) }
  - { name: scoped, sha256: $SHA(scoped), policy: scoped }
";

impl Setup {
    /// [`ALL`].
    pub(crate) async fn all() -> Self {
        Self::with(ALL).await
    }

    /// A configuration in which `$UPSTREAM` is the recorder's URL, `$DIR` a temporary directory,
    /// `$TLS` a certificate with its key in it, `$KEY(name)` a file with a canary key and `$SHA(name)` the hash of a canary token.
    pub(crate) async fn with(yaml: &str) -> Self {
        Self::at(yaml, Clock::manual(NEW_YEAR_MS)).await
    }

    /// The same under a clock of the caller's.
    pub(crate) async fn at(yaml: &str, clock: Clock) -> Self {
        let upstream = Upstream::start().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut names = Names::default();
        let text = names.fill(yaml, dir.path(), &upstream.url());
        let file = dir.path().join("keygate.yaml");
        std::fs::write(&file, &text).expect("writing the configuration");
        let config =
            config::parse(&text).unwrap_or_else(|p| panic!("the configuration is bad:\n{p}"));
        let options =
            Options { file: Some(file), threads: Some(1), clock: clock.clone(), control: false };
        let running = app::start(config, options).expect("the gateway starts");
        Self { upstream, clock, running: Some(running), names, dir }
    }

    /// The running gateway.
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not been stopped")
    }

    /// Where callers connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        *self.running().addresses().first().expect("one listener")
    }

    /// Where callers with TLS connect: the second listener.
    pub(crate) fn tls(&self) -> SocketAddr {
        *self.running().addresses().get(1).expect("a second listener")
    }

    /// Where health and metrics are.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.running().admin().expect("an admin listener")
    }

    /// A token by name.
    pub(crate) fn token(&self, name: &str) -> &str {
        self.names.tokens.get(name).unwrap_or_else(|| panic!("no $SHA({name})"))
    }

    /// A real key by name.
    pub(crate) fn key(&self, name: &str) -> &str {
        self.names.keys.get(name).unwrap_or_else(|| panic!("no $KEY({name})"))
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A request without a token.
    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.addr(), method, target)
    }

    /// A POST of the usual chat body with the token `name`.
    pub(crate) fn chat(&self, name: &str) -> Request {
        self.request("POST", "/v1/chat/completions")
            .bearer(self.token(name))
            .json(r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#)
    }

    /// Writes another configuration and reloads it, as `keygate reload` does.
    pub(crate) async fn reload(&mut self, yaml: &str) -> Result<String, String> {
        let text = self.names.fill(yaml, self.dir.path(), &self.upstream.url());
        std::fs::write(self.dir.path().join("keygate.yaml"), text).expect("writing");
        let operator = self.running().operator().clone();
        tokio::task::spawn_blocking(move || operator.reload()).await.expect("the reload returns")
    }

    /// Every metric, as a scrape gets it.
    pub(crate) fn metrics(&self) -> String {
        let text = self.running().operator().metrics();
        canary::observe("metrics", text.as_bytes());
        text
    }

    /// One metric's value; 0 where it has not been counted yet.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line =
            text.lines().find(|l| l.strip_prefix(series).is_some_and(|r| r.starts_with(' ')));
        line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// The access log so far, one value a line.
    pub(crate) fn access_log(&self) -> Vec<serde_json::Value> {
        self.running().gateway().snapshot.load().access_log.flush();
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        canary::observe("access log", text.as_bytes());
        text.lines().map(|l| serde_json::from_str(l).expect("each line is JSON")).collect()
    }

    /// Requests in flight, connections, and taken places: all must come back to zero.
    pub(crate) async fn assert_nothing_is_left_open(&self) {
        let gateway = self.running().gateway().clone();
        super::within("every request to be over", async move {
            while gateway.registry.open() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Stops the gateway and starts another from the same file.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(self.another());
    }

    /// Another gateway with the same configuration, store and upstream.
    pub(crate) fn another(&self) -> Running {
        let file = self.dir.path().join("keygate.yaml");
        let config = config::load(&file).unwrap_or_else(|p| panic!("the configuration:\n{p}"));
        let clock = self.clock.clone();
        let options = Options { file: Some(file), threads: Some(1), clock, control: false };
        app::start(config, options).expect("the gateway starts")
    }

    /// Stops the gateway as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            tokio::task::spawn_blocking(move || running.stop()).await.expect("it stops");
        }
    }
}

impl Names {
    fn fill(&mut self, yaml: &str, dir: &Path, upstream: &str) -> String {
        if yaml.contains("$TLS") && !dir.join("key.pem").exists() {
            Pair::until(2090).write(dir);
        }
        let mut text = yaml
            .replace("$TLS", "{ cert: $DIR/cert.pem, key: $DIR/key.pem }")
            .replace("$UPSTREAM", upstream)
            .replace("$DIR", &dir.display().to_string());
        while let Some((name, whole)) = placeholder(&text, "$KEY(") {
            let key = self.keys.entry(name.clone()).or_insert_with(|| canary::key(&name));
            let path = dir.join(format!("{name}.key"));
            std::fs::write(&path, &*key).expect("writing a key");
            text = text.replace(&whole, &path.display().to_string());
        }
        while let Some((name, whole)) = placeholder(&text, "$SHA(") {
            let token = self.tokens.entry(name).or_insert_with(canary::token);
            let digest = TokenDigest::of(token.as_bytes()).to_hex();
            // Quoted: a digest of digits alone would be a number.
            text = text.replace(&whole, &format!("\"{digest}\""));
        }
        text
    }
}

/// A stored token's record, without a grant of its own.
pub(crate) fn record(name: &str, token: &str) -> Record {
    Record {
        id: format!("tok_{name}"),
        name: name.into(),
        digest: TokenDigest::of(token.as_bytes()),
        last4: "test".into(),
        created_at: 1,
        expires_at: None,
        disabled: false,
        may_mint: false,
        policy: None,
        grant: None,
        last_used_at: None,
    }
}

fn placeholder(text: &str, opening: &str) -> Option<(String, String)> {
    let start = text.find(opening)?;
    let end = start + text[start..].find(')')?;
    Some((text[start + opening.len()..end].to_owned(), text[start..=end].to_owned()))
}

impl Drop for Setup {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.access_log();
            self.metrics();
        }
    }
}

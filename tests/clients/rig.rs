//! One gateway, the mock provider behind it, a tap between the two, and what runs a client.

use super::install::{Environment, install};
use super::tap::{Seen, Tap};
use crate::support::process::{Process, keygate_in};
use crate::support::wire::{show, value, values};
use crate::support::{canary, within};
use keygate::demo::{self, Keys};
use keygate::values::ids::TokenDigest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

/// Scripts at a time: more of them only wait for the processor.
pub(super) static PLACES: Semaphore = Semaphore::const_new(2);

/// Three vendors, and each again in three ways to fail.
const VENDORS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// Everything that the gate can ask of these clients is asked.
const HEAD: &str = "
listen:
  - { address: '127.0.0.1:0' }
  - { address: '127.0.0.1:0', tls: { cert: cert.pem, key: cert.key } }
server_names: [127.0.0.1]
store: { sqlite: keygate.db }
access_log: { file: access.log }
limits: { max_body: 1MiB, max_ws_message: 64KiB, upstream_connect_timeout: 2s }
policies:
  any:
    providers: [openai, anthropic, gemini, openai-rejects, anthropic-rejects, gemini-rejects,
      openai-drops, anthropic-drops, gemini-drops, openai-gone, anthropic-gone, gemini-gone]
    methods: [GET, POST]
    models: [gpt-4o-mini, gpt-realtime, claude-sonnet-5-5, gemini-2.5-flash]
    rate_limit: { requests: 100, per: 60s }
    concurrency: 4
  # Where a file is and no model, a token with models would be refused.
  unscoped: { providers: [openai, gemini, openai-rejects, gemini-rejects], methods: [GET, POST] }
  other_model: { models: [some-other-model] }
  minter: { providers: [openai, gemini], methods: [GET, POST] }
  once_a_minute: { rate_limit: { requests: 1, per: 60s } }
  once_in_three_seconds: { rate_limit: { requests: 1, per: 3s } }
  one_at_a_time: { concurrency: 1 }
";

/// Tokens, each of the policy of its name; `minter` may mint.
const TOKENS: [&str; 7] = [
    "any",
    "unscoped",
    "other_model",
    "minter",
    "once_a_minute",
    "once_in_three_seconds",
    "one_at_a_time",
];

pub(super) struct Rig {
    gateway: Process,
    /// Before the gateway's plain listener.
    pub(super) front: Tap,
    tls: SocketAddr,
    dir: Arc<TempDir>,
    pub(super) tap: Tap,
    pub(super) keys: Keys,
    /// What the providers named `…-rejects` are given, and don't take.
    pub(super) wrong: Keys,
    tokens: BTreeMap<&'static str, String>,
    /// Connections to the providers named `…-drops`.
    pub(super) dropped: Arc<AtomicUsize>,
    _gone: TcpSocket,
    _mock: watch::Sender<bool>,
}

impl Rig {
    pub(super) async fn start() -> Self {
        tokio::task::spawn_blocking(install).await.expect("the clients are installed");
        let (keys, wrong) = (keys(), keys());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let provider = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(demo::serve(listener, keys.clone(), stopped));
        let tap = Tap::start(provider).await;
        let (drops, dropped) = drop_everybody().await;
        // Bound, but nobody listens: the port is nobody else's, and refuses.
        let gone = TcpSocket::new_v4().expect("a socket");
        gone.bind(([127, 0, 0, 1], 0).into()).expect("a free port");

        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let tokens: BTreeMap<_, _> = TOKENS.map(|name| (name, canary::token())).into();
        let upstreams =
            Upstreams { answers: tap.addr, drops, gone: gone.local_addr().expect("bound") };
        configure(&dir, &tokens, [&keys, &wrong], &upstreams);
        certify(&dir);

        let (gateway, [plain, tls]) = serve(&dir).await;
        let front = Tap::start(plain).await;
        Self {
            gateway,
            front,
            tls,
            dir,
            tap,
            keys,
            wrong,
            tokens,
            dropped,
            _gone: gone,
            _mock: stop,
        }
    }

    /// Runs a script with the token `any` and gives the line that it printed.
    pub(super) async fn run(&self, environment: Environment, script: &str) -> Value {
        self.run_with(environment, script, &[], "any", "http").await
    }

    /// The same over TLS, with a token of the caller's choice.
    pub(super) async fn run_tls(
        &self,
        environment: Environment,
        script: &str,
        token: &str,
    ) -> Value {
        self.run_with(environment, script, &[], token, "https").await
    }

    /// Runs a script with these arguments and this token by this scheme.
    pub(super) async fn run_with(
        &self,
        environment: Environment,
        script: &str,
        args: &[&str],
        token: &str,
        scheme: &str,
    ) -> Value {
        let _place = PLACES.acquire().await.expect("it is never closed");
        let mut command = environment.command(script);
        isolate(command.args(args), self.dir.path());
        let addr = if scheme == "https" { self.tls } else { self.front.addr };
        command.env("KEYGATE_URL", format!("{scheme}://{addr}"));
        command.env("KEYGATE_TOKEN", &self.tokens[token]);
        let mut tokens = json!(self.tokens);
        tokens["nobody"] = json!("ptk_nobody_has_this_token");
        command.env("KEYGATE_TOKENS", tokens.to_string());
        execute(command, script, &self.gateway).await
    }

    /// Where the client put its token, of these requests: names of headers and query parameters.
    pub(super) fn slots(&self, of: impl Fn(&Seen) -> bool) -> String {
        let is_token = |text: &str| self.tokens.values().any(|token| text.contains(&**token));
        slots(self.front.seen().iter().filter(|seen| of(seen)), is_token)
    }

    /// What the provider saw: exactly these requests in whatever order, each with the real key in
    /// this header and no other credential, and the token nowhere.
    pub(super) fn assert_seen(&self, expected: &[&str], slot: &str, credential: &str) -> Vec<Seen> {
        let expected: Vec<_> = expected.iter().map(|line| (*line, credential)).collect();
        self.assert_seen_with(&expected, slot)
    }

    /// The same, where requests have different credentials in that header (or none, as an empty
    /// one).
    pub(super) fn assert_seen_with(&self, expected: &[(&str, &str)], slot: &str) -> Vec<Seen> {
        for raw in self.tap.raw.lock().expect("nobody panics with it").iter() {
            canary::observe_upstream("wire", raw);
            for token in self.tokens.values() {
                let found = raw.windows(token.len()).any(|part| part == token.as_bytes());
                assert!(!found, "the token reached the provider: {}", String::from_utf8_lossy(raw));
            }
        }
        let seen = self.tap.seen();
        let mut found = Vec::new();
        for Seen { line, headers, .. } in &seen {
            let (shown, host) = (show(headers), self.tap.addr.to_string());
            for name in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
                let sent = values(headers, name).count();
                let right = usize::from(name == slot);
                assert_eq!(sent, right, "{name} of {line} at the provider:\n{shown}");
            }
            assert_eq!(value(headers, "host"), Some(host.as_str()), "the provider's own: {shown}");
            found.push((line.as_str(), value(headers, slot).unwrap_or_default()));
        }
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "the provider must see these requests, refused ones not");
        seen
    }

    /// The lines of the access log; waits until there are so many.
    pub(super) async fn log(&self, count: usize) -> Vec<Value> {
        log(self.dir.path(), count).await
    }

    /// Statuses of the access log, sorted; waits until there are so many lines.
    pub(super) async fn statuses(&self, count: usize) -> Vec<u64> {
        let log = self.log(count).await;
        let mut statuses: Vec<_> = log.iter().filter_map(|line| line["status"].as_u64()).collect();
        statuses.sort_unstable();
        statuses
    }
}

/// Starts the binary in `dir`, on a plain listener and one with TLS.
pub(super) async fn serve(dir: &Arc<TempDir>) -> (Process, [SocketAddr; 2]) {
    let mut gateway = keygate_in(dir, ["serve", "-c", "keygate.yaml"]).start();
    gateway.wait_for_stderr("keygate is ready").await;
    let text = gateway.stderr();
    let listening =
        text.lines().filter_map(|line| line.split_once("listening on ")?.1.split(' ').next());
    let addresses: Vec<SocketAddr> = listening.filter_map(|addr| addr.parse().ok()).collect();
    let addresses = addresses.try_into().unwrap_or_else(|_| panic!("two listeners: {text}"));
    (gateway, addresses)
}

/// Nothing of ours may reach a client, but for the CA: libraries look for proxies and keys there.
pub(super) fn isolate(command: &mut Command, dir: &Path) {
    command.env_clear().env("HOME", dir);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        command.env(name, dir.join("ca.pem"));
    }
}

/// Runs a script and gives the line that it printed.
pub(super) async fn execute(mut command: Command, script: &str, gateway: &Process) -> Value {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it returns").expect("it can be started");
    // A library that shows its own token is not our leak; a provider's key would be.
    canary::search([output.stdout.as_slice(), &output.stderr].concat(), script);
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    let log = gateway.stderr();
    assert!(output.status.success(), "{script}: {}\n{said}\n{problems}\n{log}", output.status);
    serde_json::from_str(said.trim_end())
        .unwrap_or_else(|e| panic!("{script} must print one line of JSON ({e}): {said}"))
}

/// In which headers and query parameters of these requests a token is.
pub(super) fn slots<'s>(
    seen: impl Iterator<Item = &'s Seen>,
    is_token: impl Fn(&str) -> bool,
) -> String {
    let mut slots = BTreeSet::new();
    for Seen { line, headers, .. } in seen {
        for (name, value) in headers {
            if is_token(&String::from_utf8_lossy(value)) {
                slots.insert(format!("`{}`", name.to_lowercase()));
            }
        }
        let query = line.split_once('?').map_or("", |(_, query)| query);
        for (name, _) in query.split('&').filter(|p| is_token(p)).filter_map(|p| p.split_once('='))
        {
            slots.insert(format!("`?{name}=`"));
        }
    }
    Vec::from_iter(slots).join(", ")
}

/// The lines of the access log in `dir`; waits until there are so many.
pub(super) async fn log(dir: &Path, count: usize) -> Vec<Value> {
    let file = dir.join("access.log");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    within("the access log", async {
        while read().lines().count() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let text = read();
    canary::observe("access log", text.as_bytes());
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// A vendor's key.
pub(super) fn of<'k>(keys: &'k Keys, vendor: &str) -> &'k str {
    match vendor {
        "openai" => &keys.openai,
        "anthropic" => &keys.anthropic,
        _ => &keys.gemini,
    }
}

fn keys() -> Keys {
    Keys {
        openai: canary::key("openai"),
        anthropic: canary::key("anthropic"),
        gemini: canary::key("gemini"),
    }
}

/// Listens, reads the beginning of a request, and goes away without an answer.
async fn drop_everybody() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            let mut buffer = [0; 16 * 1024];
            let _ = socket.read(&mut buffer).await;
        }
    });
    (addr, count)
}

/// Where the providers are, by how they end.
struct Upstreams {
    answers: SocketAddr,
    drops: SocketAddr,
    gone: SocketAddr,
}

/// Writes the configuration and the keys that it names: the right ones, and the wrong.
fn configure(
    dir: &TempDir,
    tokens: &BTreeMap<&'static str, String>,
    [keys, wrong]: [&Keys; 2],
    to: &Upstreams,
) {
    let mut config = format!("{HEAD}tokens:\n");
    for (name, token) in tokens {
        let sha = TokenDigest::of(token.as_bytes()).to_hex();
        let mints = *name == "minter";
        let _ = writeln!(
            config,
            "  - {{ name: {name}, sha256: '{sha}', policy: {name}, may_mint: {mints} }}"
        );
    }
    config.push_str("providers:\n");
    for vendor in VENDORS {
        for (name, key) in [(format!("{vendor}.key"), keys), (format!("{vendor}.wrong"), wrong)] {
            std::fs::write(dir.path().join(name), of(key, vendor)).expect("it can be written");
        }
        for (suffix, addr, key, more) in [
            ("", to.answers, "key", ""),
            ("-rejects", to.answers, "wrong", ", routes: []"),
            ("-drops", to.drops, "key", ", routes: []"),
            ("-gone", to.gone, "key", ", routes: []"),
        ] {
            let _ = writeln!(
                config,
                "  {vendor}{suffix}: {{ kind: {vendor}, url: 'http://{addr}', \
                 keys: [{{ file: {vendor}.{key} }}]{more} }}"
            );
        }
    }
    std::fs::write(dir.path().join("keygate.yaml"), config).expect("it can be written");
}

/// A CA, and a certificate of its making for the listener.
pub(super) fn certify(dir: &TempDir) {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    // Without a name of its own the leaf would pass for self-signed.
    params.distinguished_name.push(DnType::CommonName, "CA of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&ca_key).expect("it signs itself");
    let issuer = Issuer::new(params, ca_key);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("the CA signs");
    for (name, text) in
        [("ca.pem", ca.pem()), ("cert.pem", cert.pem()), ("cert.key", key.serialize_pem())]
    {
        std::fs::write(dir.path().join(name), text).expect("the directory can be written");
    }
}

/// Streams must have come in pieces.
#[track_caller]
pub(super) fn assert_pieces(count: &Value) {
    assert!(count.as_u64().is_some_and(|count| count > 1), "a stream in {count} pieces is none");
}

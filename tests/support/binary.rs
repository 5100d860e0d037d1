//! The real binary serving, with its configuration in a directory that several may share.

use super::canary;
use super::process::{Process, keygate_in};
use super::upstream::Upstream;
use keygate::values::ids::TokenDigest;
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;

/// A gateway as a process of its own. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) process: Process,
    /// The first listener's.
    pub(crate) addr: SocketAddr,
    /// Every listener's, in the order of the configuration.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Binary {
    /// Starts one with the configuration `file` of `dir`, and these variables in its environment;
    /// returns when it is ready.
    pub(crate) async fn start(dir: &Arc<TempDir>, file: &str, env: &[(&str, &str)]) -> Self {
        let mut launch = keygate_in(dir, ["serve", "-c", file]);
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        let mut process = launch.start();
        process.wait_for_stderr("keygate is ready").await;
        let log = process.stderr();
        let told =
            log.lines().filter_map(|line| line.split_once("listening on ")?.1.split(' ').next());
        let addresses: Vec<_> = told.filter_map(|address| address.parse().ok()).collect();
        let addr = *addresses.first().unwrap_or_else(|| panic!("one listener at least: {log}"));
        Self { process, addr, addresses }
    }

    /// Ends it as a service manager does.
    pub(crate) async fn stop(mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait().await.success(), "{}", self.process.stderr());
    }
}

/// A configuration with a store, OpenAI's API at `upstream`, and a token `server` that may mint;
/// gives that token. `more` is what a test adds.
pub(crate) fn configure(dir: &TempDir, file: &str, upstream: &Upstream, more: &str) -> String {
    let server = canary::token();
    let key = dir.path().join("openai.key");
    std::fs::write(&key, canary::key("openai")).expect("a key");
    let text = format!(
        "
listen: [{{ address: 127.0.0.1:0 }}]
store: {{ sqlite: {place}/keygate.db }}
access_log: {{ file: {place}/{file}.log }}
providers:
  openai: {{ kind: openai, url: '{url}', keys: [{{ file: {key} }}] }}
tokens: [{{ name: server, sha256: '{sha}', may_mint: true }}]
{more}",
        place = dir.path().display(),
        key = key.display(),
        url = upstream.url(),
        sha = TokenDigest::of(server.as_bytes()).to_hex(),
    );
    std::fs::write(dir.path().join(file), text).expect("a configuration");
    server
}

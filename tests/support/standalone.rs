//! The real binary in front of an upstream, with a listener in the clear and one with TLS, and how
//! much memory it takes.

use super::canary;
use super::process::{Process, keygate_in};
use super::tls::Pair;
use keygate::values::ids::TokenDigest;
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;

/// A running `keygate serve`.
pub(crate) struct Standalone {
    pub(crate) process: Process,
    pub(crate) dir: Arc<TempDir>,
    /// In the clear.
    pub(crate) addr: SocketAddr,
    /// With TLS.
    pub(crate) tls: SocketAddr,
    /// May do everything.
    pub(crate) free: String,
    /// Has the model `gpt-4o-mini` alone.
    pub(crate) scoped: String,
    /// Has one request a minute.
    pub(crate) once: String,
}

impl Standalone {
    /// Starts it in front of the OpenAI provider at `upstream`, with `more` at the end of its
    /// configuration.
    pub(crate) async fn start(upstream: &str, more: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        let d = dir.path().display();
        Pair::until(2090).write(dir.path());
        std::fs::write(dir.path().join("openai.key"), canary::key("openai")).expect("a key");
        let [free, scoped, once] = [(); 3].map(|()| canary::token());
        let digest = |token: &str| TokenDigest::of(token.as_bytes()).to_hex();
        let yaml = format!(
            "listen: [{{ address: 127.0.0.1:0 }}, {{ address: 127.0.0.1:0, tls: {{ cert: {d}/cert.pem, key: {d}/key.pem }} }}]\n\
             store: {{ sqlite: {d}/keygate.db }}\naccess_log: {{ file: {d}/access.log }}\n\
             providers:\n  openai: {{ kind: openai, url: '{upstream}', keys: [{{ file: {d}/openai.key }}] }}\n\
             policies: {{ scoped: {{ models: [gpt-4o-mini] }}, once: {{ rate_limit: {{ requests: 1, per: 60s }} }} }}\n\
             tokens:\n  - {{ name: free, sha256: \"{}\" }}\n  - {{ name: scoped, sha256: \"{}\", policy: scoped }}\n  - {{ name: once, sha256: \"{}\", policy: once }}\n{more}",
            digest(&free),
            digest(&scoped),
            digest(&once),
        );
        std::fs::write(dir.path().join("keygate.yaml"), yaml).expect("a configuration");
        let mut process = keygate_in(&dir, ["serve", "-c", "keygate.yaml"]).start();
        process.wait_for_stderr("keygate is ready").await;
        let log = process.stderr();
        let mut addresses = log.split("listening on ").skip(1).map(|rest| {
            let address = rest.split_whitespace().next().expect("an address");
            address.parse().expect("an address")
        });
        let addr = addresses.next().expect("the first listener");
        let tls = addresses.next().expect("the second listener");
        Self { process, dir, addr, tls, free, scoped, once }
    }

    /// Bytes of memory it holds now.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Bytes of memory it held at most since [`forget_peak`](Self::forget_peak).
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The peak counts from now (`proc_pid_clear_refs(5)`).
    pub(crate) fn forget_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.process.id());
        std::fs::write(file, "5").expect("a process of ours");
    }

    fn status(&self, name: &str) -> u64 {
        let file = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(file).expect("it runs");
        let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("Linux has it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}

//! Reload, status, and what both rest on.

use super::certificate::Certificates;
use super::signing;
use crate::config::{self, Config, Listener};
use crate::control::Operations;
use crate::proxy::gateway::{Gateway, Snapshot};
use crate::session::connection::Cut;
use crate::session::registry::Live;
use crate::store::follow::Follower;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::diagnostics;
use crate::token::GrantSource;
use crate::token::index::Entry;
use log::{info, warn};
use parking_lot::Mutex;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Instant;

/// What an operator can do to a running gateway.
pub struct Operator {
    gateway: Arc<Gateway>,
    follower: Option<Arc<Follower>>,
    certificates: Arc<Certificates>,
    file: Option<PathBuf>,
    /// One reload at a time.
    reloading: Mutex<()>,
    reloads: AtomicU64,
    loaded_ms: AtomicU64,
    started_ms: u64,
    open: AtomicBool,
}

impl Operator {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        follower: Option<Arc<Follower>>,
        certificates: Arc<Certificates>,
        file: Option<PathBuf>,
    ) -> Self {
        let now = gateway.clock.wall_ms();
        gateway.metrics.configuration_loaded(now);
        let log = gateway.clone();
        gateway.metrics.watch_access_log(move || log.snapshot.load().access_log.dropped());
        diagnostics::set_redactor(gateway.snapshot.load().redactor.clone());
        Self {
            gateway,
            follower,
            certificates,
            file,
            reloading: Mutex::new(()),
            reloads: AtomicU64::new(0),
            loaded_ms: AtomicU64::new(now),
            started_ms: now,
            open: AtomicBool::new(false),
        }
    }

    /// The listeners accept.
    pub(super) fn opened(&self) {
        self.open.store(true, Release);
    }

    /// Puts a configuration in force, or nothing happens.
    ///
    /// # Errors
    /// What a reload can't change, or the new access log can't be opened.
    pub fn apply(&self, config: Config) -> Result<(), String> {
        let _one = self.reloading.lock();
        let old = self.gateway.snapshot.load_full();
        unchangeable(&old.config, &config)?;
        let access_log = if old.config.access_log == config.access_log {
            if let Err(e) = old.access_log.reopen() {
                warn!("the access log could not be opened anew, the old file is written on: {e}");
            }
            old.access_log.clone()
        } else {
            let opened = AccessLog::open(&config.access_log);
            Arc::new(opened.map_err(|e| format!("access_log: opening it failed: {e}"))?)
        };
        let snapshot = Arc::new(Snapshot::new(config, &self.gateway.metrics, access_log));
        diagnostics::set_redactor(snapshot.redactor.clone());
        self.certificates.replace(&snapshot.config, &self.gateway.metrics);
        self.gateway.index.replace_fixed(fixed(&snapshot.config));
        self.gateway.clients.issuers.replace(&snapshot.config.issuers);
        self.gateway.snapshot.store(snapshot);
        self.gateway.clients.forget_verified();
        // A reload may have turned signing on, or to another algorithm.
        signing::look(&self.gateway);
        let now = self.gateway.clock.wall_ms();
        self.loaded_ms.store(now, Release);
        self.reloads.fetch_add(1, AcqRel);
        self.gateway.metrics.configuration_loaded(now);
        recheck(&self.gateway);
        Ok(())
    }

    fn reload_file(&self) -> Result<String, String> {
        let Some(file) = &self.file else {
            return Err("this gateway was started without a configuration file".to_owned());
        };
        let begun = Instant::now();
        let config = config::load(file).map_err(|problems| problems.to_string())?;
        let parsed = begun.elapsed();
        let tokens = config.tokens.len();
        self.apply(config)?;
        Ok(format!(
            "reloaded {} ({tokens} static tokens, parsed in {:.1} ms, in force after {:.1} ms)",
            file.display(),
            parsed.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64() * 1e3
        ))
    }

    fn health(&self) -> &'static str {
        let healthy = self.follower.as_ref().is_none_or(|f| f.healthy());
        if healthy { "ok" } else { "degraded" }
    }
}

impl Operations for Operator {
    fn reload(&self) -> Result<String, String> {
        let result = self.reload_file();
        self.gateway.metrics.reloaded(result.is_ok());
        match &result {
            Ok(message) => info!("{message}"),
            Err(problems) => {
                warn!("the reload failed, the old configuration serves on: {problems}")
            }
        }
        result
    }

    fn status(&self) -> serde_json::Value {
        let snapshot = self.gateway.snapshot.load();
        let now = self.gateway.clock.wall_ms();
        json!({
            "health": { "status": self.health() },
            "version": env!("CARGO_PKG_VERSION"),
            "draining": self.gateway.draining.load(Acquire),
            "uptime_seconds": now.saturating_sub(self.started_ms) / 1_000,
            "configuration": {
                "loaded_at": crate::values::timestamp::format(self.loaded_ms.load(Acquire)),
                "reloads": self.reloads.load(Acquire),
            },
            "connections": self.gateway.connections.open(),
            "requests_in_flight": self.gateway.registry.open(),
            "tokens": self.gateway.index.len(),
            "providers": snapshot.config.providers.iter().map(|p| json!({
                "name": &*p.name,
                "kind": p.kind.as_str(),
                "keys": p.keys.iter().map(|k| &*k.name).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "access_log_dropped": snapshot.access_log.dropped(),
        })
    }

    fn ready(&self) -> bool {
        self.open.load(Acquire) && !self.gateway.draining.load(Acquire)
    }

    fn metrics(&self) -> String {
        let metrics = &self.gateway.metrics;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.connections_open.set(number(self.gateway.connections.open()));
        metrics.requests_in_flight.set(number(self.gateway.registry.open() as u64));
        metrics.tokens.set(number(self.gateway.index.len() as u64));
        metrics.store_healthy.set(i64::from(self.health() == "ok"));
        metrics.render()
    }
}

/// Static tokens as the index takes them.
pub(super) fn fixed(config: &Config) -> Vec<Entry> {
    config
        .tokens
        .iter()
        .map(|token| Entry {
            id: token.name.clone(),
            name: token.name.clone(),
            digest: token.digest,
            expires_at: token.expires_at,
            disabled: token.disabled,
            may_mint: token.may_mint,
            grant: match &token.policy {
                Some(policy) => GrantSource::Policy(policy.clone()),
                None => GrantSource::Default,
            },
        })
        .collect()
}

/// Identity is re-checked on every revocation and reload: sessions whose token is gone, or whose
/// grant no longer reaches what they reached, end.
pub(super) fn recheck(gateway: &Gateway) {
    // Before the registry is walked: whoever enters it later sees that something has changed.
    gateway.changes.fetch_add(1, AcqRel);
    let lost = |live: &Live| (!gateway.still_allows(live)).then_some(Cut::Revoked);
    let cut = gateway.registry.cut(lost);
    for _ in 0..cut {
        gateway.metrics.session_cut(Cut::Revoked.as_str());
    }
    if cut > 0 {
        info!("{cut} open sessions were ended: their tokens no longer allow them");
    }
}

/// What needs a restart: every problem, one a line.
fn unchangeable(old: &Config, new: &Config) -> Result<(), String> {
    // Which files a listener's certificate is in may change, and what is in them.
    let doors = |listen: &[Listener]| -> Vec<_> {
        listen.iter().map(|l| (l.address, l.tls.is_some())).collect()
    };
    let admin = |config: &Config| config.admin.as_ref().map(|a| a.address);
    let problems: Vec<String> = [
        ("listen", doors(&old.listen) != doors(&new.listen)),
        ("store", old.store != new.store),
        ("admin.address", admin(old) != admin(new)),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(path, _)| format!("{path}: a reload can't change this; restart the service"))
    .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

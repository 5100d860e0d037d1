//! What all requests share: the current configuration with what was derived from it, and
//! everything that outlives a reload.

use crate::config::Config;
use crate::egress::peer::Upstream;
use crate::policy::failed_auth::FailedAuth;
use crate::policy::{Class, granted, still_allowed};
use crate::provider::{self, Api, route::Table};
use crate::session::connections::Connections;
use crate::session::registry::{Live, Registry};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::provider_metrics::ProviderMetrics;
use crate::telemetry::redact::Redactor;
use crate::token::Token;
use crate::token::index::Index;
use crate::token::ticket::Seal;
use crate::values::clock::Clock;
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The gateway's state.
pub struct Gateway {
    /// The configuration in force; a request takes it once and keeps it.
    pub snapshot: ArcSwap<Snapshot>,
    /// Known tokens.
    pub index: Arc<Index>,
    /// What upload tickets are made and checked with.
    pub seal: Seal,
    /// Invalid tokens by address.
    pub failed_auth: FailedAuth,
    /// Time.
    pub clock: Clock,
    /// Requests in flight.
    pub registry: Arc<Registry>,
    /// Open connections.
    pub connections: Arc<Connections>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Counts what may have ended a session's right to go on: reloads, and changed tokens.
    pub changes: AtomicU64,
    /// The process stops: answers carry `Connection: close`.
    pub draining: AtomicBool,
}

impl Gateway {
    /// Whether a session may go on under what is in force now: its token is there, and its grant
    /// reaches what it reached.
    pub fn still_allows(&self, live: &Live) -> bool {
        let snapshot = self.snapshot.load();
        self.index.lookup(&live.token.digest).is_some_and(|token| {
            token.id == live.token.id
                && still_allowed(&snapshot.config, &token, &live.reach.target())
                && model_kept(&snapshot.config, &token, live)
        })
    }
}

fn model_kept(config: &Config, token: &Token, live: &Live) -> bool {
    let Ok(grant) = granted(config, token) else { return false };
    match (&grant.models, live.reach.model.get()) {
        (Some(models), Some(Some(model))) => {
            let model = model.strip_prefix("models/").unwrap_or(model);
            models.iter().any(|p| p.matches(model))
        }
        // One that began without models to check can't be shown to keep to them now; one that
        // needed none has its path to be held to.
        (Some(_), Some(None)) => live.reach.scoped || live.reach.class == Class::ModelList,
        // Asked again once it is decided.
        (Some(_), None) => true,
        (None, _) => true,
    }
}

/// A configuration and what was derived from it. Immutable.
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Its routes.
    pub routes: Table,
    /// Its providers, in the same order.
    pub upstreams: Vec<Reached>,
    /// Knows every provider key.
    pub redactor: Arc<Redactor>,
    /// Where lines go.
    pub access_log: Arc<AccessLog>,
}

/// A provider with what requests need of it.
pub struct Reached {
    /// The table's line.
    pub api: &'static Api,
    /// Where it is.
    pub upstream: Upstream,
    /// What it is called in `Host`.
    pub host: HeaderValue,
    /// Its counters.
    pub metrics: Arc<ProviderMetrics>,
}

impl Snapshot {
    /// Derives a snapshot.
    pub fn new(config: Config, metrics: &Metrics, access_log: Arc<AccessLog>) -> Self {
        let upstreams = config
            .providers
            .iter()
            .map(|p| Reached {
                api: provider::api(p.kind),
                upstream: Upstream::new(&p.url, &config.limits),
                // A URL's authority is ASCII without blanks.
                host: HeaderValue::from_str(&p.url.authority)
                    .unwrap_or_else(|_| HeaderValue::from_static("")),
                metrics: metrics.provider(&p.name),
            })
            .collect();
        let keys = config.providers.iter().flat_map(|p| p.keys.iter().map(|k| &k.secret));
        Self {
            routes: Table::new(&config),
            upstreams,
            redactor: Arc::new(Redactor::new(keys)),
            access_log,
            config,
        }
    }
}

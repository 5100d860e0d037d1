//! What all requests share: the current configuration with what was derived from it, and
//! everything that outlives a reload.

use crate::config::{Access, Config, Provider};
use crate::egress::peer::Upstream;
use crate::policy::failed_auth::FailedAuth;
use crate::policy::holder::Bounds;
use crate::policy::own::Endpoints;
use crate::policy::{Class, Code, Denial, Holder, still_allowed};
use crate::provider::{self, Api, route::Table};
use crate::session::connections::Connections;
use crate::session::registry::{Live, Registry};
use crate::slot::place::crumbs;
use crate::stream::Streams;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::provider_metrics::ProviderMetrics;
use crate::telemetry::redact::Redactor;
use crate::token::Token;
use crate::token::client::Clients;
use crate::token::index::Index;
use crate::token::store::{ClientChange, ClientStore};
use crate::token::ticket::Seal;
use crate::values::clock::Clock;
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// How long a request waits for the store to count one use of its token. The store gives up sooner,
/// and has then counted nothing; this is for a disk that hangs.
const SPENDING: Duration = Duration::from_secs(2);

/// The gateway's state.
pub struct Gateway {
    /// The configuration in force; a request takes it once and keeps it.
    pub snapshot: ArcSwap<Snapshot>,
    /// Known tokens.
    pub index: Arc<Index>,
    /// What upload tickets are made and checked with.
    pub seal: Seal,
    /// Known client tokens.
    pub clients: Arc<Clients>,
    /// Where client tokens outlive the process.
    pub client_store: Option<Arc<dyn ClientStore>>,
    /// Which origins may use which stream.
    pub streams: Arc<Streams>,
    /// What answers on keygate's own paths.
    pub endpoints: Arc<dyn Endpoints>,
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
    /// Whether a session may go on under what is in force now: its token is there, and its grants
    /// reach what it reached.
    pub fn still_allows(&self, live: &Live) -> bool {
        let snapshot = self.snapshot.load();
        if live.token.is_anonymous() {
            let mut providers = snapshot.config.providers.iter();
            let public = |p: &Provider| p.name == live.reach.provider && p.access == Access::Public;
            return providers.any(public);
        }
        let ends = self.holder_now(live).and_then(|holder| {
            let target = live.reach.target();
            still_allowed(&snapshot.config, &holder, &target, |bounds| model_kept(bounds, live))
        });
        // Its token's expiry may be another by now.
        ends.map(|ends| *live.ends.lock() = ends).is_some()
    }

    /// Whether a session may use this model under what is in force now.
    pub fn allows_now(&self, live: &Live, model: &str) -> bool {
        let snapshot = self.snapshot.load();
        self.holder_now(live).is_some_and(|holder| {
            holder.bounds(&snapshot.config).is_ok_and(|bounds| bounds.have_model(model))
        })
    }

    /// Whose a session is, as they are now; nobody where its token is gone.
    fn holder_now(&self, live: &Live) -> Option<Holder> {
        let token = match &live.token.client {
            // Whether its text is still remembered does not matter.
            Some(_) => Some(live.token.clone()).filter(|t| !self.clients.is_revoked(&t.id)),
            None => self.index.lookup(&live.token.digest).filter(|t| t.id == live.token.id),
        };
        token.and_then(|token| Holder::of(token, &self.index))
    }

    /// Takes one of the connections that a client token may open.
    ///
    /// # Errors
    /// 401 where none is left, 503 where nobody can say.
    pub async fn spend(&self, token: &Arc<Token>, uses: u32) -> Result<(), Denial> {
        let ends_at = token.client.as_ref().map_or(0, |client| client.ends_at_ms);
        let left = match &self.client_store {
            None => Ok(self.clients.take_use(&token.id, uses, ends_at)),
            Some(store) => {
                let change = ClientChange::Use { id: token.id.clone(), uses, ends_at };
                let answer = store.clone().request(change);
                match tokio::time::timeout(SPENDING, answer).await {
                    Ok(Ok(Ok(left))) => Ok(left),
                    _ => Err(Code::StoreUnavailable),
                }
            }
        };
        match left {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = "the token has opened as many connections as it may";
                Err(Denial::new(Code::TokenExpired, why))
            }
            Err(code) => Err(code.into()),
        }
    }
}

fn model_kept(bounds: &Bounds<'_>, live: &Live) -> bool {
    if !live.models.lock().iter().all(|model| bounds.have_model(model)) {
        return false;
    }
    match live.reach.model.get() {
        Some(Some(model)) => bounds.have_model(model),
        // One that began without models to check can't be shown to keep to them now; one that
        // needed none has its path to be held to.
        Some(None) => {
            !bounds.name_models() || live.reach.scoped || live.reach.class == Class::ModelList
        }
        // Asked again once it is decided.
        None => true,
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
    /// Cookies that some provider reads tokens from.
    pub cookies: Vec<Box<str>>,
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
    /// Whether a `Set-Cookie` would put something into a slot: that is the application's alone.
    pub fn sets_slot(&self, set: &[u8]) -> bool {
        let name = crumbs(set).next().map(|(_, name, _)| name);
        name.is_some_and(|n| self.cookies.iter().any(|c| c.as_bytes().eq_ignore_ascii_case(n)))
    }

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
            cookies: config.providers.iter().filter_map(|p| p.cookie.clone()).collect(),
            redactor: Arc::new(Redactor::new(keys)),
            access_log,
            config,
        }
    }
}

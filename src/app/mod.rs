//! The only wiring: a configuration goes in, a running gateway comes out. `keygate serve`, the
//! demo and the tests start it through here.
//!
//! Pingora's `Server` is not used: it sleeps its whole grace period and owns the signals. Its
//! listening service runs on a runtime of ours, and [`Running::stop`] drains by the registry.

mod certificate;
mod gate;
mod issuers;
mod listen;
mod operations;
mod signing;
mod store;
mod substreams;
mod sweep;
mod threads;

pub use operations::Operator;

use crate::config::Config;
use crate::control;
use crate::proxy::Proxy;
use crate::proxy::gateway::{Gateway, Snapshot};
use crate::session::connections::Connections;
use crate::session::drain::drain;
use crate::session::registry::Registry;
use crate::store::Follower;
use crate::stream::Streams;
use crate::stream::store::PolicyStore;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::token::client::Clients;
use crate::token::index::Index;
use crate::token::store::ClientStore;
use crate::values::clock::Clock;
use arc_swap::ArcSwap;
use certificate::Certificates;
use listen::Bound;
use log::{info, warn};
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Release};
use std::time::Duration;
use threads::Threads;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct StartError {
    what: String,
    why: String,
}

impl StartError {
    fn new(what: impl Into<String>, why: impl ToString) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// How to run, beside the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file to read again on a reload; without one a reload is refused.
    pub file: Option<PathBuf>,
    /// Worker threads; `None`: one per processor that the process may use.
    pub threads: Option<usize>,
    /// Time.
    pub clock: Clock,
    /// Whether to listen on the control socket.
    pub control: bool,
}

/// A running gateway. Dropping it without [`Running::stop`] ends it at once.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    gateway: Arc<Gateway>,
    operator: Arc<Operator>,
    certificates: Arc<Certificates>,
    accept: watch::Sender<bool>,
    serve_admin: watch::Sender<bool>,
    pool: Option<Threads>,
    /// Follows the store as long as it lives.
    _follower: Option<Arc<Follower>>,
}

/// Starts a gateway: when this returns, its listeners accept.
///
/// # Errors
/// An address that can't be bound, a store that can't be opened, a log that can't be written.
pub fn start(config: Config, options: Options) -> Result<Running, StartError> {
    let threads = options.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let pool = Threads::start(threads).map_err(|e| StartError::new("starting threads", e))?;
    let metrics = Metrics::new().map_err(|e| StartError::new("metrics", e))?;
    let access_log = AccessLog::open(&config.access_log)
        .map_err(|e| StartError::new("opening the access log", e))?;
    let metrics = Arc::new(metrics);
    let index = Arc::new(Index::new());
    index.replace_fixed(operations::fixed(&config));
    let clients = Arc::new(Clients::new());
    clients.issuers.replace(&config.issuers);
    let store = store::open(&config)?;
    let seal = store::seal(store.as_deref(), &config)?;
    let client_store = store.clone().map(|store| store as Arc<dyn ClientStore>);
    signing::start(&clients, client_store.as_deref(), &config, &options.clock)?;
    let gateway = Arc::new(Gateway {
        snapshot: ArcSwap::from_pointee(Snapshot::new(config, &metrics, Arc::new(access_log))),
        endpoints: Arc::new(control::mint::Endpoint {
            clients: clients.clone(),
            index: index.clone(),
            store: client_store.clone(),
            clock: options.clock.clone(),
        }),
        index,
        seal,
        clients,
        client_store,
        streams: Arc::new(Streams::new(store.clone().map(|store| store as Arc<dyn PolicyStore>))),
        failed_auth: Default::default(),
        clock: options.clock.clone(),
        registry: Arc::new(Registry::new()),
        connections: Arc::new(Connections::default()),
        metrics,
        changes: AtomicU64::new(0),
        draining: AtomicBool::new(false),
    });
    let follower = store.map(|store| store::follow_it(store, &gateway)).transpose()?;
    let listen = gateway.snapshot.load();
    let certificates = Arc::new(Certificates::new(&listen.config.listen, &gateway.metrics));
    drop(listen);
    let operator =
        Operator::new(gateway.clone(), follower.clone(), certificates.clone(), options.file);
    let operator = Arc::new(operator);
    let (accept, _) = watch::channel(false);
    let (serve_admin, _) = watch::channel(false);
    let mut running = Running {
        addresses: Vec::new(),
        admin: None,
        gateway,
        operator,
        certificates,
        accept,
        serve_admin,
        pool: Some(pool),
        _follower: follower,
    };
    running.open(options.control)?;
    Ok(running)
}

impl Running {
    /// Where callers connect, in the order of `listen:`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health and metrics are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Reload and status.
    pub fn operator(&self) -> &Arc<Operator> {
        &self.operator
    }

    /// The state, for tests.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The runtime that serves.
    pub fn runtime(&self) -> Option<&Handle> {
        self.pool.as_ref().map(Threads::first)
    }

    /// Binds everything and begins to serve.
    fn open(&mut self, with_control: bool) -> Result<(), StartError> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let runtime = pool.first();
        let _inside = runtime.enter();
        let snapshot = self.gateway.snapshot.load_full();
        let bound = Bound::to(&snapshot.config.listen)?;
        self.addresses = bound.addresses();
        self.accept(pool, &bound, &snapshot.config)?;
        let stop = self.serve_admin.subscribe();
        runtime.spawn(sweep::run(self.gateway.clone(), self.certificates.clone(), stop));
        runtime.spawn(signing::run(self.gateway.clone(), self.serve_admin.subscribe()));
        runtime.spawn(issuers::run(self.gateway.clone(), self.serve_admin.subscribe()));
        if let Some(admin) = &snapshot.config.admin {
            let listener = std::net::TcpListener::bind(admin.address)
                .map_err(|e| StartError::new(format!("binding {}", admin.address), e))?;
            self.admin = listener.local_addr().ok();
            let stop = self.serve_admin.subscribe();
            runtime.spawn(control::admin::serve(listener, self.operator.clone(), stop));
        }
        if with_control {
            self.open_control(runtime, &snapshot.config)?;
        }
        self.operator.opened();
        Ok(())
    }

    /// Accepts on every thread from every socket.
    fn accept(&self, pool: &Threads, bound: &Bound, config: &Config) -> Result<(), StartError> {
        let mut acceptors = Vec::with_capacity(config.listen.len());
        for listener in &config.listen {
            // The certificates are those of the listeners that have one, in their order.
            let index = acceptors.iter().flatten().count();
            let acceptor = listener.tls.as_ref().map(|_| self.certificates.acceptor(index));
            let acceptor = acceptor.transpose().map_err(|e| StartError::new("TLS", e))?;
            acceptors.push(acceptor.flatten());
        }
        for thread in pool.each() {
            let proxy = Arc::new(self.proxy());
            for ((listeners, fds), acceptor) in bound.share()?.into_iter().zip(&acceptors) {
                let gate = gate::Gate::new(self.gateway.clone(), proxy.clone(), acceptor.clone());
                let mut service = Service::with_listeners("gate".to_owned(), listeners, gate);
                let shutdown = self.accept.subscribe();
                thread.spawn(async move { service.start_service(Some(fds), shutdown, 1).await });
            }
        }
        Ok(())
    }

    /// The control socket. Without a store its directory is systemd's to make: where there is none,
    /// the gateway serves all the same, and SIGHUP still reloads.
    fn open_control(&self, runtime: &Handle, config: &Config) -> Result<(), StartError> {
        let path = config.control_socket();
        match control::socket::bind(&path) {
            Ok(listener) => {
                let stop = self.serve_admin.subscribe();
                runtime.spawn(control::socket::serve(listener, self.operator.clone(), stop));
                Ok(())
            }
            Err(e) if config.store.is_none() => {
                warn!("no control socket at {}, reload by SIGHUP: {e}", path.display());
                Ok(())
            }
            Err(e) => {
                Err(StartError::new(format!("binding the control socket {}", path.display()), e))
            }
        }
    }

    /// One per thread: each keeps its own connections to the providers.
    fn proxy(&self) -> HttpProxy<Proxy> {
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: 512,
            max_retries: 4,
            ..ServerConf::default()
        };
        let mut proxy = HttpProxy::new(Proxy(self.gateway.clone()), Arc::new(conf));
        proxy.handle_init_modules();
        proxy.server_options = Some(HttpServerOptions::default());
        proxy
    }

    /// Stops: new connections are refused at once, what is open runs on until it ends or the
    /// drain time does.
    pub fn stop(mut self) {
        self.gateway.draining.store(true, Release);
        self.accept.send_replace(true);
        let limit = self.gateway.snapshot.load().config.limits.drain;
        if let Some(pool) = self.pool.take() {
            let (registry, connections) = (&self.gateway.registry, &self.gateway.connections);
            let cut = pool.first().block_on(drain(registry, connections, limit));
            if cut > 0 {
                info!("{cut} sessions were open when the drain time ended");
            }
            self.serve_admin.send_replace(true);
            pool.stop(Duration::from_millis(200));
        }
        self.gateway.snapshot.load().access_log.flush();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accept.send_replace(true);
        self.serve_admin.send_replace(true);
    }
}

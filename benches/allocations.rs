//! How many heap allocations a request costs the gateway, everything on, and how many it costs
//! Pingora to pass it on with nothing but `upstream_peer` written. The difference is keygate's own.
//!
//! Both are served by one worker thread of this process, and only what that thread allocates
//! counts: client and upstream are threads of their own. One connection, one request at a time.
#![allow(unsafe_code, reason = "an allocator that counts has to be one; it only passes calls on")]

mod loopback;

use async_trait::async_trait;
use keygate::app::{self, Options};
use keygate::config;
use keygate::token::opaque;
use keygate::values::clock::Clock;
use keygate::values::ids::TokenDigest;
use loopback::{Client, DEADLINE, Outcome, request, upstream};
use pingora_core::Result as PingoraResult;
use pingora_core::apps::HttpServerOptions;
use pingora_core::modules::http::HttpModules;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn note(bytes: usize) {
    // A thread that ends has no such variable any more, and is not one of ours.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

fn main() -> Outcome<()> {
    let upstream = upstream()?;
    let keygate = gateway(upstream)?;
    let bare = passthrough(Bare { upstream, modules: false })?;
    let shipped = passthrough(Bare { upstream, modules: true })?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "allocations per request: keygate {:.1}, bare Pingora {:.1} ({:.1} with its default modules)",
        keygate.calls, bare.calls, shipped.calls
    )?;
    writeln!(
        out,
        "bytes per request: keygate {:.0}, bare Pingora {:.0} ({:.0} with its default modules)",
        keygate.bytes, bare.bytes, shipped.bytes
    )?;
    Ok(())
}

/// What a request costs.
struct Cost {
    calls: f64,
    bytes: f64,
}

/// keygate with every check on, log to a file.
fn gateway(upstream: SocketAddr) -> Outcome<Cost> {
    let dir = tempfile::tempdir()?;
    let (place, token) = (dir.path().display(), opaque::draw()?);
    std::fs::write(dir.path().join("key"), "sk-not-a-real-key-0123456789")?;
    let digest = TokenDigest::of(token.as_bytes()).to_hex();
    let text = format!(
        "
listen: [{{ address: 127.0.0.1:0 }}]
server_names: [127.0.0.1]
access_log: {{ file: {place}/access.log }}
store: {{ sqlite: {place}/keygate.db }}
providers:
  openai: {{ kind: openai, url: 'http://{upstream}', keys: [{{ file: {place}/key }}] }}
policies:
  bench:
    providers: [openai]
    methods: [GET, POST]
    paths: ['/v1/chat/*']
    models: [gpt-4o-mini, 'gpt-realtime*']
    origins: ['https://app.example.com']
    rate_limit: {{ requests: 16777215, per: 60s }}
    concurrency: 10000
tokens: [{{ name: bench, sha256: '{digest}', policy: bench }}]
"
    );
    let config = config::parse(&text)?;
    let options = Options { file: None, threads: Some(1), clock: Clock::system(), control: false };
    let running = app::start(config, options)?;
    let address = *running.addresses().first().ok_or("no listener")?;
    let runtime = running.runtime().ok_or("no runtime")?;
    refuses(address)?;
    let cost = measure(runtime, address, &token)?;
    running.stop();
    let log = std::fs::read_to_string(dir.path().join("access.log"))?;
    let logged = log.lines().filter(|line| line.contains("\"model\":\"gpt-4o-mini\"")).count();
    if logged != WARM_UP + requests() {
        return Err(format!("{logged} requests were logged: not everything was on").into());
    }
    Ok(cost)
}

/// The least that Pingora can do.
struct Bare {
    upstream: SocketAddr,
    modules: bool,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        if self.modules {
            // As the trait's own default.
            modules.add_module(
                pingora_core::modules::http::compression::ResponseCompressionBuilder::enable(0),
            );
        }
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> PingoraResult<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Pingora alone, on one worker of its own.
fn passthrough(bare: Bare) -> Outcome<Cost> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("keygate")
        .enable_all()
        .build()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let conf =
        ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut proxy = HttpProxy::new(bare, Arc::new(conf));
    proxy.handle_init_modules();
    proxy.server_options = Some(HttpServerOptions::default());
    let mut listeners = pingora_core::listeners::Listeners::new();
    let mut fds = pingora_core::server::Fds::new();
    listeners.add_tcp(&address.to_string());
    fds.add(address.to_string(), listener.into_raw_fd());
    let fds = Arc::new(parking_lot::Mutex::new(fds));
    let mut service = Service::with_listeners("bare".to_owned(), listeners, proxy);
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move { service.start_service(Some(fds), stopped, 1).await });
    let cost = measure(runtime.handle(), address, "none")?;
    stop.send_replace(true);
    runtime.shutdown_background();
    Ok(cost)
}

const WARM_UP: usize = 200;

/// `cargo bench` gives `--bench`; without it a few requests prove that all of this still works.
fn requests() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { 5_000 } else { 50 }
}

/// What one request costs the only worker of `runtime`, once buffers and pools have their size.
fn measure(runtime: &Handle, address: SocketAddr, token: &str) -> Outcome<Cost> {
    let mut client = Client::connect(address)?;
    let request = request(token, "https://app.example.com");
    for _ in 0..WARM_UP {
        client.send(&request, 200)?;
    }
    let (told, named) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        COUNTED.set(true);
        let _ = told.send(std::thread::current().name() == Some("keygate"));
    });
    if !named.recv_timeout(DEADLINE)? {
        return Err("that is no thread of the gateway's".into());
    }
    let before = (CALLS.load(Relaxed), BYTES.load(Relaxed));
    for _ in 0..requests() {
        client.send(&request, 200)?;
    }
    let after = (CALLS.load(Relaxed), BYTES.load(Relaxed));
    let each = |before: u64, after: u64| (after - before) as f64 / requests() as f64;
    let cost = Cost { calls: each(before.0, after.0), bytes: each(before.1, after.1) };
    if cost.calls < 1.0 {
        return Err("nothing was counted: it is not this thread that serves".into());
    }
    Ok(cost)
}

/// The origin is checked, so the rest is too: it comes last but for body, model and limits.
fn refuses(address: SocketAddr) -> Outcome<()> {
    let foreign = request("ptk_unknown", "https://evil.example");
    Client::connect(address)?.send(&foreign, 401)
}

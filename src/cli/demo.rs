//! `keygate demo`: a gateway in front of the built-in mock provider, to try things out.
//!
//! Everything it needs lives in a directory of its own that goes with it: configuration, demo
//! keys, store, access log. The gateway itself is the one that `keygate serve` runs.

mod guide;
mod scratch;

use super::{output, serve};
use crate::app::{self, Options, Running};
use crate::demo::{self, Keys};
use crate::token::opaque;
use crate::token::store::{Record, TokenStore};
use crate::values::clock::Clock;
use crate::values::ids::TokenDigest;
use crate::values::secret::Secret;
use crate::{config, store::Sqlite};
use anyhow::Context;
use guide::Guide;
use log::LevelFilter;
use scratch::Scratch;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Where the gateway listens when nothing else is asked for and it is free.
const USUAL_PORT: u16 = 8080;

/// How long the mock may take to end after the gateway has.
const MOCK_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The port to listen on, on this machine only; 0 takes a free one [default: 8080, or a free
    /// one if that is taken]
    #[arg(long)]
    port: Option<u16>,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// Anything that keeps it from running.
pub fn run(args: &Args) -> anyhow::Result<()> {
    serve::prepare(LevelFilter::Warn)?;
    let scratch = Scratch::new()?;
    let keys = Keys::default();
    let mock = Mock::start(keys.clone())?;
    scratch.write_keys(&keys)?;
    let token = create_token(&scratch.store())?;
    let running = start(&scratch, mock.address, args.port)?;
    let guide = Guide {
        gateway: *running.addresses().first().context("the gateway does not listen")?,
        admin: running.admin().context("the admin listener is missing")?,
        mock: mock.address,
        token: &token,
        config: &scratch.config(),
        access_log: &scratch.access_log(),
    };
    output::line(&guide.text());
    let ended = serve::until_stopped(running);
    mock.stop();
    ended
}

/// The mock provider, on a runtime of its own: it outlives the gateway's, which drains first.
struct Mock {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    runtime: Runtime,
}

impl Mock {
    fn start(keys: Keys) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("binding the mock provider")?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("keygate-mock")
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(async move {
            if let Err(error) = demo::serve(listener, keys, stopped).await {
                log::error!("the mock provider failed: {error}");
            }
        });
        Ok(Self { address, stop, runtime })
    }

    fn stop(self) {
        self.stop.send_replace(true);
        self.runtime.shutdown_timeout(MOCK_ENDS_WITHIN);
    }
}

/// Puts a token that may do everything into a new store.
fn create_token(store: &Path) -> anyhow::Result<Secret> {
    let token = opaque::draw()?;
    Sqlite::open(store)?.create(&Record {
        id: opaque::draw_id()?,
        name: "demo".to_owned(),
        digest: TokenDigest::of(token.as_bytes()),
        last4: opaque::last4(&token),
        created_at: Clock::system().wall_ms(),
        expires_at: None,
        disabled: false,
        may_mint: true,
        policy: None,
        grant: None,
        last_used_at: None,
    })?;
    Ok(Secret::new(token))
}

/// Starts the gateway on the port asked for; else on the usual one, else on a free one.
fn start(scratch: &Scratch, mock: SocketAddr, port: Option<u16>) -> anyhow::Result<Running> {
    match port {
        Some(port) => start_on(scratch, mock, port),
        None => start_on(scratch, mock, USUAL_PORT).or_else(|_taken| start_on(scratch, mock, 0)),
    }
}

fn start_on(scratch: &Scratch, mock: SocketAddr, port: u16) -> anyhow::Result<Running> {
    scratch.write_config(port, mock)?;
    let path = scratch.config();
    let config = config::load(&path)?;
    let options =
        Options { file: Some(path), threads: None, clock: Clock::system(), control: true };
    Ok(app::start(config, options)?)
}

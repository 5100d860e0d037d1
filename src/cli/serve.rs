//! `keygate serve`: the gateway as a service.
//!
//! Signals are caught before readiness is announced: SIGHUP reloads, SIGTERM and SIGINT drain.

use super::{ConfigFile, output};
use crate::app::{self, Options, Running};
use crate::config;
use crate::control::Operations;
use crate::telemetry::diagnostics;
use crate::values::clock::Clock;
use anyhow::Context;
use log::{LevelFilter, error, info};
use nix::sys::prctl;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Worker threads; one per processor unless given
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
    /// What to log to standard error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

/// Runs until a signal ends it.
///
/// # Errors
/// The configuration's problems, or what kept the gateway from starting.
pub fn run(args: &Args) -> anyhow::Result<()> {
    prepare(args.log_level)?;
    let path = &args.file.config;
    let config = config::load(path)
        .map_err(|problems| anyhow::anyhow!("{}:\n{problems}", path.display()))?;
    let options = Options {
        file: Some(path.clone()),
        threads: args.threads.map(std::num::NonZeroUsize::get),
        clock: Clock::system(),
        control: true,
    };
    let running = app::start(config, options)?;
    for address in running.addresses() {
        info!("listening on {address}");
    }
    if let Some(address) = running.admin() {
        info!("health and metrics on {address}");
    }
    until_stopped(running)
}

/// Logging, and a panic hook that says where but not what: a message could hold a request's data.
pub(super) fn prepare(level: LevelFilter) -> anyhow::Result<()> {
    harden();
    diagnostics::install(level, under_journald()).context("installing the log")?;
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => error!("a panic at {}:{} ended one request", place.file(), place.line()),
        None => error!("a panic ended one request"),
    }));
    Ok(())
}

/// Keys are in this process's memory: no core dump, no debugger of the same user. And no huge pages
/// behind the allocator's back, which double what an idle gateway takes.
fn harden() {
    for result in [prctl::set_dumpable(false), prctl::set_thp_disable(true)] {
        if let Err(error) = result {
            // A kernel that knows neither is no reason not to serve.
            output::problem(&format!("the process could not be hardened: {error}"));
        }
    }
}

/// Standard error goes to the journal where systemd says so.
fn under_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn until_stopped(running: Running) -> anyhow::Result<()> {
    let handle = running.runtime().context("the gateway does not run")?.clone();
    let operator = running.operator().clone();
    let _inside = handle.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tell(&[NotifyState::Ready]);
    info!("keygate is ready");
    handle.block_on(async {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    let operator = operator.clone();
                    // The outcome is logged; whoever needs it uses `keygate reload`.
                    let _ = tokio::task::spawn_blocking(move || operator.reload()).await;
                }
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
            }
        }
    });
    tell(&[NotifyState::Stopping]);
    info!("stopping: waiting for what is open");
    running.stop();
    info!("stopped");
    diagnostics::flush();
    Ok(())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        error!("systemd could not be told: {error}");
    }
}

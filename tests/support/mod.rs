//! What the tests stand on: upstreams that record, clients that see every byte, the canary.
//!
//! Nothing here knows the gateway from the inside, so the harness is tested against itself
//! ([`proof`]). Every wait ends: with what was waited for, or at [`DEADLINE`] with a message that
//! says what was missing. No port is chosen before it is bound, nothing sleeps for luck.
#![allow(
    dead_code,
    unused_imports,
    reason = "the harness offers more than the suite uses at any one time"
)]

pub(crate) mod binary;
pub(crate) mod canary;
pub(crate) mod chromium;
pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod gateway;
pub(crate) mod log;
pub(crate) mod path;
pub(crate) mod process;
mod proof;
pub(crate) mod source;
pub(crate) mod standalone;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod ws;

use std::time::Duration;

/// How long anything may take that is expected to happen; generous, for loaded machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for `future`, and panics with `what` when it has not come by the [`DEADLINE`].
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<F> {
    let (what, place) = (what.to_owned(), std::panic::Location::caller());
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_) => panic!("waited {DEADLINE:?} in vain for {what} (asked for at {place})"),
        }
    }
}

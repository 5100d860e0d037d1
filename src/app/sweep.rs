//! Our own timers: what waits too long for a first byte, streams on which nothing moves, and
//! certificates that were replaced.
//!
//! Pingora's own would set and drop a timer for every read of every request; this looks at the
//! registry twice a second.

use super::certificate::Certificates;
use crate::proxy::gateway::Gateway;
use crate::session::connection::Cut;
use crate::session::registry::Live;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

const EVERY: Duration = Duration::from_millis(500);
/// Every how many looks the files of certificates are looked at.
const CERTIFICATES: u32 = 4;

/// Looks until `stop` turns true.
pub(super) async fn run(
    gateway: Arc<Gateway>,
    certificates: Arc<Certificates>,
    mut stop: watch::Receiver<bool>,
) {
    let mut looks: u32 = 0;
    let mut files: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => look(&gateway),
            _ = stop.changed() => return,
        }
        looks = looks.wrapping_add(1);
        let ready = files.as_ref().is_none_or(JoinHandle::is_finished);
        if looks.is_multiple_of(CERTIFICATES) && !certificates.is_empty() && ready {
            let (gateway, certificates) = (gateway.clone(), certificates.clone());
            // Not waited for: files may lie on a disk that answers late or never, and requests
            // are held to their time meanwhile. What a panic could spoil is this look.
            files = Some(spawn_blocking(move || certificates.look(&gateway.metrics)));
        }
    }
}

fn look(gateway: &Gateway) {
    let now = gateway.clock.steady_ms();
    let idle = gateway.snapshot.load().config.limits.stream_idle_timeout;
    let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let late = |live: &Live| {
        let due = live.first_byte_due_ms.load(Relaxed);
        let still = now.saturating_sub(live.moved_ms.load(Relaxed));
        // Before the first byte, silence is the provider thinking.
        let over = if due > 0 { now >= due } else { still >= idle };
        over.then_some(Cut::TimedOut)
    };
    for _ in 0..gateway.registry.cut(late) {
        gateway.metrics.session_cut(Cut::TimedOut.as_str());
    }
}

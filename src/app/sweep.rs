//! Our own timers: what waits too long for a first byte, and streams on which nothing moves.
//!
//! Pingora's own would set and drop a timer for every read of every request; this looks at the
//! registry twice a second.

use crate::proxy::gateway::Gateway;
use crate::session::connection::Cut;
use crate::session::registry::Live;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_millis(500);

/// Looks until `stop` turns true.
pub(super) async fn run(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => look(&gateway),
            _ = stop.changed() => return,
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

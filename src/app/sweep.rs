//! Our own timers: what waits too long for a first byte, streams on which nothing moves, bodies that
//! drip, and certificates that were replaced.
//!
//! Pingora's own would set and drop a timer for every read of every request; this looks at the
//! registry twice a second.

use super::certificate::Certificates;
use crate::proxy::gateway::Gateway;
use crate::session::connection::Cut;
use crate::session::registry::Live;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    let wall = gateway.clock.wall_ms();
    let idle = gateway.snapshot.load().config.limits.stream_idle_timeout;
    let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let late = |live: &Live| {
        let due = live.first_byte_due_ms.load(Relaxed);
        let still = now.saturating_sub(live.moved_ms.load(Relaxed));
        let lasted = now.saturating_sub(live.started_ms);
        let longest = live.ends.after.map(|after| after.as_millis());
        if longest.is_some_and(|longest| u128::from(lasted) >= longest)
            || live.ends.at_ms.is_some_and(|end| wall >= end)
        {
            return Some(Cut::SessionExpired);
        }
        if live.pace.is_late(now) {
            return Some(Cut::SlowBody);
        }
        // Before the first byte, silence is the provider thinking.
        let over = if due > 0 { now >= due } else { still >= idle };
        over.then_some(Cut::TimedOut)
    };
    let [timed_out, expired, slow] = [(); 3].map(|()| AtomicU64::new(0));
    gateway.registry.cut(|live| {
        let why = late(live).filter(|_| live.handle.was_cut().is_none());
        match why {
            Some(Cut::SessionExpired) => expired.fetch_add(1, Relaxed),
            Some(Cut::SlowBody) => slow.fetch_add(1, Relaxed),
            Some(_) => timed_out.fetch_add(1, Relaxed),
            None => 0,
        };
        why
    });
    let counts =
        [(timed_out, Cut::TimedOut), (expired, Cut::SessionExpired), (slow, Cut::SlowBody)];
    for (count, why) in counts {
        for _ in 0..count.into_inner() {
            gateway.metrics.session_cut(why.as_str());
        }
    }
}

//! Our own timers: what waits too long for a first byte, streams on which nothing moves, bodies that
//! drip, and certificates that were replaced.
//!
//! Pingora's own would set and drop a timer for every read of every request; this looks at the
//! registry twice a second, and there at sessions for which something may be due.

use super::certificate::Certificates;
use crate::proxy::gateway::Gateway;
use crate::session::connection::Cut;
use crate::session::registry::{Live, Look};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

const EVERY: Duration = Duration::from_millis(500);
/// Milliseconds that a session is put off at most.
const LONGEST: u64 = 10_000;
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
    for why in gateway.registry.sweep(now, |live| find(live, now, wall, idle)) {
        gateway.metrics.session_cut(why.as_str());
    }
}

/// What is due of a session, or when something may be. All that moves later only puts that off.
fn find(live: &Live, now: u64, wall: u64, idle: u64) -> Look {
    let due = live.first_byte_due_ms.load(Relaxed);
    let moved = live.moved_ms.load(Relaxed);
    let ends = *live.ends.lock();
    let longest = ends.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let end = longest.map(|longest| live.started_ms.saturating_add(longest));
    if end.is_some_and(|end| now >= end) || ends.at_ms.is_some_and(|end| wall >= end) {
        return Look::End(Cut::SessionExpired);
    }
    if live.pace.is_late(now) {
        return Look::End(Cut::SlowBody);
    }
    // Before the first byte, silence is the provider thinking.
    let silent = if due > 0 { due } else { moved.saturating_add(idle) };
    if now >= silent {
        return Look::End(Cut::TimedOut);
    }
    if ends.at_ms.is_some() {
        // The wall clock may be set.
        return Look::Later(now);
    }
    // The first byte may come at any moment; silence counts from there.
    let silent = if due > 0 { due.min(now.saturating_add(idle)) } else { silent };
    let next = [end, live.pace.due_ms()].into_iter().flatten().fold(silent, u64::min);
    Look::Later(next.min(now.saturating_add(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::permit::Ends;
    use crate::session::handle::{Handle, Substream};
    use crate::session::pace::{Pace, STRETCH, STRETCH_MS};
    use crate::session::registry::{Entry, Reach, Registry};
    use crate::token::{GrantSource, Token};
    use crate::values::ids::TokenDigest;
    use crate::values::timestamp::Expiry;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    const IDLE: u64 = 10_000;

    fn entered(registry: &Arc<Registry>, ends: Ends, due: u64) -> Entry {
        sending(registry, ends, due, false)
    }

    fn sending(registry: &Arc<Registry>, ends: Ends, due: u64, body: bool) -> Entry {
        let token = Token {
            id: "t".into(),
            name: "t".into(),
            digest: TokenDigest::of(b"t"),
            expires_at: Expiry::Never,
            disabled: false,
            may_mint: false,
            grant: GrantSource::Default,
            counters: Arc::default(),
            client: None,
        };
        registry.enter(Live {
            token: Arc::new(token),
            reach: Reach {
                provider: "openai".into(),
                path: "/v1/realtime".into(),
                class: crate::policy::Class::Inference,
                method: http::Method::GET,
                model: OnceLock::new(),
                scoped: false,
            },
            handle: Handle::Substream(Arc::new(Substream::default())),
            started_ms: 1_000,
            ends: ends.into(),
            moved_ms: AtomicU64::new(1_000),
            first_byte_due_ms: AtomicU64::new(due),
            models: Default::default(),
            pace: Pace::new(1_000, body),
        })
    }

    fn swept(registry: &Registry, now: u64, idle: u64) -> (Vec<Cut>, usize) {
        let asked = AtomicUsize::new(0);
        let ended = registry.sweep(now, |live| {
            asked.fetch_add(1, Relaxed);
            find(live, now, now, idle)
        });
        (ended, asked.into_inner())
    }

    #[test]
    fn a_session_is_looked_at_when_something_may_be_due_and_never_later() {
        let none = Ends { after: None, at_ms: None };
        let registry = Arc::new(Registry::new());
        let quiet = entered(&registry, none, 0);
        assert_eq!(swept(&registry, 1_000, IDLE), (vec![], 1), "a new one is looked at");
        assert_eq!(swept(&registry, 10_999, IDLE), (vec![], 0), "nothing can be due before");
        quiet.live().moved_ms.store(5_000, Relaxed);
        assert_eq!(swept(&registry, 11_000, IDLE), (vec![], 1), "it has moved meanwhile");
        assert_eq!(swept(&registry, 14_999, IDLE), (vec![], 0));
        assert_eq!(swept(&registry, 15_000, IDLE), (vec![Cut::TimedOut], 1));
        assert_eq!(swept(&registry, 15_001, IDLE), (vec![], 1), "and ended once");
    }

    #[test]
    fn the_first_byte_brings_an_earlier_end_and_a_shorter_limit_holds_at_once() {
        let none = Ends { after: None, at_ms: None };
        let registry = Arc::new(Registry::new());
        let live = entered(&registry, none, 600_000);
        assert_eq!(swept(&registry, 2_000, IDLE), (vec![], 1));
        live.live().first_byte_due_ms.store(0, Relaxed);
        live.live().moved_ms.store(2_001, Relaxed);
        assert_eq!(swept(&registry, 12_000, IDLE), (vec![], 1), "it is asked in time");
        assert_eq!(swept(&registry, 12_001, IDLE), (vec![Cut::TimedOut], 1));

        let _other = entered(&registry, none, 0);
        assert_eq!(swept(&registry, 1_000, 600_000).0, []);
        assert_eq!(swept(&registry, 10_999, 600_000), (vec![], 0), "it was put off");
        // A reload asks whether each may go on; what is due may be another thing then.
        assert_eq!(registry.cut(|_| None), 0);
        assert_eq!(swept(&registry, 11_000, IDLE).0, [Cut::TimedOut]);
    }

    #[test]
    fn a_session_ends_at_its_length_and_with_the_wall_clock_whatever_moves() {
        let registry = Arc::new(Registry::new());
        let after = Some(Duration::from_secs(3));
        let long = entered(&registry, Ends { after, at_ms: None }, 0);
        let _timed = entered(&registry, Ends { after: None, at_ms: Some(6_000) }, 0);
        assert_eq!(swept(&registry, 1_000, IDLE), (vec![], 2));
        long.live().moved_ms.store(3_999, Relaxed);
        assert_eq!(swept(&registry, 3_999, IDLE), (vec![], 1), "the wall clock's is asked always");
        assert_eq!(swept(&registry, 4_000, IDLE).0, [Cut::SessionExpired]);
        assert_eq!(swept(&registry, 5_999, IDLE).0, []);
        assert_eq!(swept(&registry, 6_000, IDLE).0, [Cut::SessionExpired]);
    }

    #[test]
    fn a_body_that_drips_ends_its_request_and_one_that_moves_does_not() {
        let none = Ends { after: None, at_ms: None };
        let registry = Arc::new(Registry::new());
        let live = sending(&registry, none, 0, true);
        let late = 1_000 + STRETCH_MS;
        assert_eq!(swept(&registry, late - 1, u64::MAX / 2).0, [], "it has its time");
        live.live().pace.moved(STRETCH, late - 1);
        assert_eq!(swept(&registry, late, u64::MAX / 2).0, [], "it has kept its pace");
        let late = late - 1 + STRETCH_MS;
        assert_eq!(swept(&registry, late, u64::MAX / 2).0, [Cut::SlowBody]);
    }
}

//! Time, injected: expiry follows the wall clock, limiters follow the monotonic one.
//!
//! This is the only file that asks the system what time it is. Tests hold a manual clock and
//! move it; nothing sleeps for luck.

use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Since when monotonic time counts.
    System(Duration),
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    wall_ms: AtomicU64,
    steady_ms: AtomicU64,
}

impl Clock {
    /// The system's clocks; monotonic time counts from here.
    pub fn system() -> Self {
        Self(Source::System(tick(ClockId::CLOCK_MONOTONIC_COARSE)))
    }

    /// A clock that stands at `wall_ms` (milliseconds since 1970) until it is moved.
    pub fn manual(wall_ms: u64) -> Self {
        Self(Source::Manual(Arc::new(Hands {
            wall_ms: AtomicU64::new(wall_ms),
            steady_ms: AtomicU64::new(1),
        })))
    }

    /// Milliseconds since 1970, UTC, exact to the kernel's tick (1 to 10 ms). Zero if the
    /// system's clock stands before that.
    pub fn wall_ms(&self) -> u64 {
        match &self.0 {
            Source::System(_) => millis(tick(ClockId::CLOCK_REALTIME_COARSE)),
            Source::Manual(hands) => hands.wall_ms.load(Relaxed),
        }
    }

    /// Milliseconds since the clock was made, exact to the kernel's tick (1 to 10 ms); never goes
    /// back.
    pub fn steady_ms(&self) -> u64 {
        match &self.0 {
            Source::System(start) => {
                millis(tick(ClockId::CLOCK_MONOTONIC_COARSE).saturating_sub(*start))
            }
            Source::Manual(hands) => hands.steady_ms.load(Relaxed),
        }
    }

    /// Moves a manual clock forward, both hands. Does nothing to the system's clock.
    pub fn advance(&self, ms: u64) {
        if let Source::Manual(hands) = &self.0 {
            hands.wall_ms.fetch_add(ms, Relaxed);
            hands.steady_ms.fetch_add(ms, Relaxed);
        }
    }

    /// Sets a manual clock's wall hand, as when an operator corrects the date.
    pub fn set_wall_ms(&self, ms: u64) {
        if let Source::Manual(hands) = &self.0 {
            hands.wall_ms.store(ms, Relaxed);
        }
    }
}

/// A clock that the kernel advances at its tick: reading it costs a tenth of an exact one, and
/// every request reads it several times (`clock_gettime(2)`).
#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn tick(clock: ClockId) -> Duration {
    // A kernel without these clocks has the exact one.
    clock_gettime(clock).map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        Duration::from,
    )
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! The pace that a request's body must keep, so that nobody holds a place by dripping one.
//!
//! Each minute brings 32 KiB of it, or its end: half a KiB a second, which any upload keeps, live sound
//! too. Written by whoever passes the body on, read by the sweep; no timer per request. Answers and
//! open sockets have no pace of their own: on them silence is limited.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long a stretch may take.
pub const STRETCH_MS: u64 = 60_000;
/// Bytes of a stretch.
pub const STRETCH: u64 = 32 << 10;

/// A body on its way.
#[derive(Debug)]
pub struct Pace {
    /// Monotonic milliseconds by which the stretch is due; 0: nothing is.
    due_ms: AtomicU64,
    /// Where in the body the stretch began.
    from: AtomicU64,
}

impl Pace {
    /// A body that begins at `now`, if there is one.
    pub fn new(now: u64, has_body: bool) -> Self {
        let due = if has_body { now.saturating_add(STRETCH_MS) } else { 0 };
        Self { due_ms: AtomicU64::new(due), from: AtomicU64::new(0) }
    }

    /// So much of the body has come.
    pub fn moved(&self, body: u64, now: u64) {
        if body.saturating_sub(self.from.load(Relaxed)) >= STRETCH && !self.is_over() {
            self.from.store(body, Relaxed);
            self.due_ms.store(now.saturating_add(STRETCH_MS), Relaxed);
        }
    }

    /// The body is counted from its beginning again: another attempt.
    pub fn again(&self) {
        self.from.store(0, Relaxed);
    }

    /// The body has ended.
    pub fn end(&self) {
        self.due_ms.store(0, Relaxed);
    }

    /// Whether the body is late.
    pub fn is_late(&self, now: u64) -> bool {
        !self.is_over() && now >= self.due_ms.load(Relaxed)
    }

    /// When it will be late, if nothing comes (monotonic milliseconds).
    pub fn due_ms(&self) -> Option<u64> {
        Some(self.due_ms.load(Relaxed)).filter(|due| *due > 0)
    }

    fn is_over(&self) -> bool {
        self.due_ms.load(Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_has_its_time_and_nothing_is_due_without_a_body() {
        let pace = Pace::new(1_000, true);
        assert!(!pace.is_late(60_999) && pace.is_late(61_000), "a minute from the beginning");
        pace.moved(STRETCH - 1, 60_000);
        assert!(pace.is_late(61_000), "not enough for another");
        pace.moved(STRETCH, 60_000);
        assert!(!pace.is_late(119_999) && pace.is_late(120_000), "the next minute");
        pace.moved(2 * STRETCH - 1, 60_000);
        assert!(pace.is_late(120_000), "the first stretch does not count twice");
        pace.again();
        pace.moved(STRETCH, 100_000);
        assert!(!pace.is_late(159_999), "counted anew");
        pace.end();
        pace.moved(9 * STRETCH, 160_000);
        assert!(!pace.is_late(u64::MAX), "it has ended, and stays so");
        assert!(!Pace::new(1, false).is_late(u64::MAX), "there was none");
    }
}

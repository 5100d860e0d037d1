//! The machine's monotonic clock, which two processes on it can compare.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some fixed moment.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

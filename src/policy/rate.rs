//! Step 13: requests of a token in a window. Exact: one atomic word of the token's own, so that
//! no token is refused because of other tokens' traffic.
//!
//! The word packs the window's start (40 bits of monotonic milliseconds, 34 years) and the count
//! (24 bits). A window begins with the first request after the last one ended.

use super::denial::{Code, Denial};
use crate::token::Counters;
use crate::values::grant::RateLimit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Counts one request.
///
/// # Errors
/// `rate_limited`, with the time to the window's end.
pub(super) fn take(
    counters: &Counters,
    limit: Option<RateLimit>,
    steady_ms: u64,
) -> Result<(), Denial> {
    let Some(limit) = limit else { return Ok(()) };
    count(&counters.window, limit, steady_ms).map_err(|wait_ms| {
        let mut denial = Denial::from(Code::RateLimited);
        denial.retry_after_ms = Some(wait_ms);
        denial
    })
}

/// Counts one event in `window`; gives the milliseconds to the window's end when it is full.
pub(super) fn count(window: &AtomicU64, limit: RateLimit, steady_ms: u64) -> Result<(), u64> {
    let per_ms = u64::try_from(limit.per.as_millis()).unwrap_or(u64::MAX);
    // A word of zero means "never used"; the clock starts above it.
    let now = steady_ms.max(1);
    let mut word = window.load(Relaxed);
    loop {
        let (start, used) = (word >> COUNT_BITS, word & COUNT_MASK);
        let ended = word == 0 || now >= start.saturating_add(per_ms);
        let next = if ended {
            (now << COUNT_BITS) | 1
        } else if used < u64::from(limit.requests) {
            word + 1
        } else {
            return Err(start.saturating_add(per_ms) - now);
        };
        match window.compare_exchange_weak(word, next, Relaxed, Relaxed) {
            Ok(_) => return Ok(()),
            Err(current) => word = current,
        }
    }
}

/// Events counted in the current window.
pub(super) fn used(window: &AtomicU64, limit: RateLimit, steady_ms: u64) -> u64 {
    let word = window.load(Relaxed);
    let per_ms = u64::try_from(limit.per.as_millis()).unwrap_or(u64::MAX);
    let over = word == 0 || steady_ms.max(1) >= (word >> COUNT_BITS).saturating_add(per_ms);
    if over { 0 } else { word & COUNT_MASK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: RateLimit = RateLimit { requests: 3, per: Duration::from_secs(60) };

    #[test]
    fn exactly_the_limit_passes_in_a_window() {
        let window = AtomicU64::new(0);
        for n in 0..3 {
            assert_eq!(count(&window, LIMIT, 1_000 + n), Ok(()), "request {n} is within the limit");
        }
        assert_eq!(
            count(&window, LIMIT, 2_000),
            Err(59_000),
            "the wait reaches to the window's end"
        );
        assert_eq!(count(&window, LIMIT, 61_000), Ok(()), "a new window begins");
        assert_eq!(used(&window, LIMIT, 61_000), 1);
        assert_eq!(used(&window, LIMIT, 200_000), 0, "an ended window counts nothing");
    }

    #[test]
    fn concurrent_requests_are_counted_exactly() {
        let window = AtomicU64::new(0);
        let limit = RateLimit { requests: 1_000, per: Duration::from_secs(60) };
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..500).filter(|_| count(&window, limit, 5).is_ok()).count())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000, "2,000 attempts, 1,000 admitted");
    }

    #[test]
    fn twenty_thousand_tokens_at_half_their_limit_are_never_refused() {
        let limit = RateLimit { requests: 10, per: Duration::from_secs(60) };
        let tokens: Vec<Counters> = (0..20_000).map(|_| Counters::default()).collect();
        for round in 0..5 {
            for token in &tokens {
                assert!(
                    take(token, Some(limit), 1 + round).is_ok(),
                    "no token pays for another's traffic"
                );
            }
        }
    }
}

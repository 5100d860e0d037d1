//! Step 14: how many requests and sockets a token may have open. Exact, and a guard that is
//! dropped gives its place back, whatever ended the request.

use super::denial::{Code, Denial};
use crate::token::Counters;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// A place under the limit; given back on drop.
#[derive(Debug)]
pub struct InFlight(Option<Arc<Counters>>);

impl InFlight {
    /// Hands the place to another guard.
    pub(super) fn pass_on(&mut self) -> Self {
        Self(self.0.take())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(counters) = self.0.take() {
            counters.in_flight.fetch_sub(1, AcqRel);
        }
    }
}

/// Takes a place. Without a limit it is counted all the same: a reload may bring one.
///
/// # Errors
/// `concurrency_limited` when `limit` places are taken.
pub(super) fn enter(counters: &Arc<Counters>, limit: Option<u32>) -> Result<InFlight, Denial> {
    let before = counters.in_flight.fetch_add(1, AcqRel);
    if limit.is_some_and(|limit| before >= limit) {
        counters.in_flight.fetch_sub(1, AcqRel);
        let mut denial = Denial::from(Code::ConcurrencyLimited);
        denial.retry_after_ms = Some(1_000);
        return Err(denial);
    }
    Ok(InFlight(Some(counters.clone())))
}

/// How many places are taken.
pub fn open(counters: &Counters) -> u32 {
    counters.in_flight.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_dropping_gives_back() {
        let counters = Arc::new(Counters::default());
        let first = enter(&counters, Some(2)).unwrap();
        let second = enter(&counters, Some(2)).unwrap();
        assert_eq!(enter(&counters, Some(2)).unwrap_err().code, Code::ConcurrencyLimited);
        drop(first);
        let third = enter(&counters, Some(2));
        assert!(third.is_ok(), "a place that was given back can be taken");
        drop((second, third));
        assert_eq!(open(&counters), 0, "nothing leaks");
    }

    #[test]
    fn a_place_that_is_handed_on_is_given_back_once() {
        let counters = Arc::new(Counters::default());
        let mut first = enter(&counters, None).unwrap();
        let second = first.pass_on();
        drop(first);
        assert_eq!(open(&counters), 1, "the other guard has it");
        drop(second);
        assert_eq!(open(&counters), 0, "an emptied guard and the drop count once");
    }
}

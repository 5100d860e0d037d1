//! Invalid tokens per client address. Only invalid tokens feel it: the lookup comes first.
//!
//! Addresses are an attacker's to choose, so the exact table is bounded. Once it fills, a sketch
//! (pingora-limits) keeps out addresses that failed for the first time: it over-counts, so it only
//! nominates, and a refusal is always confirmed by an exact counter. When it is full, addresses
//! that failed once are forgotten.

use super::rate;
use crate::values::grant::RateLimit;
use crate::values::net::AddressKey;
use dashmap::DashMap;
use pingora_limits::estimator::Estimator;
use std::sync::atomic::AtomicU64;

/// Addresses that are counted exactly without question; at most twice as many are.
const PLACES: usize = 65_536;
/// Sketch cells: 4 rows, 256 KiB.
const SLOTS: usize = 16_384;

/// Counts failures by address.
pub struct FailedAuth {
    exact: DashMap<AddressKey, AtomicU64>,
    sketch: Estimator,
}

impl FailedAuth {
    /// An empty table.
    pub fn new() -> Self {
        Self { exact: DashMap::new(), sketch: Estimator::new(4, SLOTS) }
    }

    /// Counts a failure of `address`.
    ///
    /// # Errors
    /// The address is over `limit`: milliseconds until it may try again.
    pub fn count(&self, address: AddressKey, limit: RateLimit, steady_ms: u64) -> Result<(), u64> {
        if let Some(window) = self.exact.get(&address) {
            return rate::count(&window, limit, steady_ms);
        }
        if self.exact.len() >= PLACES && self.sketch.incr(address, 1) < 2 {
            return Ok(());
        }
        if self.exact.len() >= 2 * PLACES {
            // So many places have to fill again before this runs again.
            self.exact.retain(|_, window| rate::used(window, limit, steady_ms) > 1);
            self.sketch.reset();
        }
        if self.exact.len() >= 2 * PLACES {
            return Ok(());
        }
        let window = self.exact.entry(address).or_default();
        rate::count(&window, limit, steady_ms)
    }
}

impl Default for FailedAuth {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    const LIMIT: RateLimit = RateLimit { requests: 5, per: Duration::from_secs(60) };

    fn address(n: u32) -> AddressKey {
        AddressKey::of(IpAddr::V4(Ipv4Addr::from(n)))
    }

    #[test]
    fn the_sixth_failure_of_an_address_waits_and_another_address_does_not() {
        let table = FailedAuth::new();
        for _ in 0..5 {
            assert!(table.count(address(1), LIMIT, 10).is_ok());
        }
        assert_eq!(table.count(address(1), LIMIT, 10), Err(60_000));
        assert!(table.count(address(2), LIMIT, 10).is_ok(), "addresses are counted apart");
        assert!(table.count(address(1), LIMIT, 60_010).is_ok(), "the window ends");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_refuses_nobody_unconfirmed() {
        let table = FailedAuth::new();
        for n in 0..300_000 {
            assert!(
                table.count(address(n), LIMIT, 10).is_ok(),
                "one failure each is within the limit"
            );
        }
        assert!(table.exact.len() <= 2 * PLACES, "the table must stay bounded");
        let refused =
            (0..100).filter(|_| table.count(address(4_000_000), LIMIT, 20).is_err()).count();
        assert!(refused > 80, "an address that keeps failing is caught even then");
    }
}

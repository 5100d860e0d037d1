//! Connections per client address: a guard per connection, given back when it is dropped.

use crate::values::net::AddressKey;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Counts open connections, in all and per address.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    by_address: DashMap<AddressKey, AtomicU32>,
}

/// One counted connection.
#[derive(Debug)]
pub struct Place {
    all: Arc<Connections>,
    address: Option<AddressKey>,
}

impl Connections {
    /// Counts a connection, or gives `None` where the address has `limit` of them. Without an
    /// address (a trusted proxy's) only the total counts.
    pub fn enter(self: &Arc<Self>, address: Option<AddressKey>, limit: u32) -> Option<Place> {
        if let Some(address) = address {
            let count = self.by_address.entry(address).or_default();
            if count.fetch_add(1, Relaxed) >= limit {
                count.fetch_sub(1, Relaxed);
                return None;
            }
        }
        self.open.fetch_add(1, Relaxed);
        Some(Place { all: self.clone(), address })
    }

    /// How many connections are open.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Relaxed);
        if let Some(address) = self.address {
            // Under the entry's lock: nobody can count up between the look and the removal.
            self.all.by_address.remove_if(&address, |_, count| count.fetch_sub(1, Relaxed) == 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit_and_places_come_back() {
        let all = Arc::new(Connections::default());
        let (a, b) = (AddressKey::of([1, 2, 3, 4].into()), AddressKey::of([1, 2, 3, 5].into()));
        let first = all.enter(Some(a), 1);
        assert!(
            first.is_some() && all.enter(Some(a), 1).is_none() && all.enter(Some(b), 1).is_some()
        );
        drop(first);
        assert!(all.enter(Some(a), 1).is_some(), "a closed connection gives its place back");
        assert_eq!(all.open(), 0, "every place of this test was dropped");
        assert!(all.by_address.is_empty(), "no address is remembered for nothing");
    }
}

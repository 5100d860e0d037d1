//! The session registry: every request in flight, with its token and the handle that ends it.
//!
//! Registering costs one short lock of one shard; finding a token's sessions walks all of them,
//! which only revocations, sweeps and the drain do.

use super::connection::Cut;
use super::handle::Handle;
use super::pace::Pace;
use crate::token::Token;
use parking_lot::Mutex;
use slab::Slab;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const SHARDS: usize = 16;

/// Everything that is in flight.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<Slab<Arc<Live>>>; SHARDS],
    next: AtomicUsize,
    open: AtomicUsize,
}

/// A request in flight: from the permit to the last byte.
#[derive(Debug)]
pub struct Live {
    /// Whose it is.
    pub token: Arc<Token>,
    /// What it reached, so that it can be re-checked.
    pub reach: Reach,
    /// What ends it.
    pub handle: Handle,
    /// Monotonic milliseconds at which it began.
    pub started_ms: u64,
    /// When it ends, however it is going.
    pub ends: crate::policy::permit::Ends,
    /// Monotonic milliseconds at which something last moved.
    pub moved_ms: AtomicU64,
    /// Monotonic milliseconds by which the first byte of the answer is due; 0 once it came.
    pub first_byte_due_ms: AtomicU64,
    /// How its body arrives.
    pub pace: Pace,
}

/// What a session reached: enough to hold it against a changed grant.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The provider's path, decoded.
    pub path: Box<str>,
    /// What kind of path it is.
    pub class: crate::policy::Class,
    /// The method.
    pub method: http::Method,
    /// The model that was decided upon, if any; nothing while that is pending.
    pub model: OnceLock<Option<Box<str>>>,
    /// Its grant had models.
    pub scoped: bool,
}

impl Reach {
    /// As step 9 asks it.
    pub fn target(&self) -> crate::policy::scope::Target<'_> {
        crate::policy::scope::Target {
            provider: &self.provider,
            path: &self.path,
            class: self.class,
            method: &self.method,
        }
    }
}

/// Stands for an entry; dropping it takes the entry out.
#[derive(Debug)]
pub struct Entry {
    registry: Arc<Registry>,
    live: Arc<Live>,
    shard: usize,
    key: usize,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Slab::new())),
            next: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        }
    }

    /// Enters a request.
    pub fn enter(self: &Arc<Self>, live: Live) -> Entry {
        let shard = self.next.fetch_add(1, Relaxed) % SHARDS;
        let live = Arc::new(live);
        let key = self.shards.get(shard).map_or(0, |s| s.lock().insert(live.clone()));
        self.open.fetch_add(1, Relaxed);
        Entry { registry: self.clone(), live, shard, key }
    }

    /// How many requests are in flight.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Ends every session that `choose` gives a reason for; gives how many were.
    pub fn cut(&self, choose: impl Fn(&Live) -> Option<Cut>) -> usize {
        let mut ended = 0;
        for shard in &self.shards {
            // Collected first: waking under the lock could run into whoever leaves.
            let chosen: Vec<_> = shard
                .lock()
                .iter()
                .filter_map(|(_, live)| choose(live).map(|why| (live.clone(), why)))
                .collect();
            ended += chosen.iter().filter(|(live, why)| live.handle.cut(*why)).count();
        }
        ended
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    /// The entry itself.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(shard) = self.registry.shards.get(self.shard) {
            shard.lock().try_remove(self.key);
        }
        self.registry.open.fetch_sub(1, Relaxed);
    }
}

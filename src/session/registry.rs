//! The session registry: every request in flight, with its token and the handle that ends it.
//!
//! Registering costs one short lock of one shard; finding a token's sessions walks all of them,
//! which only revocations and the drain do. Sweeps look only at sessions whose time may have come:
//! the others are a number each that is passed over.

use super::connection::Cut;
use super::handle::Handle;
use super::pace::Pace;
use crate::token::Token;
use parking_lot::Mutex;
use slab::Slab;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const SHARDS: usize = 16;

/// Different models that the messages of one socket may name.
const MOST_MODELS: usize = 64;

/// Everything that is in flight.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<Slab<Slot>>; SHARDS],
    next: AtomicUsize,
    open: AtomicUsize,
}

/// A session's place.
#[derive(Debug)]
struct Slot {
    live: Arc<Live>,
    /// Before this (monotonic milliseconds) there is nothing to look at.
    look_ms: u64,
}

/// What a sweep finds of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It ends now.
    End(Cut),
    /// Nothing of it can be due before this (monotonic milliseconds).
    Later(u64),
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
    /// When it ends, however it is going; changed with its token.
    pub ends: Mutex<crate::policy::permit::Ends>,
    /// Monotonic milliseconds at which something last moved.
    pub moved_ms: AtomicU64,
    /// Monotonic milliseconds by which the first byte of the answer is due; 0 once it came.
    pub first_byte_due_ms: AtomicU64,
    /// Models that the messages of a socket have named, each once.
    pub models: Mutex<Vec<Box<str>>>,
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

impl Live {
    /// Messages of the socket name these. Gives false where they would be more than 64 different
    /// ones.
    pub fn note_models(&self, named: &[Box<str>]) -> bool {
        let mut models = self.models.lock();
        for model in named {
            if models.contains(model) {
                continue;
            }
            if models.len() == MOST_MODELS {
                return false;
            }
            models.push(model.clone());
        }
        true
    }
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
        let key = self
            .shards
            .get(shard)
            .map_or(0, |s| s.lock().insert(Slot { live: live.clone(), look_ms: 0 }));
        self.open.fetch_add(1, Relaxed);
        Entry { registry: self.clone(), live, shard, key }
    }

    /// How many requests are in flight.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Ends every session that `choose` gives a reason for; gives how many were. The next sweep
    /// looks at all of them: whoever asks, something has changed.
    pub fn cut(&self, choose: impl Fn(&Live) -> Option<Cut>) -> usize {
        let mut ended = 0;
        for shard in &self.shards {
            // Collected first: waking under the lock could run into whoever leaves.
            let chosen: Vec<_> = shard
                .lock()
                .iter_mut()
                .filter_map(|(_, slot)| {
                    slot.look_ms = 0;
                    choose(&slot.live).map(|why| (slot.live.clone(), why))
                })
                .collect();
            ended += chosen.iter().filter(|(live, why)| live.handle.cut(*why)).count();
        }
        ended
    }

    /// Asks `find` about every session whose time may have come, and ends those that it says; gives
    /// why, for each that had not been ended before.
    pub fn sweep(&self, now_ms: u64, find: impl Fn(&Live) -> Look) -> Vec<Cut> {
        let mut ended = Vec::new();
        for shard in &self.shards {
            let mut due = Vec::new();
            for (_, slot) in shard.lock().iter_mut().filter(|(_, slot)| slot.look_ms <= now_ms) {
                match find(&slot.live) {
                    Look::End(why) => due.push((slot.live.clone(), why)),
                    Look::Later(look_ms) => slot.look_ms = look_ms,
                }
            }
            ended.extend(due.iter().filter(|(live, why)| live.handle.cut(*why)).map(|d| d.1));
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

//! Every stored policy, in memory: what a request's stream is looked up in.
//!
//! A row is taken in only if it is newer than what is known. Equal policies share one text. What is read
//! and what is written meet here from different threads; a late row can only leave a policy in force
//! for a moment too long, never take one away that is newer.

use super::allowed_origins::Policy;
use super::decision::Standing;
use super::name::Key;
use super::store::Row;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

const SHARDS: usize = 64;
/// Texts from which on it is worth looking for those that nobody has any more.
const FEW: usize = 1_024;

/// The index.
#[derive(Debug)]
pub struct Index {
    shards: [RwLock<HashMap<Key, Entry>>; SHARDS],
    texts: Mutex<Texts>,
    generation: AtomicU64,
}

/// Small: there may be a million.
#[derive(Debug)]
struct Entry {
    seq: i64,
    spelling: i64,
    current: Option<Policy>,
    pending: Option<Box<Held>>,
}

#[derive(Debug)]
struct Held {
    policy: Policy,
    owner: i64,
    since_ms: u64,
}

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The row's.
    pub seq: i64,
    /// Of its path.
    pub spelling: i64,
    /// Its policies.
    pub standing: Standing,
    /// Whose the pending one is, and since when.
    pub held: Option<(i64, u64)>,
}

#[derive(Debug, Default)]
struct Texts {
    known: HashSet<Arc<str>>,
    /// When to look for what is not used any more.
    most: usize,
}

impl Index {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            texts: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// What is known of a stream.
    pub fn get(&self, key: &Key) -> Option<Known> {
        let shard = self.shard(key).read();
        let entry = shard.get(key)?;
        Some(Known {
            seq: entry.seq,
            spelling: entry.spelling,
            standing: Standing {
                current: entry.current.clone(),
                pending: entry.pending.as_ref().map(|held| held.policy.clone()),
            },
            held: entry.pending.as_ref().map(|held| (held.owner, held.since_ms)),
        })
    }

    /// Takes a row in, unless a newer one is known.
    pub fn take(&self, row: &Row) {
        let entry = Entry {
            seq: row.seq,
            spelling: row.content.spelling,
            current: row.content.current.as_deref().map(|text| self.policy(text)),
            pending: row.content.pending.as_ref().map(|pending| {
                Box::new(Held {
                    policy: self.policy(&pending.policy),
                    owner: pending.owner,
                    since_ms: pending.since_ms,
                })
            }),
        };
        let mut shard = self.shard(&row.key).write();
        if shard.get(&row.key).is_some_and(|known| known.seq > row.seq) {
            return;
        }
        if row.content.is_empty() {
            shard.remove(&row.key);
        } else {
            shard.insert(row.key, entry);
        }
        drop(shard);
        self.generation.fetch_add(1, AcqRel);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.write().clear();
        }
        self.generation.fetch_add(1, AcqRel);
    }

    /// Grows with every change, so that whoever has asked before need not ask again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// How many streams have a policy.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().is_empty())
    }

    fn shard(&self, key: &Key) -> &RwLock<HashMap<Key, Entry>> {
        let [first, ..] = *key;
        let [zeroth, ..] = &self.shards;
        self.shards.get(usize::from(first) % SHARDS).unwrap_or(zeroth)
    }

    /// The policy of a stored text, shared with all that have the same.
    fn policy(&self, text: &str) -> Policy {
        let mut texts = self.texts.lock();
        if let Some(known) = texts.known.get(text) {
            return Policy::shared(known);
        }
        let policy = Policy::stored(text);
        if texts.known.len() >= texts.most.max(FEW) {
            texts.known.retain(|text| Arc::strong_count(text) > 1);
            texts.most = texts.known.len() * 2;
        }
        match texts.known.get(policy.as_str()) {
            Some(known) => Policy::shared(known),
            None => {
                texts.known.insert(policy.text().clone());
                policy
            }
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{Content, Pending};
    use super::*;

    fn row(seq: i64, current: Option<&str>, pending: Option<&str>) -> Row {
        let pending =
            pending.map(|policy| Pending { policy: policy.into(), owner: 7, since_ms: 9 });
        let content = Content { spelling: 3, current: current.map(Into::into), pending };
        Row { seq, key: [1; 16], content }
    }

    fn current(index: &Index) -> Option<String> {
        index.get(&[1; 16])?.standing.current.map(|policy| policy.as_str().to_owned())
    }

    #[test]
    fn the_newest_row_counts_whatever_comes_last() {
        let index = Index::new();
        index.take(&row(2, Some("same-origin"), Some("*")));
        let known = index.get(&[1; 16]).expect("it was taken in");
        assert_eq!((known.seq, known.spelling, known.held), (2, 3, Some((7, 9))));
        let before = index.generation();
        index.take(&row(1, Some("*"), None));
        assert_eq!(current(&index).as_deref(), Some("same-origin"), "an older row is late");
        index.take(&row(1, None, None));
        assert_eq!(index.len(), 1, "so is an older removal");
        assert_eq!(index.generation(), before, "nothing has changed");
        index.take(&row(3, None, None));
        assert!(index.is_empty(), "a newer one removes");
        assert!(index.generation() > before, "whoever watches must ask again");
    }

    #[test]
    fn equal_policies_share_a_text_and_unused_ones_go() {
        let index = Index::new();
        for n in 0..10_000_u32 {
            let text = format!("https://a{}.example", n % 10);
            let mut row = row(i64::from(n), Some(&text), None);
            row.key = u128::from(n).to_be_bytes();
            index.take(&row);
        }
        assert_eq!(index.texts.lock().known.len(), 10, "ten texts for ten thousand streams");
        for n in 0..10_000_i64 {
            index.take(&row(n + 20_000, Some(&format!("https://b{n}.example")), None));
        }
        let left = index.texts.lock().known.len();
        assert!(left <= FEW + 1, "{left} texts are kept for 11 that are used");
    }

    #[test]
    fn a_text_that_nobody_can_read_stays_in_force() {
        let index = Index::new();
        index.take(&row(1, Some("broken"), None));
        assert_eq!(current(&index).as_deref(), Some("?"), "fail closed");
    }
}

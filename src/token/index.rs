//! Every known token in memory, by digest: the only thing authentication asks.
//!
//! Readers never wait: a change builds a new map and swaps it in. Open sessions are then re-checked
//! against it by whoever made the change.

use super::{Counters, GrantSource, Token};
use crate::values::ids::TokenDigest;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Tokens by digest.
pub type Map = HashMap<TokenDigest, Arc<Token>, BuildHasherDefault<First8>>;

type Ids = HashMap<Arc<str>, Arc<Token>>;

/// The live index.
pub struct Index {
    map: ArcSwap<Map>,
    /// The same tokens by id, for what was minted by them.
    ids: ArcSwap<Ids>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    fixed: Vec<Arc<Token>>,
    stored: Vec<Arc<Token>>,
    counters: HashMap<Arc<str>, Arc<Counters>>,
}

/// What a token is made from; the index adds the counters.
#[derive(Debug, Clone)]
pub struct Entry {
    /// See [`Token::id`].
    pub id: Arc<str>,
    /// See [`Token::name`].
    pub name: Arc<str>,
    /// See [`Token::digest`].
    pub digest: TokenDigest,
    /// See [`Token::expires_at`].
    pub expires_at: crate::values::timestamp::Expiry,
    /// See [`Token::disabled`].
    pub disabled: bool,
    /// See [`Token::may_mint`].
    pub may_mint: bool,
    /// See [`Token::grant`].
    pub grant: GrantSource,
}

impl Index {
    /// An index without tokens.
    pub fn new() -> Self {
        Self {
            map: ArcSwap::from_pointee(Map::default()),
            ids: ArcSwap::from_pointee(Ids::default()),
            parts: Mutex::default(),
        }
    }

    /// The token with this digest, disabled or expired ones too.
    pub fn lookup(&self, digest: &TokenDigest) -> Option<Arc<Token>> {
        self.map.load().get(digest).cloned()
    }

    /// The token with this id, disabled or expired ones too.
    pub fn by_id(&self, id: &str) -> Option<Arc<Token>> {
        self.ids.load().get(id).cloned()
    }

    /// How many tokens are known.
    pub fn len(&self) -> usize {
        self.map.load().len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the configuration's tokens in place of the former ones.
    pub fn replace_fixed(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut parts = self.parts.lock();
        let tokens = parts.make(entries);
        parts.fixed = tokens;
        self.publish(&mut parts);
    }

    /// Puts the store's tokens in place of the former ones.
    pub fn replace_stored(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut parts = self.parts.lock();
        let tokens = parts.make(entries);
        parts.stored = tokens;
        self.publish(&mut parts);
    }

    fn publish(&self, parts: &mut Parts) {
        let map = parts.build();
        self.ids.store(Arc::new(map.values().map(|t| (t.id.clone(), t.clone())).collect()));
        self.map.store(Arc::new(map));
    }

    /// Ids and last use of stored tokens used since `after_ms` (wall clock).
    pub fn used_since(&self, after_ms: u64) -> Vec<(String, u64)> {
        let parts = self.parts.lock();
        let used =
            |t: &Arc<Token>| t.counters.last_used_ms.load(std::sync::atomic::Ordering::Relaxed);
        parts
            .stored
            .iter()
            .filter(|t| used(t) > after_ms)
            .map(|t| (t.id.to_string(), used(t)))
            .collect()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Parts {
    fn make(&mut self, entries: impl IntoIterator<Item = Entry>) -> Vec<Arc<Token>> {
        entries
            .into_iter()
            .map(|e| {
                let counters = self.counters.entry(e.id.clone()).or_default().clone();
                Arc::new(Token {
                    id: e.id,
                    name: e.name,
                    digest: e.digest,
                    expires_at: e.expires_at,
                    disabled: e.disabled,
                    may_mint: e.may_mint,
                    grant: e.grant,
                    counters,
                    client: None,
                })
            })
            .collect()
    }

    /// A static token wins over a stored one with the same digest: the file is the operator's
    /// explicit word, and `disabled: true` there must hold.
    fn build(&mut self) -> Map {
        let mut map = Map::with_capacity_and_hasher(
            self.fixed.len() + self.stored.len(),
            BuildHasherDefault::default(),
        );
        for token in self.stored.iter().chain(&self.fixed) {
            map.insert(token.digest, token.clone());
        }
        // Counters of tokens that are gone go too, unless a request still holds them.
        self.counters.retain(|_, counters| Arc::strong_count(counters) > 1);
        map
    }
}

/// Takes the eight bytes that a digest offers as they are.
#[derive(Default)]
pub struct First8(u64);

impl Hasher for First8 {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

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
use std::sync::{Arc, OnceLock};

/// Tokens by digest.
pub type Map = HashMap<TokenDigest, Arc<Token>, BuildHasherDefault<First8>>;

/// The live index.
pub struct Index {
    known: ArcSwap<Known>,
    parts: Mutex<Parts>,
}

/// The tokens of one moment.
#[derive(Default)]
struct Known {
    map: Map,
    /// Made when first asked for: only upload tickets and client tokens name one by id.
    ids: OnceLock<HashMap<Arc<str>, TokenDigest>>,
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
        Self { known: ArcSwap::default(), parts: Mutex::default() }
    }

    /// The token with this digest, disabled or expired ones too.
    pub fn lookup(&self, digest: &TokenDigest) -> Option<Arc<Token>> {
        self.known.load().map.get(digest).cloned()
    }

    /// The token with this id, disabled or expired ones too. A static token's name may be a stored
    /// one's id; whoever asks for an upload ticket compares digests.
    pub fn lookup_id(&self, id: &str) -> Option<Arc<Token>> {
        let known = self.known.load();
        let all = || known.map.values().map(|t| (t.id.clone(), t.digest)).collect();
        let digest = known.ids.get_or_init(all).get(id)?;
        known.map.get(digest).cloned()
    }

    /// How many tokens are known.
    pub fn len(&self) -> usize {
        self.known.load().map.len()
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
        self.known.store(Arc::new(parts.build()));
    }

    /// Puts the store's tokens in place of the former ones.
    pub fn replace_stored(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut parts = self.parts.lock();
        let tokens = parts.make(entries);
        parts.stored = tokens;
        self.known.store(Arc::new(parts.build()));
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
    fn build(&mut self) -> Known {
        let mut map = Map::with_capacity_and_hasher(
            self.fixed.len() + self.stored.len(),
            BuildHasherDefault::default(),
        );
        for token in self.stored.iter().chain(&self.fixed) {
            map.insert(token.digest, token.clone());
        }
        // Counters of tokens that are gone go too, unless a request still holds them.
        self.counters.retain(|_, counters| Arc::strong_count(counters) > 1);
        Known { map, ids: OnceLock::new() }
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

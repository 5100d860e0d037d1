//! Client tokens in memory: those that were minted, those whose signature was verified once, and
//! those that were revoked. Asked only for what [`super::index`] does not know.
//!
//! Invariant: an id that was revoked is never found again, in whichever form it is presented, until
//! it would have ended. Remembered signatures are bounded in number and forgotten when what they
//! were held against changes.

use super::index::First8;
use super::issuers::Issuers;
use super::jwks::Keys;
use super::store::ClientRecord;
use super::{Above, Client, Counters, GrantSource, Presented, Token, jwt};
use crate::config::Config;
use crate::values::ids::TokenDigest;
use crate::values::timestamp::Expiry;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Verified signatures that are remembered.
const REMEMBERED: usize = 20_000;
/// Subjects of other issuers that are counted.
const SUBJECTS: usize = 65_536;
/// How long (milliseconds) after its end it is remembered that a token was revoked or used up: a
/// clock that jumps ahead and back must not bring it to life.
pub const REFUSED_FOR: u64 = 25 * 3_600_000;
/// How long (milliseconds) after its last request a subject's windows are kept.
const COUNTED_FOR: u64 = 25 * 3_600_000;
/// The same where there are too many.
const COUNTED_LEAST: u64 = 60_000;

type ByDigest = DashMap<TokenDigest, Arc<Token>, BuildHasherDefault<First8>>;

/// Everything about client tokens.
#[derive(Default)]
pub struct Clients {
    /// What signs and verifies ours.
    pub keys: Keys,
    /// Whose else are accepted.
    pub issuers: Issuers,
    minted: ByDigest,
    ids: DashMap<Arc<str>, Arc<Token>>,
    /// How many minted tokens each parent has.
    children: DashMap<Arc<str>, usize>,
    verified: ByDigest,
    /// Until when (wall clock) each must be remembered.
    revoked: DashMap<Arc<str>, u64>,
    /// How subjects of other issuers are counted: whatever token they come with.
    subjects: DashMap<Arc<str>, Arc<Counters>>,
    /// Connections that were opened, and until when that counts; only without a store.
    used: DashMap<Arc<str>, (u32, u64)>,
    /// Changes whenever what was verified may no longer be.
    generation: AtomicU64,
}

impl Clients {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that was presented, over or not, unless it was revoked. A signature that is not
    /// remembered is verified.
    pub fn find(&self, presented: &Presented, config: &Config, now_ms: u64) -> Option<Arc<Token>> {
        // Asked of each: one that is taken in while it is revoked must not stay.
        let good = |token: &Arc<Token>| !self.is_revoked(&token.id);
        // What looks signed is never an opaque form of ours: each asks one map.
        let Some(text) = presented.signed.as_deref() else {
            return self.minted.get(&presented.digest).map(|token| token.clone()).filter(good);
        };
        if let Some(token) = self.verified.get(&presented.digest) {
            return Some(token.clone()).filter(good);
        }
        let generation = self.generation.load(Acquire);
        let signed = jwt::verify(self, config, text, now_ms)?;
        let token = self.holder(signed, presented.digest, now_ms);
        if !good(&token) {
            return None;
        }
        self.remember(presented.digest, &token, generation, now_ms);
        Some(token)
    }

    /// The minted token with this id, unless it was revoked.
    pub fn lookup_id(&self, id: &str) -> Option<Arc<Token>> {
        let token = self.ids.get(id)?.clone();
        (!self.is_revoked(&token.id)).then_some(token)
    }

    /// Whether the token with this id was revoked.
    pub fn is_revoked(&self, id: &str) -> bool {
        self.revoked.contains_key(id)
    }

    /// Takes in what the store has, or what was just minted; gives whether it is a revocation.
    pub fn take(&self, record: &ClientRecord) -> bool {
        let id: Arc<str> = record.id.as_str().into();
        if record.revoked {
            self.revoked.insert(id.clone(), record.ends_at);
            self.minted.remove(&record.digest);
            if let Some((_, token)) = self.ids.remove(&id) {
                self.leave(&token);
            }
            self.verified.retain(|_, token| token.id != id);
            return true;
        }
        if !self.revoked.contains_key(&id)
            && let Entry::Vacant(place) = self.ids.entry(id)
        {
            let token = Arc::new(token_of(record));
            self.minted.insert(record.digest, token.clone());
            place.insert(token);
            *self.children.entry(record.parent.as_str().into()).or_default() += 1;
        }
        false
    }

    /// Forgets verified signatures: keys, issuers or the configuration have changed.
    pub fn forget_verified(&self) {
        self.generation.fetch_add(1, AcqRel);
        self.verified.clear();
    }

    /// Forgets what has ended.
    pub fn forget_ended(&self, now_ms: u64) {
        self.minted.retain(|_, token| !ended(token, now_ms));
        self.ids.retain(|_, token| {
            let stays = !ended(token, now_ms);
            if !stays {
                self.leave(token);
            }
            stays
        });
        self.verified.retain(|_, token| !ended(token, now_ms));
        self.revoked.retain(|_, until| until.saturating_add(REFUSED_FOR) > now_ms);
        self.used.retain(|_, (_, until)| until.saturating_add(REFUSED_FOR) > now_ms);
        self.forget_subjects(COUNTED_FOR, now_ms);
    }

    /// How many minted tokens are known.
    pub fn len(&self) -> usize {
        self.minted.len()
    }

    /// How many of them `parent` has minted.
    pub fn children_of(&self, parent: &str) -> usize {
        self.children.get(parent).map_or(0, |count| *count)
    }

    fn leave(&self, token: &Token) {
        let parent = token.client.as_ref().and_then(|client| match &client.above {
            Above::Parent { id, .. } => Some(id.clone()),
            Above::Issuer(_) => None,
        });
        if let Some(parent) = parent
            && let Entry::Occupied(mut count) = self.children.entry(parent)
        {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.minted.is_empty()
    }

    /// Takes one of a token's uses where no store counts them; gives whether one was left.
    pub fn take_use(&self, id: &Arc<str>, uses: u32, ends_at: u64) -> bool {
        let mut used = self.used.entry(id.clone()).or_insert((0, ends_at));
        let left = used.0 < uses;
        if left {
            used.0 += 1;
        }
        left
    }

    /// The token that a verified text stands for: the minted one's record where there is one, so
    /// that both forms are counted and revoked together.
    fn holder(&self, signed: jwt::Signed, digest: TokenDigest, now_ms: u64) -> Arc<Token> {
        if let Above::Parent { .. } = signed.client.above
            && let Some(minted) = self.ids.get(&signed.id)
        {
            return minted.clone();
        }
        let counters = match &signed.client.above {
            Above::Parent { .. } => Arc::default(),
            Above::Issuer(_) => self.subject(&signed.id, now_ms),
        };
        Arc::new(Token {
            name: signed.id.clone(),
            id: signed.id,
            digest,
            expires_at: Expiry::At(signed.client.ends_at_ms),
            disabled: false,
            may_mint: false,
            grant: GrantSource::Inline(Arc::new(signed.grant)),
            counters,
            client: Some(Box::new(signed.client)),
        })
    }

    fn subject(&self, id: &Arc<str>, now_ms: u64) -> Arc<Counters> {
        if self.subjects.len() >= SUBJECTS {
            self.forget_subjects(COUNTED_LEAST, now_ms);
        }
        self.subjects.entry(id.clone()).or_default().clone()
    }

    /// Forgets those that nobody is counted by, and nobody was for so long.
    fn forget_subjects(&self, after_ms: u64, now_ms: u64) {
        self.subjects.retain(|_, counters| {
            let last = counters.last_used_ms.load(Relaxed);
            Arc::strong_count(counters) > 1 || last.saturating_add(after_ms) > now_ms
        });
    }

    fn remember(&self, digest: TokenDigest, token: &Arc<Token>, generation: u64, now_ms: u64) {
        if self.verified.len() >= REMEMBERED {
            self.verified.retain(|_, token| !ended(token, now_ms));
        }
        if self.verified.len() >= REMEMBERED {
            // Whoever is still there pays for one verification more.
            self.verified.clear();
        }
        self.verified.insert(digest, token.clone());
        if self.generation.load(Acquire) != generation || self.is_revoked(&token.id) {
            self.verified.remove(&digest);
        }
    }
}

fn ended(token: &Token, now_ms: u64) -> bool {
    token.client.as_ref().is_none_or(|client| client.ends_at_ms <= now_ms)
}

/// The token of a record; one whose grant can't be read may do nothing.
fn token_of(record: &ClientRecord) -> Token {
    let grant = record.grant.as_ref().ok().and_then(|text| text.read().ok());
    Token {
        id: record.id.as_str().into(),
        name: record.name.as_str().into(),
        digest: record.digest,
        expires_at: Expiry::At(record.starts_until.min(record.ends_at)),
        disabled: false,
        may_mint: false,
        grant: grant.map_or(GrantSource::Unreadable, |g| GrantSource::Inline(Arc::new(g))),
        counters: Arc::default(),
        client: Some(Box::new(Client {
            above: Above::Parent {
                id: record.parent.as_str().into(),
                digest: Some(record.parent_digest),
            },
            uses: record.uses,
            inference: record.inference,
            ends_at_ms: record.ends_at,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subjects_window_outlives_the_token_that_it_came_with() {
        let clients = Clients::new();
        let id: Arc<str> = "https://a.example/#user".into();
        let first = clients.subject(&id, 1_000);
        first.last_used_ms.store(1_000, Relaxed);
        first.window.store(7, Relaxed);
        drop(first);
        clients.forget_ended(1_000 + COUNTED_FOR / 2);
        assert_eq!(clients.subject(&id, 2_000).window.load(Relaxed), 7, "it goes on counting");
        clients.forget_ended(1_001 + COUNTED_FOR);
        assert_eq!(clients.subject(&id, 2_000).window.load(Relaxed), 0, "no window is so long");
    }
}

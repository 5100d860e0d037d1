//! Tokens: what a caller presents, and what keygate remembers of it.
//!
//! The plain token is stored nowhere; it is looked up by its SHA-256 ([`index`]). [`store`] is
//! what a durable store has to offer; `crate::store` implements it. A [`ticket`] stands for a token
//! on the second leg of an upload.

pub mod client;
pub mod index;
pub mod issuers;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod mint;
pub mod opaque;
pub mod store;
pub mod ticket;

use crate::values::grant::Grant;
use crate::values::ids::TokenDigest;
use crate::values::timestamp::Expiry;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, LazyLock};

/// What a caller presents, out of its slots; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// A token.
    pub token: Option<Presented>,
    /// A ticket, or what stood in its place and is none.
    pub ticket: Option<Result<ticket::Ticket, NoTicket>>,
    /// The token came in a cookie and nowhere else: a browser sends it by itself, whoever asks.
    pub by_cookie: bool,
}

/// A ticket's slot held something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTicket;

/// A proxy token as the gate sees it. Replaced as a whole when its record changes; the counters
/// stay.
#[derive(Debug)]
pub struct Token {
    /// Stable id (`tok_…`; a static token's is its name).
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// SHA-256 of the plain token.
    pub digest: TokenDigest,
    /// When it ends.
    pub expires_at: Expiry,
    /// Refused while set.
    pub disabled: bool,
    /// Whether it may mint client tokens.
    pub may_mint: bool,
    /// What it may do.
    pub grant: GrantSource,
    /// How it is being used.
    pub counters: Arc<Counters>,
    /// What a client token has beside this; `None` for proxy tokens.
    pub client: Option<Box<Client>>,
}

/// What only client tokens have: minted ones, and signed ones of other issuers.
#[derive(Debug)]
pub struct Client {
    /// What it can't be wider than.
    pub above: Above,
    /// How many connections it may open.
    pub uses: Option<u32>,
    /// It has inference paths only, whatever paths its grant names.
    pub inference: bool,
    /// When it ends (wall clock, milliseconds), sessions too where its grant says so. New
    /// connections may be refused before ([`Token::expires_at`]).
    pub ends_at_ms: u64,
}

/// The ceiling of a client token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Above {
    /// The proxy token that minted it.
    Parent {
        /// Its id.
        id: Arc<str>,
        /// What it was: a static token's id is a name, which another may get. Unknown where
        /// nothing but the signed form is at hand.
        digest: Option<TokenDigest>,
    },
    /// What the configuration names for its issuer.
    Issuer(Arc<str>),
}

/// A token as a request carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    /// SHA-256 of it.
    pub digest: TokenDigest,
    /// The token itself where it may be a signed one: it is read only if nobody knows its digest.
    pub signed: Option<Box<str>>,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Presented {
    /// Of the bytes that were sent. What is no signed token costs a digest and nothing else.
    pub fn of(token: &[u8]) -> Self {
        Self { digest: TokenDigest::of(token), signed: jwt::looks_signed(token) }
    }
}

/// Where a token's grant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantSource {
    /// A policy by name, looked up in the configuration of the request.
    Policy(Arc<str>),
    /// Its own; inherits only the limits it leaves out from the default policy.
    Inline(Arc<Grant>),
    /// Names nothing: the default policy.
    Default,
    /// What the store holds can't be read: nothing is allowed.
    Unreadable,
    /// Whoever comes without a token, where the provider is public.
    Public,
}

/// Stands for every caller without a token.
static ANONYMOUS: LazyLock<Arc<Token>> = LazyLock::new(|| {
    Arc::new(Token {
        id: "".into(),
        name: "".into(),
        digest: TokenDigest::of(b""),
        expires_at: Expiry::Never,
        disabled: false,
        may_mint: false,
        grant: GrantSource::Public,
        counters: Arc::default(),
        client: None,
    })
});

impl Token {
    /// What stands for every caller without a token, at public providers.
    pub(crate) fn anonymous() -> Arc<Self> {
        ANONYMOUS.clone()
    }

    /// Whether it stands for callers without a token.
    pub fn is_anonymous(&self) -> bool {
        self.grant == GrantSource::Public
    }
}

/// What is counted per token; outlives changes of its record and reloads.
#[derive(Debug, Default)]
pub struct Counters {
    /// The current rate window, packed by `policy::rate`.
    pub window: AtomicU64,
    /// Requests and sockets open now.
    pub in_flight: AtomicU32,
    /// Wall-clock milliseconds of the last admitted request.
    pub last_used_ms: AtomicU64,
}

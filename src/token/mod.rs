//! Tokens: what a caller presents, and what keygate remembers of it.
//!
//! The plain token is stored nowhere; it is looked up by its SHA-256 ([`index`]). [`store`] is
//! what a durable store has to offer; `crate::store` implements it. A [`ticket`] stands for a token
//! on the second leg of an upload.

pub mod index;
pub mod opaque;
pub mod store;
pub mod ticket;

use crate::values::grant::Grant;
use crate::values::ids::TokenDigest;
use crate::values::timestamp::Expiry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What a caller presents, out of its slots; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The digest of a token.
    pub token: Option<TokenDigest>,
    /// A ticket, or what stood in its place and is none.
    pub ticket: Option<Result<ticket::Ticket, NoTicket>>,
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
    /// What it may do.
    pub grant: GrantSource,
    /// How it is being used.
    pub counters: Arc<Counters>,
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

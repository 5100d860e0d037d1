//! Everything that is open, and how it ends.
//!
//! [`stream`] wraps each accepted connection: absolute header deadline, the cut; [`head`] is its look at
//! what Pingora is about to parse.
//! [`registry`] has an entry per request in flight, with its token, its [`handle`] and the [`pace`] of its
//! body;
//! [`connections`] counts per client address; [`drain`] waits for what is open when the process stops.
//! Invariant: an entry, a count and a place live exactly as long as the guard that stands for
//! them.

pub mod connection;
pub mod connections;
pub mod drain;
pub mod handle;
// For fuzz/.
#[doc(hidden)]
pub mod head;
pub mod pace;
pub mod registry;
pub mod stream;

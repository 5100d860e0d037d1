//! Which origins may use a stream: `Stream-Allowed-Origins`, whatever stream server stands behind.
//!
//! A stream's creator sends the header; [`allowed_origins`] reads it, [`decision`] holds a request
//! against what is stored. [`index`] has every stored policy in memory by [`name`]. [`streams`] is the
//! index with its durable store (the trait is in [`store`]) and its [`turn`]s; [`creation`] is one `PUT`
//! on its way: its policy stands as pending beside the current one, durably, before anything is
//! forwarded, and the answer decides which of them stays.
//!
//! Invariants: nothing here ever widens what may read a stream, except the 201 that says that it was
//! created anew; while two policies stand, a request needs both; what can't be known allows no browser.
//! HTTP, and what to ask the stream server, are left to `proxy::stream`.

pub mod allowed_origins;
pub mod creation;
pub mod decision;
pub mod index;
pub mod name;
pub mod store;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod turn;

pub use allowed_origins::Policy;
pub use creation::Creation;
pub use decision::{Ground, Page, Source, Verdict};
pub use name::Name;
pub use streams::Streams;

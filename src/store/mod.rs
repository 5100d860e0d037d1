//! The durable store of tokens, and how a running gateway keeps up with it.
//!
//! [`sqlite`] implements [`crate::token::store::TokenStore`] and what else has to last; [`mod@follow`] carries its records into
//! the index that authentication asks, by way of [`entry`]. No store is called on the request
//! path: while it fails, the tokens known in memory go on working.

pub mod client;
pub mod entry;
pub mod follow;
pub mod sqlite;

pub use follow::{Follower, Hooks, follow};
pub use sqlite::Sqlite;

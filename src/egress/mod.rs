//! The way out: where a provider is, and with which timeouts.

pub mod fetch;
pub mod line;
pub mod peer;

//! keygate: a gateway that keeps AI and streaming API keys.
//!
//! Reading order, from a request's first byte to its last:
//!
//! 1. [`app`] wires everything; `main` and the tests start the gateway through it.
//! 2. [`proxy`] holds one delegating line per Pingora phase.
//! 3. [`policy`] is the gate: `policy::check` shows the whole order in one function.
//! 4. [`slot`] finds the caller's token and puts the real key where the provider wants it.
//! 5. [`provider`] is the table of APIs; [`body`] and [`ws`] read what passes.
//! 6. [`session`] knows everything that is open, and ends it; [`stream`] which origins may use a stream.
//! 7. [`token`], [`store`], [`config`], [`values`] are what the gate decides upon.
//! 8. [`control`], [`telemetry`], [`cli`], [`demo`] are for those who operate it.
//!
//! Invariants: only `policy::check` makes a `Permit`; only `slot::inject` takes a provider key out
//! of its wrapper, and it wants a `Permit`; a request holds one configuration from start to end;
//! every denial becomes HTTP in `proxy::reject`.

pub mod app;
pub mod body;
pub mod cli;
pub mod config;
pub mod control;
pub mod cors;
pub mod demo;
pub mod egress;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod session;
pub mod slot;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod token;
pub mod values;
pub mod ws;

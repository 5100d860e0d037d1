//! Proof that the gate passed. Only `policy::check` makes one; without one no key is injected.

use super::concurrency::InFlight;
use crate::token::Token;
use std::sync::Arc;

/// A decided permit: every step has passed.
#[derive(Debug)]
pub struct Permit {
    token: Arc<Token>,
    model: Option<Box<str>>,
    in_flight: InFlight,
    above: Option<InFlight>,
    ends: Ends,
}

/// When a session ends, however it is going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// After so long.
    pub after: Option<std::time::Duration>,
    /// At this instant (wall clock, milliseconds).
    pub at_ms: Option<u64>,
}

impl Permit {
    /// Private to the gate.
    pub(super) fn new(
        token: Arc<Token>,
        model: Option<Box<str>>,
        (in_flight, above): (InFlight, Option<InFlight>),
        ends: Ends,
    ) -> Self {
        Self { token, model, in_flight, above, ends }
    }

    /// When what it admits must end.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Whose it is.
    pub fn token(&self) -> &Arc<Token> {
        &self.token
    }

    /// The model that was decided upon, where one was looked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Lets the place under the concurrency limit go before the permit itself is dropped.
    pub fn release(&mut self) {
        self.in_flight.release();
        self.above = None;
    }
}

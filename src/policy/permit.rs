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
}

impl Permit {
    /// Private to the gate.
    pub(super) fn new(token: Arc<Token>, model: Option<Box<str>>, in_flight: InFlight) -> Self {
        Self { token, model, in_flight }
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
    }
}

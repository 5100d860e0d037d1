//! Step 16: keygate's own endpoints, and who may use those that mint.
//!
//! What answers them is [`Endpoints`], which `control` implements; the proxy carries questions and
//! answers, whichever listener they came through.

use super::denial::{Code, Denial};
use crate::config::Config;
use crate::token::Token;
use crate::token::mint::shape::Shape;
use bytes::Bytes;
use std::sync::Arc;

/// Where the public keys are.
pub const JWKS: &str = "/.well-known/jwks.json";

/// One of keygate's own endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// `GET`, `HEAD` [`JWKS`]
    Jwks,
    /// `POST` to where client tokens are minted.
    Mint(Shape),
}

/// What a minter asks.
pub struct Question {
    /// How it asks.
    pub shape: Shape,
    /// Who it is; it may mint.
    pub token: Arc<Token>,
    /// What it sent.
    pub body: Bytes,
}

/// An answer of keygate's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Beside content type and length.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
    /// The denial that it amounts to, for log and metrics.
    pub denial: Option<Code>,
}

/// What answers.
pub trait Endpoints: Send + Sync {
    /// The published keys, or that they are those of `known` (`If-None-Match`).
    fn jwks(&self, known: Option<&str>) -> Answer;
    /// Mints. Blocks while the store writes.
    fn mint(&self, question: &Question, config: &Config) -> Answer;
}

/// Whether `token` may mint at all.
///
/// # Errors
/// `may_not_mint`.
pub fn may_mint(token: &Token) -> Result<(), Denial> {
    match &token.client {
        Some(_) => {
            Err(Denial::new(Code::MayNotMint, "Cannot create client token from a client token"))
        }
        None if token.may_mint => Ok(()),
        None => Err(Code::MayNotMint.into()),
    }
}

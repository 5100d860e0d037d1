//! What `client_tokens:` and `issuers:` mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `client_tokens:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTokens {
    /// `iss` of what is signed.
    pub issuer: Arc<str>,
    /// `aud` of what is signed.
    pub audience: Arc<str>,
    /// How long a token lasts whose request does not say.
    pub default_ttl: Duration,
    /// The longest that may be asked for.
    pub max_ttl: Duration,
    /// What signs; `None`: nothing is signed.
    pub signing: Option<Algorithm>,
    /// How often the signing key changes.
    pub rotate_every: Duration,
}

/// A signature that is known; nothing else verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 (RFC 7518 section 3.4).
    Es256,
    /// RSA PKCS #1 v1.5 (RFC 7518 section 3.3).
    Rs256,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// As JWT headers and YAML write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// The reverse; case counts.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
    }
}

/// An entry of `issuers:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its `iss`.
    pub issuer: Arc<str>,
    /// The `aud` that its tokens need.
    pub audience: Arc<str>,
    /// Where its keys are.
    pub jwks: Jwks,
    /// With what it may sign.
    pub algorithms: Vec<Algorithm>,
    /// The ceiling of what its tokens may do; `None`: the default policy.
    pub policy: Option<Arc<str>>,
}

/// Where a set of keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// Fetched in the background.
    Url(url::Url),
    /// Read, and read again when it changes.
    File(PathBuf),
}

//! The shapes of what makes and checks signed tokens: `client_tokens:` and `issuers:`.

use super::shape::{Choice, optional, optional_list, required};
use serde::Deserialize;

/// `client_tokens:`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTokens {
    #[serde(default, deserialize_with = "optional")]
    pub(crate) issuer: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) audience: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) default_ttl: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) max_ttl: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) signing: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) rotate_every: Option<String>,
}

/// An entry of `issuers:`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    #[serde(deserialize_with = "required")]
    pub(crate) issuer: String,
    #[serde(deserialize_with = "required")]
    pub(crate) audience: String,
    #[serde(deserialize_with = "required")]
    pub(crate) jwks: Choice,
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) algorithms: Option<Vec<String>>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) policy: Option<String>,
}

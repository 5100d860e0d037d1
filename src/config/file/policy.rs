//! The shape of a policy: a grant, and what only policies have.

use super::later;
use super::shape::{optional, optional_list};
use crate::values::grant::{GrantText, RateText};
use serde::Deserialize;

/// An entry of `policies:`, and `default_policy:`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    /// Names of `providers`.
    #[serde(deserialize_with = "optional_list")]
    providers: Option<Vec<String>>,
    /// HTTP methods.
    #[serde(deserialize_with = "optional_list")]
    methods: Option<Vec<String>>,
    /// Exact, or with `*` at the end, as the provider sees them.
    #[serde(deserialize_with = "optional_list")]
    paths: Option<Vec<String>>,
    /// Exact, or with `*` at the end.
    #[serde(deserialize_with = "optional_list")]
    models: Option<Vec<String>>,
    /// Sites whose pages may use the token.
    #[serde(deserialize_with = "optional_list")]
    origins: Option<Vec<String>>,
    /// Whether callers that send no origin pass too.
    #[serde(deserialize_with = "optional")]
    allow_missing_origin: Option<bool>,
    /// Requests, per token.
    #[serde(deserialize_with = "optional")]
    rate_limit: Option<RateText>,
    /// Requests and sockets open at a time, per token.
    #[serde(deserialize_with = "optional")]
    concurrency: Option<u32>,
    #[serde(deserialize_with = "optional")]
    pub(crate) token_rate: Option<later::TokenRate>,
    #[serde(deserialize_with = "optional")]
    pub(crate) budget: Option<later::Budget>,
    /// How long a stream or socket may last.
    #[serde(deserialize_with = "optional")]
    max_session: Option<String>,
    /// Whether open streams end when the token expires.
    #[serde(deserialize_with = "optional")]
    end_at_expiry: Option<bool>,
}

impl Policy {
    /// The part that policies share with tokens' own grants.
    pub(crate) fn into_grant(self) -> GrantText {
        GrantText {
            providers: self.providers,
            methods: self.methods,
            paths: self.paths,
            models: self.models,
            origins: self.origins,
            allow_missing_origin: self.allow_missing_origin,
            rate_limit: self.rate_limit,
            concurrency: self.concurrency,
            max_session: self.max_session,
            end_at_expiry: self.end_at_expiry,
        }
    }
}

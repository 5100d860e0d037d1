//! Shapes of what is part of the format and not in effect yet. They are read as strictly as the
//! rest, so that a typing error shows before the section counts; [`crate::config::resolve`] then
//! refuses them, whatever is in them.
#![expect(dead_code, reason = "looked at for its shape only, until it is in effect")]

use super::shape::{optional, optional_list, required};
use crate::config::secret_ref::SecretRef;
use serde::Deserialize;

/// `store.redis`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    #[serde(deserialize_with = "required")]
    url: String,
    #[serde(default, deserialize_with = "optional")]
    username: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    password: Option<SecretRef>,
    #[serde(default, deserialize_with = "optional")]
    on_failure: Option<String>,
}

/// `providers.NAME.egress`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Egress {
    #[serde(default, deserialize_with = "optional_list")]
    fallback: Option<Vec<Fallback>>,
}

/// `providers.NAME.egress.fallback[]`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallback {
    #[serde(deserialize_with = "required")]
    url: String,
    #[serde(default, deserialize_with = "optional")]
    username: Option<SecretRef>,
    #[serde(default, deserialize_with = "optional")]
    password: Option<SecretRef>,
}

/// `policies.NAME.token_rate`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRate {
    #[serde(deserialize_with = "required")]
    tokens: u64,
    #[serde(deserialize_with = "required")]
    per: String,
}

/// `policies.NAME.budget`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    #[serde(default, deserialize_with = "optional")]
    usd: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    tokens: Option<u64>,
    #[serde(deserialize_with = "required")]
    per: String,
}

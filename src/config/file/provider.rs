//! The shape of an entry of `providers:`.

use super::later;
use super::shape::{Choice, optional, optional_list, required};
use crate::config::secret_ref::Keys;
use serde::Deserialize;

/// An entry of `providers:`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    /// The API that it speaks.
    #[serde(deserialize_with = "required")]
    pub(crate) kind: String,
    /// Where it is, if not at the vendor's own address; a path in it is put before every request's.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) url: Option<String>,
    /// The real credentials, by reference.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) keys: Option<Keys>,
    /// Path prefixes that lead here, instead of the kind's own; `[]` for none.
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) routes: Option<Vec<String>>,
    /// Whether callers may choose who is billed (`OpenAI-Organization` and the like).
    #[serde(default, deserialize_with = "optional")]
    pub(crate) forward_billing_headers: Option<bool>,
    /// Whether the caller's `Origin` goes to the provider.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) forward_origin: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) egress: Option<later::Egress>,
    /// `durable-streams` only: `token`, or `public` for whoever sends none.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) access: Option<String>,
    /// `durable-streams` only: a cookie that may carry the token.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) cookie: Option<String>,
    /// `generic` and `durable-streams` only.
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) query_slots: Option<Vec<String>>,
    /// `generic` only.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) slot: Option<Choice>,
    /// `generic` only.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) model: Option<Choice>,
}

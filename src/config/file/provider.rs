//! The shape of an entry of `providers:`.

use super::later;
use super::shape::{Choice, optional, optional_list, required};
use crate::config::secret_ref::Keys;
use serde::Deserialize;

/// An entry of `providers:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    #[serde(deserialize_with = "required")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "required")]
    pub(crate) url: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) keys: Option<Keys>,
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) routes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) forward_billing_headers: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) forward_origin: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) egress: Option<later::Egress>,
    /// `durable-streams` only.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) access: Option<String>,
    /// `durable-streams` only.
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

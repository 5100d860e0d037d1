//! The serde shapes of the file: what may be written where, and nothing about what it means.
//!
//! Unknown keys, duplicate keys and keys with nothing behind them are errors everywhere. Secrets
//! are references ([`super::secret_ref`]). The first error of syntax or shape ends the reading;
//! [`explain`] gives it line, column, path and remedy. Values that are text here (durations,
//! sizes, addresses, names) are judged in [`super::resolve`], all of them at once.

pub(crate) mod client;
mod explain;
pub(crate) mod later;
mod place;
pub(crate) mod policy;
pub(crate) mod provider;
pub(crate) mod shape;

use super::Problems;
use super::secret_ref::SecretRef;
use crate::values::grant::RateText;
use policy::Policy;
use provider::Provider;
use serde::Deserialize;
use shape::{AnyOr, Choice, Map, optional, optional_list, required};

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    #[serde(deserialize_with = "optional_list")]
    pub(crate) listen: Option<Vec<Listen>>,
    #[serde(deserialize_with = "optional")]
    pub(crate) public_url: Option<String>,
    #[serde(deserialize_with = "optional_list")]
    pub(crate) server_names: Option<Vec<String>>,
    #[serde(deserialize_with = "optional_list")]
    pub(crate) trusted_proxies: Option<Vec<String>>,
    #[serde(deserialize_with = "optional")]
    pub(crate) store: Option<Store>,
    #[serde(deserialize_with = "optional")]
    pub(crate) admin: Option<Admin>,
    #[serde(deserialize_with = "required")]
    pub(crate) cors: Cors,
    #[serde(deserialize_with = "optional")]
    pub(crate) access_log: Option<Choice>,
    #[serde(deserialize_with = "required")]
    pub(crate) limits: Limits,
    #[serde(deserialize_with = "required")]
    pub(crate) providers: Map<Provider>,
    #[serde(deserialize_with = "required")]
    pub(crate) policies: Map<Policy>,
    #[serde(deserialize_with = "optional")]
    pub(crate) default_policy: Option<Policy>,
    #[serde(deserialize_with = "optional_list")]
    pub(crate) tokens: Option<Vec<Token>>,
    #[serde(deserialize_with = "optional")]
    pub(crate) client_tokens: Option<client::ClientTokens>,
    #[serde(deserialize_with = "optional_list")]
    pub(crate) issuers: Option<Vec<client::Issuer>>,
    #[serde(deserialize_with = "optional")]
    pub(crate) prices: Option<String>,
}

/// An entry of `listen:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    #[serde(deserialize_with = "required")]
    pub(crate) address: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) tls: Option<Tls>,
}

/// `listen[].tls`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    #[serde(deserialize_with = "required")]
    pub(crate) cert: String,
    #[serde(deserialize_with = "required")]
    pub(crate) key: String,
}

/// `store:`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    #[serde(default, deserialize_with = "optional")]
    pub(crate) sqlite: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) redis: Option<later::Redis>,
}

/// `admin:`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    #[serde(deserialize_with = "required")]
    pub(crate) address: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) password: Option<SecretRef>,
}

/// `cors:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cors {
    #[serde(deserialize_with = "optional")]
    pub(crate) allow_origins: Option<AnyOr>,
    #[serde(deserialize_with = "optional")]
    pub(crate) max_age: Option<String>,
}

/// `limits:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(deserialize_with = "optional")]
    pub(crate) max_body: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) max_ws_message: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) connections_per_address: Option<u32>,
    #[serde(deserialize_with = "optional")]
    pub(crate) failed_auth: Option<RateText>,
    #[serde(deserialize_with = "optional")]
    pub(crate) header_timeout: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) idle_timeout: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) upstream_connect_timeout: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) max_upload: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) drain: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) upstream_first_byte_timeout: Option<String>,
    #[serde(deserialize_with = "optional")]
    pub(crate) stream_idle_timeout: Option<String>,
}

/// An entry of `tokens:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    #[serde(deserialize_with = "required")]
    pub(crate) name: String,
    #[serde(deserialize_with = "required")]
    pub(crate) sha256: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) policy: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) expires_at: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) may_mint: Option<bool>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) disabled: Option<bool>,
}

/// Reads YAML text.
///
/// # Errors
/// One problem of syntax or shape, with line, column and path.
pub(crate) fn read(text: &str) -> Result<File, Problems> {
    serde_yaml::from_str(text).map_err(|error| Problems(vec![explain::explain(text, &error)]))
}

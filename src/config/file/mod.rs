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
#[cfg(test)]
mod schema;
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("required" = ["listen"])))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// Where callers connect: addresses and ports, at least one.
    #[serde(deserialize_with = "optional_list")]
    pub(crate) listen: Option<Vec<Listen>>,
    /// The address by which callers reach the gateway: scheme, host and port.
    #[serde(deserialize_with = "optional")]
    pub(crate) public_url: Option<String>,
    /// `Host` values that are accepted, without port; left out: any.
    #[serde(deserialize_with = "optional_list")]
    pub(crate) server_names: Option<Vec<String>>,
    /// Networks whose `X-Forwarded-*` are believed.
    #[serde(deserialize_with = "optional_list")]
    pub(crate) trusted_proxies: Option<Vec<String>>,
    /// Where tokens are kept; left out: only those of this file.
    #[serde(deserialize_with = "optional")]
    pub(crate) store: Option<Store>,
    /// Health, readiness and metrics; left out: none of it is served.
    #[serde(deserialize_with = "optional")]
    pub(crate) admin: Option<Admin>,
    /// Which web pages may read answers.
    #[serde(deserialize_with = "required")]
    pub(crate) cors: Cors,
    /// `stdout`, `{ file: PATH }` or `none`.
    #[serde(deserialize_with = "optional")]
    pub(crate) access_log: Option<Choice>,
    /// Limits that hold for everybody.
    #[serde(deserialize_with = "required")]
    pub(crate) limits: Limits,
    /// The APIs, by the name at which each answers (`/NAME/…`).
    #[serde(deserialize_with = "required")]
    pub(crate) providers: Map<Provider>,
    /// What tokens may do, by name.
    #[serde(deserialize_with = "required")]
    pub(crate) policies: Map<Policy>,
    /// What a token without a policy gets; left out: no restriction at all.
    #[serde(deserialize_with = "optional")]
    pub(crate) default_policy: Option<Policy>,
    /// Tokens that are part of the file, by hash only.
    #[serde(deserialize_with = "optional_list")]
    pub(crate) tokens: Option<Vec<Token>>,
    /// Short-lived tokens that holders of a token make for their own clients.
    #[serde(deserialize_with = "optional")]
    pub(crate) client_tokens: Option<client::ClientTokens>,
    /// Signed tokens of other issuers, verified offline.
    #[serde(deserialize_with = "optional_list")]
    pub(crate) issuers: Option<Vec<client::Issuer>>,
    /// The file with the price table.
    #[serde(deserialize_with = "optional")]
    pub(crate) prices: Option<String>,
}

/// An entry of `listen:`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    #[serde(deserialize_with = "required")]
    pub(crate) address: String,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) tls: Option<Tls>,
}

/// `listen[].tls`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The certificate and its chain, PEM.
    #[serde(deserialize_with = "required")]
    pub(crate) cert: String,
    /// Its private key, PEM.
    #[serde(deserialize_with = "required")]
    pub(crate) key: String,
}

/// `store:`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// The SQLite file.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) sqlite: Option<String>,
    #[serde(default, deserialize_with = "optional")]
    pub(crate) redis: Option<later::Redis>,
}

/// `admin:`
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    #[serde(deserialize_with = "required")]
    pub(crate) address: String,
    /// Left out: whoever reaches the address may read.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) password: Option<SecretRef>,
}

/// `cors:`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cors {
    /// `any`, or a list of origins.
    #[serde(deserialize_with = "optional")]
    pub(crate) allow_origins: Option<AnyOr>,
    /// How long browsers remember a preflight.
    #[serde(deserialize_with = "optional")]
    pub(crate) max_age: Option<String>,
}

/// `limits:`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Of a request's body.
    #[serde(deserialize_with = "optional")]
    pub(crate) max_body: Option<String>,
    /// Of a WebSocket message from a caller.
    #[serde(deserialize_with = "optional")]
    pub(crate) max_ws_message: Option<String>,
    /// Open at a time, by client address.
    #[serde(deserialize_with = "optional")]
    pub(crate) connections_per_address: Option<u32>,
    /// Invalid tokens by client address.
    #[serde(deserialize_with = "optional")]
    pub(crate) failed_auth: Option<RateText>,
    /// Until a request's headers are complete.
    #[serde(deserialize_with = "optional")]
    pub(crate) header_timeout: Option<String>,
    /// Of a connection between two requests.
    #[serde(deserialize_with = "optional")]
    pub(crate) idle_timeout: Option<String>,
    /// Connecting to a provider, TLS included.
    #[serde(deserialize_with = "optional")]
    pub(crate) upstream_connect_timeout: Option<String>,
    /// Of a body on an upload path.
    #[serde(deserialize_with = "optional")]
    pub(crate) max_upload: Option<String>,
    /// How long a stop waits for what is open.
    #[serde(deserialize_with = "optional")]
    pub(crate) drain: Option<String>,
    /// From the request to the first byte of the answer.
    #[serde(deserialize_with = "optional")]
    pub(crate) upstream_first_byte_timeout: Option<String>,
    /// Of a stream or socket on which nothing moves.
    #[serde(deserialize_with = "optional")]
    pub(crate) stream_idle_timeout: Option<String>,
}

/// An entry of `tokens:`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// Unique; what logs call it.
    #[serde(deserialize_with = "required")]
    pub(crate) name: String,
    /// `printf %s "$TOKEN" | sha256sum`
    #[serde(deserialize_with = "required")]
    pub(crate) sha256: String,
    /// A name of `policies`.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) policy: Option<String>,
    /// RFC 3339.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) expires_at: Option<String>,
    /// Whether it may make client tokens.
    #[serde(default, deserialize_with = "optional")]
    pub(crate) may_mint: Option<bool>,
    /// Refused while true.
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

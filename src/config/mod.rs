//! The configuration: what an operator wrote ([`mod@file`]) and what it means ([`Config`]).
//!
//! [`mod@file`] holds the serde shapes, strict about unknown, duplicate and null keys. [`resolve`]
//! turns them into [`Config`] and reports every problem at once, each with its YAML path.
//! [`secret_ref`] is the only door for secrets. A `Config` is immutable; a reload makes another.

pub mod certificate;
pub mod client;
pub mod file;
pub mod outline;
pub mod problem;
pub mod resolve;
pub mod review;
pub mod secret_ref;

pub use outline::{Outline, outline};
pub use problem::{Problem, Problems};

use crate::values::grant::{Grant, RateLimit};
use crate::values::ids::TokenDigest;
use crate::values::origin::Origin;
use crate::values::secret::Secret;
use crate::values::timestamp::Expiry;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Everything that was configured, validated, secrets resolved.
#[derive(Debug)]
pub struct Config {
    /// Where callers connect; at least one.
    pub listen: Vec<Listener>,
    /// The gateway's own address for absolute `Location`s: scheme and authority, no slash at
    /// the end.
    pub public_url: Option<Box<str>>,
    /// Accepted `Host` values, lower case, without port; `None`: any.
    pub server_names: Option<Vec<Box<str>>>,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The SQLite file of tokens; `None`: only static tokens.
    pub store: Option<PathBuf>,
    /// Where health and metrics are served.
    pub admin: Option<Admin>,
    /// Cross-origin rules of the listeners.
    pub cors: Cors,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Limits that hold for everybody.
    pub limits: Limits,
    /// In the order of the file.
    pub providers: Vec<Provider>,
    /// By name.
    pub policies: BTreeMap<Arc<str>, Arc<Grant>>,
    /// For tokens that name no policy, and for what an inline grant leaves out.
    pub default_policy: Option<Arc<Grant>>,
    /// Tokens by hash.
    pub tokens: Vec<StaticToken>,
    /// How client tokens are made.
    pub client_tokens: client::ClientTokens,
    /// Whose signed tokens are accepted beside our own.
    pub issuers: Vec<client::Issuer>,
}

/// An entry of `listen:`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// What to bind.
    pub address: SocketAddr,
    /// Its certificate; `None`: plain HTTP/1.
    pub tls: Option<certificate::Tls>,
}

/// The admin listener.
#[derive(Debug)]
pub struct Admin {
    /// Its address.
    pub address: SocketAddr,
    /// For the admin pages.
    pub password: Option<Secret>,
}

/// `cors:`
#[derive(Debug)]
pub struct Cors {
    /// `None`: any origin.
    pub allow_origins: Option<Vec<Origin>>,
    /// How long browsers may remember a preflight.
    pub max_age: Duration,
}

/// `access_log:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON line a request to standard output.
    Stdout,
    /// The same, appended to a file.
    File(PathBuf),
    /// Nowhere.
    None,
}

/// `limits:`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body: u64,
    /// Bytes of a WebSocket message from the caller.
    pub max_ws_message: u64,
    /// Bytes of a body on an upload path.
    pub max_upload: u64,
    /// Connections per client address.
    pub connections_per_address: u32,
    /// Invalid tokens per client address.
    pub failed_auth: RateLimit,
    /// From a request's first byte (or accept) to the end of its headers.
    pub header_timeout: Duration,
    /// A connection between two requests.
    pub idle_timeout: Duration,
    /// Connecting to a provider, TLS included.
    pub upstream_connect_timeout: Duration,
    /// From the request to the first byte of the answer.
    pub upstream_first_byte_timeout: Duration,
    /// A stream or socket on which nothing moves.
    pub stream_idle_timeout: Duration,
    /// How long a stop waits for what is open.
    pub drain: Duration,
}

/// An entry of `providers:`.
#[derive(Debug)]
pub struct Provider {
    /// Its name: first path segment, metric label.
    pub name: Arc<str>,
    /// Which API it speaks.
    pub kind: Kind,
    /// Where it is.
    pub url: BaseUrl,
    /// Its real credentials; may be empty for `generic` and `durable-streams`.
    pub keys: Vec<ProviderKey>,
    /// Path prefixes that replace the kind's bare paths; `Some(vec![])` for none.
    pub routes: Option<Vec<Box<str>>>,
    /// Whether callers may choose organisation and project.
    pub forward_billing_headers: bool,
    /// Whether the caller's `Origin` goes to the provider.
    pub forward_origin: bool,
    /// Names of query parameters that are credentials; `None`: the usual ones.
    pub query_slots: Option<Vec<Box<str>>>,
    /// `durable-streams` only: who may come.
    pub access: Access,
    /// `durable-streams` only: the cookie that may carry the token.
    pub cookie: Option<Box<str>>,
    /// `generic` only: where the key goes.
    pub slot: SlotChoice,
    /// `generic` only: where the model is.
    pub model: ModelChoice,
}

/// The route of a `durable-streams` provider that names none.
pub const STREAMS: &str = "/v1/stream/";

/// The API a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI and what is compatible with it.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Decart: images, videos and realtime video.
    Decart,
    /// Durable streams.
    DurableStreams,
    /// Anything else over HTTP.
    Generic,
}

impl Kind {
    /// As written in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Decart => "decart",
            Self::DurableStreams => "durable-streams",
            Self::Generic => "generic",
        }
    }

    /// Where its API is, unless the configuration says otherwise; `durable-streams` and `generic`
    /// are anywhere.
    pub fn url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Decart => Some("https://api.decart.ai"),
            Self::DurableStreams | Self::Generic => None,
        }
    }
}

/// Who may use a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Holders of a token.
    Token,
    /// Also who sends none.
    Public,
}

/// A provider's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// `https`.
    pub tls: bool,
    /// Host name (for SNI and DNS) or address, without brackets.
    pub host: Box<str>,
    /// Port, explicit or the scheme's.
    pub port: u16,
    /// `Host` header: host, and port unless it is the scheme's.
    pub authority: Box<str>,
    /// Path before every request's, without slash at the end; usually empty.
    pub path: Box<str>,
}

/// One real credential.
#[derive(Debug)]
pub struct ProviderKey {
    /// What logs and metrics call it: the name of its reference (`OPENAI_API_KEY`).
    pub name: Arc<str>,
    /// The credential.
    pub secret: Secret,
}

/// Where a `generic` provider wants its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotChoice {
    /// `Authorization: Bearer`
    Bearer,
    /// A header by name.
    Header(http::HeaderName),
    /// A query parameter by name.
    Query(Box<str>),
}

/// Where a `generic` provider's model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// The API has no models: a grant with models does not apply to it, and is refused.
    None,
    /// A top-level member of the JSON body.
    Json(Box<str>),
    /// A query parameter.
    Query(Box<str>),
    /// The path segment that stands for `{model}`: what is before and after it.
    Path {
        /// Text before `{model}`.
        before: Box<str>,
        /// Text behind it.
        after: Box<str>,
    },
}

/// An entry of `tokens:`.
#[derive(Debug)]
pub struct StaticToken {
    /// Its name, unique; also its id.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// A name in `policies`.
    pub policy: Option<Arc<str>>,
    /// When it ends.
    pub expires_at: Expiry,
    /// Refused while set.
    pub disabled: bool,
    /// Whether it may mint client tokens.
    pub may_mint: bool,
}

/// Reads, parses and resolves the file at `path`.
///
/// # Errors
/// Syntax and shape with line and column (one problem), or every semantic problem at once.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Problems::one("", format!("can't read {}: {e}", path.display())))?;
    parse(&text)
}

/// Parses and resolves YAML text.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str) -> Result<Config, Problems> {
    parse_with(text, &secret_ref::load)
}

/// Parses and resolves YAML text, secrets coming from `source`.
///
/// # Errors
/// As [`load`].
pub fn parse_with(text: &str, source: &secret_ref::Source<'_>) -> Result<Config, Problems> {
    resolve::resolve(file::read(text)?, source)
}

impl Config {
    /// Where the control socket lives, see [`outline::control_socket`].
    pub fn control_socket(&self) -> PathBuf {
        outline::control_socket(self.store.as_deref())
    }
}

//! The table of APIs: for each kind its bare paths, path classes, where the model is, where the
//! key goes, and the shape of its errors. Facts from the vendors' documents and SDKs.
//!
//! A provider is one file and one line in [`api`]. Nothing here touches a socket.

pub mod anthropic;
pub mod gemini;
pub mod generic;
pub mod key_error;
pub mod openai;
pub mod path;
pub mod route;
pub mod streams;

use crate::config::{Kind, Provider};
use crate::policy::Class;
use crate::slot::place::Place;
use http::Method;
use path::Path;
use std::borrow::Cow;

/// What is known of one kind of API.
pub struct Api {
    /// The shape of its errors.
    pub dialect: Dialect,
    /// What a path is.
    pub class: fn(&Provider, &Method, &Path<'_>) -> Class,
    /// Where a request names its model.
    pub models: for<'a> fn(&'a Provider, &Method, &'a Path<'a>) -> ModelPlaces<'a>,
    /// Where the key goes; the flag says whether the request is a WebSocket upgrade.
    pub place: fn(&Provider, &Path<'_>, bool) -> Place,
    /// Whether the provider never sees `Origin`, whatever the configuration says.
    pub hides_origin: bool,
    /// Whether the path takes uploads, with a body limit of their own.
    pub upload: fn(&Path<'_>) -> bool,
}

/// The shape in which an SDK expects errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{"message","type","code","param"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
    /// `{"error":{"code","message","status"}}`
    Gemini,
    /// `{"error":{"code","message"}}`
    Plain,
    /// `{"detail"}`
    Detail,
}

/// Where a request names its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPlaces<'a> {
    /// The path segment, as it is on the wire.
    pub path: Option<Cow<'a, str>>,
    /// The name of the query parameter.
    pub query: Option<&'a str>,
    /// What in the body.
    pub body: BodyPlaces<'a>,
    /// Whether requests of this kind name a model by nature.
    pub expected: bool,
}

/// Which members of a body name a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPlaces<'a> {
    /// None.
    None,
    /// Top-level members that name the model, and paths (`tools[].model`) of further ones, in JSON
    /// or as the fields of a form.
    Json {
        /// Top-level names, by the API.
        main: &'static [&'static str],
        /// One by the configuration.
        configured: Option<&'a str>,
        /// Further ones; `[]` goes into every element of an array.
        further: &'static [&'static [&'static str]],
    },
    /// Messages of a socket, each with its own; nothing in the URL stands for them.
    Frames,
}

impl ModelPlaces<'_> {
    /// No model by nature.
    pub const NONE: ModelPlaces<'static> =
        ModelPlaces { path: None, query: None, body: BodyPlaces::None, expected: false };

    /// In the path only.
    pub(crate) fn in_path(segment: Cow<'_, str>) -> ModelPlaces<'_> {
        ModelPlaces { path: Some(segment), query: None, body: BodyPlaces::None, expected: true }
    }

    /// The top-level member `model`, and further ones.
    pub(crate) fn in_json(further: &'static [&'static [&'static str]]) -> ModelPlaces<'static> {
        let body = BodyPlaces::Json { main: &["model"], configured: None, further };
        ModelPlaces { path: None, query: None, body, expected: true }
    }
}

/// Whether any API would answer this path with a real credential. Asked of every provider: a
/// generic one, or one with a base URL of its own (`https://host/v1`), may be any of them.
pub fn mints(base: &str, path: &Path<'_>) -> bool {
    let any = |path: &Path<'_>| {
        may_mint(path) && (openai::mints(path) || anthropic::mints(path) || gemini::mints(path))
    };
    if any(path) {
        return true;
    }
    let whole = if base.is_empty() { String::new() } else { format!("{base}{}", path.raw()) };
    // The API may begin at any segment of the base.
    whole
        .match_indices('/')
        .take_while(|(at, _)| *at < base.len())
        .filter_map(|(at, _)| whole.get(at..))
        .any(|below| any(&Path::new(below)))
}

/// A quick look at what stands behind the version: nothing else leads to a minting path.
fn may_mint(path: &Path<'_>) -> bool {
    const NOUNS: [&str; 5] = ["client", "realtime", "chatkit", "organization", "organizations"];
    let second = path.decoded().split('/').nth(2).unwrap_or_default();
    let gemini = second.len() >= "auth_tokens".len();
    gemini || NOUNS.iter().any(|noun| second.eq_ignore_ascii_case(noun))
}

/// The table.
pub fn api(kind: Kind) -> &'static Api {
    match kind {
        Kind::OpenAi => &openai::API,
        Kind::Anthropic => &anthropic::API,
        Kind::Gemini => &gemini::API,
        Kind::DurableStreams => &streams::API,
        Kind::Generic => &generic::API,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_look_misses_no_minting_path() {
        for path in [
            "/v1/client/tokens",
            "/v1/Realtime/client_secrets",
            "/v1/realtime/sessions/",
            "/v1/realtime/transcription_sessions",
            "/v1/realtime/translations/client_secrets",
            "/v1/chatkit/sessions",
            "/v1/organization/admin_api_keys",
            "/v1/organization/projects/p/service_accounts",
            "/v1/organization/projects/p/api_keys",
            "/v1/organizations/api_keys",
            "/v1alpha/auth_tokens",
            "/v1beta/Auth_Tokens:create",
            "/v1/%63hatkit/sessions",
        ] {
            assert!(mints("", &Path::new(path)), "{path}");
            let below = path.strip_prefix("/v1").unwrap_or(path);
            let base = if below == path { "/any" } else { "/any/v1" };
            assert!(mints(base, &Path::new(below)), "{base}{below}");
        }
        for path in ["/v1/chat/completions", "/v1/realtime", "/v1beta/models/m:generateContent"] {
            assert!(!mints("", &Path::new(path)), "{path}");
        }
    }
}

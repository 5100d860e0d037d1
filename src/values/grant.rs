//! What an authenticated token may do. A dimension left out is unrestricted, an empty one is an
//! error, and reading it back from a store fails closed.
//!
//! A *policy* is a named grant in YAML; a token from the store may carry its own, inline.

use super::origin::Origin;
use super::pattern::Pattern;
use super::{Invalid, duration};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// At most so many origins in one grant.
pub const MAX_ORIGINS: usize = 20;

/// A validated grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Names of providers.
    pub providers: Option<Vec<Arc<str>>>,
    /// HTTP methods.
    pub methods: Option<Vec<http::Method>>,
    /// Paths as the provider sees them (prefix removed).
    pub paths: Option<Vec<Pattern>>,
    /// Models, without Gemini's `models/`.
    pub models: Option<Vec<Pattern>>,
    /// Sites whose pages may use the token.
    pub origins: Option<Vec<Origin>>,
    /// With `origins`: also admits callers that send none.
    pub allow_missing_origin: bool,
    /// Requests in a window.
    pub rate_limit: Option<RateLimit>,
    /// Requests and sockets at a time.
    pub concurrency: Option<u32>,
    /// How long a session may last, however it is going.
    pub max_session: Option<Duration>,
    /// Whether sessions end when their token expires.
    pub end_at_expiry: bool,
}

/// So many requests in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests, at most 16,777,215.
    pub requests: u32,
    /// The window's length.
    pub per: Duration,
}

/// A grant as it is written: the shape shared by YAML policies and the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantText {
    /// See [`Grant::providers`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub providers: Option<Vec<String>>,
    /// See [`Grant::methods`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub methods: Option<Vec<String>>,
    /// See [`Grant::paths`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub paths: Option<Vec<String>>,
    /// See [`Grant::models`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub models: Option<Vec<String>>,
    /// See [`Grant::origins`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub origins: Option<Vec<String>>,
    /// See [`Grant::allow_missing_origin`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub allow_missing_origin: Option<bool>,
    /// See [`Grant::rate_limit`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub rate_limit: Option<RateText>,
    /// See [`Grant::concurrency`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub concurrency: Option<u32>,
    /// See [`Grant::max_session`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub max_session: Option<String>,
    /// See [`Grant::end_at_expiry`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub end_at_expiry: Option<bool>,
}

/// `{ requests: 20, per: 60s }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateText {
    /// Requests in a window.
    pub requests: u32,
    /// A duration as text.
    pub per: String,
}

/// Reads a value that must not be null: `models:` with nothing behind it must never come to mean
/// "unrestricted".
///
/// # Errors
/// Whatever `T` refuses, null included.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl RateText {
    /// Validates.
    ///
    /// # Errors
    /// Zero or too many requests, a window that is no duration or over 30 days.
    pub fn read(&self) -> Result<RateLimit, Invalid> {
        let per = duration::parse(&self.per)?;
        if self.requests == 0 || self.requests > 0x00FF_FFFF {
            return Err(Invalid::new("requests must be between 1 and 16777215"));
        }
        if per > Duration::from_secs(30 * 86_400) {
            return Err(Invalid::new("a window may last 30 days at most"));
        }
        Ok(RateLimit { requests: self.requests, per })
    }
}

impl GrantText {
    /// Validates every dimension; gives all problems, each with the place below the grant
    /// (`origins[2]`).
    ///
    /// # Errors
    /// One entry per problem.
    pub fn read(&self) -> Result<Grant, Vec<(String, Invalid)>> {
        let mut problems = Vec::new();
        let grant = Grant {
            providers: list("providers", self.providers.as_deref(), &mut problems, name),
            methods: list("methods", self.methods.as_deref(), &mut problems, method),
            paths: list("paths", self.paths.as_deref(), &mut problems, path),
            models: list("models", self.models.as_deref(), &mut problems, model),
            origins: list("origins", self.origins.as_deref(), &mut problems, Origin::parse),
            allow_missing_origin: self.allow_missing_origin.unwrap_or(false),
            rate_limit: self.rate_limit.as_ref().and_then(|rate| match rate.read() {
                Ok(rate) => Some(rate),
                Err(why) => {
                    problems.push(("rate_limit".to_owned(), why));
                    None
                }
            }),
            concurrency: self.concurrency,
            max_session: self.max_session.as_ref().and_then(|text| {
                let read = duration::parse(text);
                read.map_err(|why| problems.push(("max_session".to_owned(), why))).ok()
            }),
            end_at_expiry: self.end_at_expiry.unwrap_or(false),
        };
        if grant.origins.as_ref().is_some_and(|o| o.len() > MAX_ORIGINS) {
            let why = format!("{MAX_ORIGINS} origins at most");
            problems.push(("origins".to_owned(), Invalid::new(why)));
        }
        if self.concurrency == Some(0) {
            problems.push(("concurrency".to_owned(), Invalid::new("must be at least 1")));
        }
        if problems.is_empty() { Ok(grant) } else { Err(problems) }
    }
}

fn list<T>(
    place: &str,
    written: Option<&[String]>,
    problems: &mut Vec<(String, Invalid)>,
    read: impl Fn(&str) -> Result<T, Invalid>,
) -> Option<Vec<T>> {
    let written = written?;
    if written.is_empty() {
        let why = "an empty list would allow nothing: leave the key out or name something";
        problems.push((place.to_owned(), Invalid::new(why)));
    }
    let mut values = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        match read(text) {
            Ok(value) => values.push(value),
            Err(why) => problems.push((format!("{place}[{index}]"), why)),
        }
    }
    Some(values)
}

fn name(text: &str) -> Result<Arc<str>, Invalid> {
    if text.is_empty() {
        Err(Invalid::new("a provider's name is missing"))
    } else {
        Ok(text.into())
    }
}

fn method(text: &str) -> Result<http::Method, Invalid> {
    match text {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => {
            http::Method::from_bytes(text.as_bytes()).map_err(|e| Invalid::new(e.to_string()))
        }
        _ => Err(Invalid::new(format!(
            "'{text}' is no method: use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"
        ))),
    }
}

fn path(text: &str) -> Result<Pattern, Invalid> {
    if text.starts_with('/') {
        Pattern::parse(text)
    } else {
        Err(Invalid::new(format!("'{text}': a path begins with '/'")))
    }
}

/// `models/x`, as Gemini's paths say it, and `x` are the same model.
fn model(text: &str) -> Result<Pattern, Invalid> {
    Pattern::parse(text.strip_prefix("models/").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_with_its_place() {
        let text = GrantText {
            models: Some(vec![]),
            origins: Some(vec!["https://a.example".into(), "null".into()]),
            methods: Some(vec!["get".into()]),
            paths: Some(vec!["v1".into()]),
            concurrency: Some(0),
            max_session: Some("soon".into()),
            rate_limit: Some(RateText { requests: 0, per: "60s".into() }),
            ..GrantText::default()
        };
        let mut places: Vec<_> = text.read().unwrap_err().into_iter().map(|(p, _)| p).collect();
        places.sort();
        assert_eq!(
            places,
            [
                "concurrency",
                "max_session",
                "methods[0]",
                "models",
                "origins[1]",
                "paths[0]",
                "rate_limit"
            ]
        );
    }

    #[test]
    fn null_is_never_unrestricted() {
        for text in [r#"{"models":null}"#, r#"{"origins":null}"#, r#"{"rate_limit":null}"#] {
            assert!(serde_json::from_str::<GrantText>(text).is_err(), "{text} must be refused");
        }
        assert_eq!(serde_json::from_str::<GrantText>("{}").unwrap().read(), Ok(Grant::default()));
    }

    #[test]
    fn too_many_origins_are_refused() {
        let origins = (0..=MAX_ORIGINS).map(|i| format!("https://a{i}.example")).collect();
        let text = GrantText { origins: Some(origins), ..GrantText::default() };
        assert_eq!(text.read().unwrap_err().len(), 1, "21 origins are one too many");
    }
}

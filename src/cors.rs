//! Cross-origin rules of the listeners (WHATWG Fetch, section 3.2): what a preflight is answered
//! with, and what every response carries so that the page that asked may read it.

use crate::config::{Cors, Kind};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Headers that a page may read, whatever answers.
static EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-keygate-error, location",
);
/// Beside these, what only OpenAI and its compatibles send.
static EXPOSED_OPENAI: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-keygate-error, location, \
     x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, \
     x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens",
);
/// What only Anthropic sends.
static EXPOSED_ANTHROPIC: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-keygate-error, location, \
     anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, \
     anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit, \
     anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset, \
     anthropic-ratelimit-input-tokens-limit, anthropic-ratelimit-input-tokens-remaining, \
     anthropic-ratelimit-input-tokens-reset, anthropic-ratelimit-output-tokens-limit, \
     anthropic-ratelimit-output-tokens-remaining, anthropic-ratelimit-output-tokens-reset",
);
/// What only Gemini sends.
static EXPOSED_GEMINI: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-keygate-error, location, \
     x-goog-upload-url, x-goog-upload-status, x-goog-upload-chunk-granularity",
);
static METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
static VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
static VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static ANY: HeaderValue = HeaderValue::from_static("*");
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// What a stream's policy says of the origin that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCors {
    /// The policy is `*`: any origin.
    Open,
    /// Nothing is stored, or the origin is the stream's own.
    Allowed,
    /// The policy is a list, and the origin is on it; or none was sent.
    Listed,
    /// Another origin, or one that can't be judged.
    Refused,
}

/// A header to set, and whether beside what is there.
pub type Set = (HeaderName, HeaderValue);

/// Whether a header is one of the upstream's own about CORS, which are replaced.
pub fn replaces(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("access-control-") else { return false };
    matches!(
        rest,
        "allow-origin"
            | "allow-credentials"
            | "allow-methods"
            | "allow-headers"
            | "expose-headers"
            | "max-age"
    )
}

/// Whether a request is a preflight: `OPTIONS` with an origin and the method that is meant.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The headers of a preflight's answer.
pub fn preflight(cors: &Cors, headers: &HeaderMap) -> Vec<Set> {
    let mut set = vec![(VARY, VARY_PREFLIGHT.clone())];
    let Some((origin, credentials)) = reflected(cors, headers) else { return set };
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or(&ANY);
    set.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
    set.push((ACCESS_CONTROL_ALLOW_METHODS, METHODS.clone()));
    set.push((ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
    set.push((ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs())));
    if credentials {
        set.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE.clone()));
    }
    set
}

/// Gives `set` the headers of any other response; `Vary` is to be appended, the rest to be set.
///
/// Each kind exposes the names that it sends: all of them together would be the longest header of
/// most answers.
pub fn response(
    cors: &Cors,
    kind: Option<Kind>,
    headers: &HeaderMap,
    mut set: impl FnMut(HeaderName, HeaderValue),
) {
    set(VARY, VARY_ORIGIN.clone());
    let Some((origin, credentials)) = reflected(cors, headers) else { return };
    set(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let exposed = match kind {
        Some(Kind::OpenAi) => &EXPOSED_OPENAI,
        Some(Kind::Anthropic) => &EXPOSED_ANTHROPIC,
        Some(Kind::Gemini) => &EXPOSED_GEMINI,
        Some(Kind::DurableStreams | Kind::Generic) | None => &EXPOSED,
    };
    set(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    if credentials {
        set(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE.clone());
    }
}

/// The origin to reflect, and whether credentials go with it: only with an explicit list.
fn reflected<'a>(cors: &Cors, headers: &'a HeaderMap) -> Option<(&'a HeaderValue, bool)> {
    let origin = headers.get(ORIGIN)?;
    match &cors.allow_origins {
        None => Some((origin, false)),
        Some(list) => list.iter().any(|o| o.equals(origin.as_bytes())).then_some((origin, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::origin::Origin;
    use std::time::Duration;

    fn cors(list: Option<&[&str]>) -> Cors {
        Cors {
            allow_origins: list.map(|l| l.iter().map(|o| Origin::parse(o).unwrap()).collect()),
            max_age: Duration::from_secs(86_400),
        }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect()
    }

    fn find<'a>(set: &'a [Set], name: &HeaderName) -> Option<&'a str> {
        set.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap())
    }

    #[test]
    fn a_preflight_echoes_what_was_asked() {
        let asked = headers(&[
            (ORIGIN, "https://a.example"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "x-odd, authorization"),
        ]);
        let set = preflight(&cors(None), &asked);
        assert_eq!(find(&set, &ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://a.example"));
        assert_eq!(find(&set, &ACCESS_CONTROL_ALLOW_HEADERS), Some("x-odd, authorization"));
        assert_eq!(find(&set, &ACCESS_CONTROL_MAX_AGE), Some("86400"));
        assert_eq!(find(&set, &ACCESS_CONTROL_ALLOW_CREDENTIALS), None, "never with any origin");
    }

    #[test]
    fn a_list_reflects_its_own_and_nobody_else() {
        let policy = cors(Some(&["https://a.example"]));
        let of = |origin| {
            let mut set = Vec::new();
            response(&policy, None, &headers(&[(ORIGIN, origin)]), |n, v| set.push((n, v)));
            set
        };
        assert_eq!(find(&of("https://a.example"), &ACCESS_CONTROL_ALLOW_CREDENTIALS), Some("true"));
        let foreign = of("https://evil.test");
        assert_eq!(find(&foreign, &ACCESS_CONTROL_ALLOW_ORIGIN), None);
        assert_eq!(find(&foreign, &VARY), Some("Origin"), "caches must know in any case");
    }
}

//! Cross-origin rules of the listeners (WHATWG Fetch, section 3.2): what a preflight is answered
//! with, and what every response carries so that the page that asked may read it. A durable stream
//! follows its own policy instead; what that says comes as [`StreamCors`].

use crate::config::{Cors, Kind};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
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
/// What only durable streams send.
static EXPOSED_STREAMS: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, x-keygate-error, location, \
     stream-next-offset, stream-up-to-date, stream-closed, stream-cursor, stream-allowed-origins, \
     stream-ttl, stream-expires-at, etag, producer-epoch, producer-seq, producer-expected-seq, \
     producer-received-seq, stream-sse-data-encoding",
);
static METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
static VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
static VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static ANY: HeaderValue = HeaderValue::from_static("*");
static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
static SAME_SITE: HeaderValue = HeaderValue::from_static("same-site");
static CROSS_ORIGIN: HeaderValue = HeaderValue::from_static("cross-origin");
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which sites may embed an answer (WHATWG Fetch, section 3.7).
pub static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

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

/// Whose answer it is, as far as that decides what pages may do with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source {
    /// The provider's kind, once it is known.
    pub kind: Option<Kind>,
    /// Whether the provider reads tokens from a cookie.
    pub cookie: bool,
    /// What the stream's policy says, once it has been asked.
    pub stream: Option<StreamCors>,
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
pub fn preflight(cors: &Cors, source: Source, headers: &HeaderMap) -> Vec<Set> {
    let mut set = vec![(VARY, VARY_PREFLIGHT.clone())];
    let Some((origin, credentials)) = reflected(cors, source, headers) else { return set };
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
/// most answers. What an upstream says of [`RESOURCE_POLICY`] is to be left as it is.
pub fn response(
    cors: &Cors,
    source: Source,
    headers: &HeaderMap,
    mut set: impl FnMut(HeaderName, HeaderValue),
) {
    set(VARY, VARY_ORIGIN.clone());
    if source.kind == Some(Kind::DurableStreams) {
        set(X_CONTENT_TYPE_OPTIONS, NOSNIFF.clone());
        let open = source.stream == Some(StreamCors::Open);
        set(RESOURCE_POLICY.clone(), if open { CROSS_ORIGIN.clone() } else { SAME_SITE.clone() });
    }
    let Some((origin, credentials)) = reflected(cors, source, headers) else { return };
    set(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let exposed = match source.kind {
        Some(Kind::OpenAi) => &EXPOSED_OPENAI,
        Some(Kind::Anthropic) => &EXPOSED_ANTHROPIC,
        Some(Kind::Gemini) => &EXPOSED_GEMINI,
        Some(Kind::DurableStreams) => &EXPOSED_STREAMS,
        Some(Kind::Decart | Kind::Generic) | None => &EXPOSED,
    };
    set(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    if credentials {
        set(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE.clone());
    }
}

/// The origin to reflect, and whether credentials go with it: only with an explicit list.
fn reflected<'a>(
    cors: &Cors,
    source: Source,
    headers: &'a HeaderMap,
) -> Option<(&'a HeaderValue, bool)> {
    let origin = headers.get(ORIGIN)?;
    match source.stream {
        Some(StreamCors::Refused) => return None,
        Some(StreamCors::Open | StreamCors::Allowed) => return Some((origin, false)),
        Some(StreamCors::Listed) => return Some((origin, source.cookie)),
        None => {}
    }
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
        let set = preflight(&cors(None), Source::default(), &asked);
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
            let asked = headers(&[(ORIGIN, origin)]);
            response(&policy, Source::default(), &asked, |n, v| set.push((n, v)));
            set
        };
        assert_eq!(find(&of("https://a.example"), &ACCESS_CONTROL_ALLOW_CREDENTIALS), Some("true"));
        let foreign = of("https://evil.test");
        assert_eq!(find(&foreign, &ACCESS_CONTROL_ALLOW_ORIGIN), None);
        assert_eq!(find(&foreign, &VARY), Some("Origin"), "caches must know in any case");
    }

    #[test]
    fn a_stream_follows_its_own_policy_and_not_the_listeners() {
        let policy = cors(Some(&["https://a.example"]));
        let of = |origin, stream, cookie| {
            let mut set = Vec::new();
            let source = Source { kind: Some(Kind::DurableStreams), cookie, stream: Some(stream) };
            let asked = headers(&[(ORIGIN, origin)]);
            response(&policy, source, &asked, |n, v| set.push((n, v)));
            let found = |name| find(&set, &name).map(str::to_owned);
            let preflight = preflight(&policy, source, &asked);
            for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS] {
                assert_eq!(find(&set, &name), find(&preflight, &name), "the preflight says so too");
            }
            let exposed = found(ACCESS_CONTROL_EXPOSE_HEADERS)
                .is_some_and(|e| e.contains("stream-next-offset") && e.contains("x-keygate-error"));
            let origin = found(ACCESS_CONTROL_ALLOW_ORIGIN).is_some();
            assert_eq!(exposed, origin, "names are exposed to who may read");
            let credentials = found(ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some();
            (origin, credentials, found(RESOURCE_POLICY.clone()))
        };
        let (same, cross) = (Some("same-site".to_owned()), Some("cross-origin".to_owned()));
        for (stream, cookie, expected) in [
            (StreamCors::Open, true, (true, false, cross)),
            (StreamCors::Allowed, true, (true, false, same.clone())),
            (StreamCors::Listed, true, (true, true, same.clone())),
            (StreamCors::Listed, false, (true, false, same.clone())),
            (StreamCors::Refused, true, (false, false, same)),
        ] {
            for origin in ["https://a.example", "https://b.example"] {
                assert_eq!(of(origin, stream, cookie), expected, "{stream:?} {origin}");
            }
        }
    }
}

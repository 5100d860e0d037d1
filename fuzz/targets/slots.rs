//! Credentials in headers and queries: reading them never panics, and what goes on to a provider
//! holds none that keygate, or a reader that is more lenient, would find.
#![no_main]

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use keygate::policy::Code;
use keygate::proxy::canonical;
use keygate::slot::extract::extract;
use keygate::slot::place::{QueryNames, TICKET_QUERY};
use keygate::slot::strip::{self, Lets};
use libfuzzer_sys::{arbitrary, fuzz_target};
use url::form_urlencoded;

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    headers: Vec<(Name<'a>, &'a [u8])>,
    query: &'a str,
    /// Some of the credential names only.
    narrowed: Option<[bool; 3]>,
    billing: bool,
    origin: bool,
    forwarded: bool,
    cookies: bool,
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Name<'a> {
    Authorization,
    XApiKey,
    XGoogApiKey,
    ApiKey,
    Protocol,
    Other(&'a [u8]),
}

const QUERIES: [&str; 3] = ["key", "api_key", "access_token"];
const HEADERS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key"];

fuzz_target!(|input: Input<'_>| {
    let headers: HeaderMap = input.headers.iter().filter_map(|(n, v)| n.with(v)).collect();
    let narrowed: Option<Vec<Box<str>>> = input.narrowed.map(|flags| {
        let chosen = QUERIES.iter().zip(flags).filter(|(_, chosen)| *chosen);
        chosen.map(|(name, _)| Box::from(*name)).collect()
    });
    let names = QueryNames(narrowed.as_deref());
    let query = Some(input.query).filter(|query| is_on_a_wire(query));
    let _ = extract(&headers, query, names, None);
    if let Some(query) = query {
        query_is_clean(query, names, narrowed.as_deref());
    }
    let lets = Lets {
        billing: input.billing,
        origin: input.origin,
        forwarded: input.forwarded,
        cookies: input.cookies,
    };
    headers_are_clean(headers, lets);
});

fn query_is_clean(query: &str, names: QueryNames<'_>, narrowed: Option<&[Box<str>]>) {
    let kept = strip::query(query, names);
    let kept = kept.as_deref().unwrap_or(query);
    let nothing = extract(&HeaderMap::new(), Some(kept), names, None);
    let missing = nothing.err().is_some_and(|denial| denial.code == Code::TokenMissing);
    assert!(missing, "{query:?} becomes {kept:?}, which still holds a token");
    // Another reader, and one that trims.
    let is_credential = |name: &str| match narrowed {
        _ if name.trim().eq_ignore_ascii_case(TICKET_QUERY) => true,
        None => QUERIES.iter().any(|n| n.eq_ignore_ascii_case(name.trim())),
        Some(all) => all.iter().any(|n| n.eq_ignore_ascii_case(name.trim())),
    };
    let read = |query: &str| -> Vec<(String, String)> {
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    };
    let mut data = read(query);
    data.retain(|(name, _)| !is_credential(name));
    assert_eq!(read(kept), data, "{query:?} becomes {kept:?}");
}

fn headers_are_clean(mut headers: HeaderMap, lets: Lets) {
    let protocols = strip::protocols(&headers, lets);
    let gone: Vec<_> = headers.keys().filter(|n| strip::removes(n, lets)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    if let Some(protocols) = protocols {
        let value = HeaderValue::try_from(&protocols).expect("it came out of headers");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        for offer in protocols.to_ascii_lowercase().split(',') {
            let offer = offer.trim();
            assert!(
                !offer.starts_with("openai-insecure-api-key.") && !offer.starts_with("keygate."),
                "{protocols:?} still holds a token"
            );
        }
    }
    for name in headers.keys() {
        let name = name.as_str().replace('_', "-");
        assert!(!HEADERS.contains(&name.as_str()), "{name} goes on");
        assert!(!name.starts_with("x-keygate-"), "{name} goes on");
    }
    let nothing = extract(&headers, None, QueryNames(None), None);
    let missing = nothing.err().is_some_and(|denial| denial.code == Code::TokenMissing);
    assert!(missing, "a token goes on: {headers:?}");
}

/// Whether the front would have let it come so far.
fn is_on_a_wire(query: &str) -> bool {
    let target = format!("/?{query}");
    let uri: Result<Uri, _> = target.parse();
    uri.is_ok_and(|uri| {
        uri.query() == Some(query) && canonical::target(target.as_bytes(), uri.path()).is_ok()
    })
}

impl Name<'_> {
    fn with(&self, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
        let name = match self {
            Self::Authorization => AUTHORIZATION,
            Self::XApiKey => HeaderName::from_static("x-api-key"),
            Self::XGoogApiKey => HeaderName::from_static("x-goog-api-key"),
            Self::ApiKey => HeaderName::from_static("api-key"),
            Self::Protocol => SEC_WEBSOCKET_PROTOCOL,
            Self::Other(name) => HeaderName::from_bytes(name).ok()?,
        };
        Some((name, HeaderValue::from_bytes(value).ok()?))
    }
}

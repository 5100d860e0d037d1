//! Removes from a request what its provider must not see: every credential slot, keygate's own
//! headers, cookies, forwarding headers of strangers, billing selectors, other methods than the
//! request's own.
//!
//! A caller may repeat its token in a slot that was not read; it must not reach the provider.

use super::extract::offers;
use super::place::{QueryNames, TOKEN_HEADERS, behind, crumbs, pairs, protocol_token};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

/// What a provider's configuration and the peer let pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lets {
    /// `forward_billing_headers`.
    pub billing: bool,
    /// `forward_origin`.
    pub origin: bool,
    /// The peer is a trusted proxy.
    pub forwarded: bool,
    /// The provider may see cookies (never an AI provider).
    pub cookies: bool,
}

/// Whether a header goes no further.
///
/// Names with `_` go too: some servers read `x_api_key` as `x-api-key`.
pub fn removes(name: &HeaderName, lets: Lets) -> bool {
    let name = name.as_str();
    match name {
        "authorization" | "proxy-authorization" | "expect" | "sec-websocket-protocol" => true,
        "cookie" => !lets.cookies,
        "origin" => !lets.origin,
        "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => {
            !lets.forwarded
        }
        // What a grant says of methods is said of the one in the request line.
        "x-http-method-override" | "x-http-method" | "x-method-override" => true,
        "openai-organization" | "openai-project" | "x-goog-user-project" => !lets.billing,
        _ => {
            TOKEN_HEADERS.contains(&name)
                || name.starts_with("x-keygate-")
                || name.starts_with("x-forwarded-")
                || name.contains('_')
        }
    }
}

/// The query without its credentials; `None` where nothing had to go.
pub fn query(query: &str, names: QueryNames<'_>) -> Option<String> {
    if !pairs(query).any(|(_, name, _)| names.holds(name)) {
        return None;
    }
    let kept: Vec<&str> =
        pairs(query).filter(|(_, name, _)| !names.holds(name)).map(|(pair, _, _)| pair).collect();
    Some(kept.join("&"))
}

/// All cookies that go on, in one field (RFC 9113 section 8.2.3: HTTP/2 may send several, HTTP/1.1
/// has one), without those of these names, in any case. `None` where none is left.
pub fn cookies(headers: &HeaderMap, names: &[Box<str>]) -> Option<Vec<u8>> {
    let fields = headers.get_all(COOKIE).iter();
    let kept: Vec<&[u8]> = fields
        .flat_map(|field| crumbs(field.as_bytes()))
        .filter(|(_, name, _)| !names.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name)))
        .map(|(crumb, _, _)| crumb)
        .collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

/// The subprotocols that go on, in order; `None` where none is left.
pub fn protocols(headers: &HeaderMap, lets: Lets) -> Option<String> {
    let kept: Vec<&str> = offers(headers)
        .filter(|offer| protocol_token(offer).is_none() && *offer != "keygate")
        .filter(|offer| {
            let bills = |prefix| behind(offer, prefix).is_some();
            lets.billing || !(bills("openai-organization.") || bills("openai-project."))
        })
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(name: &str, lets: Lets) -> bool {
        removes(&HeaderName::from_bytes(name.as_bytes()).unwrap(), lets)
    }

    #[test]
    fn credentials_and_forwarding_headers_go_and_the_rest_stays() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "X-Api-Key",
            "x-goog-api-key",
            "api-key",
            "Cookie",
            "Origin",
            "X-Keygate-Token",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Uri",
            "X-HTTP-Method-Override",
            "X-HTTP-Method",
            "X-Method-Override",
            "x_api_key",
            "OpenAI-Organization",
            "OpenAI-Project",
            "x-goog-user-project",
            "Expect",
        ] {
            assert!(gone(name, Lets::default()), "{name} must not reach a provider");
        }
        for name in [
            "content-type",
            "anthropic-version",
            "anthropic-beta",
            "user-agent",
            "x-stainless-lang",
            "accept",
        ] {
            assert!(!gone(name, Lets::default()), "{name} is forwarded verbatim");
        }
        let lets = Lets { billing: true, origin: true, forwarded: true, cookies: true };
        for name in ["openai-project", "origin", "x-forwarded-for", "cookie"] {
            assert!(!gone(name, lets), "{name} may pass where the configuration says so");
        }
        assert!(gone("x-forwarded-uri", lets), "may hold the caller's query, and in it the token");
    }

    #[test]
    fn a_query_keeps_everything_but_credentials_byte_for_byte() {
        let names = QueryNames(None);
        assert_eq!(query("model=a%20b&x", names), None);
        assert_eq!(query("a=1&key=t&b=%2F&KEY=u&%6bey=v&c", names).as_deref(), Some("a=1&b=%2F&c"));
        assert_eq!(query("key=t", names).as_deref(), Some(""));
        assert_eq!(query("key=data", QueryNames(Some(&[]))), None, "here it is data");
        let ticket = query("a=1&Keygate%5fTicket=x&b", QueryNames(Some(&[])));
        assert_eq!(ticket.as_deref(), Some("a=1&b"), "a ticket is a credential everywhere");
    }

    #[test]
    fn subprotocols_keep_their_order_without_the_credential_ones() {
        let mut headers = HeaderMap::new();
        headers.append(
            "sec-websocket-protocol",
            "realtime, openai-insecure-api-key.t".parse().unwrap(),
        );
        headers.append(
            "sec-websocket-protocol",
            "openai-project.p, openai-agents-sdk.1, keygate".parse().unwrap(),
        );
        headers.append(
            "sec-websocket-protocol",
            "Keygate.t, OpenAI-Insecure-Api-Key.t, OpenAI-Organization.o".parse().unwrap(),
        );
        assert_eq!(
            protocols(&headers, Lets::default()).as_deref(),
            Some("realtime, openai-agents-sdk.1")
        );
        let billing = Lets { billing: true, ..Lets::default() };
        assert_eq!(
            protocols(&headers, billing).as_deref(),
            Some("realtime, openai-project.p, openai-agents-sdk.1, OpenAI-Organization.o")
        );
    }

    #[test]
    fn of_cookies_only_those_go_that_carry_tokens() {
        let of = |fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(COOKIE, http::HeaderValue::from_static(field));
            }
            let kept = cookies(&headers, &["kg".into(), "__Host-t".into()]);
            kept.map(|kept| String::from_utf8(kept).unwrap())
        };
        assert_eq!(
            of(&["a=b; kg=x; c=d", "__host-t=y;e=kg=z"]).as_deref(),
            Some("a=b; c=d; e=kg=z")
        );
        assert_eq!(of(&["KG =x;kg"]), None);
        assert_eq!(of(&[]), None);
    }
}

//! Names of slots, and how each is told from ordinary data.

use http::HeaderName;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Where a provider wants its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer <key>` (RFC 6750 section 2.1).
    Bearer,
    /// A header with the bare key.
    Header(HeaderName),
    /// A query parameter.
    Query(Cow<'static, str>),
}

/// Headers that carry a bare token; `Authorization` is treated apart.
pub(crate) const TOKEN_HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Query parameters that carry a token, unless a provider's configuration narrows them.
const TOKEN_QUERIES: [&str; 3] = ["key", "api_key", "access_token"];

/// The query parameter of an upload ticket (`token::ticket`); a credential on every route, however
/// its provider narrows the others.
pub const TICKET_QUERY: &str = "keygate_ticket";

/// WebSocket subprotocols that carry a token behind this text: browsers can't set headers.
const TOKEN_PROTOCOLS: [&str; 2] = ["openai-insecure-api-key.", "keygate."];

/// The token in an offered subprotocol. In any case: what one reader takes for a name, another
/// may take for this.
pub(crate) fn protocol_token(offer: &str) -> Option<&str> {
    TOKEN_PROTOCOLS.iter().find_map(|prefix| behind(offer, prefix))
}

/// What follows `prefix`, whose case does not count.
pub(crate) fn behind<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Which query parameters are credentials on this route.
#[derive(Debug, Clone, Copy)]
pub struct QueryNames<'a>(pub Option<&'a [Box<str>]>);

impl QueryNames<'_> {
    /// Whether `name`, as it is on the wire, names a credential: decoded, in any case.
    pub fn holds(self, name: &str) -> bool {
        self.kind(name).is_some()
    }

    /// Which credential `name`, as it is on the wire, names: decoded, in any case.
    pub fn kind(self, name: &str) -> Option<QueryKind> {
        let (spaced, decoded);
        let name = if name.contains(['%', '+']) {
            // In queries that stands for a blank (WHATWG URL, section 5.1).
            spaced = name.replace('+', " ");
            decoded = percent_decode_str(&spaced).decode_utf8_lossy();
            decoded.trim()
        } else {
            name
        };
        if name.eq_ignore_ascii_case(TICKET_QUERY) {
            return Some(QueryKind::Ticket);
        }
        let token = match self.0 {
            None => TOKEN_QUERIES.iter().any(|n| n.eq_ignore_ascii_case(name)),
            Some(names) => names.iter().any(|n| n.eq_ignore_ascii_case(name)),
        };
        token.then_some(QueryKind::Token)
    }
}

/// What a query parameter carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// A token.
    Token,
    /// An upload ticket.
    Ticket,
}

/// The pairs of a raw query: `(whole, name, value)`, undecoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) => (pair, name, value),
        None => (pair, pair, ""),
    })
}

/// The crumbs of a `Cookie` field: `(whole, name, value)`, blanks around them left out.
pub(crate) fn crumbs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    field.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty()).map(
        |crumb| {
            let at = crumb.iter().position(|b| *b == b'=').unwrap_or(crumb.len());
            let (name, rest) = crumb.split_at_checked(at).unwrap_or((crumb, b""));
            (crumb, name.trim_ascii(), rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_every_disguise() {
        let all = QueryNames(None);
        for name in [
            "key",
            "KEY",
            "%6bey",
            "%6B%65%79",
            "api_key",
            "Access_Token",
            "api%5Fkey",
            "+key",
            "%20key+",
        ] {
            assert!(all.holds(name), "{name} is a credential");
        }
        for name in ["keys", "monkey", "", "k", "model", "key[]", "k+ey", "%2Bkey"] {
            assert!(!all.holds(name), "{name} is data");
        }
    }

    #[test]
    fn a_narrowed_list_leaves_the_rest_as_data() {
        assert!(!QueryNames(Some(&[])).holds("key"));
        assert!(QueryNames(Some(&["api_key".into()])).holds("API_KEY"));
    }

    #[test]
    fn a_ticket_is_known_on_every_route() {
        for names in [QueryNames(None), QueryNames(Some(&[]))] {
            for name in
                ["keygate_ticket", "KEYGATE_TICKET", "keygate%5Fticket", "%6beygate_ticket+"]
            {
                assert_eq!(names.kind(name), Some(QueryKind::Ticket), "{name}");
            }
            assert_eq!(names.kind("keygate_tickets"), None);
        }
    }
}

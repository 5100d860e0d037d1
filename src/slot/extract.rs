//! Step 7: the caller's token, from whichever slot holds it, and an upload ticket from its own.
//!
//! One rule for `Authorization`: the scheme `Bearer` or `Token` in any case, then blanks or tabs,
//! then the token; blanks around it do not count. Other schemes carry no token (they are stripped
//! all the same). The same token in several slots is fine; two different ones are not.

use super::place::{QueryKind, QueryNames, TOKEN_HEADERS, pairs, protocol_token};
use crate::policy::{Code, Denial};
use crate::token::ticket::Ticket;
use crate::token::{Credential, NoTicket, Presented};
use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Finds the one token of a request, and its ticket. Whether the two agree is for authentication to
/// say.
///
/// # Errors
/// `token_missing` without any, `ambiguous_credentials` with two different ones or two
/// `Authorization` fields, `malformed_request` for a WebSocket that offers only credentials.
pub fn extract(
    headers: &HeaderMap,
    query: Option<&str>,
    names: QueryNames<'_>,
) -> Result<Credential, Denial> {
    let (mut found, mut ticket) = (Found(None), Found(None));
    let (mut authorized, mut protocols) = (false, false);
    // One walk instead of a lookup per slot.
    for (name, value) in headers {
        match name.as_str() {
            "authorization" if authorized => {
                return Err(Denial::new(
                    Code::AmbiguousCredentials,
                    "the request has two Authorization fields; send one",
                ));
            }
            "authorization" => {
                authorized = true;
                if let Some(token) = bearer(value.as_bytes()) {
                    found.add(token.into())?;
                }
            }
            "sec-websocket-protocol" => protocols = true,
            name if TOKEN_HEADERS.contains(&name) => {
                found.add(value.as_bytes().trim_ascii().into())?;
            }
            _ => {}
        }
    }
    for (_, name, value) in query.into_iter().flat_map(pairs) {
        match names.kind(name) {
            Some(QueryKind::Token) => found.add(percent_decode_str(value).into())?,
            Some(QueryKind::Ticket) => ticket.add(percent_decode_str(value).into())?,
            None => {}
        }
    }
    if protocols {
        for token in protocol_tokens(headers)? {
            found.add(token.as_bytes().into())?;
        }
    }
    if found.0.is_none() && ticket.0.is_none() {
        return Err(Code::TokenMissing.into());
    }
    Ok(Credential {
        token: found.0.map(|token| Presented::of(&token)),
        ticket: ticket.0.map(|text| Ticket::read(&text).ok_or(NoTicket)),
    })
}

struct Found<'a>(Option<Cow<'a, [u8]>>);

impl<'a> Found<'a> {
    /// An empty slot holds nothing.
    fn add(&mut self, token: Cow<'a, [u8]>) -> Result<(), Denial> {
        match &self.0 {
            _ if token.is_empty() => Ok(()),
            None => {
                self.0 = Some(token);
                Ok(())
            }
            Some(first) if **first == *token => Ok(()),
            Some(_) => Err(Code::AmbiguousCredentials.into()),
        }
    }
}

/// The token behind `Bearer` or `Token`; `None` for other schemes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let end = value.iter().position(|b| b.is_ascii_whitespace())?;
    let (scheme, token) = value.split_at_checked(end)?;
    let known = scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token");
    known.then(|| token.trim_ascii())
}

/// Tokens offered as WebSocket subprotocols.
fn protocol_tokens(headers: &HeaderMap) -> Result<Vec<&str>, Denial> {
    let mut tokens = Vec::new();
    let mut others = false;
    for offer in offers(headers) {
        match protocol_token(offer) {
            Some(token) => tokens.push(token),
            None => others = true,
        }
    }
    if !tokens.is_empty() && !others {
        return Err(Denial::new(
            Code::MalformedRequest,
            "a browser needs a subprotocol to be chosen: offer 'keygate' (or your own) beside the one that carries the token",
        ));
    }
    Ok(tokens)
}

/// Every subprotocol that is offered, in order, over all header fields (RFC 6455 section 11.3.4).
pub(crate) fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|offer| !offer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn found(headers: &[(&'static str, &str)], query: Option<&str>) -> Result<Credential, Code> {
        extract(&map(headers), query, QueryNames(None)).map_err(|d| d.code)
    }

    fn token(text: &str) -> Credential {
        Credential { token: Some(Presented::of(text.as_bytes())), ticket: None }
    }

    #[test]
    fn every_slot_is_read() {
        let expected = Ok(token("ptk_x"));
        for (name, value) in [
            ("authorization", "Bearer ptk_x"),
            ("authorization", "bEaReR \t ptk_x  "),
            ("authorization", "Token ptk_x"),
            ("x-api-key", "ptk_x"),
            ("x-goog-api-key", " ptk_x "),
            ("api-key", "ptk_x"),
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.ptk_x"),
            ("sec-websocket-protocol", "keygate.ptk_x,keygate"),
            ("sec-websocket-protocol", "keygate, Keygate.ptk_x"),
        ] {
            assert_eq!(found(&[(name, value)], None), expected, "{name}: {value}");
        }
        for query in
            ["key=ptk_x", "a=b&api_key=ptk_x", "access_token=ptk_x", "%6bey=ptk%5Fx", "KEY=ptk_x"]
        {
            assert_eq!(found(&[], Some(query)), expected, "?{query}");
        }
    }

    #[test]
    fn two_different_tokens_are_ambiguous_and_the_same_twice_is_not() {
        assert_eq!(found(&[("x-api-key", "a")], Some("key=b")), Err(Code::AmbiguousCredentials));
        assert_eq!(found(&[], Some("key=a&key=b")), Err(Code::AmbiguousCredentials));
        assert_eq!(
            found(&[("x-api-key", "a"), ("x-api-key", "b")], None),
            Err(Code::AmbiguousCredentials)
        );
        assert_eq!(
            found(&[("authorization", "Bearer a"), ("authorization", "Bearer a")], None),
            Err(Code::AmbiguousCredentials),
            "two Authorization fields are never one"
        );
        assert_eq!(found(&[("authorization", "Bearer a")], Some("key=a")), Ok(token("a")));
    }

    #[test]
    fn a_ticket_stands_beside_a_token_and_not_beside_another_ticket() {
        let none = Some(Err(NoTicket));
        let alone = found(&[], Some("a=1&keygate_ticket=x"));
        assert_eq!(alone, Ok(Credential { token: None, ticket: none.clone() }));
        let both = found(&[("x-api-key", "t")], Some("keygate_ticket=x&keygate_ticket=x"));
        assert_eq!(both, Ok(Credential { ticket: none, ..token("t") }), "the same one twice");
        assert_eq!(
            found(&[("x-api-key", "t")], Some("keygate_ticket=x&Keygate%5fticket=y")),
            Err(Code::AmbiguousCredentials)
        );
        assert_eq!(
            found(&[], Some("keygate_ticket=")),
            Err(Code::TokenMissing),
            "empty is nothing"
        );
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(found(&[], None), Err(Code::TokenMissing));
        assert_eq!(found(&[("authorization", "Bearer ")], Some("key=")), Err(Code::TokenMissing));
        assert_eq!(found(&[("authorization", "Basic dTpw")], None), Err(Code::TokenMissing));
        assert_eq!(
            found(&[("sec-websocket-protocol", "keygate.ptk_x")], None),
            Err(Code::MalformedRequest)
        );
    }
}

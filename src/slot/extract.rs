//! Step 7: the caller's token, from whichever slot holds it, and an upload ticket from its own.
//!
//! One rule for `Authorization`: the scheme `Bearer` or `Token` in any case, then blanks or tabs,
//! then the token; blanks around it do not count. Other schemes carry no token (they are stripped
//! all the same). The same token in several slots is fine; two different ones are not.

use super::place::{QueryKind, QueryNames, TOKEN_HEADERS, crumbs, pairs, protocol_token};
use crate::policy::{Code, Denial};
use crate::token::ticket::Ticket;
use crate::token::{Credential, NoTicket, Presented};
use http::HeaderMap;
use http::header::{COOKIE, SEC_WEBSOCKET_PROTOCOL};
use percent_encoding::{percent_decode, percent_decode_str};
use std::borrow::Cow;

/// Finds the one token of a request, and its ticket. Whether the two agree is for authentication to
/// say. A `cookie` is named where one may carry a token on this connection.
///
/// # Errors
/// `token_missing` without any, `ambiguous_credentials` with two different ones or two
/// `Authorization` fields, `malformed_request` for a WebSocket that offers only credentials.
pub fn extract(
    headers: &HeaderMap,
    query: Option<&str>,
    names: QueryNames<'_>,
    cookie: Option<&str>,
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
    let elsewhere = found.0.is_some();
    for value in cookie.into_iter().flat_map(|name| cookies_named(headers, name)) {
        found.add(percent_decode(value).into())?;
    }
    if found.0.is_none() && ticket.0.is_none() {
        return Err(Code::TokenMissing.into());
    }
    Ok(Credential {
        by_cookie: !elsewhere && found.0.is_some(),
        token: found.0.map(|token| Presented::of(&token)),
        ticket: ticket.0.map(|text| Ticket::read(&text).ok_or(NoTicket)),
    })
}

/// Cookies of this very name (RFC 6265 section 5.4: case counts).
fn cookies_named<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let crumbs = headers.get_all(COOKIE).iter().flat_map(|field| crumbs(field.as_bytes()));
    crumbs.filter(move |(_, found, _)| *found == name.as_bytes()).map(|(_, _, value)| value)
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
        extract(&map(headers), query, QueryNames(None), None).map_err(|d| d.code)
    }

    fn token(text: &str) -> Credential {
        Credential { token: Some(Presented::of(text.as_bytes())), ticket: None, by_cookie: false }
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
        assert_eq!(alone, Ok(Credential { token: None, ticket: none.clone(), by_cookie: false }));
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

    #[test]
    fn a_cookie_is_read_where_it_is_named_and_its_other_crumbs_are_not() {
        let read = |cookies: &[&str], other: &[(&'static str, &str)]| {
            let mut headers = map(other);
            for cookie in cookies {
                headers.append(COOKIE, cookie.parse().unwrap());
            }
            let found = extract(&headers, None, QueryNames(None), Some("kg"));
            found.map(|c| (c.token, c.by_cookie)).map_err(|d| d.code)
        };
        let token = Some(Presented::of(b"auth_tokens/t"));
        for cookies in [
            &["kg=auth_tokens/t"][..],
            &["a=b; kg=auth_tokens%2Ft;c=d"],
            &["a=b", " kg = auth_tokens/t "],
            &["kg=; kg=auth_tokens/t; kg=auth_tokens/t"],
        ] {
            assert_eq!(read(cookies, &[]), Ok((token.clone(), true)), "{cookies:?}");
        }
        for cookies in [&["KG=t"][..], &["xkg=t; kgx=t"], &["kg"], &["kg="]] {
            assert_eq!(read(cookies, &[]), Err(Code::TokenMissing), "{cookies:?}");
        }
        let ambiguous = Err(Code::AmbiguousCredentials);
        assert_eq!(read(&["kg=a; kg=b"], &[]), ambiguous);
        assert_eq!(read(&["kg=a"], &[("x-api-key", "b")]), ambiguous);
        let same = read(&["kg=a"], &[("authorization", "Bearer a")]);
        assert_eq!(same, Ok((Some(Presented::of(b"a")), false)), "it came elsewhere too");
        assert_eq!(found(&[("cookie", "kg=a")], None), Err(Code::TokenMissing), "named nowhere");
    }
}

//! Step 7: the caller's token, from whichever slot holds it.
//!
//! One rule for `Authorization`: the scheme `Bearer` or `Token` in any case, then blanks or tabs,
//! then the token; blanks around it do not count. Other schemes carry no token (they are stripped
//! all the same). The same token in several slots is fine; two different ones are not.

use super::place::{QueryNames, TOKEN_HEADERS, pairs, protocol_token};
use crate::policy::{Code, Denial};
use crate::token::Presented;
use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Finds the one token of a request.
///
/// # Errors
/// `token_missing` without any, `ambiguous_credentials` with two different ones or two
/// `Authorization` fields, `malformed_request` for a WebSocket that offers only credentials.
pub fn extract(
    headers: &HeaderMap,
    query: Option<&str>,
    names: QueryNames<'_>,
) -> Result<Presented, Denial> {
    let mut found = Found(None);
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
        if names.holds(name) {
            found.add(percent_decode_str(value).into())?;
        }
    }
    if protocols {
        for token in protocol_tokens(headers)? {
            found.add(token.as_bytes().into())?;
        }
    }
    match found.0 {
        Some(token) => Ok(Presented::of(&token)),
        None => Err(Code::TokenMissing.into()),
    }
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
    use crate::values::ids::TokenDigest;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn found(headers: &[(&'static str, &str)], query: Option<&str>) -> Result<TokenDigest, Code> {
        extract(&map(headers), query, QueryNames(None)).map(|p| p.digest).map_err(|d| d.code)
    }

    #[test]
    fn every_slot_is_read() {
        let token = Ok(TokenDigest::of(b"ptk_x"));
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
            assert_eq!(found(&[(name, value)], None), token, "{name}: {value}");
        }
        for query in
            ["key=ptk_x", "a=b&api_key=ptk_x", "access_token=ptk_x", "%6bey=ptk%5Fx", "KEY=ptk_x"]
        {
            assert_eq!(found(&[], Some(query)), token, "?{query}");
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
        assert_eq!(
            found(&[("authorization", "Bearer a")], Some("key=a")),
            Ok(TokenDigest::of(b"a"))
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

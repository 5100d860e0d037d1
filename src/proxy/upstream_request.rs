//! The request as the provider gets it: every slot stripped, the path its own, the real key in
//! exactly one place.
//!
//! Pingora has taken the hop-by-hop headers out before this runs, so a caller's
//! `Connection: Authorization` can't remove the key that is put in here.

use super::ctx::{Ctx, Flight, Stage};
use super::gateway::Reached;
use super::stream::ALLOWED_ORIGINS;
use crate::config::{Kind, Provider};
use crate::provider::gemini;
use crate::provider::path::Path;
use crate::slot::inject::{Filled, inject};
use crate::slot::place::{Place, QueryNames};
use crate::slot::strip::{self, Lets};
use bytes::Bytes;
use http::header::{COOKIE, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora_core::{Error, ErrorType, OrErr, Result};

/// Rewrites `request`.
///
/// # Errors
/// The key or the target can't be written; configuration keeps that from happening.
pub(super) fn rewrite(ctx: &mut Ctx, request: &mut RequestHeader) -> Result<()> {
    let fault = || Error::explain(ErrorType::InternalError, "no permit or provider");
    let snapshot = &ctx.snapshot;
    let Stage::Passed(flight) = &mut ctx.stage else { return Err(fault()) };
    let provider = snapshot.config.providers.get(flight.provider).ok_or_else(fault)?;
    let reached = snapshot.upstreams.get(flight.provider).ok_or_else(fault)?;
    // RFC 9112 section 3.2.1: an origin gets the origin form, whatever the caller sent.
    // On HTTP/2 the target carries the caller's authority, which is not the provider's.
    let absolute = !request.raw_path().starts_with(b"/") || request.uri.authority().is_some();
    // Without the spelling of names, which Pingora keeps in a second map: HTTP has no case.
    let empty = RequestHeader::build_no_case(Method::GET, b"", Some(0))?;
    let mut parts = Parts::from(std::mem::replace(request, empty));
    let lets = lets(provider, flight, reached);
    strip_headers(&mut parts.headers, lets);
    if flight.is_read() {
        // What is compressed could not be read.
        parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    }
    if provider.kind == Kind::DurableStreams {
        // Between its creator and the gateway: a server that knew it too could contradict.
        parts.headers.remove(&ALLOWED_ORIGINS);
    }
    if lets.cookies && parts.headers.contains_key(COOKIE) {
        thin_cookies(&mut parts.headers, &snapshot.cookies)?;
    }
    parts.headers.insert(HOST, reached.host.clone());
    retarget(&mut parts, provider, flight, reached, absolute)?;
    *request = parts.into();
    flight.sent = true;
    Ok(())
}

fn lets(provider: &Provider, flight: &Flight, reached: &Reached) -> Lets {
    Lets {
        billing: provider.forward_billing_headers,
        origin: provider.forward_origin && !reached.api.hides_origin,
        forwarded: flight.trusted,
        cookies: matches!(provider.kind, Kind::DurableStreams | Kind::Generic),
    }
}

fn strip_headers(headers: &mut HeaderMap, lets: Lets) {
    let protocols = if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        strip::protocols(headers, lets)
    } else {
        None
    };
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| strip::removes(name, lets)).cloned().collect();
    for name in &gone {
        headers.remove(name);
    }
    // They were a header before: nothing in them is new.
    if let Some(protocols) = protocols.and_then(|p| HeaderValue::try_from(p).ok()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    }
}

/// One field, and no cookie that is some provider's slot: browsers send it to every path.
fn thin_cookies(headers: &mut HeaderMap, slots: &[Box<str>]) -> Result<()> {
    match strip::cookies(headers, slots) {
        Some(kept) => {
            let kept = HeaderValue::from_maybe_shared(Bytes::from(kept));
            headers.insert(COOKIE, kept.or_err(ErrorType::InvalidHTTPHeader, "joining cookies")?);
        }
        None => {
            headers.remove(COOKIE);
        }
    }
    Ok(())
}

/// Path, query and credential.
fn retarget(
    request: &mut Parts,
    provider: &Provider,
    flight: &Flight,
    reached: &Reached,
    absolute: bool,
) -> Result<()> {
    let fault = |why: &'static str| Error::explain(ErrorType::InternalError, why);
    let sent = request.uri.path().get(flight.skip..).unwrap_or_default();
    let path = if provider.kind == Kind::Gemini { gemini::ordinary(sent) } else { sent };
    let query = request.uri.query();
    let kept = query.and_then(|q| strip::query(q, QueryNames(provider.query_slots.as_deref())));
    let stripped = kept.is_some();
    let mut query = kept.as_deref().or(query);
    let filled = match provider.keys.first() {
        Some(key) => {
            let place = (reached.api.place)(provider, &Path::new(path), flight.upgrade);
            // The configured parameter may hold a caller's value under another spelling.
            let cleared = match (&place, query) {
                (Place::Query(name), Some(q)) => {
                    strip::query(q, QueryNames(Some(&[name.as_ref().into()])))
                }
                _ => None,
            };
            let query = cleared.as_deref().or(query);
            Some(
                inject(&flight.permit, &key.secret, &place, query)
                    .ok_or_else(|| fault("the key fits no header"))?,
            )
        }
        None => None,
    };
    match &filled {
        Some(Filled::Query(q)) => query = Some(q),
        Some(Filled::Header(name, value)) => {
            request.headers.insert(name, value.clone());
        }
        None => {}
    }
    if flight.skip > 0
        || stripped
        || absolute
        || path.len() != sent.len()
        || !provider.url.path.is_empty()
        || matches!(filled, Some(Filled::Query(_)))
    {
        let mut target = String::with_capacity(
            path.len() + query.map_or(0, str::len) + provider.url.path.len() + 1,
        );
        target.push_str(&provider.url.path);
        target.push_str(path);
        if let Some(query) = query.filter(|q| !q.is_empty() || !stripped) {
            target.push('?');
            target.push_str(query);
        }
        let target =
            PathAndQuery::try_from(target).map_err(|_| fault("the target can't be written"))?;
        request.uri = target.into();
    }
    Ok(())
}

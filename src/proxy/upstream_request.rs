//! The request as the provider gets it: every slot stripped, the path its own, the real key in
//! exactly one place.
//!
//! Pingora has taken the hop-by-hop headers out before this runs, so a caller's
//! `Connection: Authorization` can't remove the key that is put in here.

use super::ctx::{Ctx, Flight};
use super::gateway::Snapshot;
use crate::config::{Kind, Provider};
use crate::provider::path::Path;
use crate::slot::inject::{Filled, inject};
use crate::slot::place::{Place, QueryNames};
use crate::slot::strip::{self, Lets};
use http::HeaderName;
use http::header::{COOKIE, HOST, SEC_WEBSOCKET_PROTOCOL};
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;
use pingora_core::{Error, ErrorType, Result};

/// Rewrites `request`.
///
/// # Errors
/// The key or the target can't be written; configuration keeps that from happening.
pub(super) fn rewrite(ctx: &mut Ctx, request: &mut RequestHeader) -> Result<()> {
    let snapshot = ctx.snapshot.clone();
    let fault = || Error::explain(ErrorType::InternalError, "no permit or provider");
    let flight = ctx.flight().ok_or_else(fault)?;
    let provider = snapshot.config.providers.get(flight.provider).ok_or_else(fault)?;
    let lets = lets(provider, flight, &snapshot);
    strip_headers(request, lets)?;
    join_cookies(request)?;
    request.insert_header(HOST, &*provider.url.authority)?;
    retarget(request, provider, flight, &snapshot)?;
    flight.sent = true;
    Ok(())
}

fn lets(provider: &Provider, flight: &Flight, snapshot: &Snapshot) -> Lets {
    let hides = snapshot.upstreams.get(flight.provider).is_none_or(|r| r.api.hides_origin);
    Lets {
        billing: provider.forward_billing_headers,
        origin: provider.forward_origin && !hides,
        forwarded: flight.trusted,
        cookies: provider.kind == Kind::Generic,
    }
}

fn strip_headers(request: &mut RequestHeader, lets: Lets) -> Result<()> {
    let protocols = if request.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        strip::protocols(&request.headers, lets)
    } else {
        None
    };
    let gone: Vec<HeaderName> =
        request.headers.keys().filter(|name| strip::removes(name, lets)).cloned().collect();
    for name in &gone {
        request.remove_header(name);
    }
    if let Some(protocols) = protocols {
        request.insert_header(SEC_WEBSOCKET_PROTOCOL, protocols)?;
    }
    Ok(())
}

/// RFC 9113 section 8.2.3: HTTP/2 may send cookies in several fields, HTTP/1.1 has one.
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let mut crumbs = request.headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return Ok(());
    }
    let all: Vec<&[u8]> = request.headers.get_all(COOKIE).iter().map(|c| c.as_bytes()).collect();
    let all = all.join(&b"; "[..]);
    request.insert_header(COOKIE, all)
}

/// Path, query and credential.
fn retarget(
    request: &mut RequestHeader,
    provider: &Provider,
    flight: &Flight,
    snapshot: &Snapshot,
) -> Result<()> {
    let fault = |why: &'static str| Error::explain(ErrorType::InternalError, why);
    let api = snapshot.upstreams.get(flight.provider).ok_or_else(|| fault("no provider"))?.api;
    let path = request.uri.path().get(flight.skip..).unwrap_or_default();
    let query = request.uri.query();
    let kept = query.and_then(|q| strip::query(q, QueryNames(provider.query_slots.as_deref())));
    let stripped = kept.is_some();
    let mut query = kept.as_deref().or(query);
    let filled = match provider.keys.first() {
        Some(key) => {
            let place = (api.place)(provider, &Path::new(path), flight.upgrade);
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
    let header = match &filled {
        Some(Filled::Query(q)) => {
            query = Some(q);
            None
        }
        Some(Filled::Header(name, value)) => Some((name.clone(), value.clone())),
        None => None,
    };
    // RFC 9112 section 3.2.1: an origin gets the origin form, whatever the caller sent.
    // On HTTP/2 the target carries the caller's authority, which is not the provider's.
    let absolute = !request.raw_path().starts_with(b"/") || request.uri.authority().is_some();
    if flight.skip > 0
        || stripped
        || absolute
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
        request.set_uri(target.into());
    }
    if let Some((name, value)) = header {
        request.insert_header(name, value)?;
    }
    Ok(())
}

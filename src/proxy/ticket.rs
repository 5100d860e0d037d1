//! Upload URLs in answers: rewritten to point here, with a ticket that is good for that URL alone.
//!
//! Google's resumable upload names the place of its second leg in `x-goog-upload-url`; SDKs differ
//! in whether they send a credential there, and some send the token to whatever host it names. So
//! the URL leads back here, and carries its own credential ([`crate::token::ticket`]). The
//! authority is never what a caller made up: without `public_url` or a listed `Host` the URL passes
//! as it is, and that is counted.

use super::canonical;
use super::ctx::{Ctx, Stage};
use super::gateway::Gateway;
use super::location::{below_base, host, prefix};
use crate::slot::place::{QueryNames, TICKET_QUERY};
use crate::slot::strip;
use crate::token::ticket::{LIFETIME_MS, Subject};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_proxy::Session;
use std::borrow::Cow;

/// Where the upload goes on, and where its state is asked for; they name the same.
static UPLOAD_URLS: [HeaderName; 2] = [
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-goog-upload-control-url"),
];

/// Rewrites the upload URLs of an answer.
pub(super) fn rewrite(gateway: &Gateway, session: &Session, answer: &mut HeaderMap, ctx: &Ctx) {
    for name in &UPLOAD_URLS {
        let Some(sent) = answer.get(name) else { continue };
        let url = sent.to_str().ok().and_then(|sent| ticketed(gateway, session, sent, ctx));
        match url.and_then(|url| HeaderValue::try_from(url).ok()) {
            Some(mut value) => {
                value.set_sensitive(true);
                answer.insert(name, value);
            }
            None => gateway.metrics.upload_urls_unchanged.inc(),
        }
    }
}

fn ticketed(gateway: &Gateway, session: &Session, sent: &str, ctx: &Ctx) -> Option<String> {
    let Stage::Passed(flight) = &ctx.stage else { return None };
    let provider = ctx.provider()?;
    let target = below_base(sent, provider)?;
    // No request can have a fragment: such a URL could not be what is asked for.
    if target.contains('#') {
        return None;
    }
    let config = &ctx.snapshot.config;
    let base = match &config.public_url {
        Some(url) => url.to_string(),
        None => {
            let names = config.server_names.as_deref()?;
            let host = host(session, flight)?;
            canonical::answers_to(host, Some(names)).ok()?;
            format!("{}://{host}", flight.scheme)
        }
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = format!("{}{path}", prefix(session, flight));
    let query = bare(query, QueryNames(provider.query_slots.as_deref()));
    let subject = Subject { provider: &provider.name, path: &path, query };
    // Whoever has a ticket alone must not be able to renew it for ever.
    let expires = gateway.clock.wall_ms().saturating_add(LIFETIME_MS);
    let expires = flight.ticket_ends_ms.map_or(expires, |end| end.min(expires));
    let ticket = gateway.seal.issue(flight.permit.token(), &subject, expires);
    let query = &subject.query;
    let joint = if query.is_empty() { "" } else { "&" };
    Some(format!("{base}{path}?{query}{joint}{TICKET_QUERY}={ticket}"))
}

/// A query as tickets are bound to it: without credentials, which differ from leg to leg.
pub(super) fn bare<'a>(query: &'a str, names: QueryNames<'_>) -> Cow<'a, str> {
    strip::query(query, names).map_or(Cow::Borrowed(query), Cow::Owned)
}

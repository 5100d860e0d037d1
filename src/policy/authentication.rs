//! Step 8: whose request it is, by its token, by an upload ticket, or by both.
//!
//! The lookup comes first: a valid token passes whatever its address did before. A ticket says
//! only whose request it is; what that token may do, the following steps ask as ever. All that is
//! wrong with a credential, but for its expiry, gets one answer.

use super::{Code, Denial, Holder, Request, Rules};
use crate::token::ticket::{self, Ticket};
use crate::token::{Credential, NoTicket, Presented};

/// Who holds the token that answers for the request; nobody in particular where the gate lets
/// callers in without one.
pub(super) fn authenticate<R: Request>(
    rules: Rules<'_>,
    credential: Option<&Credential>,
    request: &R,
    now_ms: u64,
) -> Result<Holder, Denial> {
    let Some(credential) = credential else { return Ok(Holder::anonymous()) };
    let by_token = credential.token.as_ref().map(|token| known(rules, request, token, now_ms));
    let by_token = by_token.transpose()?;
    let Some(ticket) = &credential.ticket else {
        return unexpired(by_token.ok_or(Code::TokenMissing)?, now_ms);
    };
    let parent = parent(rules, request, ticket.as_ref(), by_token.as_ref())?;
    if by_token.is_some_and(|holder| holder.token.digest != parent.token.digest) {
        return Err(Denial::new(
            Code::AmbiguousCredentials,
            "the upload's ticket belongs to another token; send the one that began the upload, or none",
        ));
    }
    if ticket.as_ref().is_ok_and(|ticket| now_ms >= ticket.expires_ms()) {
        return Err(Denial::new(
            Code::TokenExpired,
            "the upload's ticket has expired; begin the upload anew",
        ));
    }
    unexpired(parent, now_ms)
}

fn unexpired(holder: Holder, now_ms: u64) -> Result<Holder, Denial> {
    if holder.has_expired(now_ms) { Err(Code::TokenExpired.into()) } else { Ok(holder) }
}

fn known<R: Request>(
    rules: Rules<'_>,
    request: &R,
    presented: &Presented,
    now_ms: u64,
) -> Result<Holder, Denial> {
    let found = match rules.index.lookup(&presented.digest) {
        None => rules.clients.find(presented, rules.config, now_ms),
        found => found,
    };
    let holder = found.and_then(|token| Holder::of(token, rules.index));
    holder.filter(Holder::is_enabled).ok_or_else(|| invalid(rules, request))
}

/// Who holds the token that a ticket stands for. A signed token that is kept nowhere is found by
/// being sent along.
fn parent<R: Request>(
    rules: Rules<'_>,
    request: &R,
    ticket: Result<&Ticket, &NoTicket>,
    sent: Option<&Holder>,
) -> Result<Holder, Denial> {
    let found = ticket.ok().filter(|_| ticket::admits(request.scope().method)).and_then(|ticket| {
        let sent = || sent.map(|holder| &holder.token).filter(|t| *t.id == *ticket.parent());
        let kept = rules.index.lookup_id(ticket.parent());
        let kept = kept.or_else(|| rules.clients.lookup_id(ticket.parent()));
        let parent = kept.or_else(|| sent().cloned())?;
        let good = rules.seal.verify(ticket, &parent, &request.ticket_subject());
        Holder::of(parent, rules.index).filter(|holder| good && holder.is_enabled())
    });
    found.ok_or_else(|| invalid(rules, request))
}

/// An invalid credential, counted by the address that it came from.
fn invalid<R: Request>(rules: Rules<'_>, request: &R) -> Denial {
    let limit = rules.config.limits.failed_auth;
    match rules.failed_auth.count(request.client(), limit, rules.clock.steady_ms()) {
        Ok(()) => Code::TokenInvalid.into(),
        Err(wait_ms) => Denial {
            retry_after_ms: Some(wait_ms),
            ..Denial::new(Code::RateLimited, "too many invalid tokens from this address")
        },
    }
}

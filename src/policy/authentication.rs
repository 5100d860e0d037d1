//! Step 8: whose request it is, by its token, by an upload ticket, or by both.
//!
//! The lookup comes first: a valid token passes whatever its address did before. A ticket says
//! only whose request it is; what that token may do, the following steps ask as ever. All that is
//! wrong with a credential, but for its expiry, gets one answer.

use super::{Code, Denial, Request, Rules};
use crate::token::ticket::{self, Ticket};
use crate::token::{Credential, NoTicket, Token};
use crate::values::ids::TokenDigest;
use std::sync::Arc;

/// The token that answers for the request.
pub(super) fn authenticate<R: Request>(
    rules: Rules<'_>,
    credential: &Credential,
    request: &R,
    now_ms: u64,
) -> Result<Arc<Token>, Denial> {
    let by_token = credential.token.as_ref().map(|digest| known(rules, request, digest));
    let by_token = by_token.transpose()?;
    let Some(ticket) = &credential.ticket else {
        return unexpired(by_token.ok_or(Code::TokenMissing)?, now_ms);
    };
    let parent = parent(rules, request, ticket.as_ref())?;
    if by_token.is_some_and(|token| token.digest != parent.digest) {
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

fn unexpired(token: Arc<Token>, now_ms: u64) -> Result<Arc<Token>, Denial> {
    if token.expires_at.is_over(now_ms) { Err(Code::TokenExpired.into()) } else { Ok(token) }
}

fn known<R: Request>(
    rules: Rules<'_>,
    request: &R,
    digest: &TokenDigest,
) -> Result<Arc<Token>, Denial> {
    let found = rules.index.lookup(digest).filter(|token| !token.disabled);
    found.ok_or_else(|| invalid(rules, request))
}

/// The token that a ticket stands for.
fn parent<R: Request>(
    rules: Rules<'_>,
    request: &R,
    ticket: Result<&Ticket, &NoTicket>,
) -> Result<Arc<Token>, Denial> {
    let found = ticket.ok().filter(|_| ticket::admits(request.scope().method)).and_then(|ticket| {
        let parent = rules.index.lookup_id(ticket.parent())?;
        let good = rules.seal.verify(ticket, &parent, &request.ticket_subject());
        (good && !parent.disabled).then_some(parent)
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

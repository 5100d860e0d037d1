//! Reaching the provider, trying its next address, and what the caller hears when it fails.

use super::ctx::{Ctx, Flight, Stage};
use super::gateway::Gateway;
use super::{held, reject};
use crate::egress::line;
use crate::policy::{Code, Denial};
use crate::ws::close;
use log::warn;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

/// Addresses of one provider that a request tries.
const MOST_ATTEMPTS: usize = 3;

/// Requests in flight from which on this process counts as busy.
const BUSY: usize = 8;

/// The peer to connect to.
pub(super) async fn peer(ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let fault = || Error::new(ErrorType::InternalError);
    let Stage::Passed(flight) = &mut ctx.stage else { return Err(fault()) };
    let handle = &flight.entry.live().handle;
    if handle.was_cut().is_some() {
        return Error::e_explain(ErrorType::InternalError, "the request was ended");
    }
    let attempt = flight.attempts;
    flight.attempts += 1;
    // Another attempt begins with the body's first byte.
    flight.body = 0;
    flight.entry.live().pace.again();
    if let Some(ahead) = &mut flight.ahead {
        ahead.reset();
    }
    let reached = ctx.snapshot.upstreams.get(flight.provider).ok_or_else(fault)?;
    reached.upstream.peer(attempt, flight.at_once).await.map_err(|e| {
        Error::because(ErrorType::ConnectError, "looking the provider up", e).into_up()
    })
}

/// There is a connection: a request that shares its caller's can now be ended by this one. One
/// that was ended while it was connecting goes no further.
pub(super) fn connected(gateway: &Gateway, digest: Option<&Digest>, ctx: &mut Ctx) -> Result<()> {
    let Some(flight) = ctx.flight() else { return Ok(()) };
    let handle = &flight.entry.live().handle;
    // Claimed in any case, so that no cut of the request before hits this one.
    if let (Some(claim), Some(substream)) = (line::claim(digest), handle.substream()) {
        substream.rides(move || claim.hang_up());
    }
    if handle.was_cut().is_some() {
        return Error::e_explain(ErrorType::InternalError, "the request was ended");
    }
    // Alone, a request is answered sooner if its header wakes the provider while its body is still
    // being written; among others, what counts is what it costs.
    if flight.at_once && flight.has_body && gateway.registry.open() >= BUSY {
        line::gather(digest);
    }
    Ok(())
}

/// No connection, so nothing was sent: the next address may be tried.
pub(super) fn try_next(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    let snapshot = ctx.snapshot.clone();
    if let Some(flight) = ctx.flight() {
        let addresses =
            snapshot.upstreams.get(flight.provider).map_or(1, |r| r.upstream.addresses());
        error.set_retry(flight.attempts < addresses.min(MOST_ATTEMPTS));
    }
    error
}

/// The connection broke: whether the request goes out once more, as Pingora decides it, but for the
/// creation of a stream. Its first try may have been acted upon, and the second would be told that the
/// stream was there before.
pub(super) fn try_again(
    session: &Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let creates = |f: &mut Flight| f.stream.as_ref().is_some_and(|watch| watch.creation.is_some());
    let idempotent = session.req_header().method.is_idempotent();
    if !idempotent || session.as_ref().retry_buffer_truncated() || ctx.flight().is_some_and(creates)
    {
        error.set_retry(false);
    } else {
        error.retry.decide_reuse(reused);
    }
    error
}

/// Tells the caller, if anything can still be told. Gives the status.
pub(super) async fn fail(
    gateway: &Gateway,
    session: &mut Session,
    error: &Error,
    ctx: &mut Ctx,
) -> Result<u16> {
    let kept =
        is_held(error) && ctx.flight().is_some_and(|f| f.refusal.is_none() && f.held.is_some());
    let denial = denial(error, ctx);
    if session.was_upgraded() {
        return end_socket(session, ctx, denial).await;
    }
    // `100 Continue` is no answer yet.
    if session.response_written().is_some_and(|answer| !answer.status.is_informational()) {
        // Visibly unfinished: nothing more is written, and the connection is closed.
        note(ctx, denial);
        return Ok(0);
    }
    if kept {
        held::release(gateway, session, ctx).await?;
        return Ok(ctx.note.status);
    }
    match denial {
        Some(denial) => {
            let status = denial.code.status();
            session.set_keepalive(None);
            reject::answer(gateway, session, ctx, denial).await?;
            Ok(status)
        }
        None => {
            // The caller has gone; 499 is what nginx logs then.
            ctx.note.status = 499;
            Ok(0)
        }
    }
}

/// Why the request ends: our own refusal, a cut from outside, or what Pingora saw.
fn denial(error: &Error, ctx: &mut Ctx) -> Option<Denial> {
    let id = ctx.id;
    let flight = ctx.flight()?;
    if let Some(refusal) = flight.refusal.take() {
        return Some(refusal);
    }
    if let Some(cut) = flight.entry.live().handle.was_cut() {
        return Some(cut.denial());
    }
    let code = reject::denial_of(error);
    if *error.esource() == ErrorSource::Upstream && !is_held(error) {
        warn!("{} failed at the provider: {}", id.as_str(), error.etype().as_str());
    }
    code.map(Denial::from)
}

async fn end_socket(session: &mut Session, ctx: &mut Ctx, denial: Option<Denial>) -> Result<u16> {
    let code = denial.as_ref().map(|d| d.code);
    note(ctx, denial);
    let Stage::Passed(flight) = &ctx.stage else { return Ok(0) };
    let free = flight.frames.as_ref().is_some_and(|f| f.may_close());
    if let (Some(code), true) = (code, free) {
        session
            .write_response_body(
                Some(close::frame(code.close_status(), code.as_str()).into()),
                true,
            )
            .await?;
    }
    Ok(0)
}

fn note(ctx: &mut Ctx, denial: Option<Denial>) {
    if let Some(denial) = denial {
        ctx.note.denial = Some(denial.code);
    }
}

fn is_held(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::HTTPStatus(_))
}

/// Whether the error is our own way of ending a request.
pub(super) fn is_expected(ctx: &Ctx, error: &Error) -> bool {
    let cut = match &ctx.stage {
        Stage::Passed(flight) => flight.entry.live().handle.was_cut().is_some(),
        Stage::Refused => true,
        Stage::Arrived => false,
    };
    cut || is_held(error)
        || *error.esource() == ErrorSource::Downstream
        || ctx.note.denial == Some(Code::UpstreamUnreachable)
}

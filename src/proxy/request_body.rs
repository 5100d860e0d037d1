//! The request's body on its way: counted, limited, searched for its models while the permit is
//! pending; a socket's frames followed, or its messages read ([`super::socket`]).
//!
//! While it is pending the body's end stays here: the last announced byte, or the last chunk where no
//! length was. On a denial Pingora drops the
//! provider's connection, which has seen an incomplete request.
//!
//! Never yields before the upgrade has happened: Pingora tears WebSocket upgrades down when this
//! phase does.

use super::ctx::{Ctx, Flight, Stage};
use super::gateway::Gateway;
use super::search;
use super::socket::Against;
use crate::policy::{Code, Denial};
use crate::session::connection::Cut;
use crate::ws::close;
use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Takes note of a chunk.
pub(super) async fn pass(
    gateway: &Gateway,
    session: &mut Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let upgraded = session.was_upgraded();
    if let Some(ahead) = &mut flight.ahead {
        ahead.complete(body);
    }
    if let Some(chunk) = body {
        ctx.note.bytes_in += chunk.len() as u64;
        flight.body += chunk.len() as u64;
        let (live, now) = (flight.entry.live(), gateway.clock.steady_ms());
        live.moved_ms.store(now, Relaxed);
        live.pace.moved(flight.body, now);
        if live.first_byte_due_ms.load(Relaxed) > 0 {
            // The provider need not answer before it has the whole request.
            let wait = ctx.snapshot.config.limits.upstream_first_byte_timeout.as_millis();
            let due = now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX / 2));
            live.first_byte_due_ms.store(due, Relaxed);
        }
        if !upgraded && flight.body > flight.max_body {
            *body = None;
            return refuse(ctx, Code::BodyTooLarge.into());
        }
        if upgraded && flight.is_read() {
            read(gateway, body, ctx);
        } else if upgraded && let Some(frames) = &mut flight.frames {
            let limit = ctx.snapshot.config.limits.max_ws_message;
            if frames.up.follow(chunk, limit).is_err() {
                *body = None;
                flight.entry.live().handle.cut(Cut::MessageTooBig);
                return refuse(ctx, Code::MessageTooBig.into());
            }
        }
    }
    if end && let Some(flight) = ctx.flight() {
        flight.entry.live().pace.end();
    }
    if ctx.flight().is_some_and(|flight| flight.ahead.is_some())
        && let Err(denial) = look(gateway, ctx, body, end)
    {
        *body = None;
        return refuse(ctx, denial);
    }
    let empty = body.as_ref().is_none_or(Bytes::is_empty);
    if end && upgraded && empty {
        say_goodbye(session, ctx).await?;
    }
    if end
        && let Some(flight) = ctx.flight()
        && let Some(creation) = flight.stream.as_mut().and_then(|s| s.creation.as_mut())
    {
        creation.forwarded(true);
    }
    if end && !upgraded && empty {
        // HTTP/2 may end a body with an empty frame. Pingora would write it as a chunk, which is
        // what ends a chunked body, and then end the body once more: to the provider the second
        // end is the beginning of the next request on the connection.
        *body = None;
    }
    Ok(())
}

/// Reads a socket's messages. One that may not pass ends the socket behind what came before it:
/// with the cut, the caller's side ends.
fn read(gateway: &Gateway, body: &mut Option<Bytes>, ctx: &mut Ctx) {
    let Stage::Passed(flight) = &mut ctx.stage else { return };
    let Flight { frames, permit, entry, refusal, .. } = &mut **flight;
    let Some(reader) = frames.as_mut().and_then(|frames| frames.reader.as_mut()) else { return };
    let against = Against {
        gateway,
        config: &ctx.snapshot.config,
        permit,
        live: entry.live(),
        changes: ctx.changes,
        note: &mut ctx.note,
    };
    let (passes, denial) = reader.pass(body.take().unwrap_or_default(), against);
    *body = Some(passes);
    if let Some(denial) = denial
        && entry.live().handle.cut(Cut::Refused)
    {
        gateway.metrics.session_cut(denial.code.as_str());
        *refusal = Some(denial);
    }
}

/// Searches a chunk, and puts the one before in its place; at the end decides, and lets all go.
fn look(
    gateway: &Gateway,
    ctx: &mut Ctx,
    body: &mut Option<Bytes>,
    end: bool,
) -> Result<(), Denial> {
    let config = &ctx.snapshot.config;
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let Some(mut ahead) = flight.ahead.take() else { return Ok(()) };
    // Pingora takes no body for its end, and writes nothing for an empty one.
    let chunk = body.take().unwrap_or_default();
    ahead.search(&chunk, |model| flight.permit.allows(config, model))?;
    // As long as announced bytes are missing the provider has no whole request; nothing need stay.
    let more_is_due = flight.length.is_some_and(|length| flight.body < length);
    let before = if more_is_due { chunk } else { ahead.hold(chunk) };
    if !end {
        flight.ahead = Some(ahead);
        *body = Some(before);
        return Ok(());
    }
    let (named, last) = ahead.finish()?;
    let live = flight.entry.live();
    flight.permit.decide(config, &live.reach.target(), named)?;
    if let Some(permit) = flight.permit.decided() {
        // Decided once: a second attempt replays what was decided.
        let _ = live.reach.model.set(permit.model().map(Into::into));
    }
    // A changed grant could not be held against the model while nobody knew it.
    if gateway.changes.load(Acquire) != ctx.changes && !gateway.still_allows(live) {
        return Err(Code::TokenInvalid.into());
    }
    *body = Some(search::join(before, Some(last)));
    Ok(())
}

/// The caller's side has ended. If we ended it, the caller learns why: a close frame, unless it
/// would land inside another frame.
async fn say_goodbye(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let Stage::Passed(flight) = &ctx.stage else { return Ok(()) };
    let Some(why) = flight.entry.live().handle.was_cut() else { return Ok(()) };
    let free = flight.frames.as_ref().is_some_and(|f| f.may_close());
    let code = flight.refusal.as_ref().map_or(why.code(), |denial| denial.code);
    ctx.note.denial = Some(code);
    if free {
        let frame = close::frame(code.close_status(), code.as_str());
        session.write_response_body(Some(frame.into()), false).await?;
    }
    Ok(())
}

fn refuse(ctx: &mut Ctx, denial: Denial) -> Result<()> {
    let code = denial.code;
    if let Some(flight) = ctx.flight() {
        flight.refusal = Some(denial);
    }
    Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str())
}

//! The request's body on its way: counted, limited; a socket's frames followed.
//!
//! Never yields before the upgrade has happened: Pingora tears WebSocket upgrades down when this
//! phase does.

use super::ctx::{Ctx, Stage};
use super::gateway::Gateway;
use crate::policy::{Code, Denial};
use crate::session::connection::Cut;
use crate::ws::close;
use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::atomic::Ordering::Relaxed;

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
    if let Some(chunk) = body {
        ctx.note.bytes_in += chunk.len() as u64;
        flight.body += chunk.len() as u64;
        let (live, now) = (flight.entry.live(), gateway.clock.steady_ms());
        live.moved_ms.store(now, Relaxed);
        if live.first_byte_due_ms.load(Relaxed) > 0 {
            // The provider need not answer before it has the whole request.
            let wait = ctx.snapshot.config.limits.upstream_first_byte_timeout.as_millis();
            let due = now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX / 2));
            live.first_byte_due_ms.store(due, Relaxed);
        }
        if !upgraded && flight.body > flight.max_body {
            *body = None;
            return refuse(ctx, Code::BodyTooLarge);
        }
        if upgraded && let Some(frames) = &mut flight.frames {
            let limit = ctx.snapshot.config.limits.max_ws_message;
            if frames.up.follow(chunk, limit).is_err() {
                *body = None;
                flight.entry.live().handle.cut(Cut::MessageTooBig);
                return refuse(ctx, Code::MessageTooBig);
            }
        }
    }
    let empty = body.as_ref().is_none_or(Bytes::is_empty);
    if end && upgraded && empty {
        say_goodbye(session, ctx).await?;
    }
    if end && !upgraded && empty {
        // HTTP/2 may end a body with an empty frame. Pingora would write it as a chunk, which is
        // what ends a chunked body, and then end the body once more: to the provider the second
        // end is the beginning of the next request on the connection.
        *body = None;
    }
    Ok(())
}

/// The caller's side has ended. If we ended it, the caller learns why: a close frame, unless it
/// would land inside another frame.
async fn say_goodbye(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let Stage::Passed(flight) = &ctx.stage else { return Ok(()) };
    let Some(why) = flight.entry.live().handle.was_cut() else { return Ok(()) };
    let free = flight.frames.as_ref().is_some_and(|f| f.may_close());
    ctx.note.denial = Some(why.code());
    if free {
        session
            .write_response_body(
                Some(close::frame(why.code().close_status(), why.code().as_str()).into()),
                false,
            )
            .await?;
    }
    Ok(())
}

fn refuse(ctx: &mut Ctx, code: Code) -> Result<()> {
    if let Some(flight) = ctx.flight() {
        flight.refusal = Some(Denial::from(code));
    }
    Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str())
}

//! The answer's body on its way, chunk by chunk as it comes: counted, a socket's frames followed.

use super::ctx::{Ctx, Stage};
use super::gateway::Gateway;
use super::held;
use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::atomic::Ordering::Relaxed;

/// Takes note of a chunk.
pub(super) fn pass(
    gateway: &Gateway,
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    flight.entry.live().moved_ms.store(gateway.clock.steady_ms(), Relaxed);
    if flight.held.is_some() {
        return held::take(gateway, body, end, ctx);
    }
    // A connection of the provider's that we have ended may look like the end of its answer.
    let handle = &flight.entry.live().handle;
    if end && handle.substream().is_some_and(|s| s.was_cut().is_some()) {
        return Error::e_explain(ErrorType::ConnectionClosed, "the request was ended");
    }
    if body.is_some() && flight.stream.is_some() {
        super::stream::goes_on(gateway, ctx)?;
    }
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let Some(chunk) = body else { return Ok(()) };
    ctx.note.bytes_out += chunk.len() as u64;
    if session.was_upgraded()
        && let Some(frames) = &mut flight.frames
    {
        // Providers may send what they like; only where frames end matters here.
        let _ = frames.down.follow(chunk, u64::MAX);
    }
    Ok(())
}

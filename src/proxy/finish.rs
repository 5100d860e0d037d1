//! The end of a request, however it came: one line in the access log, the counters, and the
//! connection goes back to waiting.

use super::ctx::Ctx;
use super::gateway::Gateway;
use crate::telemetry::Transport;
use crate::telemetry::line::Line;
use crate::telemetry::provider_metrics::Observation;
use pingora_proxy::Session;

/// Writes the line and counts.
pub(super) fn settle(gateway: &Gateway, session: &Session, ctx: &mut Ctx) {
    let duration_us = ctx.elapsed_us();
    let note = &ctx.note;
    let transport = note.transport.unwrap_or(Transport::Http);
    let reached = note.provider.and_then(|i| ctx.snapshot.upstreams.get(i));
    if let Some(reached) = reached {
        reached.metrics.observe(&Observation {
            transport,
            status: note.status,
            duration_us,
            first_byte_us: note.first_byte_us,
            bytes_in: note.bytes_in,
            bytes_out: note.bytes_out,
        });
    }
    let model = note.live.as_ref().and_then(|live| live.reach.model.as_deref());
    let token = note.token.as_ref();
    let request = session.req_header();
    ctx.snapshot.access_log.write(&Line {
        time_ms: gateway.clock.wall_ms(),
        request_id: ctx.id.as_str(),
        token_id: token.map(|t| &*t.id),
        token_name: token.map(|t| &*t.name),
        provider: ctx.provider().map(|p| &*p.name),
        model,
        transport,
        method: request.method.as_str(),
        path: request.uri.path(),
        status: note.status,
        denial: note.denial.map(crate::policy::Code::as_str),
        bytes_in: note.bytes_in,
        bytes_out: note.bytes_out,
        duration_us,
        first_byte_us: note.first_byte_us,
        client: note.client,
    });
    if let Some(connection) = &ctx.connection {
        connection.rest(ctx.snapshot.config.limits.idle_timeout);
    }
}

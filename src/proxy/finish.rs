//! The end of a request, however it came: one line in the access log, the counters, and the
//! connection goes back to waiting.

use super::ctx::{Ctx, Stage, Unsettled};
use super::gateway::Gateway;
use crate::telemetry::Transport;
use crate::telemetry::line::Line;
use crate::telemetry::provider_metrics::Observation;
use http::{Method, Uri};
use pingora_proxy::Session;

/// Writes the line, counts, and lets the connection go.
pub(super) fn settle(gateway: &Gateway, session: &Session, ctx: &mut Ctx) {
    let request = session.req_header();
    ctx.settled();
    write(gateway, &request.method, &request.uri, ctx);
    if let Some(connection) = &ctx.connection {
        connection.rest(ctx.snapshot.config.limits.idle_timeout);
    }
}

/// Writes the line and counts.
pub(super) fn write(gateway: &Gateway, method: &Method, uri: &Uri, ctx: &Ctx) {
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
    let decided = note.live.as_ref().and_then(|live| live.reach.model.get()?.as_deref());
    let model = note.model.as_deref().or(decided);
    let token = note.token.as_ref();
    ctx.snapshot.access_log.write(&Line {
        // The line is written at the end and says when the request began.
        time_ms: gateway.clock.wall_ms().saturating_sub(duration_us / 1_000),
        request_id: ctx.id.as_str(),
        token_id: token.map(|t| &*t.id),
        token_name: token.map(|t| &*t.name),
        provider: ctx.provider().map(|p| &*p.name),
        model,
        transport,
        method: method.as_str(),
        path: uri.path(),
        status: note.status,
        denial: note.denial.map(crate::policy::Code::as_str),
        bytes_in: note.bytes_in,
        bytes_out: note.bytes_out,
        duration_us,
        first_byte_us: note.first_byte_us,
        client: note.client,
    });
}

/// The end of a request that is dropped before its own: an HTTP/2 stream whose caller does not read
/// can be ended in no other way.
impl Drop for Ctx {
    fn drop(&mut self) {
        if let Some(Unsettled { gateway, method, uri }) = self.unsettled.take() {
            if let Stage::Passed(flight) = &self.stage
                && let Some(cut) = flight.entry.live().handle.was_cut()
            {
                self.note.denial = Some(cut.code());
            }
            write(&gateway, &method, &uri, self);
        }
    }
}

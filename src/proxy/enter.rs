//! A request that has passed the gate enters the registry: from here on it can be found and ended,
//! and every later phase finds what admission knew.

use super::admit::Answers;
use super::ctx::{Ctx, Flight, Frames, Stage};
use super::gateway::Gateway;
use crate::policy::Pass;
use crate::session::handle::Handle;
use crate::session::pace::Pace;
use crate::session::registry::{Live, Reach};
use pingora_proxy::Session;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// Requests in flight from which on long bodies are read in smaller pieces: each has several pieces on
/// its way, and fifty of them must not take 16 MiB.
const MANY: usize = 8;

/// Enters it.
pub(super) fn enter(
    gateway: &Gateway,
    session: &Session,
    ctx: &mut Ctx,
    asked: Answers,
    permit: Pass,
    handle: Handle,
) {
    let config = &ctx.snapshot.config;
    let Some(provider) = config.providers.get(asked.route.provider) else { return };
    let now = gateway.clock.steady_ms();
    let first_byte = config.limits.upstream_first_byte_timeout.as_millis();
    let live = Live {
        token: permit.token().clone(),
        reach: Reach {
            provider: provider.name.clone(),
            path: asked.decoded,
            class: asked.class,
            method: session.req_header().method.clone(),
            model: match permit.decided() {
                Some(permit) => OnceLock::from(permit.model().map(Into::into)),
                None => OnceLock::new(),
            },
            scoped: permit.is_scoped(),
        },
        handle,
        started_ms: now,
        ends: permit.ends().into(),
        moved_ms: AtomicU64::new(now),
        first_byte_due_ms: AtomicU64::new(now + u64::try_from(first_byte).unwrap_or(u64::MAX / 2)),
        models: Default::default(),
        pace: Pace::new(now, asked.framing.has_body() || asked.framing.unannounced),
    };
    if let Some(connection) = &ctx.connection {
        connection.read_sparingly(gateway.registry.open() >= MANY && asked.framing.may_be_long());
    }
    let entry = gateway.registry.enter(live);
    ctx.note.live = Some(entry.live().clone());
    ctx.stage = Stage::Passed(Box::new(Flight {
        entry,
        permit,
        ahead: asked.ahead,
        provider: asked.route.provider,
        skip: asked.route.skip,
        upgrade: asked.framing.upgrade,
        trusted: asked.trusted,
        scheme: asked.scheme,
        ticket_ends_ms: asked.ticket_ends_ms,
        attempts: 0,
        sent: false,
        body: 0,
        length: asked.framing.length,
        max_body: asked.max_body,
        at_once: asked.framing.fits_at_once(session.req_header().raw_path().len()),
        has_body: asked.framing.has_body(),
        held: None,
        frames: asked.framing.upgrade.then(|| Box::new(Frames::read_by(asked.reader))),
        refusal: None,
        stream: asked.stream,
    }));
}

//! The answer's headers: what is ours to hide is hidden, what the caller's page needs is set.
//!
//! An error answer is kept back whole: providers echo keys in them, and some say only in the body
//! that our key is the problem. While it is read, Pingora is shown an informational header, which
//! it is told to skip; [`super::held`] then decides what the caller gets.

use super::ctx::{Ctx, Held, Stage};
use super::gateway::Gateway;
use super::{location, reject::X_REQUEST_ID, ticket};
use crate::config::Kind;
use crate::cors;
use crate::policy::{Code, Denial};
use crate::provider::key_error;
use crate::slot::extract::offers;
use crate::telemetry::Transport;
use bytes::BytesMut;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The provider has answered: decides whether the answer may pass as it is.
pub(super) fn receive(
    gateway: &Gateway,
    session: &mut Session,
    header: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let status = header.status.as_u16();
    if header.status.is_informational() && status != 101 {
        // What a provider says meanwhile is not for the caller: nobody searches it for keys. The
        // 100 that a caller waits for is ours.
        return skip(session, header);
    }
    let elapsed = ctx.elapsed_us();
    ctx.note.first_byte_us.get_or_insert(elapsed);
    let method = session.req_header().method.clone();
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    if status == 101 && !flight.upgrade {
        let why = "it switched protocols, which nobody had asked for";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    let live = flight.entry.live();
    live.first_byte_due_ms.store(0, Relaxed);
    live.moved_ms.store(gateway.clock.steady_ms(), Relaxed);
    if status < 400 {
        return Ok(());
    }
    if key_error::by_status(status) {
        return key_rejected(gateway, ctx);
    }
    // However zero is written: without a body nothing would let a kept answer go.
    let zero = |l: &http::HeaderValue| l.as_bytes().iter().all(|b| matches!(b, b'0' | b',' | b' '));
    let empty = header.headers.get(CONTENT_LENGTH).is_some_and(zero);
    if method == Method::HEAD || empty {
        return Ok(());
    }
    flight.held = Some(Held {
        header: Box::new(header.clone()),
        body: BytesMut::new(),
        complete: false,
        overflow: false,
    });
    skip(session, header)
}

/// 103 is skipped by the downstream session as it is told here, body filters still run.
fn skip(session: &mut Session, header: &mut ResponseHeader) -> Result<()> {
    session.as_mut().set_ignore_info_resp(true);
    header.set_status(StatusCode::EARLY_HINTS)
}

/// Our key is the problem: the caller's token is not, and nothing of the answer passes.
pub(super) fn key_rejected(gateway: &Gateway, ctx: &mut Ctx) -> Result<()> {
    if let Some(provider) = ctx.provider()
        && let Some(key) = provider.keys.first()
    {
        gateway.metrics.key_error(&provider.name, &key.name);
        log::warn!("provider {} rejected the key {}", provider.name, key.name);
    }
    let code = Code::UpstreamRejectedKey;
    if let Some(flight) = ctx.flight() {
        flight.refusal = Some(Denial::from(code));
    }
    Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str())
}

/// Makes the headers of an answer that passes fit for the caller.
pub(super) fn dress(
    gateway: &Gateway,
    session: &mut Session,
    header: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let status = header.status.as_u16();
    if header.status.is_informational() && status != 101 {
        return Ok(());
    }
    ctx.note.status = status;
    ctx.note.transport = Some(transport(header));
    hide_keys(gateway, header, ctx)?;
    let kind = ctx.provider().map(|p| p.kind);
    if kind != Some(Kind::Generic) {
        header.remove_header(&SET_COOKIE);
    }
    location::rewrite(session, header, ctx)?;
    ticket::rewrite(gateway, session, header, ctx)?;
    for name in &cors::REPLACED {
        if header.headers.contains_key(name) {
            header.remove_header(name);
        }
    }
    let mut result = Ok(());
    let asked = &session.req_header().headers;
    cors::response(&ctx.snapshot.config.cors, kind, asked, |name, value| {
        let set = if name == VARY {
            header.append_header(name, value).map(|_| ())
        } else {
            header.insert_header(name, value)
        };
        if result.is_ok() {
            result = set;
        }
    });
    result?;
    // A provider's own id stays: its support asks for it.
    if !header.headers.contains_key(&X_REQUEST_ID) {
        header.insert_header(&X_REQUEST_ID, ctx.id.as_str())?;
    }
    if status == 101 {
        choose_protocol(session, header)?;
    }
    if session.req_header().version == Version::HTTP_10 {
        // RFC 9112 section 6.1: it can't read chunks; the body ends with the connection.
        header.remove_header(&TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
    if gateway.draining.load(Acquire) {
        session.set_keepalive(None);
    }
    Ok(())
}

fn transport(header: &ResponseHeader) -> Transport {
    let sse = |t: &http::HeaderValue| {
        t.as_bytes().get(..17).is_some_and(|t| t.eq_ignore_ascii_case(b"text/event-stream"))
    };
    if header.status == StatusCode::SWITCHING_PROTOCOLS {
        Transport::WebSocket
    } else if header.headers.get(CONTENT_TYPE).is_some_and(sse) {
        Transport::Sse
    } else {
        Transport::Http
    }
}

/// A header in which the provider echoes a key goes no further.
fn hide_keys(gateway: &Gateway, header: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let redactor = &ctx.snapshot.redactor;
    let leaking: Vec<_> = header
        .headers
        .iter()
        .filter(|(_, value)| redactor.contains(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    if !leaking.is_empty() {
        gateway.metrics.redacted_responses.inc();
    }
    for name in leaking {
        header.remove_header(&name);
    }
    // HTTP/1.1 ignores the phrase (RFC 9112 section 4), and a provider can write what it likes.
    if header.get_reason_phrase() != header.status.canonical_reason() {
        header.set_reason_phrase(header.status.canonical_reason())?;
    }
    Ok(())
}

/// A browser fails if it offered protocols and none is chosen: then it is our own, `keygate`.
fn choose_protocol(session: &Session, header: &mut ResponseHeader) -> Result<()> {
    if header.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(());
    }
    if offers(&session.req_header().headers).any(|offer| offer == "keygate") {
        header.insert_header(SEC_WEBSOCKET_PROTOCOL, "keygate")?;
    }
    Ok(())
}

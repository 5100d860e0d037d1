//! The answer's headers: what is ours to hide is hidden, what the caller's page needs is set.
//!
//! An error answer is kept back whole: providers echo keys in them, and some say only in the body
//! that our key is the problem. While it is read, Pingora is shown an informational header, which
//! it is told to skip; [`super::held`] then decides what the caller gets.

use super::ctx::{Ctx, Flight, Held, Stage};
use super::gateway::Gateway;
use super::{location, reject::X_REQUEST_ID, stream, ticket};
use crate::config::Kind;
use crate::cors;
use crate::policy::{Code, Denial};
use crate::provider::key_error;
use crate::slot::extract::offers;
use crate::telemetry::Transport;
use bytes::BytesMut;
use http::header::{
    CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, VARY,
};
use http::response::Parts as RespParts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
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
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    if status == 101 && !flight.upgrade {
        let why = "it switched protocols, which nobody had asked for";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    let live = flight.entry.live();
    live.first_byte_due_ms.store(0, Relaxed);
    live.moved_ms.store(gateway.clock.steady_ms(), Relaxed);
    if status < 400 && flight.ahead.is_some() {
        // Whether it may be asked at all is not decided yet.
        flight.refusal = Some(Denial::new(
            Code::UpstreamUnreachable,
            "the provider answered before it had the whole request",
        ));
        let code = Code::UpstreamUnreachable;
        return Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str());
    }
    if status < 400 {
        return if flight.is_read() { opens(header, flight) } else { Ok(()) };
    }
    if key_error::by_status(status) {
        return key_rejected(gateway, ctx);
    }
    // However zero is written: without a body nothing would let a kept answer go.
    let zero = |l: &http::HeaderValue| l.as_bytes().iter().all(|b| matches!(b, b'0' | b',' | b' '));
    let empty = header.headers.get(CONTENT_LENGTH).is_some_and(zero);
    if session.req_header().method == Method::HEAD || empty {
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

/// Whether the socket that was asked for is there, and can be read: nothing else may be answered
/// where the model is in its messages, and no extension was offered.
fn opens(header: &ResponseHeader, flight: &mut Flight) -> Result<()> {
    let why = if header.status != StatusCode::SWITCHING_PROTOCOLS {
        "the provider did not open the socket"
    } else if header.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        "the provider agreed to a WebSocket extension that nobody had offered"
    } else {
        return Ok(());
    };
    let code = Code::UpstreamUnreachable;
    flight.refusal = Some(Denial::new(code, why));
    Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str())
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
    if header.status.is_informational() && header.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    // Without the spelling of names, which Pingora keeps in a second map (HTTP has no case), and
    // without the reason phrase: HTTP/1.1 ignores it (RFC 9112 section 4), and a provider can write
    // what it likes there.
    let empty = ResponseHeader::build_no_case(header.status, Some(0))?;
    let mut parts = RespParts::from(std::mem::replace(header, empty));
    let kind = ctx.provider().map(|p| p.kind);
    let seen = Seen::of(&parts.headers, kind, ctx);
    ctx.note.status = parts.status.as_u16();
    ctx.note.transport = Some(match parts.status {
        StatusCode::SWITCHING_PROTOCOLS => Transport::WebSocket,
        _ if seen.events => Transport::Sse,
        _ => Transport::Http,
    });
    if seen.leaks {
        gateway.metrics.redacted_responses.inc();
    }
    for name in &seen.gone {
        parts.headers.remove(name);
    }
    let headers = &mut parts.headers;
    headers.reserve(OURS + if kind == Some(Kind::DurableStreams) { OURS_ON_STREAMS } else { 0 });
    if seen.located {
        location::rewrite(session, headers, ctx);
    }
    if seen.uploads {
        ticket::rewrite(gateway, session, headers, ctx);
    }
    let asked = &session.req_header().headers;
    cors::response(&ctx.snapshot.config.cors, ctx.source(), asked, |name, value| {
        if name == VARY {
            headers.append(name, value);
        } else if name != cors::RESOURCE_POLICY || !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    });
    stream::dress(gateway, &session.req_header().method, &mut parts, ctx);
    let headers = &mut parts.headers;
    // A provider's own id stays: its support asks for it.
    if !seen.request_id
        && let Ok(id) = HeaderValue::from_str(ctx.id.as_str())
    {
        headers.insert(&X_REQUEST_ID, id);
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        choose_protocol(session, headers);
    }
    if session.req_header().version == Version::HTTP_10 {
        // RFC 9112 section 6.1: it can't read chunks; the body ends with the connection.
        headers.remove(TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
    if gateway.draining.load(Acquire) {
        session.set_keepalive(None);
    }
    *header = parts.into();
    Ok(())
}

/// Headers that an answer gets from us at most, Pingora's `Date` and `Connection` with them.
const OURS: usize = 7;

/// Beside these, what every stream's answer gets.
const OURS_ON_STREAMS: usize = 2;

/// What a walk over an answer's headers shows.
#[derive(Default)]
struct Seen {
    /// What goes no further.
    gone: Vec<HeaderName>,
    /// Some of that because the provider echoes a key in it.
    leaks: bool,
    /// There is a `Location` or `Content-Location`.
    located: bool,
    /// It names the place of an upload's next leg.
    uploads: bool,
    /// The provider gave it an id.
    request_id: bool,
    /// The body is a stream of server-sent events.
    events: bool,
}

impl Seen {
    fn of(headers: &HeaderMap, kind: Option<Kind>, ctx: &Ctx) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            let value = value.as_bytes();
            let leaks = ctx.snapshot.redactor.contains(value);
            seen.leaks |= leaks;
            let goes = match name.as_str() {
                "set-cookie" => match kind {
                    Some(Kind::DurableStreams | Kind::Generic) => ctx.snapshot.sets_slot(value),
                    _ => true,
                },
                // Ours to say, see `stream::dress`.
                "stream-allowed-origins" => kind == Some(Kind::DurableStreams),
                "location" | "content-location" => {
                    seen.located = true;
                    false
                }
                "x-goog-upload-url" | "x-goog-upload-control-url" => {
                    seen.uploads = true;
                    false
                }
                "x-request-id" => {
                    seen.request_id = !leaks;
                    false
                }
                "content-type" => {
                    let head = value.get(..17).unwrap_or_default();
                    seen.events = head.eq_ignore_ascii_case(b"text/event-stream");
                    false
                }
                other => cors::replaces(other),
            };
            if (leaks || goes) && !seen.gone.contains(name) {
                seen.gone.push(name.clone());
            }
        }
        seen
    }
}

/// A browser fails if it offered protocols and none is chosen: then it is our own, `keygate`.
fn choose_protocol(session: &Session, answer: &mut HeaderMap) {
    let ours = || offers(&session.req_header().headers).any(|offer| offer == "keygate");
    if !answer.contains_key(SEC_WEBSOCKET_PROTOCOL) && ours() {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("keygate"));
    }
}

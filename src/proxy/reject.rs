//! The only place where a denial becomes HTTP: in the shape that the provider's SDK understands,
//! seen by the caller even if it is still sending.

use super::ctx::{Ctx, Stage};
use super::gateway::Gateway;
use crate::cors;
use crate::policy::{Code, Denial};
use crate::provider::Dialect;
use bytes::Bytes;
use http::HeaderName;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_proxy::Session;
use serde_json::json;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

pub(super) static X_KEYGATE_ERROR: HeaderName = HeaderName::from_static("x-keygate-error");
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
static X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// How much of a refused body is read, so that the caller gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Answers with a denial. Always gives `true`: the answer has been sent.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    denial: Denial,
) -> Result<bool> {
    gateway.metrics.denied(denial.code.as_str());
    let sent = ctx.flight().is_some_and(|f| f.sent);
    let header = header(session, ctx, &denial, sent)?;
    let body = body(ctx.dialect(), &denial, ctx.id.as_str());
    ctx.note.status = denial.code.status();
    ctx.note.denial = Some(denial.code);
    if denial.model.is_some() {
        ctx.note.model.clone_from(&denial.model);
    }
    ctx.stage = Stage::Refused;
    let odd =
        matches!(denial.code, Code::MalformedRequest | Code::HeadersTooLarge | Code::UriTooLong);
    // Where a request could be read differently, nobody knows where the next one begins.
    if odd || gateway.draining.load(Acquire) {
        session.set_keepalive(None);
    }
    write(session, ctx, header, body).await?;
    Ok(true)
}

/// Answers a CORS preflight.
pub(super) async fn preflight(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let mut header = ResponseHeader::build(204, Some(8))?;
    let asked = &session.req_header().headers;
    for (name, value) in cors::preflight(&ctx.snapshot.config.cors, ctx.source(), asked) {
        header.insert_header(name, value)?;
    }
    header.insert_header(&X_REQUEST_ID, ctx.id.as_str())?;
    ctx.note.status = 204;
    write(session, ctx, header, Bytes::new()).await?;
    Ok(true)
}

/// Writes a whole answer; if the request's body is still arriving, drains it and closes.
pub(super) async fn write(
    session: &mut Session,
    ctx: &mut Ctx,
    mut header: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    let request = session.req_header();
    // What was pipelined behind an upgrade must not be read as a request.
    let upgrade = request.headers.contains_key(UPGRADE);
    // On HTTP/2 nobody waits: Pingora can't send a 100 there.
    let waits = request.version != http::Version::HTTP_2
        && request.headers.contains_key(http::header::EXPECT)
        && !ctx.continued
        && session.body_bytes_read() == 0;
    let unread = !session.is_body_done();
    if unread || upgrade {
        session.set_keepalive(None);
    }
    if !matches!(header.status.as_u16(), 204 | 304) {
        header.insert_header(CONTENT_LENGTH, body.len())?;
    }
    if session.req_header().version == http::Version::HTTP_2 {
        // A caller that leaves no room for the answer's body would hold the stream for ever.
        session.set_write_timeout(Some(ctx.snapshot.config.limits.idle_timeout));
    }
    ctx.note.bytes_out += body.len() as u64;
    let end = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(header), end).await?;
    if !end {
        session.write_response_body(Some(body), true).await?;
    }
    // A caller that waits for 100 Continue has its answer and sends nothing.
    if unread && !waits {
        drain(session).await;
    }
    Ok(())
}

/// Reads on, so that the caller's stack does not drop the answer for a broken pipe.
async fn drain(session: &mut Session) {
    let read = async {
        let mut total = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            total += chunk.len();
            if total > DRAIN_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

fn header(session: &Session, ctx: &Ctx, denial: &Denial, sent: bool) -> Result<ResponseHeader> {
    let code = denial.code;
    let mut header = ResponseHeader::build(code.status(), Some(12))?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(&X_KEYGATE_ERROR, code.as_str())?;
    header.insert_header(&X_REQUEST_ID, ctx.id.as_str())?;
    if let Some(ms) = denial.retry_after_ms {
        header.insert_header(RETRY_AFTER, ms.div_ceil(1_000).clamp(1, 60).to_string())?;
        header.insert_header(&RETRY_AFTER_MS, ms.clamp(1, 60_000).to_string())?;
    }
    match code.status() {
        401 => header.insert_header(WWW_AUTHENTICATE, "Bearer")?,
        405 => header.insert_header(ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")?,
        502..=504 if sent => header.insert_header(&X_SHOULD_RETRY, "false")?,
        _ => {}
    }
    cross_origin(session, ctx, &mut header);
    Ok(header)
}

/// What every answer of ours says to browsers.
pub(super) fn cross_origin(session: &Session, ctx: &Ctx, header: &mut ResponseHeader) {
    let request = &session.req_header().headers;
    cors::response(&ctx.snapshot.config.cors, ctx.source(), request, |name, value| {
        let result = if name == VARY {
            header.append_header(name, value).map(|_| ())
        } else {
            header.insert_header(name, value)
        };
        debug_assert!(result.is_ok(), "static header names are valid");
    });
}

/// The body, in the provider's shape.
fn body(dialect: Dialect, denial: &Denial, request_id: &str) -> Bytes {
    let (status, code, message) = (denial.code.status(), denial.code.as_str(), &*denial.message);
    let value = match dialect {
        Dialect::OpenAi => json!({"error": {
            "message": message, "type": openai_type(status), "code": code, "param": null
        }}),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": format!("{message} ({code})")},
            "request_id": request_id
        }),
        Dialect::Gemini => json!({"error": {
            "code": status, "message": format!("{message} ({code})"), "status": gemini_status(status)
        }}),
        Dialect::Detail => json!({"detail": message}),
        Dialect::Plain => json!({"error": {"code": code, "message": message}}),
    };
    Bytes::from(value.to_string())
}

/// platform.openai.com/docs/guides/error-codes
fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 | 429 => "rate_limit_error",
        403 => "permission_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// docs.anthropic.com/en/api/errors
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// google.rpc.Code, by cloud.google.com/apis/design/errors
fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        405 => "UNIMPLEMENTED",
        500 => "INTERNAL",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INVALID_ARGUMENT",
    }
}

/// The denial that an error of Pingora's amounts to; `None` where nobody is left to tell.
pub(super) fn denial_of(error: &pingora_core::Error) -> Option<Code> {
    use pingora_core::{ErrorSource, ErrorType::*};
    match (error.esource(), error.etype()) {
        (
            ErrorSource::Downstream,
            // A stream that its caller has reset is a connection that it has closed.
            ConnectionClosed | ReadError | WriteError | ReadTimedout | WriteTimedout | H2Error,
        ) => None,
        (ErrorSource::Downstream, _) => Some(Code::MalformedRequest),
        (_, ReadTimedout | WriteTimedout) => Some(Code::UpstreamTimeout),
        (_, ConnectTimedout | TLSHandshakeTimedout) => Some(Code::UpstreamTimeout),
        (ErrorSource::Upstream, _) => Some(Code::UpstreamUnreachable),
        _ => Some(Code::InternalError),
    }
}

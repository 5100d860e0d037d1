//! keygate's own endpoints: which paths are theirs, and carrying question and answer. What they
//! say is `policy::own::Endpoints`', behind the same gate as everything else.

use super::admit::Answers;
use super::canonical::Framing;
use super::ctx::{Ctx, Note};
use super::gateway::Gateway;
use super::reject;
use crate::policy::own::{Answer, JWKS, Own, Question};
use crate::policy::{Class, Code, Denial, Permit};
use crate::provider::Dialect;
use crate::token::mint::shape::Shape;
use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_TYPE, IF_NONE_MATCH};
use pingora::http::ResponseHeader;
use pingora_core::Result;
use pingora_proxy::Session;
use std::time::Duration;

/// Bytes of a request for a token: a session's instructions may be long.
const MAX_BODY: u64 = 256 << 10;

/// The endpoint at a whole path, where it is keygate's own.
///
/// # Errors
/// 405 for a method that it does not know.
pub(super) fn at(method: &Method, path: &str) -> Result<Option<Own>, Denial> {
    if path == JWKS {
        return match *method {
            Method::GET | Method::HEAD => Ok(Some(Own::Jwks)),
            _ => Err(Code::MethodNotAllowed.into()),
        };
    }
    if *method != Method::POST {
        return Ok(None);
    }
    // What differs in case or by a verb is the provider's, and is refused as minting there.
    Ok(Shape::of(path.trim_end_matches('/')).map(Own::Mint))
}

/// It leads to no provider, whatever its path says.
pub(super) fn claim(found: &mut Answers, note: &mut Note, own: Own) {
    found.own = Some(own);
    if let Own::Mint(shape) = own {
        found.class = Class::Minting;
        found.max_body = MAX_BODY.min(found.max_body);
        note.dialect = Some(dialect(shape));
    }
}

/// The shape of errors that its callers know.
fn dialect(shape: Shape) -> Dialect {
    match shape {
        Shape::Client => Dialect::Detail,
        Shape::Secret | Shape::Session => Dialect::OpenAi,
        Shape::Gemini => Dialect::Gemini,
    }
}

/// Answers with the published keys.
pub(super) async fn jwks(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let known = session.req_header().headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let answer = gateway.endpoints.jwks(known);
    send(gateway, session, ctx, answer).await
}

/// Mints. The permit holds its places until the answer is out.
pub(super) async fn mint(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    asked: Answers,
    permit: Permit,
) -> Result<bool> {
    let Some(Own::Mint(shape)) = asked.own else {
        // A path on which the provider would mint, and we do not.
        return reject::answer(gateway, session, ctx, Code::MayNotMint.into()).await;
    };
    if asked.expects_continue && !asked.continued {
        session.write_continue_response().await?;
        ctx.continued = true;
    }
    let within = ctx.snapshot.config.limits.idle_timeout;
    let body = match read(session, asked.framing, asked.max_body, within).await {
        Ok(body) => body,
        Err(denial) => return reject::answer(gateway, session, ctx, denial).await,
    };
    ctx.note.bytes_in += body.len() as u64;
    let question = Question { shape, token: permit.token().clone(), body };
    let (endpoints, snapshot) = (gateway.endpoints.clone(), ctx.snapshot.clone());
    let minted = tokio::task::spawn_blocking(move || endpoints.mint(&question, &snapshot.config));
    match minted.await {
        Ok(answer) => send(gateway, session, ctx, answer).await,
        Err(_) => reject::answer(gateway, session, ctx, Code::InternalError.into()).await,
    }
}

async fn read(
    session: &mut Session,
    framing: Framing,
    limit: u64,
    within: Duration,
) -> Result<Bytes, Denial> {
    if !framing.has_body() && (!framing.unannounced || session.as_mut().is_body_empty()) {
        return Ok(Bytes::new());
    }
    let broken = |_| Denial::new(Code::InvalidBody, "the body ended early");
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_request_body().await.map_err(broken)? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(Code::BodyTooLarge.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let late = || Denial::new(Code::InvalidBody, "the body did not arrive in time");
    tokio::time::timeout(within, reading).await.unwrap_or_else(|_| Err(late()))
}

async fn send(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    answer: Answer,
) -> Result<bool> {
    let mut header = ResponseHeader::build(answer.status, Some(12))?;
    if answer.status != 304 {
        header.insert_header(CONTENT_TYPE, "application/json")?;
    }
    header.insert_header(&reject::X_REQUEST_ID, ctx.id.as_str())?;
    for (name, value) in answer.headers {
        header.insert_header(name, value)?;
    }
    if let Some(code) = answer.denial {
        gateway.metrics.denied(code.as_str());
        header.insert_header(&reject::X_KEYGATE_ERROR, code.as_str())?;
    }
    reject::cross_origin(session, ctx, &mut header);
    ctx.note.status = answer.status;
    ctx.note.denial = answer.denial;
    reject::write(session, ctx, header, answer.body).await?;
    Ok(true)
}

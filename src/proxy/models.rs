//! Step 12's reading: every place in which a request names a model.
//!
//! A JSON body is read up to 64 KiB, Pingora's replay buffer: once that overflows nothing would
//! reach the provider. A longer body of a token with models is refused; nothing is let through
//! unread.

use super::canonical::Framing;
use crate::body::json_model::{self, Refused, Wanted};
use crate::config::{Kind, Provider};
use crate::policy::{Code, Denial, model::Named};
use crate::provider::path::Path;
use crate::provider::{BodyPlaces, ModelPlaces};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use pingora_proxy::Session;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What Pingora keeps for replay.
const READ: usize = 64 << 10;

/// Whether a model segment of this provider may hold `%2F` (`org%2Fmodel`).
pub fn segments_may_hold_slashes(provider: &Provider, path: &Path<'_>) -> bool {
    matches!(provider.kind, Kind::OpenAi | Kind::Generic)
        && !path.decoded().split('/').any(|s| matches!(s, "." | ".." | ""))
        && path
            .raw()
            .split_once("/models/")
            .is_some_and(|(head, _)| !super::canonical::has_slash(head))
}

/// The request's body, as far as reading it goes.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// What the headers say of it.
    pub(super) framing: Framing,
    /// How long it may take to arrive.
    pub(super) within: Duration,
}

impl Body {
    /// Whether it has to be read for its models.
    pub(super) fn is_read(self, places: &ModelPlaces<'_>, session: &mut Session) -> bool {
        let mut unannounced = || self.framing.unannounced && !session.as_mut().is_body_empty();
        places.body != BodyPlaces::None && (self.framing.has_body() || unannounced())
    }
}

/// Collects from path, query and body.
///
/// # Errors
/// 400, 413, 415.
pub(super) async fn collect(
    provider: &Provider,
    places: &ModelPlaces<'_>,
    session: &mut Session,
    body: Body,
) -> Result<Named, Denial> {
    let mut named = Named { expected: places.expected, ..Named::default() };
    if places.body == BodyPlaces::Frames {
        // Frames are not read: such a request has named no model yet.
        return Ok(named);
    }
    if let Some(segment) = &places.path {
        named.add(decoded(segment)?);
    }
    let query = session.req_header().uri.query();
    // AI providers take `?model=` on some paths; whoever sends it on another means it.
    let name = places.query.or((provider.kind != Kind::Generic).then_some("model"));
    if let (Some(name), Some(query)) = (name, query) {
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_decode_str(key).decode_utf8_lossy();
            if key.eq_ignore_ascii_case(name) {
                named.add(decoded(value)?);
            }
        }
    }
    if !body.is_read(places, session) {
        return Ok(named);
    }
    match &places.body {
        BodyPlaces::None | BodyPlaces::Frames => {}
        BodyPlaces::Multipart => {
            return Err(Denial::new(
                Code::UnsupportedBody,
                "this token is limited to certain models, and multipart bodies can't be searched for one yet",
            ));
        }
        BodyPlaces::Json { main, configured, further } => {
            let wanted = Wanted { main, configured: configured.map(Into::into), further };
            let found = json(session, wanted, body).await?;
            found.main.into_iter().chain(found.others).for_each(|model| named.add(model));
            named.further = found.further;
        }
    }
    Ok(named)
}

/// A model in a URL: percent-decoded UTF-8 without control characters or blanks around it.
fn decoded(segment: &str) -> Result<Box<str>, Denial> {
    let bad = || Denial::new(Code::AmbiguousModel, "the model in the URL is not a plain name");
    let text = percent_decode_str(segment).decode_utf8().map_err(|_| bad())?;
    if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        return Err(bad());
    }
    Ok(text.into())
}

async fn json(
    session: &mut Session,
    wanted: Wanted<'_>,
    body: Body,
) -> Result<json_model::Found, Denial> {
    let headers = &session.req_header().headers;
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Denial::new(
            Code::UnsupportedBody,
            "this token is limited to certain models, and a compressed body can't be searched for one",
        ));
    }
    let says_json = is_json(headers);
    let mut reading = pin!(read(session, body.framing));
    // Most bodies come with their headers, and need no timer.
    let body = match futures_util::poll!(reading.as_mut()) {
        Poll::Ready(body) => body?,
        Poll::Pending => tokio::time::timeout(body.within, reading)
            .await
            .map_err(|_| Denial::new(Code::InvalidBody, "the body did not arrive in time"))??,
    };
    json_model::scan(&body, wanted).map_err(|refused| match refused {
        Refused::Syntax(_) if !says_json => {
            Denial::new(Code::UnsupportedBody, "the body is not JSON; the model can't be found in it")
        }
        Refused::Syntax(why) => Denial::new(Code::InvalidBody, format!("the body is not valid JSON: {why}")),
        Refused::Duplicate => Denial::new(Code::AmbiguousModel, "the body names the model twice"),
        Refused::TooMany => Denial::new(Code::AmbiguousModel, "the body names more than 64 models"),
        Refused::NotAName => Denial::new(
            Code::AmbiguousModel,
            "the model in the body is not a plain name: a string without blanks around it or control characters",
        ),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).is_none_or(|t| {
        let essence = t.split(';').next().unwrap_or_default().trim().as_bytes();
        let suffix = essence.last_chunk::<5>().is_some_and(|s| s.eq_ignore_ascii_case(b"+json"));
        suffix || essence.eq_ignore_ascii_case(b"application/json")
    })
}

/// The whole body, kept for replay.
async fn read(session: &mut Session, framing: Framing) -> Result<Bytes, Denial> {
    let too_large = || {
        Denial::new(
            Code::BodyTooLarge,
            "this token is limited to certain models, and bodies over 64 KiB can't be searched for one yet",
        )
    };
    let broken = |_| Denial::new(Code::InvalidBody, "the body ended early");
    let length = framing.length;
    if length.is_some_and(|l| l > READ as u64) {
        return Err(too_large());
    }
    session.enable_retry_buffering();
    let Some(first) = session.read_request_body().await.map_err(broken)? else {
        return Ok(Bytes::new());
    };
    if length == Some(first.len() as u64) {
        return Ok(first);
    }
    let mut body = BytesMut::from(first);
    while let Some(chunk) = session.read_request_body().await.map_err(broken)? {
        if body.len() + chunk.len() > READ {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

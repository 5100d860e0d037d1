//! Step 12's reading: every place in which a request names a model.
//!
//! A body is read up to 64 KiB, Pingora's replay buffer, before the provider sees anything of the
//! request. A longer one is searched while it passes ([`Ahead`]); nothing is let through unread.

use super::canonical::Framing;
use super::search::{Ahead, Search};
use super::socket;
use crate::config::{Kind, Provider};
use crate::policy::{Code, Denial, model::Named};
use crate::provider::path::Path;
use crate::provider::socket::Naming;
use crate::provider::{BodyPlaces, ModelPlaces};
use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use pingora_proxy::Session;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What Pingora keeps for replay.
const READ: usize = 64 << 10;

/// The longest frame of HTTP/2, unless its other end is told otherwise (RFC 9113 section 6.5.2).
const FRAME: usize = 16 << 10;

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
    /// Whether it has to be read for its models before the provider sees anything.
    pub(super) fn is_read(self, places: &ModelPlaces<'_>, session: &mut Session) -> bool {
        places.body != BodyPlaces::None && !self.is_long() && self.is_there(session)
    }

    /// Whether there is one.
    fn is_there(self, session: &mut Session) -> bool {
        let mut unannounced = || self.framing.unannounced && !session.as_mut().is_body_empty();
        self.framing.has_body() || unannounced()
    }

    /// Longer than what is read ahead, by its own account.
    fn is_long(self) -> bool {
        self.framing.length.is_some_and(|length| length > READ as u64)
    }

    async fn read(self, session: &mut Session) -> Result<Read, Denial> {
        if self.is_long() {
            return Ok(Read::Begun(Bytes::new()));
        }
        let mut reading = pin!(read(session, self.framing));
        // Most bodies come with their headers, and need no timer.
        match futures_util::poll!(reading.as_mut()) {
            Poll::Ready(body) => body,
            Poll::Pending => tokio::time::timeout(self.within, reading)
                .await
                .map_err(|_| Denial::new(Code::InvalidBody, "the body did not arrive in time"))?,
        }
    }
}

/// Collects from path, query and body; gives what searches a body that is still to come.
///
/// # Errors
/// 400, 415.
pub(super) async fn collect(
    provider: &Provider,
    places: &ModelPlaces<'_>,
    session: &mut Session,
    body: Body,
) -> Result<(Named, Option<Box<Ahead>>), Denial> {
    let mut named = Named { expected: places.expected, ..Named::default() };
    if let Some(messages) = socket::messages(places, session.req_header().uri.query()) {
        let upgrade = body.framing.upgrade;
        if upgrade && messages.joins(session.req_header().uri.query()) {
            let why = "the model of what the socket would join is not known here";
            return Err(Denial::new(Code::ModelNotAllowed, why));
        }
        named.in_messages = messages.named != Naming::Url;
        if named.in_messages && !upgrade {
            // No messages, so no model.
            named.in_messages = false;
            return Ok((named, None));
        }
    } else if body.framing.upgrade && provider.kind != Kind::Generic {
        let why = "what a socket would say on this path is not read here";
        return Err(Denial::new(Code::ModelNotAllowed, why));
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
            // Some servers split at `;` too.
            let other = |part: &str| part.split('=').next().is_some_and(|n| is(n, name));
            if pair.split(';').skip(1).any(other) {
                let why = "the model stands behind a ';' in the query";
                return Err(Denial::new(Code::AmbiguousModel, why));
            }
        }
    }
    if !body.is_there(session) {
        return Ok((named, None));
    }
    let search = Search::of(&places.body, &session.req_header().headers)?;
    let Some(mut search) = search else { return Ok((named, None)) };
    let ahead = match body.read(session).await? {
        Read::Whole(body) => {
            search.feed(&body)?;
            search.finish(&mut named)?;
            None
        }
        Read::Begun(prefix) => {
            named.pending = true;
            Some(Box::new(Ahead::new(&search, prefix)))
        }
    };
    Ok((named, ahead))
}

/// Whether a parameter's name, as it is on the wire, is this one.
fn is(written: &str, name: &str) -> bool {
    percent_decode_str(written).decode_utf8_lossy().eq_ignore_ascii_case(name)
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

/// What could be read of a body.
enum Read {
    /// All of it; Pingora replays it.
    Whole(Bytes),
    /// It is too long. This much has been read, and will not be replayed.
    Begun(Bytes),
}

/// Reads as long as Pingora can replay it.
async fn read(session: &mut Session, framing: Framing) -> Result<Read, Denial> {
    let broken = |_| Denial::new(Code::InvalidBody, "the body ended early");
    session.enable_retry_buffering();
    let Some(first) = session.read_request_body().await.map_err(broken)? else {
        return Ok(Read::Whole(Bytes::new()));
    };
    if framing.length == Some(first.len() as u64) {
        return Ok(Read::Whole(first));
    }
    let mut body = BytesMut::from(first);
    loop {
        // On HTTP/2 the chunk that overflows the replay may be the last, and nothing would be
        // forwarded: it is left to come. What came before is replayed.
        if framing.unannounced && body.len() + FRAME > READ && !session.is_body_done() {
            return Ok(Read::Begun(Bytes::new()));
        }
        let Some(chunk) = session.read_request_body().await.map_err(broken)? else {
            return Ok(Read::Whole(body.freeze()));
        };
        body.extend_from_slice(&chunk);
        if body.len() > READ {
            return Ok(Read::Begun(body.freeze()));
        }
    }
}

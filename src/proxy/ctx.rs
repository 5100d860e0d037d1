//! What a request carries from phase to phase: where it stands, and what is noted for the log.

use super::gateway::{Gateway, Snapshot};
use super::search::Ahead;
use super::socket::Reader;
use super::stream::Watch;
use crate::config::Provider;
use crate::cors::{self, StreamCors};
use crate::policy::{Code, Denial, Pass};
use crate::provider::Dialect;
use crate::session::connection::{Carrier, Connection};
use crate::session::handle::{Handle, Substream};
use crate::session::registry::{Entry, Live};
use crate::telemetry::Transport;
use crate::token::Token;
use crate::values::ids::RequestId;
use crate::ws::frame::Tracker;
use bytes::BytesMut;
use http::{Method, Uri};
use pingora::http::ResponseHeader;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

/// One request.
pub struct Ctx {
    /// The configuration, from start to end.
    pub snapshot: Arc<Snapshot>,
    /// What [`Gateway::changes`] said before that.
    pub changes: u64,
    /// Its id.
    pub id: RequestId,
    /// When it began: its headers were there.
    pub started: Option<Instant>,
    /// Where it came in.
    pub connection: Option<Arc<Connection>>,
    /// What the connection calls this request.
    serving: u64,
    /// The stream on which it came, where it shares the connection.
    substream: Option<Arc<Substream>>,
    /// Where its line goes if it is dropped before its end.
    pub(super) unsettled: Option<Unsettled>,
    /// It waited for `100 Continue`, and was told to go on.
    pub continued: bool,
    /// Where it stands.
    pub stage: Stage,
    /// What the log will say.
    pub note: Note,
}

/// What the log needs of a request that is dropped: an HTTP/2 stream whose caller does not read
/// can be ended in no other way.
pub(super) struct Unsettled {
    pub(super) gateway: Arc<Gateway>,
    pub(super) method: Method,
    pub(super) uri: Uri,
}

/// Where a request stands, with what is known there.
pub enum Stage {
    /// The gate has not decided.
    Arrived,
    /// The gate, or a later phase, has refused; the answer is out or on its way.
    Refused,
    /// It has a permit.
    Passed(Box<Flight>),
}

/// A request with a permit.
pub struct Flight {
    /// The proof.
    pub permit: Pass,
    /// What searches the body, while the permit is pending.
    pub(super) ahead: Option<Box<Ahead>>,
    /// Its place in the registry.
    pub entry: Entry,
    /// Index of its provider.
    pub provider: usize,
    /// How many bytes of the path are not the provider's.
    pub skip: usize,
    /// The request asks for an upgrade to WebSocket.
    pub upgrade: bool,
    /// A peer that is a trusted proxy sent it.
    pub trusted: bool,
    /// Scheme and host that the caller used, where a `Location` may need it.
    pub scheme: &'static str,
    /// When the ticket ends that the request came with, in milliseconds since 1970.
    pub ticket_ends_ms: Option<u64>,
    /// Connection attempts so far.
    pub attempts: usize,
    /// A byte of the request may have reached the provider.
    pub sent: bool,
    /// Bytes of the body that have passed.
    pub body: u64,
    /// How long it is, by its own account.
    pub length: Option<u64>,
    /// How long the body may become.
    pub max_body: u64,
    /// The whole request fits the buffer of any socket: writing it never waits.
    pub at_once: bool,
    /// Its headers announce a body.
    pub has_body: bool,
    /// An error answer that is being read before anybody sees it.
    pub held: Option<Held>,
    /// Frames from the caller, and to it.
    pub frames: Option<Box<Frames>>,
    /// A refusal of a later phase, to be answered when Pingora gives up.
    pub refusal: Option<Denial>,
    /// The stream that it is for.
    pub(super) stream: Option<Box<Watch>>,
}

impl Flight {
    /// Whether the caller's messages are read.
    pub(super) fn is_read(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.reader.is_some())
    }
}

/// Where both directions of a socket stand.
#[derive(Default)]
pub struct Frames {
    /// What reads the caller's messages, where a grant needs that.
    pub(super) reader: Option<Box<Reader>>,
    /// From the caller, where nobody reads them.
    pub up: Tracker,
    /// To the caller.
    pub down: Tracker,
}

impl Frames {
    /// Before the first byte.
    pub(super) fn read_by(reader: Option<Box<Reader>>) -> Self {
        Self { reader, ..Self::default() }
    }

    /// Whether a close frame of ours would land between frames, and none has gone before.
    pub fn may_close(&self) -> bool {
        self.down.at_boundary() && !self.down.closed()
    }
}

/// An error answer of the provider, kept back until it was searched.
pub struct Held {
    /// Status and headers as they came.
    pub header: Box<ResponseHeader>,
    /// The body so far.
    pub body: BytesMut,
    /// Whether the body is all there.
    pub complete: bool,
    /// Whether it grew beyond what is searched.
    pub overflow: bool,
}

/// What is noted for the access log and metrics.
#[derive(Default)]
pub struct Note {
    /// Index of the provider, once routed.
    pub provider: Option<usize>,
    /// What the stream's policy says of the caller's origin, once it has been asked.
    pub stream: Option<StreamCors>,
    /// The shape of errors where the path itself decides it.
    pub dialect: Option<Dialect>,
    /// Whose it is, once authenticated.
    pub token: Option<Arc<Token>>,
    /// What it reached, once admitted.
    pub live: Option<Arc<Live>>,
    /// The model that a message of its socket has named last, or that it may not have.
    pub model: Option<Box<str>>,
    /// Status that the caller got; 0: none.
    pub status: u16,
    /// Why it was refused.
    pub denial: Option<Code>,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    /// When the answer's first byte came.
    pub first_byte_us: Option<u64>,
    /// How it was carried.
    pub transport: Option<Transport>,
    /// Who asked.
    pub client: Option<IpAddr>,
}

impl Ctx {
    /// The flight, if the gate passed.
    pub fn flight(&mut self) -> Option<&mut Flight> {
        match &mut self.stage {
            Stage::Passed(flight) => Some(flight),
            Stage::Arrived | Stage::Refused => None,
        }
    }

    /// The configured provider that the request leads to.
    pub fn provider(&self) -> Option<&Provider> {
        self.snapshot.config.providers.get(self.note.provider?)
    }

    /// Whose answer it will be, for the page that asked.
    pub(super) fn source(&self) -> cors::Source {
        let provider = self.provider();
        cors::Source {
            kind: provider.map(|provider| provider.kind),
            cookie: provider.is_some_and(|provider| provider.cookie.is_some()),
            stream: self.note.stream,
        }
    }

    /// The shape of errors on this route.
    pub fn dialect(&self) -> Dialect {
        let reached = self.note.provider.and_then(|i| self.snapshot.upstreams.get(i));
        self.note.dialect.unwrap_or_else(|| reached.map_or(Dialect::Plain, |r| r.api.dialect))
    }

    /// Microseconds since the request began.
    pub fn elapsed_us(&self) -> u64 {
        let elapsed = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Ctx {
    /// A request about which nothing is known yet.
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self {
            changes: gateway.changes.load(Acquire),
            snapshot: gateway.snapshot.load_full(),
            id: RequestId::new(),
            started: None,
            connection: None,
            serving: 0,
            substream: None,
            unsettled: None,
            continued: false,
            stage: Stage::Arrived,
            note: Note::default(),
        }
    }

    /// Its headers are there.
    pub(super) fn arrive(&mut self, gateway: &Arc<Gateway>, session: &pingora_proxy::Session) {
        // The context is made before the headers are read: time spent waiting is not ours.
        self.started = Some(Instant::now());
        self.connection = crate::session::stream::connection_of(session.digest()).cloned();
        if let Some(connection) = &self.connection {
            self.serving = connection.serve();
            if connection.carrier() == Carrier::Http2 {
                self.substream = Substream::current();
                let request = session.req_header();
                self.unsettled = Some(Unsettled {
                    gateway: gateway.clone(),
                    method: request.method.clone(),
                    uri: request.uri.clone(),
                });
            }
        }
    }

    /// What ends this request; `None` where nothing could, and it must not begin.
    pub(super) fn handle(&self) -> Option<Handle> {
        let connection = self.connection.as_ref()?;
        match connection.carrier() {
            Carrier::Http2 => self.substream.clone().map(Handle::Substream),
            Carrier::Plain | Carrier::Tls => {
                Some(Handle::Connection(connection.clone(), self.serving))
            }
        }
    }

    /// Its end has come in the usual way.
    pub(super) fn settled(&mut self) {
        self.unsettled = None;
    }
}

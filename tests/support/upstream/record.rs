//! What an upstream saw: every byte, and what the bytes meant.
//!
//! The parser lives in the record, below its lock, so that a test never sees half a step. It
//! waits behind a request to upgrade until the script has decided what the next bytes are.

use super::super::frame::{self, Frame};
use super::super::wire::{self, Decoder, Head, Headers};
use std::fmt;
use std::ops::Range;
use std::time::Instant;

/// A request as it arrived. It grows while its body arrives.
#[derive(Clone)]
pub(crate) struct Received {
    /// Which connection brought it, counted from 0.
    pub(crate) connection: usize,
    /// The method, as sent.
    pub(crate) method: String,
    /// The target, exactly as on the wire.
    pub(crate) target: String,
    /// `HTTP/1.1`
    pub(crate) version: String,
    /// In order, names as written.
    pub(crate) headers: Headers,
    /// Out of its framing.
    pub(crate) body: Vec<u8>,
    /// Behind a chunked body.
    pub(crate) trailers: Headers,
    /// The body's end has come.
    pub(crate) complete: bool,
    /// When the head was whole.
    pub(crate) at: Instant,
    /// Head and body as on the wire.
    pub(crate) raw: Vec<u8>,
    place: Range<usize>,
    /// Nothing more of it can come: it is complete, or its connection is gone.
    settled: bool,
}

impl Received {
    /// The only value of a header; panics when it came twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::value(&self.headers, name)
    }

    /// Every value of a header.
    pub(crate) fn headers_named(&self, name: &str) -> Vec<&[u8]> {
        wire::values(&self.headers, name).collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("the upstream received no JSON ({e}): {self:?}"))
    }

    pub(super) fn wants_upgrade(&self) -> bool {
        wire::values(&self.headers, "upgrade").next().is_some()
    }

    pub(super) fn wants_continue(&self) -> bool {
        wire::values(&self.headers, "expect").any(|v| v.eq_ignore_ascii_case(b"100-continue"))
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} {}\n{}",
            self.method,
            self.target,
            self.version,
            wire::show(&self.headers)
        )?;
        let shown = &self.body[..self.body.len().min(2_000)];
        write!(f, "{}", String::from_utf8_lossy(shown))?;
        write!(f, "\n[{} bytes of body, complete: {}]", self.body.len(), self.complete)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The other side closed it in order.
    Fin,
    /// The other side reset it.
    Reset,
    /// The upstream did, because its script said so.
    Script,
}

/// The end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    /// When it was noticed.
    pub(crate) at: Instant,
    /// By whom, and how.
    pub(crate) how: How,
}

/// A connection to the upstream.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// When it was accepted.
    pub(crate) opened: Instant,
    /// How it ended, if it has.
    pub(crate) closed: Option<Closed>,
    /// Requests whose heads it brought.
    pub(crate) requests: usize,
    /// Everything that came.
    pub(crate) raw: Vec<u8>,
    parsed: usize,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Head,
    Body(Decoder, usize),
    /// A request to upgrade was seen: what the next bytes are is not decided.
    Undecided,
    Frames(usize),
}

/// One WebSocket, from its 101 on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Socket {
    /// Which connection it is on.
    pub(crate) connection: usize,
    /// The subprotocol that was chosen.
    pub(crate) protocol: Option<String>,
    /// Every frame, unmasked, in order.
    pub(crate) frames: Vec<Frame>,
    /// Messages (opcode and payload), fragments put together; control frames are among them.
    pub(crate) messages: Vec<(u8, Vec<u8>)>,
    /// The close frame, if one came: code and reason, if it had any.
    pub(crate) close: Option<Option<(u16, String)>>,
    pending: Option<(u8, Vec<u8>)>,
}

impl Socket {
    /// The text messages.
    pub(crate) fn texts(&self) -> Vec<String> {
        let texts = self.messages.iter().filter(|(opcode, _)| *opcode == frame::TEXT);
        texts.map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()).collect()
    }

    fn take(&mut self, frame: Frame) {
        match frame.opcode {
            frame::CLOSE => self.close = Some(frame.close_code()),
            frame::PING | frame::PONG => {}
            _ => {
                let (_, payload) = self.pending.get_or_insert_with(|| (frame.opcode, Vec::new()));
                payload.extend_from_slice(&frame.payload);
                if frame.fin {
                    self.messages.extend(self.pending.take());
                }
                self.frames.push(frame);
                return;
            }
        }
        self.messages.push((frame.opcode, frame.payload.clone()));
        self.frames.push(frame);
    }
}

/// Everything one upstream saw.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) connections: Vec<Connection>,
    pub(super) sockets: Vec<Socket>,
    requests: Vec<Received>,
}

impl Record {
    pub(super) fn open(&mut self) -> usize {
        self.connections.push(Connection {
            opened: Instant::now(),
            closed: None,
            requests: 0,
            raw: Vec::new(),
            parsed: 0,
            stage: Stage::Head,
        });
        self.connections.len() - 1
    }

    pub(super) fn close(&mut self, connection: usize, how: How) {
        let end = &mut self.connections[connection].closed;
        end.get_or_insert(Closed { at: Instant::now(), how });
        for request in self.requests.iter_mut().filter(|r| r.connection == connection) {
            request.settled = true;
        }
    }

    /// Takes what arrived on a connection.
    pub(super) fn absorb(&mut self, connection: usize, bytes: &[u8]) {
        self.connections[connection].raw.extend_from_slice(bytes);
        while self.step(connection) {}
    }

    /// What follows the request to upgrade on this connection is HTTP: it was not granted.
    pub(super) fn decide_http(&mut self, connection: usize) {
        if matches!(self.connections[connection].stage, Stage::Undecided) {
            self.connections[connection].stage = Stage::Head;
            self.absorb(connection, &[]);
        }
    }

    /// What follows is WebSocket frames. Returns the socket's number.
    pub(super) fn decide_socket(&mut self, connection: usize, protocol: Option<String>) -> usize {
        self.sockets.push(Socket { connection, protocol, ..Socket::default() });
        let socket = self.sockets.len() - 1;
        self.connections[connection].stage = Stage::Frames(socket);
        self.absorb(connection, &[]);
        socket
    }

    /// The number of a connection's `nth` request among all requests.
    pub(super) fn nth_of(&self, connection: usize, nth: usize) -> Option<usize> {
        let mut own = self.requests.iter().enumerate().filter(|(_, r)| r.connection == connection);
        own.nth(nth).map(|(number, _)| number)
    }

    pub(super) fn arrived(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn settled(&self) -> usize {
        self.requests.iter().filter(|r| r.settled).count()
    }

    pub(super) fn is_complete(&self, number: usize) -> bool {
        self.requests[number].complete
    }

    /// A request with its raw bytes.
    pub(super) fn request(&self, number: usize) -> Received {
        let mut request = self.requests[number].clone();
        request.raw = self.connections[request.connection].raw[request.place.clone()].to_vec();
        request
    }

    fn step(&mut self, connection: usize) -> bool {
        let c = &mut self.connections[connection];
        let rest = &c.raw[c.parsed..];
        match &mut c.stage {
            Stage::Undecided => false,
            Stage::Head => {
                let Some(head) = Head::parse(rest) else { return false };
                let place = c.parsed..c.parsed + head.len;
                c.parsed = place.end;
                c.requests += 1;
                let decoder = Decoder::new(head.framing());
                let request = new_request(connection, head, place);
                c.stage = Stage::Body(decoder, self.requests.len());
                self.requests.push(request);
                true
            }
            Stage::Body(decoder, number) => {
                let request = &mut self.requests[*number];
                c.parsed += decoder.feed(rest, &mut request.body);
                request.place.end = c.parsed;
                if !decoder.is_done() {
                    return false;
                }
                request.trailers = std::mem::take(&mut decoder.trailers);
                (request.complete, request.settled) = (true, true);
                c.stage = if request.wants_upgrade() { Stage::Undecided } else { Stage::Head };
                true
            }
            Stage::Frames(socket) => {
                let Some((frame, used)) = Frame::parse(rest) else { return false };
                c.parsed += used;
                self.sockets[*socket].take(frame);
                true
            }
        }
    }
}

fn new_request(connection: usize, head: Head, place: Range<usize>) -> Received {
    let mut words = head.start.splitn(3, ' ').map(str::to_owned);
    Received {
        connection,
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        version: words.next().unwrap_or_default(),
        headers: head.headers,
        body: Vec::new(),
        trailers: Headers::new(),
        complete: false,
        at: Instant::now(),
        raw: Vec::new(),
        place,
        settled: false,
    }
}

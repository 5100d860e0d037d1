//! What an upstream answers: a builder that reads like the test's sentence.
//!
//! It only describes; `deliver` puts it on the wire. What is not asked for is ordinary: status
//! and length right, connection kept, the request read to its end first.

use super::super::frame::Frame;
use super::compress::{Coding, compress};
use std::time::Duration;

/// One scripted answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(super) form: Form,
    pub(super) headers: Vec<(String, String)>,
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) framing: Framing,
    pub(super) pace: Pace,
    pub(super) ending: Ending,
    pub(super) early: bool,
    pub(super) says_continue: bool,
    pub(super) delay: Duration,
    coding: Option<Coding>,
    split: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    Http(u16),
    Raw,
    Silence,
    Reset,
    Socket(Script),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    Pause(Duration),
    Gate,
}

/// What happens when the body has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The body is ended properly, the connection kept.
    Keep,
    /// The body is ended properly, the connection closed.
    Close,
    /// Nothing more comes and nothing is closed.
    Endless,
    /// The last chunk again and again.
    Flood,
    /// Closed behind this many bytes of the body.
    DieAfter(usize),
    /// Reset behind this many bytes of the body.
    ResetAfter(usize),
    /// Closed without the last chunk.
    NoTerminator,
}

/// What a WebSocket upstream does.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) protocol: Option<String>,
    pub(super) first: Vec<Frame>,
    pub(super) echo: bool,
    pub(super) answers_close: bool,
}

impl Answer {
    fn new(form: Form) -> Self {
        Self {
            form,
            headers: Vec::new(),
            chunks: Vec::new(),
            framing: Framing::Length,
            pace: Pace::AtOnce,
            ending: Ending::Keep,
            early: false,
            says_continue: false,
            delay: Duration::ZERO,
            coding: None,
            split: None,
        }
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::new(Form::Http(status))
    }

    /// A status and a body of this type.
    pub(crate) fn body(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::status(status).header("content-type", content_type).chunk(body)
    }

    /// A status and a JSON body (`json!(…)`, or a text that is JSON already).
    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        Self::body(status, "application/json", body.to_string())
    }

    /// Server-sent events, chunked, each in a chunk of its own. What does not begin with a field
    /// name becomes `data:`.
    pub(crate) fn sse<T: AsRef<str>>(events: impl IntoIterator<Item = T>) -> Self {
        let is_field = |e: &str| {
            ["data:", "event:", "id:", "retry:", ":"].iter().any(|field| e.starts_with(field))
        };
        let chunks = events.into_iter().map(|event| match event.as_ref() {
            event if is_field(event) => format!("{event}\n\n"),
            event => format!("data: {event}\n\n"),
        });
        Self::status(200).header("content-type", "text/event-stream").chunks(chunks)
    }

    /// Bytes put on the wire as they are; then the connection is closed, unless
    /// [`endless`](Self::endless).
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Form::Raw).chunk(bytes)
    }

    /// Reads the request and never answers.
    pub(crate) fn hang() -> Self {
        Self::new(Form::Silence)
    }

    /// Resets the connection instead of answering.
    pub(crate) fn reset() -> Self {
        Self::new(Form::Reset)
    }

    /// Accepts the upgrade, then echoes every message.
    pub(crate) fn websocket() -> Self {
        let (protocol, first) = (None, Vec::new());
        Self::new(Form::Socket(Script { protocol, first, echo: true, answers_close: true }))
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The body in these pieces, chunked.
    pub(crate) fn chunks<T: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = T>) -> Self {
        self.chunks = chunks.into_iter().map(Into::into).collect();
        self.framing = Framing::Chunked;
        self
    }

    /// Compresses the body; each chunk can be read as soon as it is there.
    pub(crate) fn gzip(mut self) -> Self {
        self.coding = Some(Coding::Gzip);
        self.header("content-encoding", "gzip")
    }

    /// As [`gzip`](Self::gzip).
    pub(crate) fn brotli(mut self) -> Self {
        self.coding = Some(Coding::Brotli);
        self.header("content-encoding", "br")
    }

    /// As [`gzip`](Self::gzip).
    pub(crate) fn zstd(mut self) -> Self {
        self.coding = Some(Coding::Zstd);
        self.header("content-encoding", "zstd")
    }

    /// Cuts the body, compressed if it is, into chunks of `size` bytes.
    pub(crate) fn split(mut self, size: usize) -> Self {
        self.split = Some(size);
        self.framing = Framing::Chunked;
        self
    }

    /// The body ends with the connection.
    pub(crate) fn until_close(mut self) -> Self {
        (self.framing, self.ending) = (Framing::UntilClose, Ending::Close);
        self
    }

    /// Waits so long before the first byte.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits so long before every chunk but the first.
    pub(crate) fn pause(mut self, pause: Duration) -> Self {
        self.pace = Pace::Pause(pause);
        self
    }

    /// Waits before every chunk, the first too, for `Upstream::release`. The head goes at once.
    pub(crate) fn gated(mut self) -> Self {
        self.pace = Pace::Gate;
        self
    }

    /// Keeps the stream open behind the last chunk until the peer closes or the test ends.
    pub(crate) fn endless(mut self) -> Self {
        self.ending = Ending::Endless;
        self
    }

    /// Sends the last chunk again and again, as fast as the peer reads.
    pub(crate) fn flood(mut self) -> Self {
        (self.framing, self.ending) = (Framing::Chunked, Ending::Flood);
        self
    }

    /// Closes the connection in order when the answer is out.
    pub(crate) fn close(mut self) -> Self {
        self.ending = Ending::Close;
        self.header("connection", "close")
    }

    /// Closes the connection behind so many bytes of the body.
    pub(crate) fn die_after(mut self, bytes: usize) -> Self {
        self.ending = Ending::DieAfter(bytes);
        self
    }

    /// Resets the connection behind so many bytes of the body.
    pub(crate) fn reset_after(mut self, bytes: usize) -> Self {
        self.ending = Ending::ResetAfter(bytes);
        self
    }

    /// Closes the connection behind the chunks, without the one that ends them.
    pub(crate) fn truncate_chunked(mut self) -> Self {
        (self.framing, self.ending) = (Framing::Chunked, Ending::NoTerminator);
        self
    }

    /// Answers as soon as the head has come, without waiting for the body.
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Sends `100 Continue` when the head has come.
    pub(crate) fn says_continue(mut self) -> Self {
        self.says_continue = true;
        self
    }

    /// WebSocket: the subprotocol that is chosen, offered or not.
    pub(crate) fn choose_protocol(mut self, protocol: Option<&str>) -> Self {
        self.script().protocol = protocol.map(str::to_owned);
        self
    }

    /// WebSocket: sends these texts right behind the 101.
    pub(crate) fn greet<T: Into<String>>(self, texts: impl IntoIterator<Item = T>) -> Self {
        let text = |t: T| Frame::new(super::super::frame::TEXT, t.into());
        let frames: Vec<_> = texts.into_iter().map(text).collect();
        self.send_frames(frames)
    }

    /// WebSocket: sends these frames right behind the 101, valid or not.
    pub(crate) fn send_frames(mut self, frames: impl IntoIterator<Item = Frame>) -> Self {
        self.script().first.extend(frames);
        self
    }

    /// WebSocket: closes with a code, behind the greetings.
    pub(crate) fn then_close(self, code: u16, reason: &str) -> Self {
        self.send_frames([Frame::close(code, reason)])
    }

    /// WebSocket: echoes nothing.
    pub(crate) fn quiet(mut self) -> Self {
        self.script().echo = false;
        self
    }

    /// WebSocket: does not answer a close frame, and keeps the connection.
    pub(crate) fn ignore_close(mut self) -> Self {
        self.script().answers_close = false;
        self
    }

    fn chunk(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.chunks = vec![chunk.into()];
        self
    }

    fn script(&mut self) -> &mut Script {
        match &mut self.form {
            Form::Socket(script) => script,
            form => panic!("{form:?} is not a WebSocket: begin with Answer::websocket()"),
        }
    }

    /// The pieces of the body as they go over the wire.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        let pieces = match self.coding {
            None => self.chunks.clone(),
            Some(coding) => compress(coding, &self.chunks),
        };
        match self.split {
            None => pieces,
            Some(size) => pieces.concat().chunks(size).map(<[u8]>::to_vec).collect(),
        }
    }
}

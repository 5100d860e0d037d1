//! A caller that sees exactly what comes back, byte by byte.
//!
//! [`Raw`] is a connection on which anything may be sent; [`Request`] builds ordinary requests;
//! [`Open`] is an answer whose body is still coming. Every byte that was read is handed to the
//! canary: as it was on the wire, out of its framing, and out of its compression.

mod open;
mod request;
mod response;

pub(crate) use open::{Event, Open};
pub(crate) use request::Request;
pub(crate) use response::Response;

use super::wire::{self, Decoder, Framing, Head, Headers};
use super::{canary, within};
use response::observe;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How the other side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// In order.
    Fin,
    /// By a reset.
    Reset,
}

/// A connection that ended where an answer was expected.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) how: How,
    /// What came instead of an answer.
    pub(crate) received: Vec<u8>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Raw {
    reader: Reader,
    writer: OwnedWriteHalf,
}

#[derive(Debug)]
struct Reader {
    half: Option<OwnedReadHalf>,
    /// Read, not yet used.
    buffer: Vec<u8>,
    /// Read, not yet shown to the canary.
    unseen: Vec<u8>,
    ended: Option<How>,
}

#[derive(Debug)]
struct Incoming {
    status: u16,
    headers: Headers,
    interim: Vec<u16>,
    decoder: Decoder,
}

impl Reader {
    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        let Some(half) = self.half.as_mut().filter(|_| self.ended.is_none()) else { return false };
        let from = self.buffer.len();
        match half.read_buf(&mut self.buffer).await {
            Ok(0) => self.ended = Some(How::Fin),
            Ok(_) => self.unseen.extend_from_slice(&self.buffer[from..]),
            Err(_) => self.ended = Some(How::Reset),
        }
        self.ended.is_none()
    }

    async fn head(&mut self, bodiless: bool) -> Result<Incoming, Ended> {
        let mut interim = Vec::new();
        loop {
            while let Some(head) = Head::parse(&self.buffer) {
                self.buffer.drain(..head.len);
                let status = status(&head.start);
                // 101 is an answer: what follows it is another protocol.
                if matches!(status, 100 | 102..200) {
                    interim.push(status);
                    continue;
                }
                let framing = match status {
                    101 | 204 | 304 => None,
                    _ if bodiless => None,
                    _ => head.framing().or(Some(Framing::UntilClose)),
                };
                let decoder = Decoder::new(framing);
                return Ok(Incoming { status, headers: head.headers, interim, decoder });
            }
            if !self.more().await {
                let how = self.ended.unwrap_or(How::Fin);
                return Err(Ended { how, received: std::mem::take(&mut self.buffer) });
            }
        }
    }

    /// Takes some more of a body; false when there is no more.
    async fn piece(&mut self, decoder: &mut Decoder, body: &mut Vec<u8>) -> bool {
        if decoder.is_done() {
            return false;
        }
        if self.buffer.is_empty() && !self.more().await {
            return false;
        }
        let used = decoder.feed(&self.buffer, body);
        self.buffer.drain(..used);
        true
    }

    async fn response(&mut self, bodiless: bool) -> Result<Response, Ended> {
        let head = self.head(bodiless).await;
        let response = match head {
            Ok(mut incoming) => {
                let mut body = Vec::new();
                while self.piece(&mut incoming.decoder, &mut body).await {}
                Ok(finish(incoming, body, self.ended))
            }
            Err(ended) => Err(ended),
        };
        self.show();
        response
    }

    fn show(&mut self) {
        canary::observe("response-wire", &std::mem::take(&mut self.unseen));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.show();
    }
}

fn status(start: &str) -> u16 {
    let code = start.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("not the start of an answer: {start:?}"))
}

fn finish(incoming: Incoming, body: Vec<u8>, ended: Option<How>) -> Response {
    let complete =
        incoming.decoder.may_end_here() && ended != Some(How::Reset) || incoming.decoder.is_done();
    let Incoming { status, headers, interim, decoder } = incoming;
    let response =
        Response { status, headers, body, trailers: decoder.trailers, complete, interim };
    observe(&response.headers, &response.body);
    response
}

impl Raw {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let connecting = within(&format!("a connection to {addr}"), TcpStream::connect(addr));
        let stream = connecting.await.unwrap_or_else(|e| panic!("can't connect to {addr}: {e}"));
        stream.set_nodelay(true).expect("a TCP socket");
        Self::new(stream)
    }

    /// On a connection that is there already.
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (half, writer) = stream.into_split();
        let (buffer, unseen) = (Vec::new(), Vec::new());
        Self { reader: Reader { half: Some(half), buffer, unseen, ended: None }, writer }
    }

    /// Sends bytes as they are; panics when the other side is gone.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection takes what is sent");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other side is gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("the other side to read", self.writer.write_all(bytes.as_ref())).await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn shutdown(&mut self) {
        let _ = self.writer.shutdown().await;
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let _ = self.writer.as_ref().set_zero_linger();
        self.writer.forget();
    }

    /// Reads one answer to its end; panics when the connection ends before its head.
    pub(crate) async fn read_response(&mut self) -> Response {
        self.try_read_response().await.unwrap_or_else(|e| panic!("no answer came: {e:?}"))
    }

    /// Reads one answer to its end, or to the connection's.
    ///
    /// # Errors
    /// The connection ended before the answer's head.
    pub(crate) async fn try_read_response(&mut self) -> Result<Response, Ended> {
        within("an answer", self.reader.response(false)).await
    }

    /// Reads the answer to a `HEAD` request.
    pub(crate) async fn read_response_to_head(&mut self) -> Response {
        let response = within("an answer", self.reader.response(true)).await;
        response.unwrap_or_else(|e| panic!("no answer came: {e:?}"))
    }

    /// Sends and reads at the same time, so that neither side waits for the other. That the rest
    /// of the request could not be sent is no error when an answer came. `head` says that the
    /// request is a `HEAD`.
    ///
    /// # Errors
    /// The connection ended before the answer's head.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], head: bool) -> Result<Response, Ended> {
        let Self { reader, writer } = self;
        let both = async { tokio::join!(writer.write_all(bytes), reader.response(head)) };
        within("an answer", both).await.1
    }

    /// Reads the head of an answer, and leaves its body to be read.
    pub(crate) async fn open(mut self, bodiless: bool) -> Open {
        let head = within("an answer's head", self.reader.head(bodiless)).await;
        let incoming = head.unwrap_or_else(|e| panic!("no answer came: {e:?}"));
        Open::new(self, incoming)
    }

    /// Everything until the other side closes, and how it does.
    pub(crate) async fn read_until_close(&mut self) -> (Vec<u8>, How) {
        within("the connection to end", async { while self.reader.more().await {} }).await;
        self.reader.show();
        let rest = std::mem::take(&mut self.reader.buffer);
        (rest, self.reader.ended.unwrap_or(How::Fin))
    }

    /// Panics unless the other side closes without another byte.
    pub(crate) async fn assert_closed(&mut self) {
        let (rest, _) = self.read_until_close().await;
        assert!(rest.is_empty(), "behind the answer came {:?}", String::from_utf8_lossy(&rest));
    }

    /// At least one more byte that is not used yet; empty at the end.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        if self.reader.buffer.is_empty() {
            within("another byte", self.reader.more()).await;
        }
        std::mem::take(&mut self.reader.buffer)
    }

    /// The stream, and what was read from it and not used.
    pub(crate) fn into_stream(self) -> (TcpStream, Vec<u8>) {
        let Self { mut reader, writer } = self;
        let half = reader.half.take().expect("it is taken only here");
        (half.reunite(writer).expect("halves of one stream"), std::mem::take(&mut reader.buffer))
    }
}

//! Puts an answer on the wire, and says what becomes of the connection.
//!
//! It watches for the peer's leaving wherever it waits, so that no scripted stream outlives the
//! connection it is on. Reading goes on elsewhere (`mod.rs`).

use super::answer::{Answer, Ending, Form, Framing, Pace, Script};
use super::record::{Received, Record};
use super::serve::Shared;
use crate::support::frame::{self, Frame};
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::broadcast::Receiver;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may come.
    Keep,
    /// Our side is shut; the peer may read what is left.
    Shut,
    /// It is dropped as it is.
    Drop,
    /// It is reset.
    Reset,
    /// It waits until the peer closes.
    Wait,
}

/// The writing side of one connection.
pub(super) struct Delivery<'a> {
    pub(super) shared: &'a Shared,
    pub(super) connection: usize,
    pub(super) write: OwnedWriteHalf,
    pub(super) pushed: Receiver<Vec<u8>>,
}

impl Delivery<'_> {
    /// Sends `answer` to `request`. An error means that the peer is gone.
    pub(super) async fn deliver(&mut self, answer: Answer, request: &Received) -> io::Result<Next> {
        self.rest(answer.delay).await?;
        if !matches!(answer.form, Form::Socket(_)) {
            self.shared.record.send_modify(|r| r.decide_http(self.connection));
        }
        match &answer.form {
            Form::Silence => Ok(Next::Wait),
            Form::Reset => Ok(Next::Reset),
            Form::Raw => self.body(&answer, answer.pieces(), None).await,
            Form::Http(status) => self.http(*status, &answer, request).await,
            Form::Socket(script) => self.socket(script, &answer, request).await,
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    async fn http(&mut self, status: u16, answer: &Answer, request: &Received) -> io::Result<Next> {
        let bodiless = request.method == "HEAD" || matches!(status, 204 | 304);
        let pieces = answer.pieces();
        let mut head = start_line(status, answer);
        match answer.framing {
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Length if !matches!(status, 204 | 304) => {
                let length: usize = pieces.iter().map(Vec::len).sum();
                head.push_str(&format!("content-length: {length}\r\n"));
            }
            Framing::Length | Framing::UntilClose => {}
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await?;
        let pieces = if bodiless { Vec::new() } else { pieces };
        let framing = if bodiless { Framing::Length } else { answer.framing };
        self.body(answer, pieces, Some(framing)).await
    }

    async fn body(
        &mut self,
        answer: &Answer,
        pieces: Vec<Vec<u8>>,
        framing: Option<Framing>,
    ) -> io::Result<Next> {
        let chunked = framing == Some(Framing::Chunked);
        let (mut left, next) = match answer.ending {
            Ending::DieAfter(bytes) => (bytes, Next::Drop),
            Ending::ResetAfter(bytes) => (bytes, Next::Reset),
            _ => (usize::MAX, Next::Keep),
        };
        for (i, piece) in pieces.iter().enumerate() {
            self.pace(answer.pace, i).await?;
            let cut = piece.len() >= left;
            self.chunk(&piece[..piece.len().min(left)], piece.len(), chunked).await?;
            if cut {
                return Ok(next);
            }
            left -= piece.len();
        }
        match answer.ending {
            Ending::DieAfter(_) | Ending::ResetAfter(_) => return Ok(next),
            Ending::NoTerminator => return Ok(Next::Shut),
            Ending::Endless => return Ok(Next::Wait),
            Ending::Flood => loop {
                let piece = pieces.last().map_or(&b"flood"[..], Vec::as_slice);
                self.chunk(piece, piece.len(), chunked).await?;
            },
            Ending::Keep | Ending::Close if chunked => self.send(b"0\r\n\r\n").await?,
            Ending::Keep | Ending::Close => {}
        }
        match (answer.ending, framing) {
            (Ending::Close, _) | (_, None) => Ok(Next::Shut),
            _ => Ok(Next::Keep),
        }
    }

    /// One piece, announced as `full` bytes in the chunked framing, and ended if it is that long.
    async fn chunk(&mut self, piece: &[u8], full: usize, chunked: bool) -> io::Result<()> {
        // A chunk of no bytes would end the body.
        if full == 0 || !chunked {
            return self.send(piece).await;
        }
        let end: &[u8] = if piece.len() == full { b"\r\n" } else { b"" };
        self.send(&[format!("{full:x}\r\n").as_bytes(), piece, end].concat()).await
    }

    async fn pace(&mut self, pace: Pace, piece: usize) -> io::Result<()> {
        match pace {
            Pace::Pause(pause) if piece > 0 => self.rest(pause).await,
            Pace::AtOnce | Pace::Pause(_) => Ok(()),
            Pace::Gate => tokio::select! {
                permit = self.shared.gate.acquire() => {
                    permit.map_err(io::Error::other)?.forget();
                    Ok(())
                }
                () = self.shared.closed(self.connection) => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    async fn rest(&mut self, pause: std::time::Duration) -> io::Result<()> {
        if pause.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.shared.closed(self.connection) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn socket(
        &mut self,
        script: &Script,
        answer: &Answer,
        request: &Received,
    ) -> io::Result<Next> {
        let key = request.headers_named("sec-websocket-key").first().copied().unwrap_or_default();
        let mut head = start_line(101, answer);
        head.push_str("upgrade: websocket\r\nconnection: Upgrade\r\n");
        head.push_str(&format!("sec-websocket-accept: {}\r\n", derive_accept_key(key)));
        if let Some(protocol) = &script.protocol {
            head.push_str(&format!("sec-websocket-protocol: {protocol}\r\n"));
        }
        head.push_str("\r\n");
        let mut socket = 0;
        let decide = |r: &mut Record| {
            socket = r.decide_socket(self.connection, script.protocol.clone());
        };
        self.shared.record.send_modify(decide);
        self.send(head.as_bytes()).await?;
        for frame in &script.first {
            self.send(&frame.to_bytes()).await?;
        }
        self.converse(socket, script).await
    }

    async fn converse(&mut self, socket: usize, script: &Script) -> io::Result<Next> {
        let shared = self.shared;
        for seen in 0.. {
            let message = |r: &Record| r.sockets[socket].messages.get(seen).cloned();
            let (opcode, payload) = loop {
                tokio::select! {
                    Ok(bytes) = self.pushed.recv() => self.write.write_all(&bytes).await?,
                    message = shared.find(self.connection, message) => match message {
                        Some(message) => break message,
                        None => return Ok(Next::Drop),
                    },
                }
            };
            if self.reply(opcode, payload, script).await? {
                return Ok(Next::Shut);
            }
        }
        Ok(Next::Wait)
    }

    /// Answers one message; true behind the close.
    async fn reply(&mut self, opcode: u8, payload: Vec<u8>, script: &Script) -> io::Result<bool> {
        let opcode = match opcode {
            frame::CLOSE if script.answers_close => frame::CLOSE,
            frame::PING => frame::PONG,
            frame::TEXT | frame::BINARY if script.echo => opcode,
            _ => return Ok(false),
        };
        self.send(&Frame::new(opcode, payload).to_bytes()).await?;
        Ok(opcode == frame::CLOSE)
    }
}

fn start_line(status: u16, answer: &Answer) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown"));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

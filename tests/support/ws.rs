//! A WebSocket caller: any header, any subprotocol, refusals with their bodies.
//!
//! The handshake is our own, so that a test sees all of an answer that is not 101; the frames
//! are tungstenite's. Whoever wants to send broken frames takes [`upgrade`] and `frame`. Every
//! message that comes is handed to the canary.

use super::client::{Raw, Request, Response};
use super::{canary, within};
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
pub(crate) use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
pub(crate) use tokio_tungstenite::tungstenite::{Error, Message};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An answer that is not 101: status, headers, body.
pub(crate) type Refused = Box<Response>;

/// A WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

/// Opens one; the second value is the subprotocol that was chosen.
///
/// # Errors
/// The answer was not 101.
pub(crate) async fn connect(
    addr: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    protocols: &[&str],
) -> Result<(Socket, Option<String>), Refused> {
    let (raw, answer) = upgrade(addr, path, headers, protocols).await?;
    let chosen = answer.header("sec-websocket-protocol").map(str::to_owned);
    let (stream, rest) = raw.into_stream();
    let stream = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
    Ok((Socket { stream }, chosen))
}

/// Does the handshake only, and leaves the connection for frames of any kind.
///
/// # Errors
/// The answer was not 101.
pub(crate) async fn upgrade(
    addr: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    protocols: &[&str],
) -> Result<(Raw, Response), Refused> {
    let mut request = Request::get(addr, path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    if !protocols.is_empty() {
        request = request.header("Sec-WebSocket-Protocol", protocols.join(", "));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut raw = Raw::connect(addr).await;
    let answer = request.send_on(&mut raw).await;
    if answer.status != 101 {
        return Err(Box::new(answer));
    }
    let accept = derive_accept_key(KEY.as_bytes());
    assert_eq!(answer.header("sec-websocket-accept"), Some(accept.as_str()), "{answer:?}");
    Ok((raw, answer))
}

impl Socket {
    /// Sends a text.
    pub(crate) async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await.expect("the socket takes a text");
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The socket is closed.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), Box<Error>> {
        within("the socket to take a message", self.stream.send(message)).await.map_err(Box::new)
    }

    /// The next message, or how the socket ended without a close frame.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        let next = within("a message", self.stream.next()).await;
        if let Some(Ok(message)) = &next {
            canary::observe("websocket", &message.clone().into_data());
        }
        next
    }

    /// The next text; panics when something else comes. Pings and pongs are passed over.
    pub(crate) async fn hear(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a text should come, not {other:?}"),
            }
        }
    }

    /// Passes over everything up to the close frame; its code and reason. Panics when the
    /// connection ends without one.
    pub(crate) async fn hear_close(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (code.into(), reason.as_str().to_owned());
                }
                Some(Ok(Message::Close(None))) => return (1005, String::new()),
                Some(Ok(_)) => {}
                other => panic!("a close frame should come, not {other:?}"),
            }
        }
    }

    /// Passes over everything until the connection ends, by a close frame or without.
    pub(crate) async fn wait_for_end(&mut self) {
        while let Some(Ok(_)) = self.next().await {}
    }

    /// Begins the closing handshake.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        let _ = within("the socket to close", self.stream.close(Some(frame))).await;
    }
}

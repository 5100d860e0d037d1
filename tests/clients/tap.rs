//! What the gateway sends to the provider, every byte of it.

use crate::support::wire::{Decoder, Head, Headers, value};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Stands between gateway and provider and keeps what the gateway sends.
pub(super) struct Tap {
    pub(super) addr: SocketAddr,
    pub(super) raw: Arc<Mutex<Vec<Vec<u8>>>>,
    cut: Arc<Notify>,
}

/// A request as the provider saw it.
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

impl Tap {
    pub(super) async fn start(provider: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let raw = Arc::new(Mutex::new(Vec::new()));
        let cut = Arc::new(Notify::new());
        let (kept, ends) = (Arc::clone(&raw), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let passing = Self::pass(gateway, provider, Arc::clone(&kept));
                let ends = Arc::clone(&ends);
                tokio::spawn(async move {
                    tokio::select! { () = passing => {}, () = ends.notified() => {} }
                });
            }
        });
        Self { addr, raw, cut }
    }

    /// Ends every connection in whatever it is doing.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    async fn pass(gateway: TcpStream, provider: SocketAddr, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
        let provider = TcpStream::connect(provider).await.expect("the mock listens");
        let (mut from_gateway, mut to_gateway) = gateway.into_split();
        let (mut from_provider, mut to_provider) = provider.into_split();
        let own = {
            let mut kept = kept.lock().expect("nobody panics with it");
            kept.push(Vec::new());
            kept.len() - 1
        };
        let up = async {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from_gateway.read(&mut buffer).await {
                let bytes = &buffer[..count];
                kept.lock().expect("nobody panics with it")[own].extend_from_slice(bytes);
                if to_provider.write_all(bytes).await.is_err() {
                    break;
                }
            }
            // Either side may end first; what it said until then has been passed on.
            let _ = to_provider.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_provider, &mut to_gateway).await;
            let _ = to_gateway.shutdown().await;
        };
        tokio::join!(up, down);
    }

    /// Every request so far, by connection, each of which brings them in order.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let raw = self.raw.lock().expect("nobody panics with it");
        raw.iter().flat_map(|bytes| requests(bytes)).collect()
    }
}

fn requests(mut rest: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(head) = Head::parse(rest) {
        rest = &rest[head.len..];
        let mut body = Vec::new();
        rest = &rest[Decoder::new(head.framing()).feed(rest, &mut body)..];
        // What follows an upgrade is frames.
        let upgrade = value(&head.headers, "upgrade").is_some();
        let line = head.start.strip_suffix(" HTTP/1.1").unwrap_or(&head.start).to_owned();
        seen.push(Seen { line, headers: head.headers, body });
        if upgrade {
            break;
        }
    }
    seen
}

#[test]
fn tap_tells_the_requests_of_a_connection_apart() {
    let raw = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyPOST /b HTTP/1.1\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /c HTTP/1.1\r\n\
        upgrade: websocket\r\n\r\n\x81\x05GET /\r\n\r\n";
    let seen = requests(raw);
    let told: Vec<_> = seen.iter().map(|r| (r.line.as_str(), r.body.as_slice())).collect();
    assert_eq!(told, [("POST /a", &b"body"[..]), ("POST /b", b"abc"), ("GET /c", b"")]);
}

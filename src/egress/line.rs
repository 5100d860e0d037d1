//! Connections to providers that can be hung up from outside, for requests that share their
//! caller's connection: ending the one to the provider ends exactly one of them.
//!
//! A duplicate of the socket lives as long as the connection, in the digest that Pingora hands to
//! every request on it. Whoever claims the connection ends the claim of the request before, so
//! that a cut that comes late does not hit a stranger. Pools tell these connections from others by
//! the peer's group.

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{Digest, GetProxyDigest};
use pingora_core::{Error, ErrorType, OrErr, Result};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// A connection to a provider.
#[derive(Debug)]
pub struct Line {
    socket: TcpStream,
    claim: Mutex<u64>,
}

/// A request's hold on a line.
#[derive(Debug)]
pub struct Claim {
    line: Arc<Line>,
    number: u64,
}

/// The line behind a request's connection to its provider, claimed for it.
pub fn claim(digest: Option<&Digest>) -> Option<Claim> {
    let data = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
    let line: &Arc<Line> = data.downcast_ref()?;
    let mut claim = line.claim.lock();
    *claim += 1;
    Some(Claim { line: line.clone(), number: *claim })
}

impl Claim {
    /// Ends the connection in both directions, unless it serves another request by now.
    pub fn hang_up(&self) {
        let claim = self.line.claim.lock();
        if *claim == self.number {
            // It fails where the other side has ended it already.
            let _ = self.line.socket.shutdown(Shutdown::Both);
        }
    }
}

/// Connects as Pingora does, and keeps the duplicate.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) within: Duration,
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let address = address
            .as_inet()
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "no network address"))?;
        let connecting = tokio::net::TcpStream::connect(address);
        let socket = tokio::time::timeout(self.within, connecting)
            .await
            .or_err(ErrorType::ConnectTimedout, "connecting to the provider")?
            .or_err(ErrorType::ConnectError, "connecting to the provider")?;
        let duplicate = socket
            .as_fd()
            .try_clone_to_owned()
            .or_err(ErrorType::SocketError, "duplicating a socket")?;
        let line = Arc::new(Line { socket: duplicate.into(), claim: Mutex::new(0) });
        let header = Box::new(pingora::http::ResponseHeader::build(200, Some(0))?);
        let mut stream = Stream::from(socket);
        stream.set_proxy_digest(ProxyDigest::new(header, Some(Box::new(line))));
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::protocols::raw_connect::ProxyDigest as Proxied;
    use tokio::io::AsyncReadExt;

    async fn dialled() -> (Stream, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = SocketAddr::Inet(listener.local_addr().unwrap());
        let dial = Dial { within: Duration::from_secs(5) };
        let (stream, accepted) = tokio::join!(dial.connect(&address), listener.accept());
        (stream.unwrap(), accepted.unwrap().0)
    }

    fn digest(stream: &Stream) -> Digest {
        let proxy_digest: Option<Arc<Proxied>> = stream.get_proxy_digest();
        Digest { ssl_digest: None, timing_digest: Vec::new(), proxy_digest, socket_digest: None }
    }

    #[tokio::test]
    async fn only_the_request_that_holds_a_line_can_hang_up() {
        let (mut stream, _other) = dialled().await;
        let digest = digest(&stream);
        let first = claim(Some(&digest)).expect("a line");
        let second = claim(Some(&digest)).expect("the same line");
        first.hang_up();
        let still = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(still.is_err(), "a claim that has ended ends nothing: {still:?}");
        second.hang_up();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
        assert!(ended.expect("at once").is_err(), "the connection has ended");
    }

    #[tokio::test]
    async fn a_line_does_not_outlive_its_connection() {
        let (stream, mut other) = dialled().await;
        drop(stream);
        let ended = tokio::time::timeout(Duration::from_secs(5), other.read(&mut [0])).await;
        assert_eq!(ended.expect("at once").unwrap(), 0, "the duplicate must not keep it open");
    }
}

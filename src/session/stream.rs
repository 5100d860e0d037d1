//! The stream that Pingora gets instead of the socket: it passes everything through, holds
//! requests to their header deadline, and ends when its connection is cut.
//!
//! A cut reads as end-of-file, so that Pingora ends the request in its own way and the filters
//! still get to write a close frame; a write that would have to wait for the peer fails then.

use super::connection::Connection;
use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType, tls::SslDigest,
};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

/// How long the end of a connection may take to be said.
const GOODBYE: Duration = Duration::from_secs(1);

/// A wrapped downstream connection.
pub struct Wrapped {
    inner: Stream,
    connection: Arc<Connection>,
    /// How requests find their connection: Pingora hands this digest to each of them.
    digest: Arc<ProxyDigest>,
    /// Made when a deadline is first waited for, then moved.
    timer: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapped").field("peer", &self.connection.peer()).finish_non_exhaustive()
    }
}

impl Wrapped {
    /// Wraps `inner`.
    ///
    /// # Errors
    /// Never in practice: building the empty header that the digest wants.
    pub fn new(inner: Stream, connection: Arc<Connection>) -> pingora_core::Result<Self> {
        let header = Box::new(pingora::http::ResponseHeader::build(200, Some(0))?);
        let digest = ProxyDigest::new(header, Some(Box::new(connection.clone())));
        Ok(Self { inner, connection, digest: Arc::new(digest), timer: None })
    }

    /// Ready when the headers are overdue.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.connection.deadline() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            // A timer that was set for an earlier request just looks again.
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// The connection on which a request came in.
pub fn connection_of(digest: Option<&pingora_core::protocols::Digest>) -> Option<&Arc<Connection>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.was_cut().is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_read(cx, buf) {
            if buf.filled().len() > before {
                self.connection.arrived();
            }
            return Poll::Ready(result);
        }
        self.connection.wait_read(cx.waker());
        if self.connection.was_cut().is_some() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_deadline(cx) {
            // A connection that was not used again just ends.
            Poll::Ready(()) if self.connection.rests() => Poll::Ready(Ok(())),
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Wrapped {
    /// A write that has to wait: it may not once the connection was cut.
    fn poll_blocked<T>(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.connection.wait_write(cx.waker());
        match self.connection.was_cut() {
            Some(_) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Pending => self.poll_blocked(cx),
            done => done,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Pending => self.poll_blocked(cx),
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.poll_blocked(cx),
            done => done,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Wrapped {
    async fn shutdown(&mut self) {
        // Who has gone already, or does not read, gets no goodbye; that is worth no line in the
        // log, which Pingora would write for TLS.
        let goodbye = tokio::io::AsyncWriteExt::shutdown(&mut self.inner);
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

impl UniqueID for Wrapped {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Wrapped {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Wrapped {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        // Nobody reads it, and it would be allocated for every request.
        Vec::new()
    }
}

impl GetProxyDigest for Wrapped {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Wrapped {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl Peek for Wrapped {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

//! The stream that Pingora gets instead of the socket: it passes everything through, holds
//! requests to their header deadline, looks at heads (`head`), and ends when its connection is cut.
//!
//! A cut reads as end-of-file, so that Pingora ends the request in its own way and the filters
//! still get to write a close frame; a write that would have to wait for the peer fails then.

use super::connection::{Carrier, Connection};
use super::head::Scan;
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
use tokio::time::{Sleep, sleep, sleep_until};

/// How long the end of a connection may take to be said.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long, and how much, is read on behind a head that was refused, so that the caller gets to
/// see the answer: what lies unread when a socket closes resets it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;
/// A small piece, as long as a TLS record; else it is what Pingora's buffer takes, 64 KiB.
const PIECE: usize = 16 << 10;

/// A wrapped downstream connection.
pub struct Wrapped {
    inner: Stream,
    connection: Arc<Connection>,
    /// How requests find their connection: Pingora hands this digest to each of them.
    digest: Arc<ProxyDigest>,
    /// Made when a deadline is first waited for, then moved.
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing on HTTP/2, whose heads are read by no eye but the library's.
    scan: Option<Scan>,
    /// What Pingora is yet to read of the end of a head that was cut.
    tail: &'static [u8],
    /// The head did not come in time.
    late: bool,
    /// Reads on behind an answer, until then and so much more.
    lingers: Option<(Pin<Box<Sleep>>, usize)>,
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
        let scan = (connection.carrier() != Carrier::Http2).then(Scan::default);
        let digest = Arc::new(digest);
        Ok(Self {
            inner,
            connection,
            digest,
            timer: None,
            scan,
            tail: &[],
            late: false,
            lingers: None,
        })
    }

    /// Bytes have arrived behind the first `before` of `buf`.
    fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let begins = self.connection.arrived();
        let Some(scan) = &mut self.scan else { return };
        if begins {
            *scan = Scan::default();
        }
        if scan.is_done() || !self.connection.awaits_head() {
            return;
        }
        let cut = scan.feed(buf.filled().get(before..).unwrap_or_default());
        if let Some(oddity) = scan.odd() {
            self.connection.note(oddity);
        }
        if let Some(cut) = cut {
            buf.set_filled(before + cut.keep);
            self.tail = cut.tail;
            self.give_tail(buf);
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = Pin::new(&mut self.inner);
        if !self.connection.is_read_sparingly() || buf.remaining() <= PIECE {
            return inner.poll_read(cx, buf);
        }
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(PIECE));
        ready!(inner.poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }

    fn give_tail(&mut self, buf: &mut ReadBuf<'_>) {
        let (now, later) = self.tail.split_at(self.tail.len().min(buf.remaining()));
        buf.put_slice(now);
        self.tail = later;
    }

    /// Ready when nobody is left who could miss the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((until, left)) = &mut self.lingers else { return Poll::Ready(()) };
        let mut scratch = [0; 4 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if (1..*left).contains(&buf.filled().len()) => {
                    *left -= buf.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return until.as_mut().poll(cx),
            }
        }
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
        if !self.tail.is_empty() {
            self.give_tail(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(result) = self.poll_piece(cx, buf) {
            if buf.filled().len() > before {
                self.look(buf, before);
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
            Poll::Ready(()) => {
                self.late = true;
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
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
        if self.lingers.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            // Whoever was admitted had its body read (`proxy::reject`).
            let refused = self.connection.awaits_head() || self.connection.oddity().is_some();
            if self.scan.is_none() || !refused || self.late {
                return Poll::Ready(Ok(()));
            }
            self.lingers = Some((Box::pin(sleep(LINGER)), LINGER_BYTES));
        }
        self.poll_linger(cx).map(Ok)
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

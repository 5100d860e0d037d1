//! A provider's peers: its addresses, resolved in the background, each with the options that
//! Pingora connects by.
//!
//! Peer, `Host` and SNI come from configuration only, never from a request. Each request owns its
//! upstream connection (HTTP/1.1), so that ending one ends nobody else's.

use super::line::Dial;
use crate::config::{BaseUrl, Limits};
use arc_swap::ArcSwapOption;
use log::warn;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::HttpPeer;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;
use tokio::time::Instant;

/// How long resolved addresses are taken as they are; then they are looked up again behind the
/// request that found them old.
const FRESH: Duration = Duration::from_secs(30);
/// How long a lookup may take.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long an upstream connection may wait in the pool.
const POOLED: Duration = Duration::from_secs(60);

/// The pool's group of connections that can be hung up.
const LINES: u64 = 1;

/// A provider's whereabouts. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    url: BaseUrl,
    connect: Duration,
    read: Duration,
    dial: Arc<Dial>,
    peers: ArcSwapOption<Resolved>,
    looking: AtomicBool,
}

struct Resolved {
    peers: Vec<HttpPeer>,
    /// `None`: an address that was written as such.
    until: Option<Instant>,
}

impl Upstream {
    /// Where `url` is; names are resolved when they are first needed.
    pub fn new(url: &BaseUrl, limits: &Limits) -> Self {
        let inner = Inner {
            url: url.clone(),
            connect: limits.upstream_connect_timeout,
            // One read timeout per peer: the larger one; the smaller is kept by the sweep.
            read: limits.upstream_first_byte_timeout.max(limits.stream_idle_timeout),
            dial: Arc::new(Dial { within: limits.upstream_connect_timeout }),
            peers: ArcSwapOption::empty(),
            looking: AtomicBool::new(false),
        };
        if let Ok(address) = url.host.parse::<IpAddr>() {
            let peers = vec![inner.peer(SocketAddr::new(address, url.port))];
            inner.peers.store(Some(Arc::new(Resolved { peers, until: None })));
        }
        Self(Arc::new(inner))
    }

    /// A peer to try; `attempt` counts from 0 and goes through the addresses. With `line`, the
    /// connection to it can be hung up from outside ([`super::line`]).
    ///
    /// # Errors
    /// The name has no address, or none in time.
    pub async fn peer(&self, attempt: usize, line: bool) -> io::Result<Box<HttpPeer>> {
        let known = self.0.peers.load();
        if let Some(known) = known.as_ref() {
            if known.until.is_some_and(|until| Instant::now() >= until) {
                self.refresh();
            }
            return self.0.pick(known, attempt, line);
        }
        drop(known);
        let known = self.0.lookup().await?;
        self.0.pick(&known, attempt, line)
    }

    /// How many addresses there are to try.
    pub fn addresses(&self) -> usize {
        self.0.peers.load().as_ref().map_or(1, |known| known.peers.len())
    }

    /// Looks the name up again, once at a time; old addresses serve on until it succeeds.
    fn refresh(&self) {
        if self.0.looking.swap(true, AcqRel) {
            return;
        }
        let inner = self.0.clone();
        tokio::spawn(async move {
            if let Err(e) = inner.lookup().await {
                warn!(
                    "looking up {} again failed, its old addresses serve on: {e}",
                    inner.url.host
                );
            }
            inner.looking.store(false, Release);
        });
    }
}

impl Inner {
    async fn lookup(&self) -> io::Result<Arc<Resolved>> {
        let looked = tokio::net::lookup_host((&*self.url.host, self.url.port));
        let addresses = tokio::time::timeout(LOOKUP, looked).await??;
        let peers: Vec<_> = addresses.map(|address| self.peer(address)).collect();
        if peers.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        let resolved = Arc::new(Resolved { peers, until: Some(Instant::now() + FRESH) });
        self.peers.store(Some(resolved.clone()));
        Ok(resolved)
    }

    fn pick(&self, known: &Resolved, attempt: usize, line: bool) -> io::Result<Box<HttpPeer>> {
        let peer = known.peers.get(attempt % known.peers.len().max(1));
        let mut peer = peer
            .map(|peer| Box::new(peer.clone()))
            .ok_or_else(|| io::Error::other("the name has no address"))?;
        if line {
            peer.options.custom_l4 = Some(self.dial.clone());
            // How a connection was made is no part of the pool's key.
            peer.group_key = LINES;
        }
        Ok(peer)
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.url.tls, self.url.host.to_string());
        peer.options.connection_timeout = Some(self.connect);
        peer.options.total_connection_timeout = Some(self.connect);
        peer.options.read_timeout = Some(self.read);
        // While a write waits Pingora reads neither side: nothing else would end it.
        peer.options.write_timeout = Some(self.read);
        peer.options.idle_timeout = Some(POOLED);
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 6,
            user_timeout: Duration::ZERO,
        });
        peer
    }
}

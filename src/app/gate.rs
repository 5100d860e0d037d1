//! The server app around Pingora's: every accepted connection passes here first, is counted per
//! client address, and goes on wrapped, after its TLS handshake if the listener has a certificate.

use super::substreams::Substreams;
use crate::proxy::Proxy;
use crate::proxy::gateway::Gateway;
use crate::session::connection::{Carrier, Connection};
use crate::session::connections::Place;
use crate::session::stream::Wrapped;
use crate::telemetry::metrics::Refused;
use crate::values::net::AddressKey;
use async_trait::async_trait;
use log::debug;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::{ALPN, Stream, l4::stream::Stream as Socket};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Counts, wraps, and hands on.
pub(super) struct Gate {
    gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Proxy>>,
    tls: Option<Arc<Acceptor>>,
}

/// A connection that was let in.
struct Admitted {
    peer: Option<SocketAddr>,
    place: Option<Place>,
    opened: Instant,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Gate {
    /// With `tls`, connections begin with a handshake.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        proxy: Arc<HttpProxy<Proxy>>,
        tls: Option<Arc<Acceptor>>,
    ) -> Self {
        Self { gateway, proxy, tls }
    }

    /// Before the handshake: those who never finish one count too.
    fn admit(&self, stream: &Stream) -> Option<Admitted> {
        let snapshot = self.gateway.snapshot.load();
        let config = &snapshot.config;
        if self.gateway.draining.load(Acquire) {
            self.gateway.metrics.connection_refused(Refused::Draining);
            return None;
        }
        let digest = stream.get_socket_digest();
        let peer = digest.and_then(|d| d.peer_addr().and_then(|a| a.as_inet().copied()));
        // A trusted proxy's connections are many callers'.
        let trusted = |ip: std::net::IpAddr| {
            config.trusted_proxies.iter().any(|net| net.contains(&ip.to_canonical()))
        };
        let address = peer.map(|p| p.ip()).filter(|ip| !trusted(*ip)).map(AddressKey::of);
        let place = self.gateway.connections.enter(address, config.limits.connections_per_address);
        if place.is_none() {
            self.gateway.metrics.connection_refused(Refused::PerAddress);
            return None;
        }
        Some(Admitted {
            peer,
            place,
            opened: Instant::now(),
            header_timeout: config.limits.header_timeout,
            idle_timeout: config.limits.idle_timeout,
        })
    }

    /// The handshake, within the time that the first headers have.
    async fn shake_hands(
        &self,
        tls: &Acceptor,
        stream: Stream,
        admitted: &Admitted,
    ) -> Option<Stream> {
        let socket = stream.into_any().downcast::<Socket>().ok()?;
        let until = admitted.opened + admitted.header_timeout;
        let why = match timeout_at(until, tls.tls_handshake(*socket)).await {
            Ok(Ok(stream)) => return Some(Box::new(stream)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        self.gateway.metrics.connection_refused(Refused::Handshake);
        debug!("a TLS handshake failed: {why}");
        None
    }

    async fn serve_tls(
        &self,
        tls: &Acceptor,
        stream: Stream,
        admitted: Admitted,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let stream = self.shake_hands(tls, stream, &admitted).await?;
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            let idle = admitted.idle_timeout;
            let wrapped = wrap(stream, Carrier::Http2, admitted)?;
            let substreams = Arc::new(Substreams::new(self.proxy.clone(), idle));
            substreams.process_new(wrapped, shutdown).await
        } else {
            let wrapped = wrap(stream, Carrier::Tls, admitted)?;
            self.proxy.process_new(wrapped, shutdown).await
        }
    }
}

fn wrap(stream: Stream, carrier: Carrier, admitted: Admitted) -> Option<Stream> {
    let Admitted { peer, place, opened, header_timeout, .. } = admitted;
    let connection = Connection::since(opened, carrier, peer, header_timeout, place);
    match Wrapped::new(stream, Arc::new(connection)) {
        Ok(wrapped) => Some(Box::new(wrapped)),
        Err(error) => {
            log::error!("a connection could not be wrapped: {error}");
            None
        }
    }
}

#[async_trait]
impl ServerApp for Gate {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let admitted = self.admit(&stream)?;
        if let Some(tls) = &self.tls {
            // Boxed: the handshake's state must not be carried by every plain connection.
            return Box::pin(self.serve_tls(tls, stream, admitted, shutdown)).await;
        }
        let wrapped = wrap(stream, Carrier::Plain, admitted)?;
        self.proxy.process_new(wrapped, shutdown).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.proxy).await;
    }
}

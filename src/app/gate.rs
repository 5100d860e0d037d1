//! The server app around Pingora's: every accepted connection passes here first, is counted per
//! client address, and goes on wrapped.

use crate::proxy::Proxy;
use crate::proxy::gateway::Gateway;
use crate::session::connection::Connection;
use crate::session::stream::Wrapped;
use crate::telemetry::metrics::Refused;
use crate::values::net::AddressKey;
use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

/// Counts, wraps, and hands on.
pub(super) struct Gate {
    gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Proxy>>,
}

impl Gate {
    pub(super) fn new(gateway: Arc<Gateway>, proxy: HttpProxy<Proxy>) -> Self {
        Self { gateway, proxy: Arc::new(proxy) }
    }

    fn admit(&self, stream: Stream) -> Option<Stream> {
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
        let connection = Connection::new(peer, config.limits.header_timeout, place);
        match Wrapped::new(stream, Arc::new(connection)) {
            Ok(wrapped) => Some(Box::new(wrapped)),
            Err(error) => {
                log::error!("a connection could not be wrapped: {error}");
                None
            }
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
        let wrapped = self.admit(stream)?;
        self.proxy.process_new(wrapped, shutdown).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.proxy).await;
    }
}

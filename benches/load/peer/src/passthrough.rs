//! The least that Pingora can do: forward every request to one upstream.
//!
//! Only `upstream_peer` is implemented; everything else is as Pingora ships it.

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::{Server, configuration::ServerConf};
use pingora::upstreams::peer::HttpPeer;
use std::error::Error;
use std::net::SocketAddr;

struct Passthrough {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Passthrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until it is told to stop; with a certificate and its key over TLS, HTTP/2 preferred.
pub fn run(listen: &str, upstream: &str, pair: Option<(&str, &str)>) -> Result<(), Box<dyn Error>> {
    let upstream = upstream.parse()?;
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 512,
        // The end of a run shall not wait for Pingora's five minutes of grace.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Passthrough { upstream });
    match pair {
        None => service.add_tcp(listen),
        Some((cert, key)) => {
            let mut settings = TlsSettings::intermediate(cert, key)?;
            settings.enable_h2();
            service.add_tls_with_settings(listen, None, settings);
        }
    }
    server.add_service(service);
    server.run_forever()
}

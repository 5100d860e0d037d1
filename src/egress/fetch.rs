//! One small document by GET, or whether there is one by HEAD: no redirects, no proxy, a connection of
//! its own, bounded in size. The time is the caller's to bound.

use crate::config::BaseUrl;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

const AGENT: &str = concat!("keygate/", env!("CARGO_PKG_VERSION"));

/// Gets the body of a 200 at `url`, up to `limit` bytes.
///
/// # Errors
/// Why there is none, for the log.
pub async fn get(url: &Url, limit: usize) -> Result<Vec<u8>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let host = url.host_str().ok_or("the URL has no host")?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().ok_or("the URL has no port")?;
    let stream = TcpStream::connect((name, port)).await.map_err(|e| text(&e))?;
    if url.scheme() != "https" {
        return over(stream, url, host, limit).await;
    }
    let server = ServerName::try_from(name.to_owned()).map_err(|e| text(&e))?;
    let connector = TlsConnector::from(tls()?);
    over(connector.connect(server, stream).await.map_err(|e| text(&e))?, url, host, limit).await
}

/// Asks a provider for the head of what is at `path` below its URL; gives the status.
///
/// # Errors
/// Why there is none, for the log.
pub async fn head(
    base: &BaseUrl,
    path: &str,
    credential: Option<(HeaderName, HeaderValue)>,
) -> Result<u16, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut request = Request::head(format!("{}{path}", base.path))
        .header(HOST, &*base.authority)
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|e| text(&e))?;
    request.headers_mut().extend(credential);
    let stream = TcpStream::connect((&*base.host, base.port)).await.map_err(|e| text(&e))?;
    if !base.tls {
        return status(stream, request).await;
    }
    let server = ServerName::try_from(base.host.to_string()).map_err(|e| text(&e))?;
    let connector = TlsConnector::from(tls()?);
    status(connector.connect(server, stream).await.map_err(|e| text(&e))?, request).await
}

async fn status(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<u16, String> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    answer.map(|answer| answer.status().as_u16()).map_err(|e| e.to_string())
}

/// The system's roots, read once.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().map_err(|e| e.to_string())?;
    roots.add_parsable_certificates(found);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TLS.get_or_init(|| Arc::new(tls)).clone())
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    host: &str,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let connection = tokio::spawn(connection);
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = Request::get(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|e| text(&e))?;
    let fetched = async {
        let answer = sender.send_request(request).await.map_err(|e| text(&e))?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("the answer was {}", answer.status()));
        }
        let mut body = answer.into_body();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| text(&e))?;
            let chunk = frame.data_ref().map_or(&[][..], |chunk| chunk);
            if whole.len() + chunk.len() > limit {
                return Err(format!("the answer is longer than {limit} bytes"));
            }
            whole.extend_from_slice(chunk);
        }
        Ok(whole.to_vec())
    };
    let fetched = fetched.await;
    connection.abort();
    fetched
}

//! TLS as a caller has it: certificates of an authority of this test's own, handshakes, HTTP/2
//! connections whose streams can be told apart, and a bridge by which everything that speaks
//! HTTP/1 in the clear reaches a TLS listener.

use super::client::{Request, Response};
use super::within;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The names that certificates are issued for.
const NAMES: [&str; 3] = ["gate.test", "localhost", "127.0.0.1"];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than what it issues has, or that looks self-signed.
    params.distinguished_name.push(rcgen::DnType::CommonName, "keygate's tests");
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    Authority { der: cert.der().clone(), pem: cert.pem(), issuer: Issuer::new(params, key) }
});

/// A certificate with its key, in PEM form.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pair {
    /// A new pair of the authority's; it ends on the first of January of `year`.
    pub(crate) fn until(year: i32) -> Self {
        let names: Vec<String> = NAMES.map(str::to_owned).into();
        let mut params = CertificateParams::new(names).expect("good names");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &AUTHORITY.issuer).expect("a certificate");
        Self { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Puts the pair where `$TLS` has it, each file replaced whole.
    pub(crate) fn write(&self, dir: &Path) {
        for (name, text) in [("cert.pem", &self.cert), ("key.pem", &self.key)] {
            let fresh = dir.join(format!("{name}.new"));
            std::fs::write(&fresh, text).expect("writing");
            std::fs::rename(fresh, dir.join(name)).expect("replacing");
        }
    }
}

/// The authority's certificate, in PEM form.
pub(crate) fn authority() -> &'static str {
    &AUTHORITY.pem
}

fn connector(protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der.clone()).expect("a good root");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    // Each connection must have a handshake of its own.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// A TLS connection on which these protocols were offered.
///
/// # Errors
/// The handshake failed.
pub(crate) async fn shake_hands(
    addr: SocketAddr,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let socket = within("a connection", TcpStream::connect(addr)).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("gate.test").expect("a name");
    within("a handshake", connector(protocols).connect(name, socket)).await
}

/// The certificate that a connection was shown.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate was shown");
    chain.first().expect("not an empty chain").clone().into_owned()
}

/// Where plain connections are carried to the TLS listener at `to`, as HTTP/1.1, byte by byte.
pub(crate) async fn bridge(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut tls = shake_hands(to, &["http/1.1"]).await.expect("a handshake");
                let _ = tokio::io::copy_bidirectional(&mut plain, &mut tls).await;
            });
        }
    });
    here
}

/// A server with TLS that passes everything on to the plain one at `to`.
pub(crate) async fn front(to: SocketAddr) -> SocketAddr {
    front_as(&Pair::until(2090), to).await
}

/// The same, by a certificate of the test's own.
pub(crate) async fn front_as(pair: &Pair, to: SocketAddr) -> SocketAddr {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let Ok(mut plain) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    here
}

/// An HTTP/2 connection. Dropping it ends it.
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl H2 {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::with(addr, &mut h2::client::Builder::new()).await
    }

    /// Connects with settings of the test's own.
    pub(crate) async fn with(addr: SocketAddr, settings: &mut h2::client::Builder) -> Self {
        let tls = shake_hands(addr, &["h2", "http/1.1"]).await.expect("a handshake");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is chosen");
        let (send, connection) =
            within("HTTP/2", settings.handshake(tls)).await.expect("a preface");
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Begins a request; its body goes to what is returned with it.
    pub(crate) async fn begin(
        &self,
        request: http::Request<()>,
        end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let send = within("a free stream", self.send.clone().ready()).await;
        send.expect("the connection is open").send_request(request, end).expect("it can be sent")
    }

    /// Sends a request and returns when the answer's head is there.
    ///
    /// # Errors
    /// The stream or the connection ended before.
    pub(crate) async fn try_open(&self, request: Request) -> Result<Stream, h2::Error> {
        let (head, body) = request.into_h2();
        let (response, mut sender) = self.begin(head, body.is_none()).await;
        if let Some(body) = body {
            tokio::spawn(async move { write(&mut sender, body).await });
        }
        let (head, body) = within("an answer's head", response).await?.into_parts();
        let headers = head.headers.iter();
        let headers = headers.map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec()));
        Ok(Stream { status: head.status.as_u16(), headers: headers.collect(), body })
    }

    /// The same; panics when no head comes.
    pub(crate) async fn open(&self, request: Request) -> Stream {
        self.try_open(request).await.unwrap_or_else(|e| panic!("no answer came: {e}"))
    }

    /// Sends a request and reads the answer; panics when no head comes.
    pub(crate) async fn send(&self, request: Request) -> Response {
        self.open(request).await.rest().await
    }

    /// Waits until the other side ends the connection.
    ///
    /// # Errors
    /// It did not end in order.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        let Self { send, connection } = self;
        let ended = within("the connection to end", connection).await.expect("no panic");
        drop(send);
        ended
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_finished()
    }
}

/// Sends a body as far as the other side takes it.
async fn write(sender: &mut SendStream<Bytes>, body: Vec<u8>) {
    let mut body = Bytes::from(body);
    while !body.is_empty() {
        sender.reserve_capacity(body.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| sender.poll_capacity(cx)).await else {
            return;
        };
        let piece = body.split_to(room.min(body.len()));
        if sender.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ = sender.send_data(Bytes::new(), true);
}

/// An answer on a stream of its own, whose body is still coming. Dropping it resets the stream.
pub(crate) struct Stream {
    pub(crate) status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: RecvStream,
}

impl Stream {
    /// The next bytes of the body; `None` at its proper end.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let Some(bytes) = within("the next bytes", self.body.data()).await.transpose()? else {
            return Ok(None);
        };
        let _ = self.body.flow_control().release_capacity(bytes.len());
        Ok(Some(bytes))
    }

    /// Reads until the stream ends, and says how.
    ///
    /// # Errors
    /// It was reset.
    pub(crate) async fn end(&mut self) -> Result<(), h2::Error> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// Reads the rest.
    pub(crate) async fn rest(mut self) -> Response {
        let mut body = Vec::new();
        let complete = loop {
            match self.next().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Response::from_parts(self.status, self.headers, body, complete)
    }
}

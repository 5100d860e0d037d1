//! The certificates of the TLS listeners: shown to callers, exchanged under load when a reload
//! or the files themselves bring new ones.
//!
//! A handshake takes the pair that is there when it begins; exchanging it is one pointer.
//! A pair that can't be used never replaces one that can.

use crate::config::certificate::{Certificate, Tls};
use crate::config::secret_ref::{self, SecretRef};
use crate::config::{Config, Listener};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use log::{info, warn};
use parking_lot::Mutex;
use pingora_core::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The pairs of all listeners that have one.
#[derive(Debug, Default)]
pub(super) struct Certificates(Vec<Shown>);

/// A listener's pair.
#[derive(Debug)]
struct Shown {
    address: SocketAddr,
    current: Arc<Current>,
    files: Mutex<Files>,
}

/// What handshakes show.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

/// Where the pair comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// What the files looked like when they were last read, usable or not.
    seen: Seen,
}

/// What tells a file that was replaced or written from the one before; `None`: not there.
type Seen = [Option<(u64, u64, i64, i64)>; 2];

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificates {
    /// Those of `listen`.
    pub(super) fn new(listen: &[Listener], metrics: &Metrics) -> Self {
        let shown = |listener: &Listener| {
            let tls = listener.tls.as_ref()?;
            note(metrics, listener.address, &tls.certificate);
            Some(Shown {
                address: listener.address,
                current: Arc::new(Current(ArcSwap::new(tls.certificate.key.clone()))),
                files: Mutex::new(Files::of(tls)),
            })
        };
        Self(listen.iter().filter_map(shown).collect())
    }

    /// What does the handshakes of the `index`th TLS listener: TLS 1.2 and 1.3, HTTP/2 preferred.
    ///
    /// # Errors
    /// The cryptography lacks a version of TLS, which it does not.
    pub(super) fn acceptor(&self, index: usize) -> Result<Option<Arc<Acceptor>>, rustls::Error> {
        let Some(shown) = self.0.get(index) else { return Ok(None) };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(shown.current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Arc::new(Acceptor::from_server_config(Arc::new(config)))))
    }

    /// Shows what a new configuration has read.
    pub(super) fn replace(&self, config: &Config, metrics: &Metrics) {
        for (shown, listener) in self.paired(config) {
            let Some(tls) = &listener.tls else { continue };
            let mut files = shown.files.lock();
            *files = Files::of(tls);
            shown.show(&tls.certificate, metrics);
        }
    }

    /// Looks whether files were replaced, and shows what they hold now. A pair that can't be used
    /// is told of once; half of one looks like that until the other half is there.
    pub(super) fn look(&self, metrics: &Metrics) {
        for shown in &self.0 {
            let before = shown.files.lock().clone();
            let now = seen(&before.cert, &before.key);
            if now == before.seen {
                continue;
            }
            // Read without the lock: a disk that does not answer must not hold up a reload.
            let read = before.read();
            let mut files = shown.files.lock();
            if *files != before {
                continue;
            }
            files.seen = now;
            match read {
                Ok(certificate) if certificate.key.cert == shown.current.0.load().cert => {}
                Ok(certificate) => {
                    shown.show(&certificate, metrics);
                    metrics.certificate_loaded(true);
                    info!("the listener at {} shows the certificate that is new", shown.address);
                }
                Err(why) => {
                    metrics.certificate_loaded(false);
                    let address = shown.address;
                    warn!("the certificate of {address} stays as it was, the new pair: {why}");
                }
            }
        }
    }

    /// Whether there is anything to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each pair with the listener it belongs to; their order can't change without a restart.
    fn paired<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a Shown, &'a Listener)> {
        self.0.iter().zip(config.listen.iter().filter(|listener| listener.tls.is_some()))
    }
}

impl Shown {
    fn show(&self, certificate: &Certificate, metrics: &Metrics) {
        self.current.0.store(certificate.key.clone());
        note(metrics, self.address, certificate);
    }
}

fn note(metrics: &Metrics, address: SocketAddr, certificate: &Certificate) {
    metrics.certificate_ends(&address.to_string(), certificate.not_after);
}

impl Files {
    fn of(tls: &Tls) -> Self {
        // Looked at once more: they may have been replaced since they were read.
        Self { cert: tls.cert.clone(), key: tls.key.clone(), seen: [None, None] }
    }

    fn read(&self) -> Result<Certificate, String> {
        let load = |path: &Path| secret_ref::load(&SecretRef::File(path.to_owned()));
        Certificate::read(load(&self.cert)?.expose(), &load(&self.key)?)
            .map_err(|unusable| unusable.to_string())
    }
}

fn seen(cert: &Path, key: &Path) -> Seen {
    [cert, key].map(|path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    })
}

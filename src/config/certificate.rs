//! A certificate with its key, read from PEM text: what a TLS listener shows.
//!
//! Whatever comes out of here can be served: there is a certificate, the key can be read, and the
//! one belongs to the other. Whether it has expired is not judged: an expired certificate is still
//! better than none. Nothing of the files' content gets into a message.

use crate::values::secret::Secret;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::path::PathBuf;
use std::sync::Arc;

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Certificate {
    /// As rustls signs with it.
    pub key: Arc<CertifiedKey>,
    /// When the first certificate of the chain ends, in seconds since 1970.
    pub not_after: i64,
}

/// `listen[].tls`: where the pair is, and what was there.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The chain, the listener's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The pair as it was read.
    pub certificate: Certificate,
}

/// Which file of the pair is to blame, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// The certificate's.
    Cert(String),
    /// The key's.
    Key(String),
}

impl Certificate {
    /// Reads a pair.
    ///
    /// # Errors
    /// No certificate, no key, or one that does not belong to the other.
    pub fn read(cert: &str, key: &Secret) -> Result<Self, Unusable> {
        let no_cert = |why: &str| Unusable::Cert(why.to_owned());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| no_cert("the file is no readable PEM: write the chain as issued"))?;
        let first = chain.first().ok_or_else(|| {
            no_cert("there is no certificate in the file: it holds the chain in PEM form")
        })?;
        let (_, parsed) = x509_parser::parse_x509_certificate(first)
            .map_err(|_| no_cert("the first certificate of the file can't be read"))?;
        let not_after = parsed.validity().not_after.timestamp();
        let certified = certified(chain, key)?;
        Ok(Self { key: Arc::new(certified), not_after })
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &Secret) -> Result<CertifiedKey, Unusable> {
    let no_key = |why: &str| Unusable::Key(why.to_owned());
    // Exposed to be decoded; it stays in memory as the key that signs.
    let text = key.expose();
    if text.contains("ENCRYPTED") {
        return Err(no_key("the key is encrypted: store it without a passphrase"));
    }
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| no_key("there is no private key in the file: it holds one in PEM form"))?;
    CertifiedKey::from_der(chain, der, &ring::default_provider()).map_err(|why| match why {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            no_key("the key does not belong to the certificate: name the pair issued together")
        }
        _ => no_key("the key is of a kind that can't be used: take ECDSA, Ed25519 or RSA"),
    })
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cert(why) => write!(f, "cert: {why}"),
            Self::Key(why) => write!(f, "key: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, Secret) {
        let issued = rcgen::generate_simple_self_signed(vec!["gate.test".into()]).unwrap();
        (issued.cert.pem(), Secret::new(issued.signing_key.serialize_pem()))
    }

    #[test]
    fn a_pair_that_belongs_together_is_read_with_its_end() {
        let (cert, key) = pair();
        let read = Certificate::read(&cert, &key).unwrap();
        assert!(read.not_after > 1_700_000_000, "{}", read.not_after);
        assert!(!format!("{read:?}").contains("key"), "Debug shows nothing of the key");
    }

    #[test]
    fn every_bad_pair_names_the_file_and_repeats_nothing_of_it() {
        let (cert, key) = pair();
        let (_, other) = pair();
        let read = |cert: &str, key: &Secret| Certificate::read(cert, key).unwrap_err();
        let because = |unusable: Unusable| match unusable {
            Unusable::Cert(why) => ("cert", why),
            Unusable::Key(why) => ("key", why),
        };
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let broken = format!("{}\nCANARY", cert.get(..200).unwrap());
        for (unusable, file, words) in [
            (read("", &key), "cert", "no certificate"),
            (read(key.expose(), &key), "cert", "no certificate"),
            (
                read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", &key),
                "cert",
                "can't be read",
            ),
            (read(&broken, &key), "cert", ""),
            (read(&cert, &Secret::new("")), "key", "no private key"),
            (read(&cert, &Secret::new(cert.clone())), "key", "no private key"),
            (read(&cert, &Secret::new(encrypted)), "key", "encrypted"),
            (read(&cert, &other), "key", "does not belong"),
        ] {
            let (blamed, why) = because(unusable);
            assert_eq!(blamed, file, "{why}");
            assert!(why.contains(words) && !why.contains("CANARY"), "{why}");
        }
    }
}

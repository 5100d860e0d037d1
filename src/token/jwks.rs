//! The gateway's own signing keys: which one signs, which are published, when the next comes.
//!
//! A new key is published [`AHEAD`] before it signs, and stays published for longer than anything it
//! signed can last ([`KEPT`] after its successor took over), so that no rotation makes a token
//! fail. All processes over one store share its keys; without a store they live in memory.

use super::jwk::{self, PublicKey};
use crate::config::client::Algorithm;
use crate::values::Invalid;
use arc_swap::ArcSwap;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// For so long a key is published before it signs: twice what the set may be cached.
pub const AHEAD: Duration = Duration::from_secs(600);
/// For so long a key stays published once another signs: longer than any token lasts.
pub const KEPT: Duration = Duration::from_secs(25 * 3_600);

/// A signing key as a store keeps it. No `Debug`; the private part is zeroed on drop.
#[derive(Clone)]
pub struct KeyRecord {
    /// Its name in tokens: a digest of its public part.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// PKCS #8.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// Wall clock, milliseconds.
    pub created_at: u64,
    /// From when it signs.
    pub signs_from: u64,
}

/// What a rotation does.
#[derive(Default)]
pub struct Rotation {
    /// To add.
    pub create: Option<KeyRecord>,
    /// To remove, by `kid`.
    pub remove: Vec<String>,
}

/// Draws a key.
///
/// # Errors
/// The system has no randomness to give.
pub fn generate(algorithm: Algorithm, now_ms: u64, signs_from: u64) -> Result<KeyRecord, Invalid> {
    let failed = |_| Invalid::new("a signing key can't be made");
    let rng = SystemRandom::new();
    let pkcs8 = Zeroizing::new(match algorithm {
        Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?.as_ref().to_vec(),
        Algorithm::Es256 => {
            let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
            EcdsaKeyPair::generate_pkcs8(signing, &rng).map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            AsDer::as_der(&pair).map_err(failed)?.as_ref().to_vec()
        }
    });
    let public = Pair::read(algorithm, &pkcs8).map(|pair| pair.public());
    let public = public.ok_or_else(|| Invalid::new("a signing key can't be read"))?;
    let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(public.to_string()));
    let kid = kid.chars().take(16).collect();
    Ok(KeyRecord { kid, algorithm, pkcs8, created_at: now_ms, signs_from })
}

/// What is due at `now_ms`: a key where there is none or the newest is old or of another algorithm
/// (or `at_once` asks for one), and the removal of those that nothing needs.
///
/// # Errors
/// As [`generate`].
pub fn due(
    keys: &[KeyRecord],
    algorithm: Algorithm,
    rotate_every: Duration,
    now_ms: u64,
    asked: bool,
) -> Result<Rotation, Invalid> {
    let (ahead, kept) = (millis(AHEAD), millis(KEPT));
    let newest = newest(keys, now_ms);
    let create = match newest {
        None => Some(generate(algorithm, now_ms, now_ms)?),
        // One is waiting already.
        Some(key) if key.signs_from > now_ms => None,
        Some(key) => {
            let old = key.signs_from.saturating_add(millis(rotate_every)) <= now_ms + ahead;
            let due = asked || old || key.algorithm != algorithm;
            due.then(|| generate(algorithm, now_ms, now_ms + ahead)).transpose()?
        }
    };
    let superseded = |key: &&KeyRecord| {
        let successors = keys.iter().map(|k| k.signs_from).filter(|from| *from > key.signs_from);
        successors.min().is_some_and(|from| from.saturating_add(kept) <= now_ms)
    };
    let remove = keys.iter().filter(superseded).map(|key| key.kid.clone()).collect();
    Ok(Rotation { create, remove })
}

/// Whether [`due`] would change anything.
pub fn is_due(
    keys: &[KeyRecord],
    algorithm: Algorithm,
    rotate_every: Duration,
    now_ms: u64,
) -> bool {
    let Some(newest) = newest(keys, now_ms) else { return true };
    let old = newest.signs_from.saturating_add(millis(rotate_every)) <= now_ms + millis(AHEAD);
    let waiting = newest.signs_from > now_ms;
    let superseded = newest.signs_from.saturating_add(millis(KEPT)) <= now_ms;
    (!waiting && (old || newest.algorithm != algorithm)) || (superseded && keys.len() > 1)
}

/// The newest that signs or will soon. One that has longer to wait was made by a clock that was
/// ahead: it is as good as none.
fn newest(keys: &[KeyRecord], now_ms: u64) -> Option<&KeyRecord> {
    let soon = now_ms.saturating_add(2 * millis(AHEAD));
    keys.iter().filter(|key| key.signs_from <= soon).max_by_key(|key| key.signs_from)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A key pair that signs.
enum Pair {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    fn read(algorithm: Algorithm, pkcs8: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Self::Ed),
            Algorithm::Es256 => {
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_pkcs8(signing, pkcs8).ok().map(Self::Ec)
            }
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).ok().map(Self::Rsa),
        }
    }

    /// The public part, as RFC 7638 orders it.
    fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed(pair) => {
                json!({"crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref())})
            }
            Self::Ec(pair) => {
                // SEC 1 section 2.3.3: 4, then both coordinates.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at_checked(32).unwrap_or_default();
                json!({"crv": "P-256", "kty": "EC", "x": text(x), "y": text(y)})
            }
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let n = key.modulus().big_endian_without_leading_zero().to_vec();
                let e = key.exponent().big_endian_without_leading_zero().to_vec();
                json!({"e": text(&e), "kty": "RSA", "n": text(&n)})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let rng = SystemRandom::new();
        match self {
            Self::Ed(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Self::Ec(pair) => Some(pair.sign(&rng, message).ok()?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

/// The keys in force: read by every verification, replaced as a whole.
pub struct Keys(ArcSwap<Ring>);

#[derive(Default)]
struct Ring {
    keys: Vec<Held>,
    document: Document,
}

struct Held {
    kid: Box<str>,
    signs_from: u64,
    record: KeyRecord,
    pair: Pair,
    public: PublicKey,
}

/// What `/.well-known/jwks.json` answers.
#[derive(Clone, Default)]
pub struct Document {
    /// The set.
    pub body: Arc<str>,
    /// Its entity tag, quoted.
    pub etag: Arc<str>,
}

/// What came of putting other keys in force.
#[derive(Debug)]
pub struct Replaced {
    /// The `kid`s of those that can't be read.
    pub unreadable: Vec<String>,
    /// One that was there is there no more.
    pub gone: bool,
}

impl Keys {
    /// None yet.
    pub fn new() -> Self {
        let keys = Self(ArcSwap::default());
        keys.replace(&[]);
        keys
    }

    /// Puts `records` in force.
    pub fn replace(&self, records: &[KeyRecord]) -> Replaced {
        let (mut keys, mut published, mut unreadable) =
            (Vec::<Held>::new(), Vec::new(), Vec::new());
        for record in records {
            let Some((held, public)) = Held::read(record) else {
                unreadable.push(record.kid.clone());
                continue;
            };
            keys.push(held);
            published.push(public);
        }
        let body = json!({ "keys": published }).to_string();
        let digest = Sha256::digest(&body);
        let etag: String = URL_SAFE_NO_PAD.encode(digest).chars().take(22).collect();
        let document = Document { body: body.into(), etag: format!("\"{etag}\"").into() };
        let new = Arc::new(Ring { keys, document });
        let old = self.0.swap(new.clone());
        let stays = |kid: &str| new.keys.iter().any(|key| key.record.kid == kid);
        let gone = !old.keys.iter().all(|key| stays(&key.record.kid));
        Replaced { unreadable, gone }
    }

    /// Changes the keys that no store holds.
    pub fn change(&self, change: impl FnOnce(&mut Vec<KeyRecord>)) {
        let mut records: Vec<KeyRecord> =
            self.0.load().keys.iter().map(|key| key.record.clone()).collect();
        let before = records.len();
        let newest = records.iter().map(|record| record.signs_from).max();
        change(&mut records);
        let now = records.iter().map(|record| record.signs_from).max();
        if records.len() != before || now != newest {
            self.replace(&records);
        }
    }

    /// What is published.
    pub fn document(&self) -> Document {
        self.0.load().document.clone()
    }

    /// Signs with the key whose turn it is; gives nothing where there is none.
    pub fn sign(
        &self,
        now_ms: u64,
        message: impl FnOnce(&str, Algorithm) -> String,
    ) -> Option<String> {
        let ring = self.0.load();
        let mut ready: Vec<&Held> =
            ring.keys.iter().filter(|key| key.signs_from <= now_ms).collect();
        ready.sort_by_key(|key| key.signs_from);
        // The clock may have been set back behind all of them.
        let key = ready.pop().or_else(|| ring.keys.iter().min_by_key(|key| key.signs_from))?;
        let mut text = message(&key.kid, key.public.algorithm);
        let signature = key.pair.sign(text.as_bytes())?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Some(text)
    }

    /// Whether the key `kid`, which is for `algorithm`, signed `message`.
    pub fn verifies(
        &self,
        kid: &str,
        algorithm: Algorithm,
        message: &str,
        signature: &str,
    ) -> bool {
        let ring = self.0.load();
        let mut keys = ring.keys.iter().filter(|key| &*key.kid == kid);
        keys.any(|key| {
            key.public.algorithm == algorithm && key.public.verifies(message.as_bytes(), signature)
        })
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    fn read(record: &KeyRecord) -> Option<(Self, Value)> {
        let pair = Pair::read(record.algorithm, &record.pkcs8)?;
        let mut public = pair.public();
        let members = public.as_object_mut()?;
        members.insert("kid".to_owned(), record.kid.as_str().into());
        members.insert("alg".to_owned(), record.algorithm.as_str().into());
        members.insert("use".to_owned(), "sig".into());
        let read = jwk::read_set(json!({ "keys": [public] }).to_string().as_bytes()).ok()?.pop()?;
        let kid = record.kid.as_str().into();
        let (signs_from, record) = (record.signs_from, record.clone());
        Some((Self { kid, signs_from, record, pair, public: read }, public))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    #[test]
    fn every_algorithm_signs_and_verifies_with_what_is_published() {
        for algorithm in Algorithm::ALL {
            let record = generate(algorithm, 0, 0).unwrap();
            let keys = Keys::new();
            assert!(keys.replace(std::slice::from_ref(&record)).unreadable.is_empty());
            let signed = keys.sign(1, |_, _| "a.b".to_owned()).unwrap();
            let signature = signed.strip_prefix("a.b.").unwrap();
            assert!(keys.verifies(&record.kid, algorithm, "a.b", signature), "{algorithm:?}");
            assert!(!keys.verifies(&record.kid, algorithm, "a.c", signature), "{algorithm:?}");
            let published = jwk::read_set(keys.document().body.as_bytes()).unwrap();
            assert!(published[0].verifies(b"a.b", signature), "anybody can verify it");
            let text = keys.document().body.to_string();
            assert!(!text.contains("\"d\""), "no private part is published: {text}");
        }
    }

    #[test]
    fn a_rotation_overlaps_on_both_sides() {
        let hour = 3_600_000;
        let mut keys = Vec::new();
        let mut step = |now: u64, asked: bool| {
            let rotation = due(&keys, Algorithm::EdDsa, MONTH, now, asked).unwrap();
            keys.retain(|k: &KeyRecord| !rotation.remove.contains(&k.kid));
            let created = rotation.create.is_some();
            keys.extend(rotation.create);
            (created, keys.len())
        };
        assert_eq!(step(0, false), (true, 1), "the first signs at once");
        assert_eq!(step(hour, false), (false, 1));
        assert_eq!(step(hour, true), (true, 2), "asked for");
        assert_eq!(step(hour + 1, true), (false, 2), "one is waiting already");
        let took_over = hour + millis(AHEAD);
        assert_eq!(step(took_over + millis(KEPT) - 1, false), (false, 2), "the old one stays");
        assert_eq!(step(took_over + millis(KEPT), false), (false, 1), "until nothing needs it");
        assert_eq!(step(took_over + millis(MONTH) - millis(AHEAD), false), (true, 2), "scheduled");
    }

    #[test]
    fn a_new_key_is_published_before_it_signs() {
        let old = generate(Algorithm::EdDsa, 0, 0).unwrap();
        let new = generate(Algorithm::Es256, 0, 1_000).unwrap();
        let keys = Keys::new();
        keys.replace(&[old.clone(), new.clone()]);
        let signer = |now| {
            let mut used = String::new();
            keys.sign(now, |kid, _| {
                used = kid.to_owned();
                "a.b".to_owned()
            });
            used
        };
        assert_eq!((signer(999), signer(1_000)), (old.kid.clone(), new.kid.clone()));
        let document = keys.document().body;
        assert!(document.contains(&old.kid) && document.contains(&new.kid));
    }
}

//! Whose signed tokens are accepted beside ours: each issuer's keys, and when they are due.
//!
//! Invariant: verifying never waits and never fetches. A `kid` that is not known asks for one fetch,
//! at most one in [`COOLDOWN`], however many requests ask; whoever fetches is [`Issuers::due`]'s
//! caller. The last good set stays in force until a better one comes.

use super::jwk::{self, PublicKey};
use crate::config::client::{Algorithm, Issuer, Jwks};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The shortest time between two fetches of one set.
pub const COOLDOWN: Duration = Duration::from_secs(30);
/// Sets are fetched anew this often.
pub const REFRESH: Duration = Duration::from_secs(300);
/// Files are looked at this often.
pub const FILE_REFRESH: Duration = Duration::from_secs(2);

/// Every issuer's keys.
#[derive(Default)]
pub struct Issuers(ArcSwap<Vec<Arc<Source>>>);

/// One issuer's keys.
#[derive(Debug)]
pub struct Source {
    /// Its `iss`.
    pub issuer: Arc<str>,
    /// Where they are.
    pub jwks: Jwks,
    keys: ArcSwap<Vec<PublicKey>>,
    /// The set in force as it was read: the same again changes nothing.
    text: parking_lot::Mutex<Vec<u8>>,
    /// A key was asked for that is not there.
    wanted: AtomicBool,
    /// The last attempt failed.
    failing: AtomicBool,
    /// An attempt is under way.
    busy: AtomicBool,
    /// Monotonic milliseconds of the last attempt, and one more; 0: none yet.
    tried: AtomicU64,
}

impl Issuers {
    /// Puts the configuration's issuers in place; those that stay keep their keys.
    pub fn replace(&self, issuers: &[Issuer]) {
        let old = self.0.load();
        let kept = |issuer: &Issuer| {
            let same = |s: &&Arc<Source>| s.issuer == issuer.issuer && s.jwks == issuer.jwks;
            old.iter().find(same).cloned()
        };
        let new = |issuer: &Issuer| {
            Arc::new(Source {
                issuer: issuer.issuer.clone(),
                jwks: issuer.jwks.clone(),
                keys: ArcSwap::default(),
                text: parking_lot::Mutex::default(),
                wanted: AtomicBool::new(false),
                failing: AtomicBool::new(false),
                busy: AtomicBool::new(false),
                tried: AtomicU64::new(0),
            })
        };
        let list = issuers.iter().map(|i| kept(i).unwrap_or_else(|| new(i))).collect();
        self.0.store(Arc::new(list));
    }

    /// Whether a key of `issuer` signed: message and signature. Its keys only, never another's.
    pub fn verifies(
        &self,
        issuer: &str,
        kid: Option<&str>,
        algorithm: Algorithm,
        (message, signature): (&str, &str),
    ) -> bool {
        let list = self.0.load();
        let Some(source) = list.iter().find(|source| *source.issuer == *issuer) else {
            return false;
        };
        let keys = source.keys.load();
        let fits = |key: &&PublicKey| {
            key.algorithm == algorithm && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        };
        let mut fitting = keys.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => key.verifies(message.as_bytes(), signature),
            // Several of one name are tried; several without a name are a guess.
            (Some(_), Some(_)) => {
                kid.is_some()
                    && keys
                        .iter()
                        .filter(fits)
                        .any(|key| key.verifies(message.as_bytes(), signature))
            }
            (None, _) => {
                let known =
                    kid.is_some_and(|kid| keys.iter().any(|key| key.kid.as_deref() == Some(kid)));
                // One that is there for another algorithm will not be there for this one.
                if !known {
                    source.wanted.store(true, Relaxed);
                }
                false
            }
        }
    }

    /// The sources to read at `steady_ms`; each is given once, and not again before it
    /// [rests](Source::rest).
    pub fn due(&self, steady_ms: u64) -> Vec<Arc<Source>> {
        let list = self.0.load();
        list.iter().filter(|source| source.is_due(steady_ms)).cloned().collect()
    }
}

impl Source {
    fn is_due(&self, steady_ms: u64) -> bool {
        let tried = self.tried.load(Relaxed);
        let rested = steady_ms.saturating_add(1).saturating_sub(tried);
        let over = |time: Duration| u128::from(rested) >= time.as_millis();
        let empty = self.keys.load().is_empty();
        let due = !self.busy.load(Relaxed)
            && (tried == 0
                || match self.jwks {
                    Jwks::File(_) => over(FILE_REFRESH),
                    Jwks::Url(_) if empty || self.wanted.load(Relaxed) => over(COOLDOWN),
                    Jwks::Url(_) => over(REFRESH),
                });
        if due {
            self.busy.store(true, Relaxed);
            self.wanted.store(false, Relaxed);
            self.tried.store(steady_ms.saturating_add(1), Relaxed);
        }
        due
    }

    /// The attempt is over.
    pub fn rest(&self) {
        self.busy.store(false, Relaxed);
    }

    /// Notes how an attempt ended; gives whether the one before had ended otherwise.
    pub fn note(&self, good: bool) -> bool {
        self.failing.swap(!good, Relaxed) == good
    }

    /// Takes a set that was read; gives whether it differs from the one in force.
    ///
    /// # Errors
    /// It is no usable set; the one in force stays.
    pub fn take(&self, text: &[u8]) -> Result<bool, crate::values::Invalid> {
        let mut last = self.text.lock();
        if *last == text {
            return Ok(false);
        }
        let keys = jwk::read_set(text)?;
        self.keys.store(Arc::new(keys));
        *last = text.to_vec();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuers(jwks: Jwks) -> Issuers {
        let issuers = Issuers::default();
        issuers.replace(&[Issuer {
            issuer: "https://a.example/".into(),
            audience: "keygate".into(),
            jwks,
            algorithms: Algorithm::ALL.to_vec(),
            policy: None,
        }]);
        issuers
    }

    const SET: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn an_unknown_key_asks_for_one_fetch_in_a_cooldown() {
        let url = url::Url::parse("https://a.example/jwks").unwrap();
        let issuers = issuers(Jwks::Url(url));
        let first = issuers.due(0);
        assert_eq!(first.len(), 1, "at the start");
        assert!(first[0].take(SET).unwrap());
        assert!(issuers.due(900_000).is_empty(), "it is still being read");
        first[0].rest();
        let ask = || {
            for kid in 0..1000 {
                let kid = kid.to_string();
                let asked = ("m", "s");
                assert!(!issuers.verifies(
                    "https://a.example/",
                    Some(&kid),
                    Algorithm::EdDsa,
                    asked
                ));
            }
        };
        ask();
        assert!(issuers.due(29_999).is_empty(), "not before the cooldown is over");
        let second = issuers.due(30_000);
        assert_eq!(second.len(), 1, "then once");
        second[0].rest();
        assert!(issuers.due(30_001).is_empty(), "nobody asks any more");
        ask();
        assert!(issuers.due(59_999).is_empty());
        let third = issuers.due(60_000);
        assert_eq!(third.len(), 1);
        third[0].rest();
        assert!(issuers.due(60_000 + 299_999).is_empty());
        assert_eq!(issuers.due(60_000 + 300_000).len(), 1, "and before it goes stale");
    }

    #[test]
    fn the_last_good_set_survives_a_bad_one_and_a_reload() {
        let url = url::Url::parse("https://a.example/jwks").unwrap();
        let issuers = issuers(Jwks::Url(url.clone()));
        let source = issuers.due(0).pop().unwrap();
        assert!(source.take(SET).unwrap());
        assert!(!source.take(SET).unwrap(), "the same again changes nothing");
        assert!(source.take(b"<html>").is_err());
        assert_eq!(source.keys.load().len(), 1);
        issuers.replace(&[Issuer {
            issuer: "https://a.example/".into(),
            audience: "other".into(),
            jwks: Jwks::Url(url),
            algorithms: vec![],
            policy: None,
        }]);
        assert_eq!(issuers.0.load()[0].keys.load().len(), 1, "keys outlive a reload");
    }
}

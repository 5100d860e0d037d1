//! Public keys as JSON (RFC 7517, 7518, 8037): read from other issuers' sets, and verified with.
//!
//! Invariant: a key verifies one algorithm, which follows from its type; what a token's header says
//! can only agree or fail. Symmetric keys and unknown types are passed over.

use crate::config::client::Algorithm;
use crate::values::Invalid;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

/// More keys than this make no set.
const MOST_KEYS: usize = 64;
/// Bytes of an RSA modulus: 2,048 to 8,192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that verifies.
#[derive(Clone)]
pub struct PublicKey {
    /// What tokens call it.
    pub kid: Option<Box<str>>,
    /// The one algorithm that it is for.
    pub algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.kid, self.algorithm.as_str())
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Reads a set; keys of other types or uses are passed over.
///
/// # Errors
/// It is no set, or has no key that could verify anything.
pub fn read_set(text: &[u8]) -> Result<Vec<PublicKey>, Invalid> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(text)
        .map_err(|_| Invalid::new("this is no JSON Web Key Set: it needs a list `keys`"))?;
    if set.keys.len() > MOST_KEYS {
        return Err(Invalid::new(format!("more than {MOST_KEYS} keys")));
    }
    let keys: Vec<_> = set.keys.into_iter().filter_map(read).collect();
    if keys.is_empty() {
        return Err(Invalid::new("it has no Ed25519, P-256 or RSA key for signatures"));
    }
    Ok(keys)
}

fn read(value: serde_json::Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !signs || !verifies {
        return None;
    }
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let (algorithm, key) = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => {
            bytes(&jwk.x).filter(|x| x.len() == 32)?;
            (Algorithm::EdDsa, DecodingKey::from_ed_components(jwk.x.as_deref()?).ok()?)
        }
        ("EC", Some("P-256")) => {
            bytes(&jwk.x).filter(|x| x.len() == 32)?;
            bytes(&jwk.y).filter(|y| y.len() == 32)?;
            let (x, y) = (jwk.x.as_deref()?, jwk.y.as_deref()?);
            (Algorithm::Es256, DecodingKey::from_ec_components(x, y).ok()?)
        }
        ("RSA", None) => {
            let modulus = bytes(&jwk.n)?;
            let exponent = bytes(&jwk.e).filter(|e| !e.is_empty() && e.len() <= 8)?;
            if !MODULUS.contains(&modulus.len()) {
                return None;
            }
            (Algorithm::Rs256, DecodingKey::from_rsa_raw_components(&modulus, &exponent))
        }
        _ => return None,
    };
    if jwk.alg.is_some_and(|alg| alg != algorithm.as_str()) {
        return None;
    }
    Some(PublicKey { kid: jwk.kid.map(Into::into), algorithm, key })
}

impl PublicKey {
    /// Whether `signature` (base64url) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        };
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_verify_is_passed_over_and_an_empty_set_is_refused() {
        let ed = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let others = [
            r#"{"kty":"oct","k":"c2VjcmV0","kid":"hmac"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","alg":"HS256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#,
            r#"{"kid":"no type"}"#,
            "17",
        ];
        let set = format!(r#"{{"keys":[{},{ed}]}}"#, others.join(","));
        let keys = read_set(set.as_bytes()).unwrap();
        assert_eq!(keys.len(), 1, "only the good one is left: {keys:?}");
        assert_eq!(keys[0].kid.as_deref(), Some("a"));
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{}]}"#] {
            assert!(read_set(bad.as_bytes()).is_err(), "{bad:?} is no usable set");
        }
    }
}

//! Identifiers: a token's digest and a request's id.

use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of a plain token: what is stored and looked up instead of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The digest of a token as it was presented.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads 64 hexadecimal digits of either case; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let mut digest = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let digit = |c: &u8| char::from(*c).to_digit(16);
            *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
        }
        Some(Self(digest))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// SHA-256 output is uniform, so its first bytes serve as the hash.
impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// A request's id: `req_` and 26 letters and digits, unique in this process and random across.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; Self::LEN]);

impl RequestId {
    const LEN: usize = 30;

    /// Makes an id of 128 bits: 64 that were drawn for the thread, and a mixed counter.
    pub fn new() -> Self {
        use std::cell::Cell;
        thread_local! {
            static STATE: Cell<(u64, u64)> = Cell::new((seed(), seed()));
        }
        let (fixed, count) = STATE.get();
        let next = count.wrapping_add(0x9E37_79B9_7F4A_7C15);
        STATE.set((fixed, next));
        Self::encode((u128::from(fixed) << 64) | u128::from(mix(next)))
    }

    fn encode(mut bits: u128) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut text = *b"req_00000000000000000000000000";
        for place in text.iter_mut().skip(4).rev() {
            *place = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

/// SplitMix64's finaliser: a bijection, so ids of one thread never repeat.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Ids need to be distinct, not secret: an address of the stack differs between threads.
        let place = 0_u8;
        (&raw const place).addr() as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_matches_sha256sum() {
        let digest = TokenDigest::of(b"abc");
        assert_eq!(
            digest.to_hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(TokenDigest::from_hex(&digest.to_hex().to_uppercase()), Some(digest));
        assert_eq!(TokenDigest::from_hex("ba78"), None, "a short digest is no digest");
        assert_eq!(TokenDigest::from_hex(&"zz".repeat(32)), None, "only hexadecimal digits");
    }

    #[test]
    fn request_ids_differ() {
        let ids: std::collections::HashSet<_> =
            (0..10_000).map(|_| RequestId::new().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 10_000, "no id may repeat");
        assert!(ids.iter().all(|id| id.len() == 30 && id.starts_with("req_")));
    }
}

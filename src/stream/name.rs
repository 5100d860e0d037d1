//! What a stream is called in memory and in the store: a digest of its provider and its path.
//!
//! Two spellings of one path (`a!` and `a%21`) are one stream to a server that decodes, and two to one
//! that does not. Both get one key here; the spelling is kept beside it, and another one than that with
//! which the policy was stored is refused: neither server can be made to take one for the other.

use percent_encoding::percent_decode;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// 128 bits of a digest: nobody finds another path for one of them.
pub type Key = [u8; 16];

/// A stream's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// The same for every spelling.
    pub key: Key,
    /// The spelling; 0 where nothing is encoded.
    pub spelling: i64,
}

impl Name {
    /// The stream at `path`, as it is on the wire below the provider.
    pub fn of(provider: &str, path: &str) -> Self {
        let decoded: Cow<'_, [u8]> = percent_decode(path.as_bytes()).into();
        let whole = digest(provider, &decoded);
        let key = whole.first_chunk().copied().unwrap_or_default();
        let spelling = if *decoded == *path.as_bytes() {
            0
        } else {
            let of = digest(provider, path.as_bytes());
            i64::from_be_bytes(of.first_chunk().copied().unwrap_or_default())
        };
        Self { key, spelling }
    }
}

fn digest(provider: &str, path: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(provider.as_bytes());
    // No provider's name has one.
    hash.update([0]);
    hash.update(path);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_share_a_key_and_nothing_else_does() {
        let plain = Name::of("streams", "/v1/stream/a!");
        let encoded = Name::of("streams", "/v1/stream/a%21");
        assert_eq!(plain.key, encoded.key, "one stream to a server that decodes");
        assert_ne!(plain.spelling, encoded.spelling, "and another to one that does not");
        assert_eq!(plain.spelling, 0);
        let upper = Name::of("streams", "/v1/stream/%C3%A9");
        let lower = Name::of("streams", "/v1/stream/%c3%a9");
        assert_eq!(upper.key, lower.key);
        assert_ne!(upper.spelling, lower.spelling);
        for (provider, path) in [
            ("streams", "/v1/stream/b"),
            ("stream", "s/v1/stream/a!"),
            ("other", "/v1/stream/a!"),
            ("streams", "/v1/stream/A!"),
            ("streams", "/v1/stream/%FF"),
            ("streams", "/v1/stream/%FE"),
        ] {
            assert_ne!(Name::of(provider, path).key, plain.key, "{provider} {path}");
        }
        // Bytes that are no text stay what they are.
        assert_ne!(
            Name::of("streams", "/%FF").key,
            Name::of("streams", "/%FE").key,
            "two names that are no UTF-8 are two streams"
        );
    }
}

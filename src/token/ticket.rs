//! Upload tickets: what a caller presents on the second leg of a resumable upload instead of its
//! token.
//!
//! A ticket stands for its parent token at one URL, for [`LIFETIME_MS`]: an HMAC-SHA256 over the
//! token's id and digest, the provider, the URL (in whose query the provider names the upload) and
//! the expiry. It is remembered nowhere; whoever has the [`Seal`]'s key can check it, and it dies
//! with its parent, which is looked up anew each time. What the parent may do is the gate's
//! question, as ever.

use super::Token;
use crate::values::Invalid;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::Method;
use sha2::Sha256;
use std::borrow::Cow;
use zeroize::Zeroizing;

/// How long a ticket is good.
pub const LIFETIME_MS: u64 = 24 * 60 * 60 * 1_000;

/// Length of the key: one block of SHA-256, which HMAC takes as it is (RFC 2104 section 2).
pub const KEY_BYTES: usize = 64;

/// The form of a ticket; also what keeps this use of the key apart from any other.
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"keygate upload ticket";
const MAC_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
/// Ids are short; longer text is none of ours.
const MAX_TEXT: usize = 1_024;

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The gateway's path, as it is on the wire.
    pub path: &'a str,
    /// The query as it is on the wire, without credentials.
    pub query: Cow<'a, str>,
}

/// A ticket as it was presented: nothing in it may be believed before [`Seal::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    parent: Box<str>,
    expires_ms: u64,
    mac: [u8; MAC_BYTES],
}

impl Ticket {
    /// Takes a ticket's text apart; `None` for what is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (time, rest) = rest.split_first_chunk::<TIME_BYTES>()?;
        let (mac, parent) = rest.split_first_chunk::<MAC_BYTES>()?;
        let parent = std::str::from_utf8(parent).ok()?;
        (*version == VERSION).then(|| Self {
            parent: parent.into(),
            expires_ms: u64::from_be_bytes(*time),
            mac: *mac,
        })
    }

    /// The id of the token that it stands for.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// When it ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    fn text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.expires_ms.to_be_bytes());
        bytes.extend_from_slice(&self.mac);
        bytes.extend_from_slice(self.parent.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Whether a ticket stands for its parent in a request of this method: those that carry an upload
/// on, and ask how far it came.
pub fn admits(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT
}

/// Makes and checks tickets. Every process of one gateway has the same key.
pub struct Seal(Zeroizing<[u8; KEY_BYTES]>);

impl Seal {
    /// With the key that the store keeps.
    pub fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(key)
    }

    /// With a key of its own, known to nobody else.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn draw() -> Result<Self, Invalid> {
        draw_key().map(Self)
    }

    /// A ticket for `parent` at `subject`.
    pub fn issue(&self, parent: &Token, subject: &Subject<'_>, expires_ms: u64) -> String {
        let mac = self.mac(parent, subject, expires_ms).finalize().into_bytes().into();
        Ticket { parent: (&*parent.id).into(), expires_ms, mac }.text()
    }

    /// Whether `ticket` was made for `parent` at `subject`, compared in constant time. Whether it
    /// has expired is the caller's to check.
    pub fn verify(&self, ticket: &Ticket, parent: &Token, subject: &Subject<'_>) -> bool {
        *ticket.parent == *parent.id
            && self.mac(parent, subject, ticket.expires_ms).verify_slice(&ticket.mac).is_ok()
    }

    /// Each part with its length, so that no two ways to cut the same bytes are equal. The digest
    /// is in it because a static token's id is a name, which another token may get.
    fn mac(&self, parent: &Token, subject: &Subject<'_>, expires_ms: u64) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*self.0).into());
        let expires = expires_ms.to_be_bytes();
        for part in [
            DOMAIN,
            &[VERSION],
            parent.id.as_bytes(),
            &parent.digest.0,
            subject.provider.as_bytes(),
            subject.path.as_bytes(),
            subject.query.as_bytes(),
            &expires,
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Draws a key for a [`Seal`].
///
/// # Errors
/// The system has no randomness to give.
pub fn draw_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, Invalid> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(|e| Invalid::new(format!("no randomness: {e}")))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::GrantSource;
    use crate::values::ids::TokenDigest;
    use crate::values::timestamp::Expiry;
    use std::sync::Arc;

    const LATER: u64 = 2_000_000_000_000;

    fn token(id: &str, plain: &str) -> Token {
        Token {
            id: id.into(),
            name: "test".into(),
            digest: TokenDigest::of(plain.as_bytes()),
            expires_at: Expiry::read(None),
            disabled: false,
            may_mint: false,
            grant: GrantSource::Default,
            counters: Arc::default(),
            client: None,
        }
    }

    fn subject() -> Subject<'static> {
        Subject { provider: "gemini", path: "/upload/v1beta/files", query: "upload_id=a".into() }
    }

    fn passes(seal: &Seal, text: &str, parent: &Token, subject: &Subject<'_>) -> bool {
        Ticket::read(text.as_bytes()).is_some_and(|t| seal.verify(&t, parent, subject))
    }

    #[test]
    fn a_ticket_is_good_for_its_token_provider_and_url_alone() {
        let (seal, parent) = (Seal::draw().unwrap(), token("tok_a", "plain"));
        let text = seal.issue(&parent, &subject(), LATER);
        assert!(passes(&seal, &text, &parent, &subject()), "as it was made");
        let ticket = Ticket::read(text.as_bytes()).unwrap();
        assert_eq!((ticket.parent(), ticket.expires_ms()), ("tok_a", LATER));
        for other in [
            Subject { provider: "gemini-2", ..subject() },
            Subject { path: "/upload/v1beta/files/", ..subject() },
            Subject { path: "/gemini/upload/v1beta/files", ..subject() },
            Subject { query: "upload_id=b".into(), ..subject() },
            Subject { query: "upload_id=a&x".into(), ..subject() },
            Subject { query: "".into(), ..subject() },
            // The same bytes, cut elsewhere.
            Subject { provider: "gemini/upload", path: "/v1beta/files", ..subject() },
        ] {
            assert!(!passes(&seal, &text, &parent, &other), "{other:?} is another subject");
        }
        for other in [token("tok_b", "plain"), token("tok_a", "another")] {
            assert!(!passes(&seal, &text, &other, &subject()), "{other:?} is another token");
        }
        let other = Seal::draw().unwrap();
        assert!(!passes(&other, &text, &parent, &subject()), "another key is another gateway");
    }

    #[test]
    fn a_ticket_in_which_any_character_was_changed_is_none() {
        let (seal, parent) = (Seal::draw().unwrap(), token("tok_a", "plain"));
        let text = seal.issue(&parent, &subject(), LATER);
        for at in 0..text.len() {
            for other in ["A", "B", "_", "=", "%", "é"] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, other);
                let good = passes(&seal, &changed, &parent, &subject());
                assert_eq!(good, changed == text, "character {at} as {other}");
            }
        }
        for cut in 0..text.len() {
            assert!(!passes(&seal, &text[..cut], &parent, &subject()), "cut at {cut}");
        }
        assert!(!passes(&seal, &format!("{text}AA"), &parent, &subject()), "longer");
        assert!(Ticket::read(&[b'A'; 2_000]).is_none(), "no ticket is that long");
    }

    #[test]
    fn a_later_expiry_than_the_one_that_was_sealed_does_not_pass() {
        let (seal, parent) = (Seal::draw().unwrap(), token("tok_a", "plain"));
        let text = seal.issue(&parent, &subject(), LATER);
        let mut ticket = Ticket::read(text.as_bytes()).unwrap();
        ticket.expires_ms += 1;
        assert!(!seal.verify(&ticket, &parent, &subject()));
    }

    #[test]
    fn processes_with_the_same_key_make_the_same_ticket() {
        let seal = Seal::new(Zeroizing::new([7; KEY_BYTES]));
        let text = seal.issue(&token("tok_a", "plain"), &subject(), LATER);
        let again = Seal::new(Zeroizing::new([7; KEY_BYTES]));
        let same = again.issue(&token("tok_a", "plain"), &subject(), LATER);
        assert_eq!(text, same);
    }

    #[test]
    fn only_what_carries_an_upload_on_is_admitted() {
        assert!(admits(&Method::POST) && admits(&Method::PUT));
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            assert!(!admits(&method), "{method}");
        }
    }
}

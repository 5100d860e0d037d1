//! Finds secrets in bytes, in every form in which they are likely to get out.
//!
//! Plain, percent-encoded, base64 (both alphabets, at any offset of the encoded text) and
//! hexadecimal. Of a key every [`PIECE`] bytes of a form count, of a token the whole. However many
//! secrets there are, the bytes are looked at once, in strides: a piece of 16 bytes contains one
//! of the blocks of 8 into which the bytes are cut, so only those are looked up.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Length of the shortest piece that gives a key away.
pub(super) const PIECE: usize = 16;

/// Two of them, less one byte, are what a piece must have.
const BLOCK: usize = 8;

const FILTER_BITS: u32 = 22;

/// What a secret is; and, for a search, down to which rank to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A provider's key: a search of this rank finds tokens too.
    Key,
    /// A caller's token.
    Token,
}

/// One way to write a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Plain,
    Base64,
    Hex,
}

/// A secret that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    /// Its number, in the order of [`Patterns::add`].
    pub(super) secret: usize,
    form: Form,
    percent: bool,
    label: String,
    rank: Rank,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.rank {
            Rank::Key => "a piece of the key",
            Rank::Token => "the token",
        };
        let percent = if self.percent { ", percent-encoded" } else { "" };
        write!(f, "{what} {:?} #{} ({:?}{percent})", self.label, self.secret, self.form)
    }
}

/// All secrets, prepared for searching.
#[derive(Debug)]
pub(super) struct Patterns {
    /// Set where a block with this hash exists; most of what is looked at ends here.
    filter: Vec<bool>,
    /// Where in which text a block occurs.
    blocks: HashMap<[u8; BLOCK], Vec<(usize, usize)>>,
    texts: Vec<Text>,
    secrets: Vec<(Rank, String)>,
}

/// One way to write a secret.
#[derive(Debug)]
struct Text {
    secret: usize,
    form: Form,
    bytes: Vec<u8>,
    /// How much of it must be there.
    needed: usize,
}

impl Default for Patterns {
    fn default() -> Self {
        let (texts, secrets) = (Vec::new(), Vec::new());
        Self { filter: vec![false; 1 << FILTER_BITS], blocks: HashMap::new(), texts, secrets }
    }
}

impl Patterns {
    /// Adds a secret of at least [`PIECE`] bytes.
    pub(super) fn add(&mut self, rank: Rank, label: &str, value: &str) {
        let secret = self.secrets.len();
        self.secrets.push((rank, label.to_owned()));
        for (form, bytes) in forms(value.as_bytes()) {
            for (at, block) in bytes.windows(BLOCK).enumerate() {
                let block = block.try_into().expect("windows are of this size");
                self.filter[hash(block)] = true;
                self.blocks.entry(block).or_default().push((self.texts.len(), at));
            }
            let needed = if rank == Rank::Key { PIECE } else { bytes.len() };
            self.texts.push(Text { secret, form, bytes, needed });
        }
    }

    /// The secrets of rank `sought`, or below it, that are in `bytes`.
    pub(super) fn find(&self, bytes: &[u8], sought: Rank) -> Vec<Hit> {
        let mut hits = BTreeSet::new();
        self.scan(bytes, sought, false, &mut hits);
        if bytes.contains(&b'%') {
            self.scan(&percent_decode(bytes), sought, true, &mut hits);
        }
        hits.into_iter().collect()
    }

    fn scan(&self, bytes: &[u8], sought: Rank, percent: bool, hits: &mut BTreeSet<Hit>) {
        for (number, block) in bytes.chunks_exact(BLOCK).enumerate() {
            let block = block.try_into().expect("chunks are of this size");
            if !self.filter[hash(block)] {
                continue;
            }
            for (text, at) in self.blocks.get(&block).into_iter().flatten() {
                let text = &self.texts[*text];
                let (rank, label) = &self.secrets[text.secret];
                if *rank >= sought
                    && matching(&text.bytes, *at, bytes, number * BLOCK) >= text.needed
                {
                    let (secret, form) = (text.secret, text.form);
                    hits.insert(Hit { secret, form, percent, label: label.clone(), rank: *rank });
                }
            }
        }
    }
}

/// How many bytes of `text` around `at` are the same as those of `bytes` around `place`.
fn matching(text: &[u8], at: usize, bytes: &[u8], place: usize) -> usize {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let before = text[..at].iter().rev().zip(bytes[..place].iter().rev()).take_while(same).count();
    before + text[at..].iter().zip(&bytes[place..]).take_while(same).count()
}

fn hash(block: [u8; BLOCK]) -> usize {
    let mixed = u64::from_le_bytes(block).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - FILTER_BITS)) as usize
}

/// Jumps from one `%` to the next, which is quick where there are few.
fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut done) = (Vec::with_capacity(bytes.len()), 0);
    for at in memchr::memchr_iter(b'%', bytes).filter(|at| *at + 2 < bytes.len()) {
        let digits = std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap_or_default();
        let Ok(byte) = u8::from_str_radix(digits, 16) else { continue };
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        out.push(byte);
        done = at + 3;
    }
    out.extend_from_slice(&bytes[done..]);
    out
}

fn forms(secret: &[u8]) -> Vec<(Form, Vec<u8>)> {
    let mut forms = vec![(Form::Plain, secret.to_vec())];
    let digits: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    forms.push((Form::Hex, digits.to_uppercase().into_bytes()));
    forms.push((Form::Hex, digits.into_bytes()));
    for before in 0..3 {
        let text = [&[0; 2][..before], secret].concat();
        // Characters that depend on what stands before or behind say nothing.
        let first = [0, 2, 3][before];
        let whole = text.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = (Form::Base64, engine.encode(&text).as_bytes()[first..whole].to_vec());
            if !forms.contains(&encoded) {
                forms.push(encoded);
            }
        }
    }
    forms
}

mod tests {
    use super::*;

    const KEY: &str = "sk-canary-Qm7xK2vR9pLw4tYz8nBc3dFg";
    const TOKEN: &str = "ptk_Vh5jN8rT2wXq6zLc9mKb4gPd7sYf3aUe";

    fn patterns() -> Patterns {
        let mut patterns = Patterns::default();
        patterns.add(Rank::Key, "key", KEY);
        patterns.add(Rank::Token, "token", TOKEN);
        patterns
    }

    fn finds(bytes: impl AsRef<[u8]>) -> bool {
        !patterns().find(bytes.as_ref(), Rank::Key).is_empty()
    }

    #[test]
    fn every_form_of_a_secret_is_found() {
        for secret in [KEY, TOKEN] {
            assert!(finds(format!("x{secret}y")), "plain");
            let percent: String = secret.bytes().map(|b| format!("%{b:02X}")).collect();
            assert!(finds(percent), "percent-encoded throughout");
            assert!(finds(secret.replace('c', "%63")), "percent-encoded in one place");
            let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
            assert!(finds(hex), "hexadecimal");
            for before in ["", "a", "ab", "abc", "user:"] {
                for behind in ["", "x", "xy", ":z"] {
                    let text = format!("{before}{secret}{behind}");
                    assert!(finds(STANDARD_NO_PAD.encode(&text)), "base64 of {text}");
                    assert!(finds(URL_SAFE_NO_PAD.encode(&text)), "base64url of {text}");
                }
            }
        }
    }

    #[test]
    fn any_piece_of_a_key_is_found_but_only_a_whole_token() {
        let patterns = patterns();
        for at in 0..=KEY.len() - PIECE {
            for before in 0..BLOCK {
                let text = format!("{:before$}{}", "", &KEY[at..at + PIECE]);
                let hits = patterns.find(text.as_bytes(), Rank::Key);
                assert_eq!(hits.len(), 1, "the piece at {at}, behind {before} other bytes");
            }
        }
        assert!(!finds(&KEY[..PIECE - 1]), "fifteen bytes are no piece");
        assert!(!finds(&TOKEN[..TOKEN.len() - 1]), "all but one character is not the token");
        assert!(!finds("nothing of the kind is in here: ptk_ sk-canary-"), "innocent text");
    }

    #[test]
    fn search_for_tokens_passes_over_keys() {
        let both = format!("{KEY} {TOKEN}");
        let hits = patterns().find(both.as_bytes(), Rank::Token);
        assert_eq!(hits.iter().map(|h| h.secret).collect::<Vec<_>>(), [1], "the token alone");
    }
}

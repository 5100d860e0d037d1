//! Finds secrets in what is about to leave, and takes them out.
//!
//! Invariant: after [`Redactor::clean`] none of the secrets is left, neither as it is, nor
//! percent-encoded, nor escaped as in JSON (both also in part), nor as Base64, alone or inside of
//! something longer (`Basic` credentials). Nothing of a secret remains, no first or last characters
//! either. Encodings of encodings, and compressed bytes, are for the caller to undo first.
//!
//! All copies are zeroed when dropped, which is why there is no prepared search automaton.

use crate::values::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// What stands where a secret was.
const MARK: &[u8] = b"[redacted]";
/// Shorter pieces of Base64 turn up by chance.
const SHORTEST_PIECE: usize = 8;
/// A byte may be written as `\u0022`.
const LONGEST_ESCAPE: usize = 6;

/// The secrets of one configuration.
pub struct Redactor {
    needles: Vec<Needle>,
    /// Nothing shorter can hold any.
    shortest: usize,
    beginnings: Beginnings,
}

/// Which bytes some needle may begin with: one look per position, however many needles there are.
struct Beginnings(Zeroizing<[u64; 64]>);

impl Beginnings {
    /// Bytes that are looked at.
    const WIDTH: usize = 3;

    fn of(needles: &[Needle]) -> Self {
        let mut bits = Zeroizing::new([0_u64; 64]);
        for needle in needles {
            if let Some(head) = needle.text.as_bytes().first_chunk() {
                let (word, bit) = Self::place(head);
                if let Some(word) = bits.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        Self(bits)
    }

    /// False only where no needle begins.
    fn may_begin(&self, head: &[u8; Self::WIDTH]) -> bool {
        let (word, bit) = Self::place(head);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Twelve bits of a multiplicative hash.
    fn place(&[a, b, c]: &[u8; Self::WIDTH]) -> (usize, u64) {
        let hash = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9E37_79B1) >> 20;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }
}

struct Needle {
    text: Zeroizing<String>,
    /// Part of a longer Base64 text: the characters beside it hold bits of the secret.
    piece: bool,
}

impl Redactor {
    /// Looks for these. Empty ones are left out: they are everywhere.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            // Exposed to be kept away from every output; the copies are zeroed on drop.
            let text = secret.expose();
            if !text.is_empty() {
                needles.push(Needle { text: Zeroizing::new(text.to_owned()), piece: false });
                push_base64(&mut needles, text.as_bytes());
            }
        }
        let shortest = needles.iter().map(|n| n.text.len()).min().unwrap_or(usize::MAX);
        Self { beginnings: Beginnings::of(&needles), needles, shortest }
    }

    /// Whether any secret is in `bytes`.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        !self.find(bytes, true).is_empty()
    }

    /// `bytes` with `[redacted]` in place of each secret.
    pub fn clean<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut found = self.find(bytes, false);
        if found.is_empty() {
            return Cow::Borrowed(bytes);
        }
        found.sort_unstable_by_key(|range| range.start);
        let mut out = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for (index, range) in found.iter().enumerate() {
            // What overlaps or touches the former range is covered by its mark.
            if index == 0 || range.start > done {
                out.extend_from_slice(bytes.get(done..range.start).unwrap_or_default());
                out.extend_from_slice(MARK);
            }
            done = done.max(range.end);
        }
        out.extend_from_slice(bytes.get(done..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// Bytes that a secret takes at most, whatever way it is written: who cleans a body chunk by
    /// chunk holds one less than that back.
    pub fn longest(&self) -> usize {
        // A piece of Base64 has a neighbour on each side.
        let length = |needle: &Needle| needle.text.len() * LONGEST_ESCAPE + 2;
        self.needles.iter().map(length).max().unwrap_or(0)
    }

    fn find(&self, bytes: &[u8], first_only: bool) -> Vec<Range<usize>> {
        if bytes.len() < self.shortest {
            return Vec::new();
        }
        let mut found = Vec::new();
        if self.shortest < Beginnings::WIDTH {
            self.needles.iter().for_each(|needle| needle.find_plain(bytes, &mut found));
        } else {
            self.find_plain(bytes, &mut found);
        }
        if first_only && !found.is_empty() {
            return found;
        }
        if memchr::memchr3(b'%', b'\\', b'+', bytes).is_some() {
            for needle in &self.needles {
                needle.find_escaped(bytes, &mut found);
                if first_only && !found.is_empty() {
                    break;
                }
            }
        }
        found
    }

    /// Every place where a needle stands as it is, overlapping ones too: nothing may remain.
    fn find_plain(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        for (start, head) in bytes.windows(Beginnings::WIDTH).enumerate() {
            if head.try_into().is_ok_and(|head| self.beginnings.may_begin(head)) {
                let rest = bytes.get(start..).unwrap_or_default();
                for needle in &self.needles {
                    if rest.starts_with(needle.text.as_bytes()) {
                        needle.push(bytes, start..start + needle.text.len(), found);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Needle {
    fn find_plain(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        let needle = self.text.as_bytes();
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| memmem::find(rest, needle)) {
            let start = from + at;
            self.push(bytes, start..start + needle.len(), found);
            // Not behind the match: of two that overlap, nothing may remain.
            from = start + 1;
        }
    }

    fn find_escaped(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) {
        let Some(&first) = self.text.as_bytes().first() else { return };
        let first = if first == b' ' { b'+' } else { first };
        for start in memchr::memchr3_iter(first, b'%', b'\\', bytes) {
            if let Some(end) = self.match_escaped(bytes, start) {
                self.push(bytes, start..end, found);
            }
        }
    }

    /// Where the needle ends if it starts at `start`, each character plain or escaped.
    fn match_escaped(&self, bytes: &[u8], start: usize) -> Option<usize> {
        let mut rest = bytes.get(start..)?;
        for want in self.text.chars() {
            let used = match_json(rest, want).or_else(|| match_percent(rest, want))?;
            rest = rest.get(used..)?;
        }
        Some(bytes.len() - rest.len())
    }

    fn push(&self, bytes: &[u8], mut range: Range<usize>, found: &mut Vec<Range<usize>>) {
        if self.piece {
            let is_base64 = |at: usize| {
                bytes.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || b"+/-_".contains(c))
            };
            if range.start > 0 && is_base64(range.start - 1) {
                range.start -= 1;
            }
            if is_base64(range.end) {
                range.end += 1;
            }
        }
        found.push(range);
    }
}

/// The length of `want` at the start of `text` as JSON escapes it.
fn match_json(text: &[u8], want: char) -> Option<usize> {
    let (b'\\', escape) = (*text.first()?, *text.get(1)?) else { return None };
    let stands_for = match escape {
        b'"' | b'\\' | b'/' | b'\'' => char::from(escape),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let digits = std::str::from_utf8(text.get(2..6)?).ok()?;
            return (u32::from_str_radix(digits, 16).ok()? == u32::from(want)).then_some(6);
        }
        _ => return None,
    };
    (stands_for == want).then_some(2)
}

/// The length of `want` at the start of `text`, each of its bytes as it is or percent-encoded.
fn match_percent(text: &[u8], want: char) -> Option<usize> {
    let mut utf8 = [0; 4];
    let mut rest = text;
    for &byte in want.encode_utf8(&mut utf8).as_bytes() {
        let first = *rest.first()?;
        let used = if first == b'%' && percent_value(rest) == Some(byte) {
            3
        } else if first == byte || (first == b'+' && byte == b' ') {
            1
        } else {
            return None;
        };
        rest = rest.get(used..)?;
    }
    Some(text.len() - rest.len())
}

fn percent_value(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

/// Base64 of the secret alone, and what three alignments inside of something longer leave the same.
fn push_base64(needles: &mut Vec<Needle>, secret: &[u8]) {
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        push_new(needles, engine.encode(secret), false);
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.reserve_exact(secret.len());
            bytes.extend_from_slice(secret);
            let encoded = Zeroizing::new(engine.encode(&*bytes));
            let (start, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            let piece = encoded.get(start..end).unwrap_or_default();
            if piece.len() >= SHORTEST_PIECE {
                push_new(needles, piece.to_owned(), true);
            }
        }
    }
}

fn push_new(needles: &mut Vec<Needle>, text: String, piece: bool) {
    let text = Zeroizing::new(text);
    if !needles.iter().any(|known| known.piece == piece && known.text == text) {
        needles.push(Needle { text, piece });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    /// Has what the encodings change.
    const KEY: &str = "sk-c4n4ry/+\"\\=Kq9~é?>x";

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        Redactor::new(&secrets)
    }

    fn cleaned(redactor: &Redactor, text: impl AsRef<[u8]>) -> String {
        let text = text.as_ref();
        let out = redactor.clean(text);
        assert_eq!(
            redactor.contains(text),
            matches!(out, Cow::Owned(_)),
            "contains and clean must agree on {:?}",
            String::from_utf8_lossy(text)
        );
        assert!(!redactor.contains(&out), "nothing may be left to find");
        String::from_utf8(out.into_owned()).unwrap()
    }

    fn percent(text: &str, every: usize) -> String {
        let encode = |(at, byte): (usize, u8)| match at % every {
            0 if at % 2 == 0 => format!("%{byte:02X}"),
            0 => format!("%{byte:02x}"),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().enumerate().map(encode).collect()
    }

    #[test]
    fn many_secrets_and_very_short_ones_are_found_wherever_they_begin() {
        let secrets: Vec<_> =
            (0..50).map(|n| Secret::new(format!("k{n:02}-0123456789abcdef"))).collect();
        let redactor = Redactor::new(&secrets);
        for n in 0..50 {
            for lead in ["", "k", "k0", "k00-012345678", "kk"] {
                let text = format!("{lead}k{n:02}-0123456789abcdef");
                assert!(redactor.contains(text.as_bytes()), "{text}");
                assert!(
                    !redactor.contains(&text.as_bytes()[..text.len() - 1]),
                    "not all of {text}"
                );
            }
        }
        for short in ["x", "xy", "xyz"] {
            let redactor = Redactor::new([&Secret::new(short.to_owned())]);
            assert_eq!(&*redactor.clean(format!("a{short}").as_bytes()), b"a[redacted]", "{short}");
        }
    }

    #[test]
    fn every_form_of_a_secret_is_replaced_whole() {
        let redactor = redactor(&["other-secret", KEY]);
        let json = serde_json::to_string(KEY).unwrap();
        let json = json.trim_start_matches('"').strip_suffix('"').unwrap();
        for form in [
            KEY.to_owned(),
            percent(KEY, 1),
            percent(KEY, 3),
            percent(KEY, 1000),
            json.to_owned(),
            json.replace('/', "\\/").replace('é', "\\u00e9").replace('+', "\\u002B"),
        ] {
            let text = format!("<{form}> and {form}{form} end");
            assert_eq!(cleaned(&redactor, &text), "<[redacted]> and [redacted] end", "{form}");
        }
    }

    #[test]
    fn base64_is_found_alone_and_inside_of_something_longer() {
        let redactor = redactor(&[KEY]);
        for before in ["", "u", "us", "use", "user:", "a:bcdefg"] {
            for after in ["", "\n", "12", "123"] {
                for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
                    let form = engine.encode(format!("{before}{KEY}{after}"));
                    let out = cleaned(&redactor, format!("Basic {form}."));
                    let bits = (before.len() * 8 / 6, after.len() * 8 / 6 + 3);
                    let rest = out.strip_prefix("Basic ").unwrap().strip_suffix('.').unwrap();
                    let (head, tail) = rest.split_once("[redacted]").expect(&out);
                    assert!(head.len() <= bits.0, "'{head}' is more than '{before}': {out}");
                    assert!(tail.len() <= bits.1, "'{tail}' is more than '{after}': {out}");
                    assert!(form.starts_with(head) && form.ends_with(tail), "{out} of {form}");
                }
            }
        }
    }

    #[test]
    fn percent_encoded_base64_is_found() {
        let redactor = redactor(&[KEY]);
        let form = percent(&STANDARD.encode(KEY), 1000);
        assert!(form.contains("%2"), "the test needs something to encode: {form}");
        assert!(cleaned(&redactor, format!("auth={form}")).starts_with("auth=[redacted]"));
    }

    #[test]
    fn short_secrets_are_found_and_empty_ones_are_not_looked_for() {
        let redactor = redactor(&["", "pw1"]);
        assert_eq!(cleaned(&redactor, "password=pw1;"), "password=[redacted];");
        assert_eq!(cleaned(&redactor, STANDARD.encode("pw1")), "[redacted]");
        assert_eq!(cleaned(&redactor, "nothing"), "nothing");
    }

    #[test]
    fn overlapping_secrets_leave_nothing_between_them() {
        let redactor = redactor(&["abab", "babc", "abc"]);
        assert_eq!(cleaned(&redactor, "xababababcx"), "x[redacted]x");
    }

    #[test]
    fn spaces_written_as_plus_are_seen() {
        let redactor = redactor(&[" two words"]);
        assert_eq!(cleaned(&redactor, "q=+two+words&x=%20two+words"), "q=[redacted]&x=[redacted]");
    }

    #[test]
    fn what_only_resembles_a_secret_passes_untouched() {
        let redactor = redactor(&[KEY]);
        for text in ["", "%", "\\", "\\u", "\\u00", "%s", "sk-c4n4ry/", "sk-c4n4r%79/%2", "100%+\\"]
        {
            let out = redactor.clean(text.as_bytes());
            assert!(matches!(out, Cow::Borrowed(_)), "{text:?} became {out:?}");
        }
        assert!(!self::redactor(&[]).contains(KEY.as_bytes()), "no secrets, nothing to find");
    }

    #[test]
    fn no_form_is_longer_than_it_says() {
        let redactor = redactor(&["k\"\"\"\"ey"]);
        assert!(redactor.longest() >= "\\u006b\\u0022\\u0022\\u0022\\u0022\\u0065\\u0079".len());
        assert_eq!(self::redactor(&[]).longest(), 0, "nothing to hold back");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", redactor(&[KEY])), "Redactor");
    }
}

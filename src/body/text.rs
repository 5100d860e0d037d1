//! What the scanner of JSON does with texts, in bulk: which bytes need no look, whether it is all
//! UTF-8, and what escapes stand for.
//!
//! Nothing here knows where in a document a text stands. A text that is put together from pieces
//! keeps [`LONGEST`] bytes at most, whatever its length.

/// Longer than any member's name that is looked for, and than any model's name.
pub(super) const LONGEST: usize = 512;

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// How many bytes at the beginning of `text` are neither `"`, `\` nor control characters.
#[inline]
pub(super) fn plain(text: &[u8]) -> usize {
    let mut rest = text;
    let gone = |rest: &[u8]| text.len() - rest.len();
    for words in 0.. {
        // Most texts are short; the long ones are worth a wider look.
        if words == 4 {
            rest = skip_blocks(rest);
        }
        let Some((word, tail)) = rest.split_first_chunk::<8>() else { break };
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return gone(rest) + (found.trailing_zeros() / 8) as usize;
        }
        rest = tail;
    }
    gone(rest) + rest.iter().position(|b| is_special(*b)).unwrap_or(rest.len())
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Flags in the highest bits of bytes; the lowest flag is true, those above it may be carries.
const fn specials(word: u64) -> u64 {
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word & HIGHS
    }
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    below(word, 0x20) | below(quote, 1) | below(backslash, 1)
}

/// Behind the blocks that hold nothing special. The compiler makes vector instructions of it.
#[inline]
fn skip_blocks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some((block, tail)) = rest.split_first_chunk::<64>() {
        if block.iter().fold(false, |found, b| found | is_special(*b)) {
            break;
        }
        rest = tail;
    }
    rest
}

/// Whether everything is UTF-8, characters that are split over chunks included.
#[derive(Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    held: usize,
}

impl Utf8 {
    /// Takes the next chunk; false where it is no UTF-8.
    #[inline]
    pub(super) fn take(&mut self, chunk: &[u8]) -> bool {
        let Some(rest) = self.complete(chunk) else { return false };
        match std::str::from_utf8(rest) {
            Ok(_) => true,
            Err(e) if e.error_len().is_some() => false,
            Err(e) => {
                for byte in rest.get(e.valid_up_to()..).unwrap_or_default() {
                    self.push(*byte);
                }
                true
            }
        }
    }

    /// Whether no character is left unfinished.
    pub(super) fn is_whole(&self) -> bool {
        self.held == 0
    }

    /// Ends the character that the last chunk began; gives what follows it.
    fn complete<'c>(&mut self, chunk: &'c [u8]) -> Option<&'c [u8]> {
        let mut rest = chunk;
        while self.held > 0
            && let Some((byte, tail)) = rest.split_first()
        {
            self.push(*byte);
            rest = tail;
            match std::str::from_utf8(self.begun.get(..self.held)?) {
                Ok(_) => self.held = 0,
                Err(e) if e.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        Some(rest)
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.begun.get_mut(self.held) {
            *place = byte;
            self.held += 1;
        }
    }
}

/// A text that is put together: it has escapes in it, or is split over chunks.
#[derive(Default)]
pub(super) struct Pieces {
    text: Vec<u8>,
    /// A `\u` escape that needs another behind it.
    high: Option<u16>,
    begun: bool,
    too_long: bool,
}

impl Pieces {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        (self.high, self.begun, self.too_long) = (None, false, false);
    }

    /// Whether there is any piece yet.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Whether the second half of a surrogate pair is due.
    pub(super) fn is_open(&self) -> bool {
        self.high.is_some()
    }

    /// The text; `None` where it is longer than is kept.
    pub(super) fn text(&self) -> Option<&[u8]> {
        (!self.too_long).then_some(&self.text)
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.begun = true;
        if self.text.len() + piece.len() > LONGEST {
            self.too_long = true;
        } else {
            self.text.extend_from_slice(piece);
        }
    }

    /// Adds what `\u` and four digits stand for; false for half of a pair.
    pub(super) fn push_unit(&mut self, unit: u16) -> bool {
        self.begun = true;
        let high = self.high.take();
        if high.is_none() && matches!(unit, 0xD800..=0xDBFF) {
            self.high = Some(unit);
            return true;
        }
        let mut decoded = char::decode_utf16(high.into_iter().chain([unit]));
        let (Some(Ok(one)), None) = (decoded.next(), decoded.next()) else { return false };
        self.push(one.encode_utf8(&mut [0; 4]).as_bytes());
        true
    }
}

/// What a backslash and `byte` stand for; `u` needs digits.
pub(super) const fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Whether two names differ in case at most, by ASCII and by Unicode: there are servers that take
/// `ſ` for `s`.
pub(super) fn same(wanted: &str, name: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(wanted.as_bytes()) {
        return true;
    }
    let odd = !name.is_ascii();
    odd && std::str::from_utf8(name).is_ok_and(|name| fold(wanted).eq(fold(name)))
}

fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_look_is_found_at_every_place() {
        for len in [0, 1, 7, 8, 9, 31, 32, 40, 95, 96, 97, 200, 1_000] {
            let text = vec![b'a'; len];
            assert_eq!(plain(&text), len, "nothing special in {len} bytes");
            for at in 0..len {
                for special in [b'"', b'\\', 0, 0x1F, b'\n'] {
                    let mut text = text.clone();
                    text[at] = special;
                    // What stands behind must not be found first.
                    if let Some(byte) = text.get_mut(at + 1) {
                        *byte = b'"';
                    }
                    assert_eq!(plain(&text), at, "{special:#x} at {at} of {len}");
                }
            }
        }
        let all: Vec<u8> = (0x20..=0xFF).filter(|b| !is_special(*b)).collect();
        assert_eq!(plain(&all.repeat(3)), all.len() * 3, "every other byte is plain");
    }

    #[test]
    fn characters_split_over_chunks_are_read_as_one() {
        let text = "aé日😀b".repeat(3).into_bytes();
        for size in 1..text.len() {
            let mut utf8 = Utf8::default();
            assert!(text.chunks(size).all(|chunk| utf8.take(chunk)), "chunks of {size}");
            assert!(utf8.is_whole());
        }
        for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\x80"] {
            for size in 1..=bad.len() {
                let mut utf8 = Utf8::default();
                let taken = bad.chunks(size).all(|chunk| utf8.take(chunk));
                assert!(!(taken && utf8.is_whole()), "{bad:x?} in chunks of {size}");
            }
        }
        let mut utf8 = Utf8::default();
        assert!(utf8.take(b"\xe6\x97") && !utf8.is_whole(), "an end is missing");
    }

    #[test]
    fn escaped_units_become_characters_or_are_refused() {
        let of = |units: &[u16]| {
            let mut pieces = Pieces::default();
            let good = units.iter().all(|u| pieces.push_unit(*u)) && !pieces.is_open();
            good.then(|| String::from_utf8(pieces.text().unwrap().to_vec()).unwrap())
        };
        assert_eq!(of(&[0x6D]).as_deref(), Some("m"));
        assert_eq!(of(&[0xD83D, 0xDE00, 0x41]).as_deref(), Some("😀A"));
        for lone in [&[0xD83D][..], &[0xDE00], &[0xD83D, 0xD83D], &[0xD83D, 0x41]] {
            assert_eq!(of(lone), None, "{lone:x?}");
        }
    }

    #[test]
    fn names_are_the_same_in_any_case() {
        assert!(same("model", b"MoDeL") && same("model", b"model"));
        assert!(same("session", "\u{17F}eSSion".as_bytes()), "a long s");
        assert!(same("task", "tas\u{212A}".as_bytes()), "the Kelvin sign");
        assert!(!same("model", b"models") && !same("model", "modél".as_bytes()));
    }

    #[test]
    fn a_text_keeps_so_much_and_no_more() {
        let mut pieces = Pieces::default();
        for _ in 0..1_000 {
            pieces.push(&[b'a'; 100]);
        }
        assert!(pieces.text().is_none() && pieces.text.capacity() < 4 * LONGEST);
        pieces.clear();
        pieces.push(b"b");
        assert_eq!(pieces.text(), Some(&b"b"[..]), "the next one is its own");
    }
}

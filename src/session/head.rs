//! A look at the head of an HTTP/1 request before Pingora parses it: what it would mend or hide, and
//! how long a head may become.
//!
//! Pingora takes lines that end with a bare LF, cuts a fragment off, escapes what no target may hold,
//! and reads 256 fields and 1 MiB. Whatever of that is seen here is noted, and step 1 of the gate
//! refuses the request; a head that is too long is ended here, so that there is a request to refuse.
//!
//! Invariant: nothing that is noted is ever forwarded. What Pingora itself refuses (bare CR, NUL, blanks
//! before the colon, folded lines) is left to it.

use memchr::memchr_iter;

/// More than any head that the gate would accept.
const MOST_LINES: u32 = 110;
const LONGEST: usize = 64 << 10;
const LONGEST_TARGET: usize = 16 << 10;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Oddity {
    /// A line ends with LF alone.
    BareLineFeed = 1,
    /// The request line has other blanks than its two, a fragment, or what is not printable ASCII.
    RequestLine,
    /// The request line never ends.
    EndlessTarget,
    /// More fields, or bytes of them, than are read.
    Endless,
}

impl Oddity {
    /// The reverse of `as u8`; 0 is none.
    pub(super) fn of(number: u8) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::BareLineFeed),
            2 => Some(Self::RequestLine),
            3 => Some(Self::EndlessTarget),
            _ => Some(Self::Endless),
        }
    }
}

/// A head ends here: so much of the piece is kept, and this follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the piece.
    pub keep: usize,
    /// What makes it a whole head.
    pub tail: &'static [u8],
}

/// Where a head stands that arrives in pieces.
#[derive(Debug, Default)]
pub struct Scan {
    odd: Option<Oddity>,
    /// Lines that have ended, empty ones before the first aside.
    lines: u32,
    /// Bytes of the line that has not.
    line: usize,
    /// Whether the last byte was CR.
    cr: bool,
    blanks: usize,
    total: usize,
    done: bool,
}

impl Scan {
    /// What was noted.
    pub fn odd(&self) -> Option<Oddity> {
        self.odd
    }

    /// Whether the head has ended.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next piece, with whatever follows the head in it.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Cut> {
        let mut from = 0;
        for end in memchr_iter(b'\n', piece) {
            self.part(piece.get(from..end).unwrap_or_default());
            from = end + 1;
            if self.end_line() {
                return None;
            }
            if self.lines > MOST_LINES {
                return Some(self.cut(Oddity::Endless, from, b"\r\n"));
            }
        }
        self.part(piece.get(from..).unwrap_or_default());
        self.total += piece.len();
        if self.lines == 0 && self.line > LONGEST_TARGET {
            return Some(self.cut(Oddity::EndlessTarget, piece.len(), b" HTTP/1.1\r\n\r\n"));
        }
        if self.total > LONGEST {
            return Some(self.cut(Oddity::Endless, piece.len(), b"\r\n\r\n"));
        }
        None
    }

    /// Bytes of a line, without what ends it but for the CR.
    fn part(&mut self, part: &[u8]) {
        let Some(last) = part.last() else { return };
        if self.lines == 0 {
            let text = part.strip_suffix(b"\r").unwrap_or(part);
            let bad = |b: &u8| *b < b' ' || *b >= 0x7F || *b == b'#';
            if self.cr || text.iter().any(bad) {
                self.note(Oddity::RequestLine);
            }
            self.blanks += text.iter().filter(|b| **b == b' ').count();
        }
        self.cr = *last == b'\r';
        self.line += part.len();
    }

    /// A line has ended. Gives whether the head has.
    fn end_line(&mut self) -> bool {
        let cr = std::mem::take(&mut self.cr);
        let empty = std::mem::take(&mut self.line) == usize::from(cr);
        if !cr {
            self.note(Oddity::BareLineFeed);
        }
        if empty {
            // RFC 9112 section 2.2: empty lines before a request are ignored.
            self.done = self.lines > 0;
            return self.done;
        }
        if self.lines == 0 && self.blanks != 2 {
            self.note(Oddity::RequestLine);
        }
        self.lines += 1;
        false
    }

    fn note(&mut self, oddity: Oddity) {
        self.odd.get_or_insert(oddity);
    }

    fn cut(&mut self, why: Oddity, keep: usize, tail: &'static [u8]) -> Cut {
        self.odd = Some(why);
        self.done = true;
        Cut { keep, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noted of a head, in whatever pieces it comes.
    fn noted(head: &[u8]) -> Option<Oddity> {
        let mut whole = Scan::default();
        assert_eq!(whole.feed(head), None, "{:?}", String::from_utf8_lossy(head));
        assert!(whole.is_done(), "{:?} ends", String::from_utf8_lossy(head));
        for size in 1..head.len().min(9) {
            let mut scan = Scan::default();
            for piece in head.chunks(size) {
                if !scan.is_done() {
                    scan.feed(piece);
                }
            }
            assert_eq!(scan.odd(), whole.odd(), "in pieces of {size}: {head:?}");
            assert!(scan.is_done(), "in pieces of {size}: {head:?}");
        }
        whole.odd()
    }

    #[test]
    fn ordinary_heads_pass_and_what_follows_them_is_not_looked_at() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST /v1/x?a=b%20c HTTP/1.1\r\nHost: h\r\nX-A:  \t b\x7f\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n\n\n#\x00\r\r\n\n",
        ] {
            assert_eq!(noted(head.as_bytes()), None, "{head:?}");
        }
    }

    #[test]
    fn what_pingora_would_mend_is_noted() {
        for head in [
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(noted(head.as_bytes()), Some(Oddity::BareLineFeed), "{head:?}");
        }
        for head in [
            &b"GET /a#b HTTP/1.1\r\n\r\n"[..],
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET /\tHTTP/1.1\r\n\r\n",
            b"GET /a?\0 HTTP/1.1\r\n\r\n",
            b"GET /a?\rX: HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\r\n\r\n",
            b"GET /\xC3\xA9 HTTP/1.1\r\n\r\n",
            b"GET /\x7f HTTP/1.1\r\n\r\n",
            b"GET /\r\n\r\n",
        ] {
            assert_eq!(noted(head), Some(Oddity::RequestLine), "{head:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_ended() {
        let line = "GET / HTTP/1.1\r\n";
        let fields = format!("{line}{}", "a: b\r\n".repeat(300));
        let mut scan = Scan::default();
        let cut = scan.feed(fields.as_bytes()).expect("it is cut");
        assert_eq!(cut, Cut { keep: line.len() + 110 * 6, tail: b"\r\n" }, "behind a whole line");
        assert_eq!((scan.odd(), scan.is_done()), (Some(Oddity::Endless), true));

        let mut scan = Scan::default();
        assert_eq!(scan.feed(format!("{line}a: ").as_bytes()), None);
        assert_eq!(scan.feed(&[b'x'; 60_000]), None);
        let cut = scan.feed(&[b'x'; 6_000]).expect("it is cut");
        assert_eq!(cut, Cut { keep: 6_000, tail: b"\r\n\r\n" }, "within a line");

        let mut scan = Scan::default();
        assert_eq!(scan.feed(b"GET /"), None);
        let cut = scan.feed(&[b'x'; 20_000]).expect("it is cut");
        assert_eq!(cut, Cut { keep: 20_000, tail: b" HTTP/1.1\r\n\r\n" });
        assert_eq!(scan.odd(), Some(Oddity::EndlessTarget));
    }

    /// The same by splitting: slow, and plain to see. `None`: there is no end in it.
    fn plainly(head: &[u8]) -> Option<bool> {
        let (mut odd, mut first) = (false, true);
        for line in head.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n")?;
            let text = line.strip_suffix(b"\r");
            odd |= text.is_none();
            match (text.unwrap_or(line), first) {
                ([], true) => {}
                ([], false) => return Some(odd),
                (_, false) => {}
                (text, true) => {
                    let plain = text.iter().all(|b| (b' '..0x7F).contains(b) && *b != b'#');
                    odd |= !plain || text.iter().filter(|b| **b == b' ').count() != 2;
                    first = false;
                }
            }
        }
        None
    }

    #[test]
    fn random_heads_in_random_pieces_are_seen_as_they_are() {
        const PARTS: [&[u8]; 12] = [
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"GET / HTTP/1.1\r\n",
            b"GET /a",
            b" ",
            b"#",
            b"\0",
            b"A: b",
            b"\r\n\r\n",
            b"\xC3",
        ];
        let (mut seed, mut ends) = (0x9E37_79B9_7F4A_7C15_u64, 0);
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..20_000 {
            let head: Vec<u8> =
                (0..random(9)).flat_map(|_| PARTS[random(PARTS.len())].iter().copied()).collect();
            let mut scan = Scan::default();
            let mut rest = &head[..];
            while !rest.is_empty() && !scan.is_done() {
                let (piece, later) = rest.split_at(1 + random(rest.len()));
                assert_eq!(scan.feed(piece), None, "{head:?}");
                rest = later;
            }
            let seen = scan.is_done().then(|| scan.odd().is_some());
            assert_eq!(seen, plainly(&head), "{:?}", String::from_utf8_lossy(&head));
            ends += u32::from(seen.is_some());
        }
        assert!(ends > 1_000, "enough of them were heads: {ends}");
    }
}

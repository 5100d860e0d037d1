//! HTTP/1.1 as bytes: reads heads and bodies without judging them.
//!
//! Client and upstream share it. It is lenient on purpose, since it has to show what the gateway
//! sent, right or wrong; names and targets are kept exactly as they were on the wire.

use std::fmt::Write;

/// Header fields in the order of the wire: name as written, value without surrounding blanks.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// A start line and its header fields.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The first line, without its end.
    pub(crate) start: String,
    /// The fields.
    pub(crate) headers: Headers,
    /// Bytes that the head took, the empty line included.
    pub(crate) len: usize,
}

impl Head {
    /// The head at the start of `bytes`; `None` as long as its empty line has not come.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut start, mut headers, mut len) = (None, Headers::new(), 0);
        loop {
            let end = len + bytes[len..].iter().position(|b| *b == b'\n')?;
            let line = bytes[len..end].strip_suffix(b"\r").unwrap_or(&bytes[len..end]);
            len = end + 1;
            match (&start, line) {
                // Empty lines before a request are to be skipped (RFC 9112, 2.2).
                (None, b"") => {}
                (None, line) => start = Some(String::from_utf8_lossy(line).into_owned()),
                (Some(_), b"") => return start.map(|start| Self { start, headers, len }),
                (Some(_), line) => headers.push(field(line)),
            }
        }
    }

    /// How the body of this message is delimited, if it has one.
    pub(crate) fn framing(&self) -> Option<Framing> {
        let chunked = |v: &&[u8]| String::from_utf8_lossy(v).to_lowercase().contains("chunked");
        if values(&self.headers, "transfer-encoding").any(|v| chunked(&v)) {
            return Some(Framing::Chunked);
        }
        let length = values(&self.headers, "content-length").next()?;
        String::from_utf8_lossy(length).trim().parse().ok().map(Framing::Length)
    }
}

fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&line[..colon]).into_owned(), value.trim_ascii().to_vec())
}

/// All values of `name`, whatever its case, in order.
pub(crate) fn values<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_slice())
}

/// The only value of `name` as text; panics when there are several or it is not UTF-8, because a
/// test that looks at one of two has seen half.
#[track_caller]
pub(crate) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let mut all = values(headers, name);
    let first = all.next()?;
    assert!(all.next().is_none(), "header {name} came more than once: ask for all of its values");
    Some(std::str::from_utf8(first).unwrap_or_else(|_| panic!("header {name} is not UTF-8")))
}

/// Header fields as text, one a line, for messages.
pub(crate) fn show(headers: &Headers) -> String {
    headers.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value));
        text
    })
}

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection's end.
    UntilClose,
}

/// Takes a body out of its framing, piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    stage: Stage,
    line: Vec<u8>,
    /// What followed the last chunk.
    pub(crate) trailers: Headers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Length(u64),
    UntilClose,
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Done,
    Broken,
}

impl Decoder {
    /// For a body framed like this; `None`: there is no body.
    pub(crate) fn new(framing: Option<Framing>) -> Self {
        let stage = match framing {
            None | Some(Framing::Length(0)) => Stage::Done,
            Some(Framing::Length(n)) => Stage::Length(n),
            Some(Framing::Chunked) => Stage::Size,
            Some(Framing::UntilClose) => Stage::UntilClose,
        };
        Self { stage, line: Vec::new(), trailers: Headers::new() }
    }

    /// The body's end was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether the connection's end, now, is the body's proper end.
    pub(crate) fn may_end_here(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::UntilClose)
    }

    /// Appends to `out` what `input` has of the body; returns how many bytes of `input` belonged
    /// to this message.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while used < input.len() && self.stage != Stage::Done {
            used += match self.stage {
                Stage::Length(left) => {
                    let taken = take(left, &input[used..], out);
                    self.stage = match left - taken as u64 {
                        0 => Stage::Done,
                        left => Stage::Length(left),
                    };
                    taken
                }
                Stage::Chunk(left) => {
                    let taken = take(left, &input[used..], out);
                    self.stage = match left - taken as u64 {
                        0 => Stage::ChunkEnd,
                        left => Stage::Chunk(left),
                    };
                    taken
                }
                Stage::UntilClose | Stage::Broken => take(u64::MAX, &input[used..], out),
                _ => self.feed_line(&input[used..]),
            };
        }
        used
    }

    fn feed_line(&mut self, input: &[u8]) -> usize {
        let Some(end) = input.iter().position(|b| *b == b'\n') else {
            self.line.extend_from_slice(input);
            return input.len();
        };
        self.line.extend_from_slice(&input[..end]);
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        self.stage = match self.stage {
            Stage::Size => match chunk_size(line) {
                Some(0) => Stage::Trailers,
                Some(size) => Stage::Chunk(size),
                None => Stage::Broken,
            },
            Stage::ChunkEnd if line.is_empty() => Stage::Size,
            Stage::ChunkEnd => Stage::Broken,
            _ if line.is_empty() => Stage::Done,
            _ => {
                self.trailers.push(field(line));
                Stage::Trailers
            }
        };
        end + 1
    }
}

fn take(left: u64, input: &[u8], out: &mut Vec<u8>) -> usize {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    out.extend_from_slice(&input[..taken]);
    taken
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

mod tests {
    use super::*;

    #[test]
    fn head_keeps_order_case_and_repetition() {
        let wire = b"GET /a%2Fb HTTP/1.1\r\nX-B: 1\r\nx-a:  2 \r\nX-B: 3\r\n\r\nbody";
        let head = Head::parse(wire).expect("the head is whole");
        assert_eq!(head.start, "GET /a%2Fb HTTP/1.1");
        let names: Vec<_> = head.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["X-B", "x-a", "X-B"], "order and case of the wire");
        assert_eq!(values(&head.headers, "x-b").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(&wire[head.len..], b"body", "the body begins behind the empty line");
        assert!(Head::parse(b"GET / HTTP/1.1\r\nA: b\r\n").is_none(), "no empty line, no head");
    }

    #[test]
    fn chunked_body_comes_out_the_same_however_it_is_cut() {
        let wire = b"5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nT: v\r\n\r\nNEXT";
        for cut in 0..wire.len() {
            let (mut decoder, mut out) = (Decoder::new(Some(Framing::Chunked)), Vec::new());
            let used = decoder.feed(&wire[..cut], &mut out);
            let used = used + decoder.feed(&wire[used..], &mut out);
            assert_eq!(out, b"hello world", "cut at {cut}");
            assert!(decoder.is_done(), "cut at {cut}: the terminator was there");
            assert_eq!(&wire[used..], b"NEXT", "cut at {cut}: what follows is left alone");
            assert_eq!(decoder.trailers.len(), 1, "cut at {cut}: one trailer");
        }
    }

    #[test]
    fn missing_terminator_is_not_an_end() {
        let (mut decoder, mut out) = (Decoder::new(Some(Framing::Chunked)), Vec::new());
        decoder.feed(b"5\r\nhello\r\n", &mut out);
        assert_eq!(out, b"hello");
        assert!(!decoder.may_end_here(), "without the last chunk the body is unfinished");
    }
}

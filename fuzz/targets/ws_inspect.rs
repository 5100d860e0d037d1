//! Messages that are read while they pass: any chunking gives the verdict, the messages and the bytes
//! that the whole gives, and that a plain reading of the whole gives; what passes is the stream up to
//! the message that may not, but for control frames, which may overtake the fragments around them.
#![no_main]

use bytes::Bytes;
use keygate::body::message_model::{Scanner, Wanted};
use keygate::ws::inspect::{Inspector, Judge, Refused};
use libfuzzer_sys::{arbitrary, fuzz_target};

const WANTED: Wanted = Wanted {
    main: &[&["model"], &["setup", "model"]],
    further: &[&["session", "model"], &["tools", "[]", "model"]],
    kind: Some("response.create"),
};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    limit: u16,
    /// Lengths of the chunks, over and over.
    chunks: [u8; 4],
    frames: Vec<Frame>,
    tail: Vec<u8>,
}

#[derive(arbitrary::Arbitrary, Debug)]
struct Frame {
    kind: Kind,
    mask: Option<[u8; 4]>,
    payload: Payload,
    /// The length is written in a longer form than it needs.
    long: bool,
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Kind {
    Text,
    Begin,
    Continue,
    End,
    Ping,
    Close,
    Any(u8),
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Payload {
    Any(Vec<u8>),
    Model(bool),
    Object,
    Half,
    Rest,
}

/// Refuses what is no object, and every model but `ok`.
struct Ear {
    scanner: Scanner,
    now: Vec<u8>,
    heard: Vec<Vec<u8>>,
}

impl Ear {
    fn new() -> Self {
        Self { scanner: Scanner::new(WANTED), now: Vec::new(), heard: Vec::new() }
    }
}

impl Judge for Ear {
    type Refusal = ();
    fn hear(&mut self, piece: &[u8]) -> Result<(), ()> {
        self.now.extend_from_slice(piece);
        self.scanner.feed(piece).map_err(drop)
    }
    fn decide(&mut self) -> Result<(), ()> {
        let found = self.scanner.finish().map_err(drop)?;
        self.scanner = Scanner::new(WANTED);
        self.heard.push(std::mem::take(&mut self.now));
        if found.models.iter().all(|model| &**model == "ok") { Ok(()) } else { Err(()) }
    }
}

type Verdict = Result<(), Refused<()>>;

fuzz_target!(|input: Input| {
    let limit = u64::from(input.limit % 2_048);
    let mut stream = Vec::new();
    for frame in &input.frames {
        frame.write(&mut stream);
    }
    stream.extend(&input.tail);

    let whole = pass(&stream, &[stream.len().max(1)], limit);
    let sizes = input.chunks.map(|size| usize::from(size).max(1));
    let chunks = pass(&stream, &sizes, limit);
    assert_eq!(chunks.verdict, whole.verdict, "the verdict");
    assert_eq!(chunks.heard, whole.heard, "what was heard");
    assert_eq!(chunks.passed, whole.passed, "what passed");

    let plain = plain(&stream, limit);
    assert_eq!(plain.verdict, whole.verdict, "the plain verdict");
    assert_eq!(plain.heard, whole.heard, "what a plain reading heard");
    assert_eq!(plain.passed, whole.passed, "what a plain reading lets pass");
});

#[derive(Debug)]
struct Outcome {
    verdict: Verdict,
    heard: Vec<Vec<u8>>,
    passed: Vec<u8>,
}

fn pass(stream: &[u8], sizes: &[usize], limit: u64) -> Outcome {
    let (mut inspector, mut ear) = (Inspector::default(), Ear::new());
    let mut out = Outcome { verdict: Ok(()), heard: Vec::new(), passed: Vec::new() };
    let (mut rest, mut sizes) = (stream, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).min(rest.len());
        let (chunk, others) = rest.split_at(size);
        let (passes, verdict) = inspector.pass(Bytes::copy_from_slice(chunk), limit, &mut ear);
        out.verdict = out.verdict.and(verdict);
        out.passed.extend_from_slice(&passes);
        rest = others;
    }
    out.heard = ear.heard;
    out
}

impl Frame {
    fn write(&self, stream: &mut Vec<u8>) {
        let payload: &[u8] = match &self.payload {
            Payload::Any(bytes) => bytes,
            Payload::Model(true) => br#"{"model":"ok"}"#,
            Payload::Model(false) => br#"{"model":"no"}"#,
            Payload::Object => b"{}",
            Payload::Half => br#"{"session":{"mod"#,
            Payload::Rest => br#"el":"ok"}}"#,
        };
        let first = match self.kind {
            Kind::Text => 0x81,
            Kind::Begin => 0x01,
            Kind::Continue => 0x00,
            Kind::End => 0x80,
            Kind::Ping => 0x89,
            Kind::Close => 0x88,
            Kind::Any(first) => first,
        };
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        stream.push(first);
        match (payload.len(), self.long) {
            (short @ 0..126, false) => stream.push(masked | short as u8),
            (middle, false) => {
                stream.push(masked | 126);
                stream.extend((middle as u16).to_be_bytes());
            }
            (any, true) => {
                stream.push(masked | 127);
                stream.extend((any as u64).to_be_bytes());
            }
        }
        let key = self.mask.unwrap_or([0; 4]);
        stream.extend(self.mask.iter().flatten());
        stream.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

/// RFC 6455 section 5, read off a stream that is all there. No message here is longer than what is
/// held.
fn plain(stream: &[u8], limit: u64) -> Outcome {
    let mut ear = Ear::new();
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    let (mut rest, mut message) = (stream, None::<u64>);
    let verdict = loop {
        let (frame, used) = match parse(rest, message, limit) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => break hear_start(rest, message, limit, &mut ear),
            Err(refused) => break Err(refused),
        };
        let (bytes, others) = rest.split_at(used);
        rest = others;
        if frame.first & 8 != 0 {
            passed.extend_from_slice(bytes);
            if frame.first & 15 == 8 {
                break Ok(());
            }
            continue;
        }
        message = Some(message.unwrap_or(0) + frame.payload.len() as u64);
        held.extend_from_slice(bytes);
        if ear.hear(&frame.payload).is_err() {
            break Err(Refused::Message(()));
        }
        if frame.first & 0x80 != 0 {
            if ear.decide().is_err() {
                break Err(Refused::Message(()));
            }
            message = None;
            passed.append(&mut held);
        }
    };
    Outcome { verdict, heard: ear.heard, passed }
}

struct Parsed {
    first: u8,
    payload: Vec<u8>,
}

/// The frame at the start; `None` while it is not whole, and nothing is wrong with what is there.
fn parse(
    rest: &[u8],
    message: Option<u64>,
    limit: u64,
) -> Result<Option<(Parsed, usize)>, Refused<()>> {
    let Some((first, length, key, header)) = header(rest, message, limit)? else { return Ok(None) };
    let Some(end) = usize::try_from(length).ok().and_then(|length| header.checked_add(length)) else {
        return Ok(None);
    };
    let Some(masked) = rest.get(header..end) else { return Ok(None) };
    let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((Parsed { first, payload }, end)))
}

type Header = (u8, u64, [u8; 4], usize);

fn header(
    rest: &[u8],
    message: Option<u64>,
    limit: u64,
) -> Result<Option<Header>, Refused<()>> {
    let Some(&first) = rest.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Refused::Malformed("a reserved bit"));
    }
    match (first & 15, message.is_some()) {
        (0, true) | (1 | 2, false) => {}
        (0, false) => return Err(Refused::Malformed("the continuation of nothing")),
        (1 | 2, true) => return Err(Refused::Malformed("a message inside another")),
        (8..=10, _) if first & 0x80 != 0 => {}
        (8..=10, _) => return Err(Refused::Malformed("a control frame in fragments")),
        _ => return Err(Refused::Malformed("an unknown kind of frame")),
    }
    let Some(&second) = rest.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Refused::Malformed("a frame without a mask"));
    }
    let short = second & 0x7F;
    if first & 8 != 0 && short > 125 {
        return Err(Refused::Malformed("a long control frame"));
    }
    let wide = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let (Some(written), Some(key)) = (rest.get(2..2 + wide), rest.get(2 + wide..6 + wide)) else {
        return Ok(None);
    };
    let length = match wide {
        0 => u64::from(short),
        _ => written.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let least = [0, 126, 65_536][[0, 2, 8].iter().position(|w| *w == wide).unwrap_or(0)];
    if length < least || length >> 63 == 1 {
        return Err(Refused::Malformed("a length that is not written as it must be"));
    }
    if first & 8 == 0 && message.unwrap_or(0).saturating_add(length) > limit {
        return Err(Refused::TooBig);
    }
    Ok(Some((first, length, [key[0], key[1], key[2], key[3]], 6 + wide)))
}

/// What is there of a payload is heard before it is whole.
fn hear_start(rest: &[u8], message: Option<u64>, limit: u64, ear: &mut Ear) -> Verdict {
    let Some((first, _, key, header)) = header(rest, message, limit)? else { return Ok(()) };
    if first & 8 != 0 {
        return Ok(());
    }
    let masked = rest.get(header..).unwrap_or_default();
    let start: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
    ear.hear(&start).map_err(Refused::Message)
}

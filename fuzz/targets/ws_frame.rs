//! The frame tracker over any chunking gives the verdict that a plain reading of the whole gives:
//! same boundary, same close, same refusal.
#![no_main]

use keygate::ws::frame::{TooBig, Tracker};
use libfuzzer_sys::{arbitrary, fuzz_target};

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
    first: u8,
    masked: bool,
    length: u16,
    /// How the length is written: the shortest way is only a recommendation to this reader.
    form: Form,
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Form {
    Short,
    Two,
    Eight,
}

fuzz_target!(|input: Input| {
    let limit = u64::from(input.limit % 2_048);
    let mut stream = Vec::new();
    for frame in &input.frames {
        frame.write(&mut stream);
    }
    stream.extend(&input.tail);

    let plain = plain(&stream, limit);
    let mut whole = Tracker::default();
    compare(whole.follow(&stream, limit), &whole, plain, "as a whole");

    let mut tracker = Tracker::default();
    let mut verdict = Ok(());
    let (mut rest, mut sizes) = (stream.as_slice(), input.chunks.iter().cycle());
    while !rest.is_empty() && verdict.is_ok() {
        let size = sizes.next().map_or(1, |s| usize::from(*s)).clamp(1, rest.len());
        let (chunk, others) = rest.split_at(size);
        verdict = tracker.follow(chunk, limit);
        rest = others;
    }
    compare(verdict, &tracker, plain, "in chunks");
});

fn compare(verdict: Result<(), TooBig>, tracker: &Tracker, plain: Plain, how: &str) {
    assert_eq!(verdict.is_err(), plain.too_big, "the limit, read {how}");
    assert_eq!(tracker.closed(), plain.closed, "the close frame, read {how}");
    if verdict.is_ok() {
        assert_eq!(tracker.at_boundary(), plain.at_boundary, "the boundary, read {how}");
    }
}

impl Frame {
    fn write(&self, stream: &mut Vec<u8>) {
        let mask = if self.masked { 0x80 } else { 0 };
        let length = match self.form {
            Form::Short => self.length % 126,
            // Short enough that a stream holds many.
            Form::Two | Form::Eight => self.length % 1_024,
        };
        stream.push(self.first);
        match self.form {
            Form::Short => stream.push(mask | length as u8),
            Form::Two => {
                stream.push(mask | 126);
                stream.extend(length.to_be_bytes());
            }
            Form::Eight => {
                stream.push(mask | 127);
                stream.extend(u64::from(length).to_be_bytes());
            }
        }
        let payload = usize::from(length) + if self.masked { 4 } else { 0 };
        stream.resize(stream.len() + payload, 0x81);
    }
}

#[derive(Clone, Copy)]
struct Plain {
    too_big: bool,
    closed: bool,
    at_boundary: bool,
}

/// RFC 6455 section 5.2, read off a stream that is all there.
fn plain(stream: &[u8], limit: u64) -> Plain {
    let mut state = Plain { too_big: false, closed: false, at_boundary: true };
    let (mut at, mut message) = (0_u128, 0_u128);
    loop {
        state.at_boundary = at == stream.len() as u128;
        let rest = usize::try_from(at).ok().and_then(|at| stream.get(at..)).unwrap_or_default();
        let &[first, second, ..] = rest else { return state };
        let (header, length) = match (second & 0x7F, rest) {
            (126, &[_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            (126 | 127, _) => return state,
            (short, _) => (2, u64::from(short)),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        at += header + mask + u128::from(length);
        if first & 0x08 != 0 {
            state.closed |= first & 0x0F == 8;
            continue;
        }
        message = u128::from(length) + if first & 0x0F == 0 { message } else { 0 };
        if message > u128::from(limit) {
            state.too_big = true;
            return state;
        }
        if first & 0x80 != 0 {
            message = 0;
        }
    }
}

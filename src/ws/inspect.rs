//! Reads the messages of a caller, unmasked, and lets none pass whole before it was judged.
//!
//! A message of up to 64 KiB, all its fragments together, stays here until it is decided. Of a
//! longer one the frames go on as they come, but for the last byte: whoever has not got a message
//! whole must not act on it. Control frames between fragments pass at once. Strict where readers
//! could differ: reserved bits, lengths, masks, the order of fragments (RFC 6455 section 5).
//!
//! What messages mean is the [`Judge`]'s.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// What stays here of a message that is not decided.
const HELD: usize = 64 << 10;

/// What is unmasked at a time.
const PIECE: usize = 4 << 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTROL: u8 = 0x8;
const CLOSE: u8 = 0x8;

/// Decides on messages, text and binary alike.
pub trait Judge {
    /// Why one may not pass.
    type Refusal;
    /// The next piece of the message at hand.
    ///
    /// # Errors
    /// It may not pass, whatever follows.
    fn hear(&mut self, piece: &[u8]) -> Result<(), Self::Refusal>;
    /// The message has ended; another one begins.
    ///
    /// # Errors
    /// It may not pass.
    fn decide(&mut self) -> Result<(), Self::Refusal>;
}

/// Why nothing more passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused<R> {
    /// No frames by RFC 6455, or with an extension that nobody has agreed upon.
    Malformed(&'static str),
    /// A message became longer than its limit.
    TooBig,
    /// The judge said so.
    Message(R),
}

/// Stands at a place in what a caller sends.
#[derive(Debug, Default)]
pub struct Inspector {
    header: [u8; 14],
    have: usize,
    /// The frame at hand, once its header is there.
    frame: Option<Frame>,
    /// A message has begun: how long it is so far.
    message: Option<u64>,
    /// Of the message, as it came.
    held: BytesMut,
    /// The message is longer than what is held: it goes on.
    flows: bool,
    /// Of a control frame.
    control: BytesMut,
    /// A close frame has passed, or something was refused: nothing more passes.
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    first: u8,
    /// The masking key, turned so that it begins with the next byte.
    key: [u8; 4],
    left: u64,
}

impl Frame {
    const fn is_control(self) -> bool {
        self.first & CONTROL != 0
    }
}

impl Inspector {
    /// Takes a chunk. Gives what passes now; with an error, what passes before the end of all.
    pub fn pass<J: Judge>(
        &mut self,
        chunk: Bytes,
        limit: u64,
        judge: &mut J,
    ) -> (Bytes, Result<(), Refused<J::Refusal>>) {
        let mut out = Outgoing { chunk, untouched: 0, own: BytesMut::new() };
        let whole = out.chunk.clone();
        let verdict = self.walk(&whole, &mut out, limit, judge);
        drop(whole);
        if verdict.is_err() || self.over {
            *self = Self { over: true, ..Self::default() };
        }
        (out.finish(), verdict)
    }

    fn walk<J: Judge>(
        &mut self,
        chunk: &[u8],
        out: &mut Outgoing,
        limit: u64,
        judge: &mut J,
    ) -> Result<(), Refused<J::Refusal>> {
        let (mut rest, mut start) = (chunk, 0);
        while !rest.is_empty() && !self.over {
            if let Some(frame) = &mut self.frame {
                let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(rest.len());
                let (payload, tail) = rest.split_at_checked(here).unwrap_or((rest, &[]));
                frame.left -= here as u64;
                if !frame.is_control() {
                    show(payload, &mut frame.key, judge).map_err(Refused::Message)?;
                }
                rest = tail;
            } else if let Some((byte, tail)) = rest.split_first() {
                rest = tail;
                self.read(*byte, limit)?;
            }
            if let Some(frame) = self.frame.filter(|frame| frame.left == 0) {
                let end = chunk.len() - rest.len();
                self.frame = None;
                self.have = 0;
                self.end(frame, start..end, out, judge).map_err(Refused::Message)?;
                start = end;
            }
        }
        if !self.over {
            self.keep(start..chunk.len(), out);
        }
        Ok(())
    }

    /// Takes a byte of a header.
    fn read<R>(&mut self, byte: u8, limit: u64) -> Result<(), Refused<R>> {
        if let Some(place) = self.header.get_mut(self.have) {
            *place = byte;
        }
        self.have += 1;
        let [first, second, ..] = self.header;
        match self.have {
            1 => self.check_first(first).map_err(Refused::Malformed),
            2 if second & MASKED == 0 => Err(Refused::Malformed("a frame without a mask")),
            2 if first & CONTROL != 0 && second & !MASKED > 125 => {
                Err(Refused::Malformed("a long control frame"))
            }
            have if have == header_len(second) => self.begin(limit),
            _ => Ok(()),
        }
    }

    fn check_first(&self, first: u8) -> Result<(), &'static str> {
        if first & RESERVED != 0 {
            return Err("a reserved bit");
        }
        match (first & 0x0F, self.message) {
            (0, Some(_)) | (1 | 2, None) => Ok(()),
            (0, None) => Err("the continuation of nothing"),
            (1 | 2, Some(_)) => Err("a message inside another"),
            (8..=10, _) if first & FIN != 0 => Ok(()),
            (8..=10, _) => Err("a control frame in fragments"),
            _ => Err("an unknown kind of frame"),
        }
    }

    /// The header is there.
    fn begin<R>(&mut self, limit: u64) -> Result<(), Refused<R>> {
        let [first, second, a, b, c, d, e, f, g, h, i, j, k, l] = self.header;
        let (length, key) = match second & !MASKED {
            126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l]),
            short => (u64::from(short), [a, b, c, d]),
        };
        let least = match second & !MASKED {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least || length >> 63 != 0 {
            return Err(Refused::Malformed("a length that is not written as it must be"));
        }
        if first & CONTROL == 0 {
            let message = self.message.unwrap_or(0).saturating_add(length);
            if message > limit {
                return Err(Refused::TooBig);
            }
            self.message = Some(message);
        }
        self.frame = Some(Frame { first, key, left: length });
        Ok(())
    }

    /// A frame has ended, whose bytes in this chunk are `range`.
    fn end<J: Judge>(
        &mut self,
        frame: Frame,
        range: Range<usize>,
        out: &mut Outgoing,
        judge: &mut J,
    ) -> Result<(), J::Refusal> {
        if frame.is_control() {
            out.put(&std::mem::take(&mut self.control));
            out.pass(range);
            self.over = frame.first & 0x0F == CLOSE;
        } else if frame.first & FIN == 0 {
            self.add(range, out);
        } else {
            judge.decide()?;
            out.put(&std::mem::take(&mut self.held));
            out.pass(range);
            (self.message, self.flows) = (None, false);
        }
        Ok(())
    }

    /// The chunk has ended within a frame, or within a message.
    fn keep(&mut self, range: Range<usize>, out: &mut Outgoing) {
        let [first, ..] = self.header;
        if !range.is_empty() && first & CONTROL != 0 {
            self.control.extend_from_slice(out.get(range));
        } else {
            self.add(range, out);
        }
        if self.held.len() > HELD {
            out.put(&std::mem::take(&mut self.held));
            self.flows = true;
        }
    }

    /// These are bytes of the message, and not its last.
    fn add(&mut self, range: Range<usize>, out: &mut Outgoing) {
        if self.flows {
            out.pass(range);
        } else {
            self.held.extend_from_slice(out.get(range));
        }
    }
}

/// Length of a header, masking key included.
const fn header_len(second: u8) -> usize {
    match second & !MASKED {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

/// Unmasks a piece of a payload for the judge.
fn show<J: Judge>(payload: &[u8], key: &mut [u8; 4], judge: &mut J) -> Result<(), J::Refusal> {
    let mut plain = [0; PIECE];
    for piece in payload.chunks(PIECE) {
        let Some(plain) = plain.get_mut(..piece.len()) else { continue };
        unmask(piece, *key, plain);
        key.rotate_left(piece.len() % 4);
        judge.hear(plain)?;
    }
    Ok(())
}

/// RFC 6455 section 5.3, eight bytes at a time. Both are of one length.
fn unmask(masked: &[u8], key: [u8; 4], plain: &mut [u8]) {
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = masked.as_chunks::<8>();
    let (out, end) = plain.as_chunks_mut::<8>();
    for (out, masked) in out.iter_mut().zip(words) {
        *out = (u64::from_ne_bytes(*masked) ^ word).to_ne_bytes();
    }
    for ((out, masked), key) in end.iter_mut().zip(rest).zip(key.iter().cycle()) {
        *out = masked ^ key;
    }
}

/// What passes of a chunk: its beginning, untouched, as long as that is all.
struct Outgoing {
    chunk: Bytes,
    untouched: usize,
    /// Used once that is not all.
    own: BytesMut,
}

impl Outgoing {
    fn get(&self, range: Range<usize>) -> &[u8] {
        self.chunk.get(range).unwrap_or_default()
    }

    /// These bytes of the chunk pass.
    fn pass(&mut self, range: Range<usize>) {
        if self.own.is_empty() && range.start == self.untouched {
            self.untouched = range.end;
        } else {
            let piece = self.chunk.get(range).unwrap_or_default();
            put(&self.chunk, self.untouched, &mut self.own, piece);
        }
    }

    /// These bytes of an earlier chunk pass.
    fn put(&mut self, held: &[u8]) {
        put(&self.chunk, self.untouched, &mut self.own, held);
    }

    fn finish(mut self) -> Bytes {
        if self.own.is_empty() {
            self.chunk.truncate(self.untouched);
            return self.chunk;
        }
        self.own.freeze()
    }
}

fn put(chunk: &[u8], untouched: usize, own: &mut BytesMut, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    if own.is_empty() {
        own.extend_from_slice(chunk.get(..untouched).unwrap_or_default());
    }
    own.extend_from_slice(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    /// Refuses messages that hold `bad`, at their end.
    #[derive(Default)]
    struct Ear {
        now: Vec<u8>,
        heard: Vec<Vec<u8>>,
    }

    impl Judge for Ear {
        type Refusal = ();
        fn hear(&mut self, piece: &[u8]) -> Result<(), ()> {
            self.now.extend_from_slice(piece);
            Ok(())
        }
        fn decide(&mut self) -> Result<(), ()> {
            let message = std::mem::take(&mut self.now);
            let bad = message.windows(3).any(|w| w == b"bad");
            self.heard.push(message);
            if bad { Err(()) } else { Ok(()) }
        }
    }

    /// A masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(MASKED | short as u8),
            middle @ 126..65_536 => {
                bytes.push(MASKED | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(MASKED | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        let key = [7, 0x80, 0, 0xf1];
        bytes.extend(key);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    type Verdict = Result<(), Refused<()>>;

    /// What passes of each chunk, what was heard, and the verdict.
    fn chunks(stream: &[u8], size: usize) -> (Vec<Bytes>, Vec<Vec<u8>>, Verdict) {
        let (mut inspector, mut ear) = (Inspector::default(), Ear::default());
        let (mut passed, mut verdict) = (Vec::new(), Ok(()));
        for chunk in stream.chunks(size) {
            let (now, said) = inspector.pass(Bytes::copy_from_slice(chunk), LIMIT, &mut ear);
            passed.push(now);
            verdict = verdict.and(said);
        }
        (passed, ear.heard, verdict)
    }

    /// The same in chunks of all sizes; gives what passes.
    #[track_caller]
    fn all_chunkings(stream: &[u8]) -> (Vec<u8>, Verdict) {
        let (passed, heard, verdict) = chunks(stream, stream.len());
        let passed = passed.concat();
        for size in [1, 2, 3, 5, 8, 13, 1_000, 5_000, 70_000] {
            let (pieces, again, said) = chunks(stream, size);
            assert_eq!(said, verdict, "the verdict in chunks of {size}");
            assert_eq!(again, heard, "what was heard in chunks of {size}");
            assert!(pieces.concat() == passed, "what passes in chunks of {size}");
        }
        (passed, verdict)
    }

    #[test]
    fn good_messages_pass_as_they_came_and_are_heard_unmasked() {
        let long: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
        let stream = [
            frame(0x81, b"hello"),
            frame(0x82, &[]),
            frame(0x89, b"ping"),
            frame(0x02, &long[..300]),
            frame(0x00, &[]),
            frame(0x80, &long[300..5_000]),
            frame(0x81, &long),
            frame(0x88, &[3, 0xe8]),
        ]
        .concat();
        let (passed, verdict) = all_chunkings(&stream);
        assert_eq!(verdict, Ok(()));
        assert!(passed == stream, "not a byte is changed");
        let (_, heard, _) = chunks(&stream, 999);
        assert!(heard == [b"hello".to_vec(), vec![], long[..5_000].to_vec(), long], "{heard:?}");
    }

    #[test]
    fn what_came_before_passes_and_nothing_of_the_refused_message_or_behind_it() {
        let good = [frame(0x81, b"good"), frame(0x8A, b"")].concat();
        for bad in [
            vec![frame(0x81, b"bad")],
            vec![frame(0x02, b"b"), frame(0x00, b"a"), frame(0x80, b"d")],
            vec![frame(0x01, b"bad"), frame(0x80, b"")],
            vec![frame(0x82, &[&[b'x'; 60_000], &b"bad"[..]].concat())],
        ] {
            let stream = [good.clone(), bad.concat(), frame(0x81, b"behind")].concat();
            let (passed, verdict) = all_chunkings(&stream);
            assert_eq!(verdict, Err(Refused::Message(())));
            assert!(passed == good, "in order, and no more");
        }
    }

    #[test]
    fn of_a_long_message_the_last_byte_waits_for_the_verdict() {
        let long = [&[b'x'; 200_000], &b"bad"[..]].concat();
        let fragments = [frame(0x01, &long[..150_000]), frame(0x80, &long[150_000..])].concat();
        for stream in
            [frame(0x81, &long), fragments, [frame(0x01, &long), frame(0x80, b"")].concat()]
        {
            let (passed, _, verdict) = chunks(&stream, 10_000);
            assert_eq!(verdict, Err(Refused::Message(())));
            let passed = passed.concat();
            assert!(stream.starts_with(&passed), "what passes is unchanged");
            assert!(passed.len() > 100_000, "little is kept");
            assert!(passed.len() < stream.len(), "the end stays here");
            let mut inspector = Inspector::default();
            for chunk in stream[..stream.len() - 1].chunks(10_000) {
                let (_, said) =
                    inspector.pass(Bytes::copy_from_slice(chunk), LIMIT, &mut Ear::default());
                assert_eq!(said, Ok(()));
                assert!(inspector.held.len() <= HELD, "bounded, whatever the message's length");
            }
        }
    }

    #[test]
    fn a_ping_between_fragments_does_not_wait_for_the_message() {
        let (mut inspector, mut ear) = (Inspector::default(), Ear::default());
        let mut pass = |bytes: &[u8]| {
            let (out, verdict) = inspector.pass(Bytes::copy_from_slice(bytes), LIMIT, &mut ear);
            assert_eq!(verdict, Ok(()));
            out
        };
        let (first, ping, last) = (frame(0x01, b"he"), frame(0x89, b"p"), frame(0x80, b"llo"));
        assert!(pass(&first).is_empty(), "half a message is held");
        assert!(pass(&ping[..3]).is_empty(), "and half a ping");
        assert_eq!(pass(&ping[3..]), ping, "which passes when it is whole");
        assert_eq!(pass(&last), [first, last].concat(), "then the message does");
    }

    #[test]
    fn nothing_passes_behind_a_close_frame() {
        let close = frame(0x88, &[3, 0xe8]);
        let stream = [frame(0x01, b"half"), close.clone(), frame(0x80, b"bad")].concat();
        assert_eq!(all_chunkings(&stream), (close, Ok(())), "half a message never becomes one");
    }

    #[test]
    fn frames_that_readers_could_take_differently_are_refused() {
        let unmasked =
            |first: u8, payload: &[u8]| [&[first, payload.len() as u8][..], payload].concat();
        let ok = frame(0x81, b"ok");
        for (what, bad) in [
            ("no mask", unmasked(0x81, b"x")),
            ("no mask on a ping", unmasked(0x89, b"")),
            ("compressed", frame(0xC1, b"x")),
            ("reserved bits", frame(0xA1, b"x")),
            ("unknown data", frame(0x83, b"x")),
            ("unknown control", frame(0x8B, b"x")),
            ("a continuation of nothing", frame(0x80, b"x")),
            ("a message in a message", [frame(0x01, b"x"), frame(0x81, b"x")].concat()),
            ("half a ping", frame(0x09, b"x")),
            ("a long ping", frame(0x89, &[0; 126])),
            ("two bytes for a short length", [&[0x81, 0xFE, 0, 125][..], &[0; 129]].concat()),
            (
                "eight for a middle one",
                [&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF][..], &[0; 9]].concat(),
            ),
            ("a negative length", [&[0x81, 0xFF, 0x80][..], &[0; 20]].concat()),
        ] {
            let (passed, verdict) = all_chunkings(&[ok.clone(), bad].concat());
            assert!(matches!(verdict, Err(Refused::Malformed(_))), "{what}: {verdict:?}");
            assert_eq!(passed, ok, "{what}: nothing of it passes");
        }
    }

    #[test]
    fn a_message_is_limited_over_all_its_fragments() {
        let part = vec![b'x'; (LIMIT / 2) as usize];
        let whole = [frame(0x01, &part), frame(0x89, b"p"), frame(0x80, &part)].concat();
        assert_eq!(chunks(&whole, 9_999).2, Ok(()), "the limit itself passes");
        let more = [frame(0x01, &part), frame(0x00, &part), frame(0x80, b"x")].concat();
        let (passed, _, verdict) = chunks(&more, 9_999);
        assert_eq!(verdict, Err(Refused::TooBig));
        assert!(passed.concat().len() < more.len() - 1, "it stays incomplete");
    }
}

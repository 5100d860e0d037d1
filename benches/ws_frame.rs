//! What reading a socket's messages costs, beside only following its frames: a small event, a piece
//! of audio, and a large turn in chunks.

mod table;
mod timing;

use bytes::Bytes;
use http::Method;
use keygate::body::json_model::Refused;
use keygate::body::message_model::{Scanner, Wanted};
use keygate::provider::BodyPlaces;
use keygate::ws::frame::Tracker;
use keygate::ws::inspect::{Inspector, Judge};
use std::error::Error;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: u64 = 16 << 20;
/// What Pingora reads at a time.
const CHUNK: usize = 64 << 10;

struct Reading(Scanner, Wanted);

impl Judge for Reading {
    type Refusal = Refused;
    fn hear(&mut self, piece: &[u8]) -> Result<(), Refused> {
        self.0.feed(piece)
    }
    fn decide(&mut self) -> Result<(), Refused> {
        let found = self.0.finish()?;
        self.0 = Scanner::new(self.1);
        black_box(found);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = match table::openai(&Method::GET, "/v1/realtime")? {
        BodyPlaces::Frames(m) => Wanted { main: m.main, further: m.further, kind: None },
        other => return Err(format!("sockets have messages, not {other:?}").into()),
    };
    let event = r#"{"type":"response.create","response":{"modalities":["text"]}}"#.to_owned();
    let audio = |size: usize| {
        format!(
            r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#,
            "UklGRiQA".repeat(size / 8)
        )
    };
    for (what, text, calls) in [
        ("an event", event, 1_000),
        ("8 KiB of audio", audio(8 << 10), 100),
        ("1 MiB in chunks", audio(1 << 20), 1),
    ] {
        let stream = frame(text.as_bytes());
        let chunks: Vec<Bytes> = stream.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
        let (followed, read) = (follow(&chunks, calls)?, read(&chunks, calls, wanted)?);
        let rate = stream.len() as f64 / read * 1e3;
        timing::report(format_args!(
            "ws_frame, {what}, {} bytes: {read:.0} ns read ({rate:.0} MB/s), {followed:.0} ns followed",
            stream.len()
        ))?;
    }
    Ok(())
}

fn follow(chunks: &[Bytes], calls: usize) -> Result<f64, String> {
    let mut tracker = Tracker::default();
    timing::median_ns(calls, || {
        for _ in 0..calls {
            for chunk in chunks {
                let followed = tracker.follow(black_box(chunk), LIMIT);
                followed.map_err(|_| "the message is too big".to_owned())?;
            }
        }
        Ok(())
    })
}

fn read(chunks: &[Bytes], calls: usize, wanted: Wanted) -> Result<f64, String> {
    let (mut inspector, mut judge) = (Inspector::default(), Reading(Scanner::new(wanted), wanted));
    let whole: usize = chunks.iter().map(Bytes::len).sum();
    timing::median_ns(calls, || {
        for _ in 0..calls {
            let mut passed = 0;
            for chunk in chunks {
                let (passes, verdict) = inspector.pass(black_box(chunk).clone(), LIMIT, &mut judge);
                verdict.map_err(|refused| format!("the message was refused: {refused:?}"))?;
                passed += black_box(passes).len();
            }
            if passed != whole {
                return Err(format!("{passed} of {whole} bytes passed"));
            }
        }
        Ok(())
    })
}

/// One masked text frame.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let key = [0x12, 0x9a, 0x3c, 0xf1];
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

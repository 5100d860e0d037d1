//! One streamed answer, timed: from the request to its first event, and each event's way here.

use crate::answer::{read_chunk, read_head};
use crate::clock::now_ns;
use crate::latency::Target;
use std::io::{self, BufReader, Write};
use std::net::TcpStream;

const BODY: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
const STAMP: &[u8] = b"\"sent_ns\":";

/// A kept connection on which one request follows the other.
pub struct Caller {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

/// What one answer showed, in nanoseconds.
pub struct Timing {
    /// From writing the request to having the first event.
    pub first_event: u64,
    /// From the upstream's writing an event to having it here, for each event.
    pub transits: Vec<u64>,
}

impl Caller {
    /// Connects.
    pub fn new(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        let request = format!(
            "POST {}/v1/chat/completions HTTP/1.1\r\n{}Content-Type: application/json\r\n\
             Accept: text/event-stream\r\nContent-Length: {}\r\n\r\n{BODY}",
            target.prefix,
            target.headers,
            BODY.len()
        );
        Ok(Self { stream: BufReader::new(stream), request: request.into_bytes() })
    }

    /// Asks once and reads the answer to its end.
    pub fn ask(&mut self) -> io::Result<Timing> {
        let start = now_ns();
        self.stream.get_mut().write_all(&self.request)?;
        read_head(&mut self.stream, "200")?;
        let (mut first_event, mut transits) = (None, Vec::new());
        let (mut text, mut seen) = (Vec::new(), 0);
        while read_chunk(&mut self.stream, &mut text)? {
            let now = now_ns();
            while let Some((sent, end)) = next_stamp(&text, seen) {
                first_event.get_or_insert(now - start);
                transits.push(now.saturating_sub(sent));
                seen = end;
            }
        }
        if !text.ends_with(b"data: [DONE]\n\n") {
            return Err(io::Error::other("the stream ended before its last event"));
        }
        let first_event = first_event.ok_or_else(|| io::Error::other("no event came"))?;
        Ok(Timing { first_event, transits })
    }
}

/// The send time of the first whole event behind `from`, and where that event's stamp ends.
fn next_stamp(text: &[u8], from: usize) -> Option<(u64, usize)> {
    let rest = text.get(from..)?;
    let at = rest.windows(STAMP.len()).position(|window| window == STAMP)? + STAMP.len();
    let digits = rest.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = at + digits;
    // Without the empty line the event is not whole yet.
    if !rest.get(end..)?.starts_with(b"}\n\n") {
        return None;
    }
    let sent = std::str::from_utf8(rest.get(at..end)?).ok()?.parse().ok()?;
    Some((sent, from + end))
}

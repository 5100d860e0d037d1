//! One WebSocket on which a frame goes out and comes back, timed.

use crate::answer::read_head;
use crate::clock::now_ns;
use crate::latency::Target;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

/// The answer to the handshake below: key and accept value are RFC 6455's own example.
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const PAYLOAD: &[u8] =
    br#"{"type":"input_audio_buffer.append","audio":"AAAAAAAAAAAAAAAAAAAAAAAA"}"#;
const FINAL_TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;

/// An open socket.
pub struct Caller {
    stream: BufReader<TcpStream>,
    frame: Vec<u8>,
    echo: Vec<u8>,
}

impl Caller {
    /// Connects and upgrades.
    pub fn new(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let request = format!(
            "GET {}/v1/realtime?model=gpt-realtime HTTP/1.1\r\n{}Upgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            target.prefix, target.headers
        );
        stream.get_mut().write_all(request.as_bytes())?;
        read_head(&mut stream, "101")?;
        let length = u8::try_from(PAYLOAD.len()).map_err(io::Error::other)?;
        // A mask of zeros leaves the payload as it is, and is as valid as any.
        let frame = [&[FINAL_TEXT, MASKED | length, 0, 0, 0, 0], PAYLOAD].concat();
        let echo = [&[FINAL_TEXT, length], PAYLOAD].concat();
        Ok(Self { stream, frame, echo })
    }

    /// Nanoseconds from writing a frame to having it back.
    pub fn ask(&mut self) -> io::Result<u64> {
        let start = now_ns();
        self.stream.get_mut().write_all(&self.frame)?;
        let mut back = vec![0; self.echo.len()];
        self.stream.read_exact(&mut back)?;
        let took = now_ns() - start;
        if back != self.echo {
            return Err(io::Error::other("another frame came back"));
        }
        Ok(took)
    }
}

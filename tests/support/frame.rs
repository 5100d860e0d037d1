//! WebSocket frames as bytes (RFC 6455, 5.2): read and written exactly, valid or not.
//!
//! The upstream uses it to record what the caller sent; tests use it to send what no library
//! would.

/// Continues a message.
pub(crate) const CONTINUATION: u8 = 0x0;
/// Text.
pub(crate) const TEXT: u8 = 0x1;
/// Bytes.
pub(crate) const BINARY: u8 = 0x2;
/// Ends the conversation.
pub(crate) const CLOSE: u8 = 0x8;
/// Wants a pong.
pub(crate) const PING: u8 = 0x9;
/// Answers a ping.
pub(crate) const PONG: u8 = 0xA;

/// One frame, its payload unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The last of its message.
    pub(crate) fin: bool,
    /// The three reserved bits.
    pub(crate) rsv: u8,
    /// What it is.
    pub(crate) opcode: u8,
    /// The masking key, which a caller's frame must have.
    pub(crate) mask: Option<[u8; 4]>,
    /// What it says.
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A whole message in one frame, without a mask, as a server sends it.
    pub(crate) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, mask: None, payload: payload.into() }
    }

    /// A close frame with its code and reason.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::new(CLOSE, payload)
    }

    /// The same frame as a caller sends it.
    pub(crate) fn masked(mut self) -> Self {
        self.mask = Some([0x12, 0x9a, 0x3c, 0xf1]);
        self
    }

    /// The frame at the start of `bytes` and how many bytes it took; `None` while it is not whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (len, mut at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            len => (u64::from(len), 2),
        };
        let mask: Option<[u8; 4]> = match second & 0x80 {
            0 => None,
            _ => Some(bytes.get(at..at + 4)?.try_into().ok()?),
        };
        at += mask.map_or(0, |m| m.len());
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        let mut payload = bytes.get(at..end)?.to_vec();
        apply(mask, &mut payload);
        let frame = Self {
            fin: first & 0x80 != 0,
            rsv: (first >> 4) & 7,
            opcode: first & 15,
            mask,
            payload,
        };
        Some((frame, end))
    }

    /// The frame as it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode & 15];
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match self.payload.len() {
            len @ 0..126 => bytes.push(masked | len as u8),
            len @ 126..0x1_0000 => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                bytes.push(masked | 127);
                bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        bytes.extend(self.mask.into_iter().flatten());
        let from = bytes.len();
        bytes.extend_from_slice(&self.payload);
        apply(self.mask, &mut bytes[from..]);
        bytes
    }

    /// Code and reason of a close frame; a frame without a code has none.
    pub(crate) fn close_code(&self) -> Option<(u16, String)> {
        let (code, reason) = self.payload.split_first_chunk()?;
        Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
    }
}

fn apply(mask: Option<[u8; 4]>, payload: &mut [u8]) {
    let Some(mask) = mask else { return };
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_at_every_length_form() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for frame in
                [Frame::new(BINARY, vec![7; len]), Frame::new(TEXT, "x".repeat(len)).masked()]
            {
                let bytes = frame.to_bytes();
                let (read, used) = Frame::parse(&bytes).expect("the frame is whole");
                assert_eq!(used, bytes.len(), "{len} bytes of payload");
                assert!(read == frame, "a frame of {len} bytes must come back as it was");
                assert!(Frame::parse(&bytes[..used - 1]).is_none(), "one byte short is not whole");
            }
        }
    }

    #[test]
    fn masked_payload_is_not_readable_on_the_wire() {
        let bytes = Frame::new(TEXT, "attack at dawn").masked().to_bytes();
        assert!(!bytes.windows(6).any(|w| w == b"attack"), "the mask must have been applied");
    }
}

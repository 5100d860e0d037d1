//! Follows frames through any chunking, without holding or changing a byte.
//!
//! It knows where frames begin and end, so that a close frame of ours never lands inside
//! another, and how long a message has become over all its fragments.

/// Where a direction of a socket stands.
#[derive(Debug, Default, Clone)]
pub struct Tracker {
    header: [u8; 10],
    have: usize,
    payload_left: u64,
    message: u64,
    closed: bool,
}

/// A message became longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBig;

const FIN: u8 = 0x80;
const CLOSE: u8 = 0x8;

impl Tracker {
    /// Takes note of bytes that pass. `limit` is for one message, all fragments together.
    ///
    /// # Errors
    /// [`TooBig`] as soon as a frame's header promises more.
    pub fn follow(&mut self, mut bytes: &[u8], limit: u64) -> Result<(), TooBig> {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let here =
                    usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= here as u64;
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { break };
            bytes = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            if self.have >= 2 && self.have == self.header_len() {
                self.begin(limit)?;
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a frame.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    /// Whether a close frame has passed.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Length of the header so far described, the masking key aside (it counts as payload).
    fn header_len(&self) -> usize {
        match self.header[1] & 0x7F {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn begin(&mut self, limit: u64) -> Result<(), TooBig> {
        let [first, second, a, b, c, d, e, f, g, h] = self.header;
        let length = match second & 0x7F {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        let opcode = first & 0x0F;
        self.have = 0;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        self.payload_left = length.saturating_add(mask);
        if opcode >= 8 {
            // Control frames may come between fragments and are no part of the message.
            self.closed |= opcode == CLOSE;
            return Ok(());
        }
        self.message = if opcode == 0 { self.message.saturating_add(length) } else { length };
        if self.message > limit {
            return Err(TooBig);
        }
        if first & FIN != 0 {
            self.message = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(mask | payload as u8),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0; payload + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn boundaries_are_found_in_any_chunking() {
        for masked in [false, true] {
            let frames = [
                frame(0x81, 5, masked),
                frame(0x82, 300, masked),
                frame(0x82, 70_000, masked),
                frame(0x89, 0, masked),
            ];
            let ends: Vec<usize> = frames
                .iter()
                .scan(0, |sum, f| {
                    *sum += f.len();
                    Some(*sum)
                })
                .collect();
            let all = frames.concat();
            for step in [1, 2, 3, 7, 1_000, all.len()] {
                let mut tracker = Tracker::default();
                let mut at = 0;
                for chunk in all.chunks(step) {
                    tracker.follow(chunk, u64::MAX).unwrap();
                    at += chunk.len();
                    assert_eq!(
                        tracker.at_boundary(),
                        ends.contains(&at),
                        "at {at}, chunks of {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_message_is_limited_over_all_its_fragments() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.follow(&frame(0x01, 60, true), 100), Ok(()));
        assert_eq!(tracker.follow(&frame(0x89, 50, true), 100), Ok(()), "a ping is no part of it");
        assert_eq!(tracker.follow(&frame(0x80, 60, true), 100), Err(TooBig));
        let mut fresh = Tracker::default();
        for _ in 0..10 {
            assert_eq!(
                fresh.follow(&frame(0x81, 60, true), 100),
                Ok(()),
                "each message counts anew"
            );
        }
    }

    #[test]
    fn a_close_frame_is_noticed() {
        let mut tracker = Tracker::default();
        tracker.follow(&frame(0x88, 2, false), 100).unwrap();
        assert!(tracker.closed());
    }
}

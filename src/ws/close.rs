//! The close frame that ends a socket, with the denial's code as its reason.

/// An unmasked close frame (RFC 6455 section 5.5.1): status, and the denial's code as the reason.
pub fn frame(status: u16, reason: &str) -> Vec<u8> {
    // A control frame holds 125 bytes, two of them the status.
    let reason = reason.as_bytes().get(..reason.len().min(123)).unwrap_or_default();
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = Vec::with_capacity(reason.len() + 4);
    frame.extend([0x88, length]);
    frame.extend(status.to_be_bytes());
    frame.extend(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_reason_are_in_the_frame() {
        assert_eq!(frame(1008, "token_revoked"), b"\x88\x0f\x03\xf0token_revoked");
        assert_eq!(frame(1008, &"x".repeat(200)).len(), 127, "a control frame stays one");
    }
}

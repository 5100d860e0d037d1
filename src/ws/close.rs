//! The close frame that ends a socket, with the denial's code as its reason.

use crate::policy::Code;

/// An unmasked close frame (RFC 6455 section 5.5.1): status, and the code as the reason.
pub fn frame(code: Code) -> Vec<u8> {
    let reason = code.as_str().as_bytes();
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = Vec::with_capacity(reason.len() + 4);
    frame.extend([0x88, length]);
    frame.extend(code.close_status().to_be_bytes());
    frame.extend(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_reason_are_in_the_frame() {
        assert_eq!(frame(Code::TokenRevoked), b"\x88\x0f\x03\xf0token_revoked");
        for code in Code::ALL {
            let frame = frame(*code);
            assert_eq!(
                usize::from(frame[1]) + 2,
                frame.len(),
                "{}: the length fits",
                code.as_str()
            );
        }
    }
}

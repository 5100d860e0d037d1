//! Numbers by RFC 8259 section 6, a byte at a time: what a number is worth does not matter here.

/// Where in a number the last byte stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    /// Behind the first byte.
    pub(super) const fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// Behind the next byte; `None` where it belongs to no number.
    #[inline]
    pub(super) const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Whole | Self::Minus, b'1'..=b'9') | (Self::Whole, b'0') => Self::Whole,
            (Self::Minus, b'0') => Self::Zero,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    /// Whether a number may end here.
    pub(super) const fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_number(text: &str) -> bool {
        let mut bytes = text.bytes();
        let first = bytes.next().and_then(Number::begin);
        bytes.try_fold(first, |at, b| Some(at?.next(b))).flatten().is_some_and(Number::may_end)
    }

    #[test]
    fn numbers_are_what_the_grammar_says() {
        for good in ["0", "-0", "10", "1.50", "1e5", "1E+05", "-12.5e-10", "0e0", "0.0"] {
            assert!(is_number(good), "{good}");
        }
        for bad in
            ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "0x1", "1.2.3", "1e5.0", "-a", "00"]
        {
            assert!(!is_number(bad), "{bad}");
        }
    }
}

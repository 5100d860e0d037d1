//! Instants in UTC as RFC 3339 text (`2099-01-01T00:00:00Z`), and expiry that fails closed.

use super::Invalid;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// When a token stops working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// No end was set.
    Never,
    /// Milliseconds since 1970; the token is good strictly before.
    At(u64),
    /// Something was set that can't be read. Counts as expired.
    Unreadable,
}

impl Expiry {
    /// Reads stored text. Never fails: what can't be read has expired.
    pub fn read(text: Option<&str>) -> Self {
        match text {
            None => Self::Never,
            Some(text) => parse(text).map_or(Self::Unreadable, Self::At),
        }
    }

    /// Whether it is over at `wall_ms`.
    pub fn is_over(self, wall_ms: u64) -> bool {
        match self {
            Self::Never => false,
            Self::At(end) => wall_ms >= end,
            Self::Unreadable => true,
        }
    }
}

/// Reads RFC 3339 text, gives milliseconds since 1970.
///
/// # Errors
/// Text of another form, or an instant before 1970.
pub fn parse(text: &str) -> Result<u64, Invalid> {
    let bad = || {
        Invalid::new(format!("'{text}' is no instant: write it as 2099-01-01T00:00:00Z (RFC 3339)"))
    };
    let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?;
    u64::try_from(instant.unix_timestamp_nanos() / 1_000_000).map_err(|_| bad())
}

/// Writes milliseconds since 1970 as RFC 3339 in UTC, to the millisecond.
pub fn format(wall_ms: u64) -> String {
    let instant = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    instant.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_that_cannot_be_read_counts_as_expired() {
        for text in ["", "tomorrow", "2099-13-01T00:00:00Z", "2099-01-01", "1969-01-01T00:00:00Z"] {
            assert!(Expiry::read(Some(text)).is_over(0), "{text:?} must count as expired");
        }
        assert!(!Expiry::read(None).is_over(u64::MAX), "no expiry never ends");
    }

    #[test]
    fn the_end_itself_is_over() {
        let end = Expiry::read(Some("1970-01-01T00:00:10Z"));
        assert!(!end.is_over(9_999) && end.is_over(10_000), "good strictly before the end");
    }

    #[test]
    fn text_survives_a_round_trip() {
        assert_eq!(parse(&format(1_700_000_000_123)), Ok(1_700_000_000_123));
    }
}

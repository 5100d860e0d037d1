//! Durations as operators write them: `250ms`, `60s`, `10m`, `24h`, `30d`.

use super::Invalid;
use std::time::Duration;

/// Reads one number and one unit. Zero, fractions and sums (`1h30m`) are refused.
///
/// # Errors
/// Says which forms are accepted.
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let bad = || {
        Invalid::new(format!("'{text}' is no duration: write it as 250ms, 60s, 10m, 24h or 30d"))
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let ms_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(ms_each) {
        Some(0) => Err(Invalid::new(format!("'{text}': a duration must be above zero"))),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, ms) in [("250ms", 250), ("60s", 60_000), ("10m", 600_000), ("24h", 86_400_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_and_a_unit_is_refused() {
        for text in [
            "",
            "60",
            "s",
            "-1s",
            "1.5s",
            "1h30m",
            "60 s",
            "0s",
            "99999999999999999999d",
            "9999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
    }
}

//! Sizes as operators write them: `512B`, `64KiB`, `32MiB`, `2GiB`.

use super::Invalid;

/// Reads one whole number and one binary unit, gives bytes. Zero is refused.
///
/// # Errors
/// Says which forms are accepted.
pub fn parse(text: &str) -> Result<u64, Invalid> {
    let bad =
        || Invalid::new(format!("'{text}' is no size: write it as 512B, 64KiB, 32MiB or 2GiB"));
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let each: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad()),
    };
    match number.checked_mul(each) {
        Some(0) => Err(Invalid::new(format!("'{text}': a size must be above zero"))),
        Some(bytes) => Ok(bytes),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_units_are_read_and_others_refused() {
        assert_eq!(parse("32MiB"), Ok(32 << 20));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        for text in ["", "32", "32MB", "1.5KiB", "0B", "99999999999GiB", "-1B"] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
    }
}

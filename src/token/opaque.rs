//! Opaque proxy tokens: `ptk_` and 32 base64url characters, 24 random bytes.

use crate::values::Invalid;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Draws a new proxy token from the system's generator.
///
/// # Errors
/// The system has no randomness to give.
pub fn draw() -> Result<String, Invalid> {
    Ok(format!("ptk_{}", random_base64::<24>()?))
}

/// Draws a token's id: `tok_` and 16 base64url characters.
///
/// # Errors
/// As [`draw`].
pub fn draw_id() -> Result<String, Invalid> {
    Ok(format!("tok_{}", random_base64::<12>()?))
}

/// Draws an opaque client token: `ek_kg` (SDKs insist on `ek_`, the rest tells ours from a
/// provider's) and 32 characters.
///
/// # Errors
/// As [`draw`].
pub fn draw_client() -> Result<String, Invalid> {
    Ok(format!("ek_kg{}", random_base64::<24>()?))
}

/// Draws an opaque client token as Gemini's SDKs want it: `auth_tokens/` and 32 characters.
///
/// # Errors
/// As [`draw`].
pub fn draw_auth_token() -> Result<String, Invalid> {
    Ok(format!("auth_tokens/{}", random_base64::<24>()?))
}

/// Draws a client token's id: `ctk_` and 16 base64url characters.
///
/// # Errors
/// As [`draw`].
pub fn draw_client_id() -> Result<String, Invalid> {
    Ok(format!("ctk_{}", random_base64::<12>()?))
}

/// Checks a token that an operator brings: at least 12 characters of `A-Za-z0-9._~-`.
///
/// # Errors
/// Says the rule, never the token.
pub fn validate_custom(token: &str) -> Result<(), Invalid> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._~-".contains(&c);
    if token.len() >= 12 && token.len() <= 512 && token.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Invalid::new("a custom token has 12 to 512 characters of A-Z a-z 0-9 . _ ~ -"))
    }
}

/// The last four characters, for telling tokens apart.
pub fn last4(token: &str) -> String {
    token.chars().skip(token.chars().count().saturating_sub(4)).collect()
}

fn random_base64<const BYTES: usize>() -> Result<String, Invalid> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|e| Invalid::new(format!("no randomness: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_tokens_have_the_documented_shape_and_differ() {
        let (a, b) = (draw().unwrap(), draw().unwrap());
        assert_eq!(a.len(), 4 + 32, "24 bytes are 32 characters");
        assert!(a.starts_with("ptk_") && a != b);
        assert!(validate_custom(&a).is_ok(), "a drawn token passes for a custom one");
    }

    #[test]
    fn weak_or_odd_custom_tokens_are_refused() {
        for token in
            ["", "short", "elevenchars", "with space in it", "ümlaut-ümlaut", "slash/slash/slash"]
        {
            assert!(validate_custom(token).is_err(), "{token:?} must be refused");
        }
    }
}

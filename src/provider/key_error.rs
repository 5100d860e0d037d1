//! Whether a provider's answer says that *our* key is the problem.
//!
//! The caller's token is not at fault then, and providers echo parts of the key: such an answer
//! never passes.

use crate::config::Kind;

/// Texts in an error body that are about the key, lower case.
const ABOUT_KEYS: [&[u8]; 7] = [
    b"api key",
    b"api_key",
    b"apikey",
    b"missing scopes",
    b"consumer_suspended",
    b"consumer_invalid",
    b"account_deactivated",
];

/// Whether the status alone decides: nobody but us authenticates at the provider.
pub fn by_status(status: u16) -> bool {
    status == 401 || status == 407
}

/// Whether the decoded `body` of an answer with `status` is about the key: 403 of everybody,
/// and Gemini's 400 `API_KEY_INVALID`.
pub fn by_body(kind: Kind, status: u16, body: &[u8]) -> bool {
    let candidate = status == 403 || (status == 400 && kind == Kind::Gemini);
    if !candidate {
        return false;
    }
    let lower = body.to_ascii_lowercase();
    ABOUT_KEYS.iter().any(|needle| memchr::memmem::find(&lower, needle).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_key_errors_are_recognised_and_others_are_not() {
        let gemini = br#"{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        assert!(by_body(Kind::Gemini, 400, gemini));
        assert!(!by_body(Kind::OpenAi, 400, br#"{"error":{"message":"bad api_key field"}}"#));
        assert!(by_body(
            Kind::Anthropic,
            403,
            br#"{"error":{"message":"Your API key does not have permission"}}"#
        ));
        let geo = br#"{"error":{"code":"unsupported_country_region_territory","message":"Country not supported"}}"#;
        assert!(!by_body(Kind::OpenAi, 403, geo), "other 403s are passed on");
        assert!(!by_body(Kind::Gemini, 404, b"API key"), "only 400 and 403 are about keys");
    }
}

//! Paths whose answers hold real credentials: they are never forwarded, whoever asks, with whatever
//! provider. A generic one, or one with a base URL of its own, may be any API, and may have it at
//! any depth (`/openai/v1/realtime/client_secrets` at one vendor).
//!
//! Names are compared decoded, in any case, and without what follows their word: servers differ in
//! what they make of `client_secrets%20` or `auth_tokens:create`.

use super::path::Path;
use crate::policy::Class;

/// Segments, behind a version or where an API may begin.
const ENDPOINTS: [&[&str]; 7] = [
    &["client", "tokens"],
    &["realtime", "client_secrets"],
    &["realtime", "sessions"],
    &["realtime", "transcription_sessions"],
    &["realtime", "translations", "client_secrets"],
    &["realtimeapi", "sessions"],
    &["chatkit", "sessions"],
];
/// Below an organisation, at any depth.
const ORGANIZATIONS: [&str; 2] = ["organization", "organizations"];
const CREDENTIALS: [&str; 3] = ["service_accounts", "api_keys", "admin_api_keys"];
/// Gemini's, at any depth; and calls that name their method in what follows.
const ANYWHERE: [&str; 1] = ["auth_tokens"];
const CALLS: &str = "$rpc";

/// What `path` is: minting, whatever its own API's table says.
pub fn class(base: &str, path: &Path<'_>, by_table: impl FnOnce() -> Class) -> Class {
    if mints(base, path) { Class::Minting } else { by_table() }
}

/// Whether any API, beginning at any segment of `base`, would answer this path with a credential.
fn mints(base: &str, path: &Path<'_>) -> bool {
    (holds_noun(path.decoded()) || holds_noun(base)) && is_endpoint(base, path)
}

/// A quick look, for every request: no endpoint is without one of these words.
fn holds_noun(path: &str) -> bool {
    let starts = memchr::memchr_iter(b'/', path.as_bytes()).map(|slash| slash + 1);
    std::iter::once(0).chain(starts).any(|start| {
        let segment = path.get(start..).unwrap_or_default();
        match segment.as_bytes().first().map(u8::to_ascii_lowercase) {
            Some(b'r') => begins(segment, "realtime"),
            Some(b'c') => begins(segment, "client") || begins(segment, "chatkit"),
            Some(b'o') => begins(segment, "organization"),
            Some(b'a') => begins(segment, "auth_tokens"),
            Some(b'$') => true,
            _ => false,
        }
    })
}

fn begins(segment: &str, word: &str) -> bool {
    segment.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn is_endpoint(base: &str, path: &Path<'_>) -> bool {
    let above = base.split('/').filter(|segment| !segment.is_empty());
    let mut begins = true;
    let below = path.decoded().split('/').filter(|segment| !segment.is_empty());
    // The first segment below the base is where the operator says that an API begins.
    let mut rest = above.map(|s| (s, false)).chain(below.clone().take(1).map(|s| (s, true)));
    let mut later = below.skip(1);
    loop {
        let (segment, first) = match rest.next() {
            Some(pair) => pair,
            None => match later.next() {
                Some(segment) => (segment, false),
                None => return false,
            },
        };
        let following = || rest.clone().map(|(segment, _)| segment).chain(later.clone());
        if is_any(segment, &ANYWHERE) || segment.eq_ignore_ascii_case(CALLS) {
            return true;
        }
        if (begins || first)
            && (ENDPOINTS.iter().any(|endpoint| is_at(segment, following(), endpoint))
                || (is_any(segment, &ORGANIZATIONS)
                    && following().any(|segment| is_any(segment, &CREDENTIALS))))
        {
            return true;
        }
        begins = opens(segment);
    }
}

/// Whether an API may begin behind this segment: a version, or a vendor's name for the API.
fn opens(segment: &str) -> bool {
    let mut letters = segment.bytes();
    let version = letters.next().is_some_and(|first| first.eq_ignore_ascii_case(&b'v'))
        && letters.next().is_some_and(|second| second.is_ascii_digit());
    version || segment.eq_ignore_ascii_case("openai")
}

fn is_at<'a>(first: &'a str, rest: impl Iterator<Item = &'a str>, endpoint: &[&str]) -> bool {
    let mut segments = std::iter::once(first).chain(rest);
    endpoint.iter().all(|name| segments.next().is_some_and(|segment| is(segment, name)))
}

fn is_any(segment: &str, names: &[&str]) -> bool {
    names.iter().any(|name| is(segment, name))
}

/// Whether the segment's word is this name.
fn is(segment: &str, name: &str) -> bool {
    begins(segment, name)
        && !segment
            .as_bytes()
            .get(name.len())
            .is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_at_every_depth_is_seen() {
        for path in [
            "/v1/client/tokens",
            "/v1/Realtime/client_secrets",
            "/v1/realtime/client_secrets/",
            "/v1/realtime/%63lient_secrets",
            "/v1/realtime/client_secrets%20",
            "/v1/realtime/client_secrets%3Fx",
            "/v1/realtime/client_secrets%23",
            "/v1/realtime/client_secrets,",
            "/v1/realtime/sessions/",
            "/v1/realtime/transcription_sessions",
            "/v1/realtime/translations/client_secrets",
            "/v1/chatkit/sessions",
            "/v1/%63hatkit/sessions",
            "/v1/organization/admin_api_keys",
            "/v1/organization/projects/p/service_accounts",
            "/v1/organization/projects/p/api_keys",
            "/v1/organizations/api_keys",
            "/v1alpha/auth_tokens",
            "/v1beta/Auth_Tokens:create",
            "/openai/v1/realtime/client_secrets",
            "/openai/realtimeapi/sessions",
            "/openai/realtime/sessions",
            "/any/proxy/v1/realtime/client_secrets",
            "/v1/v1/realtime/sessions",
            "/realtime/sessions",
            "/$rpc/google.ai.generativelanguage.v1alpha.AuthTokenService/CreateToken",
        ] {
            assert!(mints("", &Path::new(path)), "{path}");
            assert!(mints("/some/base", &Path::new(path)), "below a base: {path}");
        }
    }

    #[test]
    fn the_quick_look_knows_every_endpoint() {
        let first = ENDPOINTS.iter().filter_map(|endpoint| endpoint.first().copied());
        for word in first.chain(ORGANIZATIONS).chain(ANYWHERE).chain([CALLS]) {
            assert!(holds_noun(&format!("/v1/{word}/x")), "{word}");
            assert!(holds_noun(&word.to_ascii_uppercase()), "{word}, in any case");
        }
        assert!(!holds_noun("/v1/chat/completions"), "most paths need no more than this");
    }

    #[test]
    fn a_base_may_hold_the_endpoint_s_beginning() {
        for (base, path) in [
            ("/any/v1", "/realtime/client_secrets"),
            ("/v1/realtime", "/client_secrets"),
            ("/compatible", "/chatkit/sessions"),
            ("/v1alpha", "/auth_tokens"),
        ] {
            assert!(mints(base, &Path::new(path)), "{base}{path}");
        }
    }

    #[test]
    fn other_paths_stay_what_they_are() {
        for path in [
            "/v1/chat/completions",
            "/v1/realtime",
            "/v1/realtime/calls/rtc_1",
            "/v1beta/models/m:generateContent",
            "/v1/responses/client/tokens",
            "/v1/realtime/sessions_of_mine",
            "/tools/client/tokens",
            "/v1/organization/usage/completions",
            "/",
            "",
        ] {
            assert!(!mints("", &Path::new(path)), "{path}");
        }
    }
}

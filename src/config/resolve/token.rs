//! Static tokens, by hash. Whatever stands in the hash's place is never repeated: it may be the
//! token.

use super::known;
use crate::config::file::Token;
use crate::config::{Problems, StaticToken};
use crate::values::ids::TokenDigest;
use crate::values::timestamp::{self, Expiry};
use std::collections::{HashMap, HashSet};

const NO_DIGEST: &str = "this is no SHA-256: write the 64 hexadecimal digits that \
                         printf %s \"$TOKEN\" | sha256sum prints, never the token itself";

/// `tokens:`. There may be tens of thousands: each is looked up once, none compared with all.
pub(super) fn all(
    written: Vec<Token>,
    policies: &HashSet<String>,
    problems: &mut Problems,
) -> Vec<StaticToken> {
    let mut names: HashMap<String, usize> = HashMap::with_capacity(written.len());
    // By all their bytes: hashes that were made up, not computed, may all begin alike.
    let mut digests: HashMap<[u8; 32], usize> = HashMap::with_capacity(written.len());
    let mut tokens = Vec::with_capacity(written.len());
    for (index, token) in written.into_iter().enumerate() {
        let before = problems.0.len();
        let mut push =
            |key: &str, why: String| problems.push(format!("tokens[{index}].{key}"), why);
        if token.name.trim().is_empty() || token.name.chars().any(char::is_control) {
            push("name", "a token needs a name".to_owned());
        } else if let Some(first) = names.get(&token.name) {
            push("name", format!("tokens[{first}] has the same name: choose another"));
        }
        let digest = TokenDigest::from_hex(&token.sha256);
        match digest.map(|digest| digests.get(&digest.0)) {
            None => push("sha256", NO_DIGEST.to_owned()),
            Some(Some(first)) => push("sha256", format!("tokens[{first}] has the same: keep one")),
            Some(None) => {}
        }
        if let Some(policy) = token.policy.as_ref().filter(|policy| !policies.contains(*policy)) {
            push("policy", format!("'{policy}' is no policy; known: {}", known(policies)));
        }
        let expires_at = match token.expires_at.as_deref().map(timestamp::parse) {
            None => Expiry::Never,
            Some(Ok(end)) => Expiry::At(end),
            Some(Err(why)) => {
                push("expires_at", why.to_string());
                Expiry::Unreadable
            }
        };
        names.entry(token.name.clone()).or_insert(index);
        let Some(digest) = digest else { continue };
        digests.entry(digest.0).or_insert(index);
        if problems.0.len() == before {
            tokens.push(StaticToken {
                name: token.name.into(),
                digest,
                policy: token.policy.map(Into::into),
                expires_at,
                disabled: token.disabled.unwrap_or(false),
                may_mint: token.may_mint.unwrap_or(false),
            });
        }
    }
    tokens
}

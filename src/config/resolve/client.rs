//! Client tokens and other issuers.

use super::{known, limit};
use crate::config::Problems;
use crate::config::client::{Algorithm, ClientTokens, Issuer, Jwks};
use crate::config::file::client as file;
use crate::config::file::shape::Choice;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// What a gateway without `public_url` calls itself.
const NAMELESS: &str = "keygate";
/// Keys stay published for longer than this (`token::jwks`).
const LONGEST_TTL: Duration = Duration::from_secs(86_400);
/// What `/v1/realtime/client_secrets` gives at least.
const SHORTEST_CEILING: Duration = Duration::from_secs(10);
/// A new key is published well before it signs.
const SHORTEST_ROTATION: Duration = Duration::from_secs(3_600);
const ALGORITHMS: &str = "EdDSA, ES256 or RS256";

/// `client_tokens:`
pub(super) fn tokens(
    written: Option<file::ClientTokens>,
    public_url: Option<&str>,
    problems: &mut Problems,
) -> ClientTokens {
    let written = written.unwrap_or_default();
    let name = |key: &str, text: Option<String>, default: Arc<str>, problems: &mut Problems| {
        let text = text.map_or(default, Into::into);
        if text.is_empty() || text.trim() != &*text || text.chars().any(char::is_control) {
            problems.push(format!("client_tokens.{key}"), "write the gateway's address");
        }
        text
    };
    let issuer = public_url.unwrap_or(NAMELESS).into();
    let issuer = name("issuer", written.issuer, issuer, problems);
    let audience = name("audience", written.audience, issuer.clone(), problems);
    let mut time = |key: &str, text: Option<&str>, seconds| {
        let path = format!("client_tokens.{key}");
        limit::duration(&path, text, problems).unwrap_or(Duration::from_secs(seconds))
    };
    let max_ttl = time("max_ttl", written.max_ttl.as_deref(), 7_200);
    let default_ttl = time("default_ttl", written.default_ttl.as_deref(), 60).min(max_ttl);
    let rotate_every = time("rotate_every", written.rotate_every.as_deref(), 30 * 86_400);
    if max_ttl < SHORTEST_CEILING || max_ttl > LONGEST_TTL {
        problems.push("client_tokens.max_ttl", "it must be between 10s and 24h");
    }
    if default_ttl < Duration::from_secs(1) {
        problems.push("client_tokens.default_ttl", "it must be at least 1s");
    }
    if rotate_every < SHORTEST_ROTATION {
        let why = "keys change once an hour at most: write 1h or more";
        problems.push("client_tokens.rotate_every", why);
    }
    let signing = match written.signing.as_deref() {
        None => Some(Algorithm::EdDsa),
        Some("off") => None,
        Some(text) => {
            let found = Algorithm::parse(text);
            if found.is_none() {
                let why = format!("'{text}' is not known: write {ALGORITHMS}, or \"off\"");
                problems.push("client_tokens.signing", why);
            }
            found
        }
    };
    ClientTokens { issuer, audience, default_ttl, max_ttl, signing, rotate_every }
}

/// `issuers:`
pub(super) fn issuers(
    written: Vec<file::Issuer>,
    own: &str,
    policies: &HashSet<String>,
    problems: &mut Problems,
) -> Vec<Issuer> {
    let mut seen = HashSet::from([own.to_owned()]);
    let mut issuers = Vec::with_capacity(written.len());
    for (index, issuer) in written.into_iter().enumerate() {
        let path = |key: &str| format!("issuers[{index}].{key}");
        if issuer.issuer.is_empty() {
            problems.push(path("issuer"), "write its `iss`, as its tokens have it");
        } else if issuer.issuer == own {
            problems.push(path("issuer"), "this gateway's own tokens have it: choose another");
        } else if !seen.insert(issuer.issuer.clone()) {
            problems.push(path("issuer"), "another entry has the same: keep one");
        }
        if issuer.audience.is_empty() {
            problems.push(path("audience"), "write the `aud` that its tokens have");
        }
        if let Some(policy) = issuer.policy.as_ref().filter(|policy| !policies.contains(*policy)) {
            let why = format!("'{policy}' is no policy; known: {}", known(policies));
            problems.push(path("policy"), why);
        }
        let algorithms = algorithms(&path("algorithms"), issuer.algorithms, problems);
        let Some(jwks) = jwks(&path("jwks"), issuer.jwks, problems) else { continue };
        issuers.push(Issuer {
            issuer: issuer.issuer.into(),
            audience: issuer.audience.into(),
            jwks,
            algorithms,
            policy: issuer.policy.map(Into::into),
        });
    }
    issuers
}

fn algorithms(path: &str, written: Option<Vec<String>>, problems: &mut Problems) -> Vec<Algorithm> {
    let Some(written) = written else { return Algorithm::ALL.to_vec() };
    if written.is_empty() {
        problems.push(path, "an empty list would allow nothing: leave it out or name some");
    }
    let mut algorithms = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match Algorithm::parse(text) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let why = format!("'{text}' is not accepted: write {ALGORITHMS}");
                problems.push(format!("{path}[{index}]"), why);
            }
        }
    }
    algorithms
}

fn jwks(path: &str, written: Choice, problems: &mut Problems) -> Option<Jwks> {
    match written {
        Choice::Entry(key, file) if key == "file" && !file.is_empty() => {
            Some(Jwks::File(file.into()))
        }
        Choice::Entry(key, text) if key == "url" => {
            let url = url::Url::parse(&text).ok().filter(|url| {
                let plain = url.username().is_empty() && url.password().is_none();
                plain && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
            });
            if url.is_none() {
                let why = "it must be an https URL without user info (http on loopback only): \
                           whoever can change the keys on the way can forge tokens";
                problems.push(format!("{path}.url"), why);
            }
            url.map(Jwks::Url)
        }
        _ => {
            problems.push(path, "write { url: URL } or { file: PATH }");
            None
        }
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

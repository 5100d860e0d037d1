//! Signed tokens (RFC 7515, 7519): what is ours to sign, and how any is verified.
//!
//! Invariant: nothing of a token is believed before its signature holds, but its `iss`, which
//! chooses whose keys are asked, and its `kid`, which is looked up among them. The algorithm is the
//! key's; `crit` and keys in the header are refused. Time is the injected clock's.

use super::client::Clients;
use super::{Above, Client};
use crate::config::Config;
use crate::config::client::Algorithm;
use crate::values::grant::{Grant, GrantText, present};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// Longer texts are no tokens.
const LONGEST: usize = 8 << 10;
/// How far clocks may differ.
const LEEWAY_MS: u64 = 30_000;
/// Later than any sensible time, and safe to calculate with (the year 9999).
const LATEST_S: f64 = 253_402_300_799.0;
/// Characters of what becomes an id.
const LONGEST_NAME: usize = 256;

/// A token that was verified.
#[derive(Debug)]
pub struct Signed {
    /// `jti` of ours, `iss` and `sub` of others.
    pub id: Arc<str>,
    /// What its claims allow.
    pub grant: Grant,
    /// The rest.
    pub client: Client,
}

/// The claims that count; what a token has beside them is ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// For whom.
    pub aud: Audience,
    /// The parent's id in ours.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub sub: Option<String>,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub jti: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub iat: Option<serde_json::Number>,
    /// Good from here.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub nbf: Option<serde_json::Number>,
    /// Good before.
    pub exp: serde_json::Number,
    /// See [`GrantText`]; each one narrows.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub models: Option<Vec<String>>,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub origins: Option<Vec<String>>,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub providers: Option<Vec<String>>,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub paths: Option<Vec<String>>,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub methods: Option<Vec<String>>,
    /// `paths` opens nothing beyond inference.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub inference: Option<bool>,
    /// With `origins`: programs that send none pass too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub allow_missing_origin: Option<bool>,
    /// What it has open ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub end_at_expiry: Option<bool>,
    /// How many connections it opens.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub uses: Option<u32>,
    /// Session length, and whether it ends with the token.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub constraints: Option<Constraints>,
    /// Noted by the minter.
    #[serde(default, skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub metadata: Option<Value>,
}

/// `aud`: one, or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// `constraints`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Of realtime sessions.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub realtime: Option<Realtime>,
}

/// `constraints.realtime`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Realtime {
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub max_session_duration: Option<u64>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    jku: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    x5u: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    x5c: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    zip: Option<Refused>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<Refused>,
}

/// Whatever stands in the place of a header that changes how a token is to be read.
struct Refused;

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("refused"))
    }
}

impl Header {
    /// The fields are there to be refused where they are.
    fn is_plain(&self) -> bool {
        let odd = [&self.crit, &self.jwk, &self.jku, &self.x5u, &self.x5c, &self.b64, &self.zip];
        odd.iter().all(|field| field.is_none()) && self.enc.is_none()
    }
}

/// The token, where it may be a signed one: three parts, the first a JSON object.
pub(super) fn looks_signed(token: &[u8]) -> Option<Box<str>> {
    // `{"` in base64: an opaque token is told apart by three bytes.
    if !token.starts_with(b"eyJ") || token.len() > LONGEST {
        return None;
    }
    if memchr::memchr_iter(b'.', token).count() != 2 {
        return None;
    }
    std::str::from_utf8(token).ok().map(Into::into)
}

/// Signs `claims`; gives nothing where there is no key.
pub fn sign(clients: &Clients, claims: &Claims, now_ms: u64) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).ok()?);
    clients.keys.sign(now_ms, |kid, algorithm| {
        let header = format!(r#"{{"alg":"{}","typ":"JWT","kid":"{kid}"}}"#, algorithm.as_str());
        format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header))
    })
}

/// Verifies `text` by whoever issued it; gives nothing for whatever reason it is not good. One that
/// has ended is given: its caller is told so.
pub(super) fn verify(
    clients: &Clients,
    config: &Config,
    text: &str,
    now_ms: u64,
) -> Option<Signed> {
    let (message, signature) = text.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header: Header = decode(header)?;
    let algorithm = Algorithm::parse(&header.alg)?;
    let claims: Claims = decode(payload)?;
    if !header.is_plain() {
        return None;
    }
    if *claims.iss == *config.client_tokens.issuer {
        let typed = header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case("jwt"));
        let kid = header.kid.as_deref()?;
        let held = typed && clients.keys.verifies(kid, algorithm, message, signature);
        return if held { own(config, claims, now_ms) } else { None };
    }
    let typed = header
        .typ
        .is_none_or(|typ| typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt"));
    let issuer = config.issuers.iter().find(|issuer| *issuer.issuer == *claims.iss)?;
    if !typed || !issuer.algorithms.contains(&algorithm) {
        return None;
    }
    let kid = header.kid.as_deref();
    if !clients.issuers.verifies(&issuer.issuer, kid, algorithm, (message, signature)) {
        return None;
    }
    foreign(issuer, claims, now_ms)
}

/// What of ours was signed. No leeway on `exp`: both forms of a token die together.
fn own(config: &Config, claims: Claims, now_ms: u64) -> Option<Signed> {
    let (iat, nbf) = (instant(claims.iat.as_ref()?)?, instant(claims.nbf.as_ref()?)?);
    let soon = now_ms.saturating_add(LEEWAY_MS);
    let addressed = claims.aud.names(&config.client_tokens.audience);
    if !addressed || iat > soon || nbf > soon {
        return None;
    }
    let ends_at_ms = instant(&claims.exp)?;
    let parent = claims.sub.as_deref().filter(|sub| is_name(sub))?;
    let id = claims.jti.as_deref().filter(|jti| is_name(jti))?.into();
    let client = Client {
        // Its record knows more; it may not have been read yet.
        above: Above::Parent { id: parent.into(), digest: None },
        uses: claims.uses,
        inference: claims.inference.unwrap_or(claims.paths.is_none()),
        ends_at_ms,
    };
    Some(Signed { id, grant: claims.grant()?, client })
}

/// What another issuer signed. Its subject is who is counted, whichever token it brings.
fn foreign(issuer: &crate::config::client::Issuer, claims: Claims, now_ms: u64) -> Option<Signed> {
    let soon = now_ms.saturating_add(LEEWAY_MS);
    let not_before = claims.nbf.as_ref().map_or(Some(0), instant)?;
    let issued = claims.iat.as_ref().map_or(Some(0), instant)?;
    if !claims.aud.names(&issuer.audience) || not_before > soon || issued > soon {
        return None;
    }
    let ends_at_ms = instant(&claims.exp)?.saturating_add(LEEWAY_MS);
    let sub = claims.sub.as_deref().filter(|sub| is_name(sub))?;
    // Its subject is what is counted here; a limit that can't be kept is not passed over.
    if claims.uses.is_some() {
        return None;
    }
    let client = Client {
        above: Above::Issuer(issuer.issuer.clone()),
        uses: None,
        inference: claims.inference.unwrap_or(false),
        ends_at_ms,
    };
    let id = format!("{}#{sub}", issuer.issuer).into();
    Some(Signed { id, grant: claims.grant()?, client })
}

impl Claims {
    /// What they allow; a claim that can't be read allows nothing.
    fn grant(self) -> Option<Grant> {
        let seconds =
            self.constraints.and_then(|c| c.realtime).and_then(|r| r.max_session_duration);
        let text = GrantText {
            providers: self.providers,
            methods: self.methods,
            paths: self.paths,
            models: self.models,
            origins: self.origins,
            allow_missing_origin: self.allow_missing_origin,
            end_at_expiry: self.end_at_expiry,
            max_session: seconds.map(|seconds| format!("{seconds}s")),
            ..GrantText::default()
        };
        text.read().ok()
    }
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control)
}

/// Milliseconds of a NumericDate (RFC 7519 section 2).
fn instant(seconds: &serde_json::Number) -> Option<u64> {
    let seconds = seconds.as_f64().filter(|s| (0.0..=LATEST_S).contains(s))?;
    // In range, as was just seen.
    Some((seconds * 1_000.0) as u64)
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;

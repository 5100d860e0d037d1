//! Minting: what a request for a client token asks, and what becomes of it.
//!
//! Three shapes of one operation ([`shape`] reads them). Invariant: a child is never wider than its
//! parent in any dimension ([`narrow`]); what is asked for beyond it is left out, and a dimension in
//! which nothing is left refuses the whole.

mod gemini;
mod json;
pub mod shape;

use super::jwt::{Audience, Claims, Constraints, Realtime};
use super::opaque;
use super::store::ClientRecord;
use crate::config::client::ClientTokens;
use crate::values::Invalid;
use crate::values::grant::{Grant, GrantText};
use crate::values::ids::TokenDigest;
use crate::values::pattern::Pattern;
use crate::values::secret::Secret;
use serde_json::Value;
use shape::{Shape, Wish};
use std::time::Duration;

/// Longer signed tokens do not fit a query parameter.
pub const LONGEST_JWT: usize = 4 << 10;

/// A dimension of a grant in which nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// `providers`
    Providers,
    /// `methods`
    Methods,
    /// `paths`
    Paths,
    /// `models`
    Models,
    /// `origins`
    Origins,
}

/// What a child of `parent` gets of `asked`.
///
/// # Errors
/// The dimension in which the parent allows nothing of what was asked for.
pub fn narrow(asked: &Grant, parent: &Grant) -> Result<Grant, Dimension> {
    let same = |a: &http::Method, b: &http::Method| (a == b).then(|| a.clone());
    let max_session = match (asked.max_session, parent.max_session) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Ok(Grant {
        providers: meet(&asked.providers, &parent.providers, |a, b| (a == b).then(|| a.clone()))
            .ok_or(Dimension::Providers)?,
        methods: meet(&asked.methods, &parent.methods, same).ok_or(Dimension::Methods)?,
        paths: meet(&asked.paths, &parent.paths, Pattern::meet).ok_or(Dimension::Paths)?,
        models: meet(&asked.models, &parent.models, Pattern::meet).ok_or(Dimension::Models)?,
        origins: meet(&asked.origins, &parent.origins, |a, b| (a == b).then(|| a.clone()))
            .ok_or(Dimension::Origins)?,
        allow_missing_origin: asked.origins.is_none() && parent.allow_missing_origin,
        // Its requests count against its parent's.
        rate_limit: None,
        concurrency: None,
        max_session,
        end_at_expiry: parent.end_at_expiry,
    })
}

/// `None` where nothing is left of what was asked for.
#[expect(clippy::option_option, reason = "the outer says whether anything is left")]
fn meet<T: Clone + PartialEq>(
    asked: &Option<Vec<T>>,
    parent: &Option<Vec<T>>,
    both: impl Fn(&T, &T) -> Option<T>,
) -> Option<Option<Vec<T>>> {
    match (asked, parent) {
        (None, parent) => Some(parent.clone()),
        (asked, None) => Some(asked.clone()),
        (Some(asked), Some(parent)) => {
            let mut left: Vec<T> = Vec::new();
            for found in asked.iter().flat_map(|a| parent.iter().filter_map(|p| both(a, p))) {
                if !left.contains(&found) {
                    left.push(found);
                }
            }
            (!left.is_empty()).then_some(Some(left))
        }
    }
}

/// Who mints.
pub struct Parent<'a> {
    /// Its id.
    pub id: &'a str,
    /// SHA-256 of it.
    pub digest: TokenDigest,
    /// What people call it.
    pub name: &'a str,
    /// When it ends, if it does (wall clock, milliseconds).
    pub ends_at: Option<u64>,
    /// What it may do.
    pub grant: &'a Grant,
}

/// A new client token.
pub struct Minted {
    /// What is kept of it.
    pub record: ClientRecord,
    /// Its opaque form, this once.
    pub opaque: Secret,
    /// What it may do.
    pub grant: Grant,
}

/// Why nothing was minted.
#[derive(Debug)]
pub enum Refused {
    /// The parent allows nothing of what was asked for.
    Outside(Dimension),
    /// The parent ends before a token could begin.
    Ended,
    /// The system failed.
    Fault(Invalid),
}

/// Makes a token. Nothing is stored yet.
///
/// # Errors
/// See [`Refused`].
pub fn mint(
    shape: Shape,
    wish: &Wish,
    parent: &Parent<'_>,
    now_ms: u64,
) -> Result<Minted, Refused> {
    let grant = narrow(&wish.grant, parent.grant).map_err(Refused::Outside)?;
    let opaque = match shape {
        Shape::Gemini => opaque::draw_auth_token(),
        _ => opaque::draw_client(),
    };
    let opaque = Secret::new(opaque.map_err(Refused::Fault)?);
    // Whole seconds, as the signed form has them: both forms end together.
    let last = parent.ends_at.unwrap_or(u64::MAX) / 1_000 * 1_000;
    let whole = |ms: u64| ms.div_ceil(1_000).saturating_mul(1_000).min(last);
    let record = ClientRecord {
        id: opaque::draw_client_id().map_err(Refused::Fault)?,
        parent: parent.id.to_owned(),
        parent_digest: parent.digest,
        // Its digest is what is kept of it.
        digest: TokenDigest::of(opaque.expose().as_bytes()),
        name: parent.name.to_owned(),
        created_at: now_ms,
        starts_until: whole(wish.starts_until),
        ends_at: whole(wish.ends_at),
        uses: wish.uses,
        // What a parent's own paths open is not opened for its children unasked.
        inference: wish.grant.paths.is_none(),
        grant: Ok(text(&grant)),
        metadata: wish.metadata.as_ref().map(Value::to_string),
        revoked: false,
    };
    if record.ends_at <= now_ms {
        return Err(Refused::Ended);
    }
    Ok(Minted { record, opaque, grant })
}

/// The claims of a token's signed form.
pub fn claims(minted: &Minted, wish: &Wish, config: &ClientTokens, now_ms: u64) -> Claims {
    let text = text(&minted.grant);
    let session = minted.grant.max_session.map(|session| session.as_secs().max(1));
    let seconds = |ms: u64| Some((ms / 1_000).into());
    Claims {
        iss: config.issuer.to_string(),
        aud: Audience::One(config.audience.to_string()),
        sub: Some(minted.record.parent.clone()),
        jti: Some(minted.record.id.clone()),
        iat: seconds(now_ms),
        nbf: seconds(now_ms),
        exp: (minted.record.ends_at / 1_000).into(),
        models: text.models,
        origins: text.origins,
        providers: text.providers,
        // Said in any case: who accepts us as an issuer opens other paths where nothing is said.
        inference: Some(minted.record.inference),
        paths: text.paths,
        methods: text.methods,
        allow_missing_origin: text.allow_missing_origin,
        end_at_expiry: text.end_at_expiry,
        uses: minted.record.uses,
        constraints: session.map(|seconds| Constraints {
            realtime: Some(Realtime { max_session_duration: Some(seconds) }),
        }),
        metadata: wish.metadata.clone(),
    }
}

/// A grant as it is written.
pub fn text(grant: &Grant) -> GrantText {
    fn list<T>(values: &Option<Vec<T>>, text: impl Fn(&T) -> String) -> Option<Vec<String>> {
        values.as_ref().map(|values| values.iter().map(text).collect())
    }
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    GrantText {
        providers: list(&grant.providers, ToString::to_string),
        methods: list(&grant.methods, ToString::to_string),
        paths: list(&grant.paths, ToString::to_string),
        models: list(&grant.models, ToString::to_string),
        origins: list(&grant.origins, |origin| origin.as_str().to_owned()),
        allow_missing_origin: grant.allow_missing_origin.then_some(true),
        rate_limit: None,
        concurrency: None,
        max_session: grant.max_session.map(millis),
        end_at_expiry: grant.end_at_expiry.then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(models: Option<&[&str]>, origins: Option<&[&str]>, paths: Option<&[&str]>) -> Grant {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let text = GrantText {
            models: models.map(list),
            origins: origins.map(list),
            paths: paths.map(list),
            ..GrantText::default()
        };
        text.read().unwrap()
    }

    #[test]
    fn a_child_is_never_wider_than_its_parent() {
        let parent = Grant {
            max_session: Some(Duration::from_secs(60)),
            ..grant(Some(&["gpt-4o*", "o3"]), Some(&["https://a.example"]), Some(&["/v1/*"]))
        };
        let all = narrow(&Grant::default(), &parent).unwrap();
        assert_eq!(
            all,
            Grant { rate_limit: None, ..parent.clone() },
            "nothing asked: the parent's"
        );
        let asked = Grant {
            max_session: Some(Duration::from_secs(600)),
            ..grant(Some(&["gpt-4o-mini", "claude", "o*"]), None, Some(&["/v1/chat/*", "/v2/x"]))
        };
        let child = text(&narrow(&asked, &parent).unwrap());
        assert_eq!(child.models.unwrap(), ["gpt-4o-mini", "o3"]);
        assert_eq!(child.paths.unwrap(), ["/v1/chat/*"]);
        assert_eq!(child.origins.unwrap(), ["https://a.example"]);
        assert_eq!(child.max_session.unwrap(), "60000ms", "the shorter one");
        for (asked, dimension) in [
            (grant(Some(&["claude"]), None, None), Dimension::Models),
            (grant(None, Some(&["https://b.example"]), None), Dimension::Origins),
            (grant(None, None, Some(&["/v2/*"])), Dimension::Paths),
        ] {
            assert_eq!(narrow(&asked, &parent), Err(dimension), "nothing is left");
        }
    }

    fn parent(ends_at: Option<u64>, grant: &Grant) -> Parent<'_> {
        Parent { id: "tok_p", digest: TokenDigest::of(b"p"), name: "p", ends_at, grant }
    }

    #[test]
    fn the_signed_form_says_all_that_another_gateway_has_to_keep_to() {
        let config = crate::config::parse("listen: [{ address: 127.0.0.1:0 }]").unwrap();
        let grant = Grant { end_at_expiry: true, ..Grant::default() };
        let wish = Wish { starts_until: 61_000, ends_at: 61_000, ..Wish::default() };
        let minted = mint(Shape::Client, &wish, &parent(None, &grant), 1_000).ok().unwrap();
        let claims = claims(&minted, &wish, &config.client_tokens, 1_000);
        assert_eq!(claims.inference, Some(true), "it has no paths of its own");
        assert_eq!(claims.end_at_expiry, Some(true));
    }

    #[test]
    fn a_parent_in_its_last_second_mints_nothing() {
        let grant = Grant::default();
        let wish = Wish { starts_until: 61_000, ends_at: 61_000, ..Wish::default() };
        let minted = mint(Shape::Client, &wish, &parent(Some(1_999), &grant), 1_500);
        assert!(matches!(minted, Err(Refused::Ended)));
        assert!(mint(Shape::Client, &wish, &parent(Some(2_000), &grant), 1_500).is_ok());
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let grant = Grant {
            max_session: Some(Duration::from_secs(90)),
            end_at_expiry: true,
            methods: Some(vec![http::Method::GET]),
            ..grant(Some(&["gpt*"]), Some(&["https://a.example"]), Some(&["/v1/chat/*"]))
        };
        assert_eq!(text(&grant).read(), Ok(grant));
    }
}

//! Whose request it is, and everything that bounds it: its own grant, and for a client token the
//! grant of what it can't be wider than, as that is now.
//!
//! Proxy tokens have one bound and pay for one.

use super::denial::{Code, Denial};
use super::permit::Ends;
use super::step::Step;
use super::{concurrency, granted, model, rate, scope};
use crate::config::Config;
use crate::token::index::Index;
use crate::token::{Above, Counters, GrantSource, Token};
use crate::values::grant::{Grant, RateLimit};
use crate::values::timestamp::Expiry;
use concurrency::InFlight;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A token, and the one that minted it.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The token that was presented.
    pub token: Arc<Token>,
    /// Its parent, as it is now.
    parent: Option<Arc<Token>>,
}

/// What bounds a request.
pub struct Bounds<'a> {
    own: Bound<'a>,
    above: Option<Bound<'a>>,
}

/// One grant.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// The grant.
    pub grant: &'a Grant,
    /// It opens inference paths only, whatever it names.
    pub inference_only: bool,
}

impl Holder {
    /// Who holds `token`; nobody where its parent is gone.
    pub fn of(token: Arc<Token>, index: &Index) -> Option<Self> {
        let parent = match token.client.as_ref().map(|client| &client.above) {
            Some(Above::Parent { id, digest: Some(digest) }) => {
                Some(index.lookup(digest).filter(|parent| parent.id == *id)?)
            }
            Some(Above::Parent { id, digest: None }) => Some(index.lookup_id(id)?),
            Some(Above::Issuer(_)) | None => None,
        };
        Some(Self { token, parent })
    }

    /// Nobody in particular: only where the gate lets callers in without a token.
    pub(super) fn anonymous() -> Self {
        Self { token: Token::anonymous(), parent: None }
    }

    /// Whether neither it nor its parent is disabled.
    pub fn is_enabled(&self) -> bool {
        !self.token.disabled && self.parent.as_ref().is_none_or(|parent| !parent.disabled)
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.token.expires_at.is_over(now_ms)
            || self.parent.as_ref().is_some_and(|parent| parent.expires_at.is_over(now_ms))
    }

    /// What bounds it under this configuration.
    ///
    /// # Errors
    /// A grant is gone or can't be read: nothing is allowed.
    pub fn bounds<'a>(&'a self, config: &'a Config) -> Result<Bounds<'a>, Denial> {
        let Some(client) = &self.token.client else {
            let own = Bound { grant: granted(config, &self.token)?, inference_only: false };
            return Ok(Bounds { own, above: None });
        };
        let own = match &self.token.grant {
            GrantSource::Inline(grant) => grant,
            // Whatever else it is, it is none that was minted.
            _ => return Err(Code::TokenInvalid.into()),
        };
        let above = match (&client.above, &self.parent) {
            (_, Some(parent)) => granted(config, parent)?,
            (Above::Issuer(issuer), None) => ceiling(config, issuer)?,
            (Above::Parent { .. }, None) => return Err(Code::TokenInvalid.into()),
        };
        Ok(Bounds {
            own: Bound { grant: own, inference_only: client.inference },
            above: Some(Bound { grant: above, inference_only: false }),
        })
    }

    /// What is counted under this configuration.
    pub(super) fn counts<'a>(&'a self, config: &Config) -> Counts<'a> {
        let count = |token: &'a Arc<Token>| Count {
            counters: &token.counters,
            limits: Limits::of(config, token),
        };
        Counts { own: count(&self.token), above: self.parent.as_ref().map(count) }
    }

    pub(super) fn used(&self, now_ms: u64) {
        let note = |counters: &Counters| counters.last_used_ms.store(now_ms, Relaxed);
        note(&self.token.counters);
        if let Some(parent) = &self.parent {
            note(&parent.counters);
        }
    }
}

/// A token's counters, and its parent's, each with its limits.
pub(super) struct Counts<'a> {
    own: Count<'a>,
    above: Option<Count<'a>>,
}

struct Count<'a> {
    counters: &'a Arc<Counters>,
    limits: Limits,
}

impl Counts<'_> {
    /// Step 13.
    pub(super) fn take_rate(&self, steady_ms: u64) -> Result<(), Denial> {
        let take = |count: &Count<'_>| rate::take(count.counters, count.limits.rate, steady_ms);
        take(&self.own)?;
        self.above.as_ref().map_or(Ok(()), take)
    }

    /// Step 14.
    pub(super) fn enter(&self) -> Result<(InFlight, Option<InFlight>), Denial> {
        let enter = |c: &Count<'_>| concurrency::enter(c.counters, c.limits.concurrency);
        Ok((enter(&self.own)?, self.above.as_ref().map(enter).transpose()?))
    }
}

/// What the configuration names for an issuer.
fn ceiling<'a>(config: &'a Config, issuer: &str) -> Result<&'a Grant, Denial> {
    let issuer = config.issuers.iter().find(|known| *known.issuer == *issuer);
    let issuer = issuer.ok_or(Code::TokenInvalid)?;
    match &issuer.policy {
        Some(policy) => {
            let grant = config.policies.get(policy).map(|grant| &**grant);
            grant.ok_or_else(|| Code::TokenInvalid.into())
        }
        None => Ok(config.default_policy.as_deref().unwrap_or(&super::UNRESTRICTED)),
    }
}

impl<'a> Bounds<'a> {
    /// Holds a rule against each.
    pub(super) fn each(
        &self,
        mut rule: impl FnMut(Bound<'a>) -> Result<(), Denial>,
        step: Step,
    ) -> Result<(), Denial> {
        rule(self.own).map_err(|denial| denial.at(step))?;
        match self.above {
            Some(above) => rule(above).map_err(|denial| denial.at(step)),
            None => Ok(()),
        }
    }

    /// Whether any names models.
    pub fn name_models(&self) -> bool {
        self.own.grant.models.is_some() || self.above.is_some_and(|a| a.grant.models.is_some())
    }

    /// Whether each that names models has this one.
    pub fn have_model(&self, model: &str) -> bool {
        self.fit_model(model).is_ok()
    }

    /// Whether each has this model.
    ///
    /// # Errors
    /// `model_not_allowed`.
    pub(super) fn fit_model(&self, model: &str) -> Result<(), Denial> {
        self.each(|bound| model::fits(bound.grant, model), Step::Model)
    }

    /// When a session of `holder` ends under these.
    pub(super) fn ends(&self, holder: &Holder) -> Ends {
        let token = &holder.token;
        let lengths = [Some(self.own), self.above].into_iter().flatten();
        let after = lengths.filter_map(|bound| bound.grant.max_session).min();
        let at_expiry =
            self.own.grant.end_at_expiry || self.above.is_some_and(|a| a.grant.end_at_expiry);
        let expiry = |token: &Token| match token.expires_at {
            Expiry::At(end) => Some(end),
            Expiry::Never => None,
            Expiry::Unreadable => Some(0),
        };
        // A child's own is when it opens its last connection; what is open ends with its lifetime.
        let own = token.client.as_ref().map_or(expiry(token), |client| Some(client.ends_at_ms));
        let above = holder.parent.as_deref().and_then(expiry);
        let end = [own, above].into_iter().flatten().min();
        Ends { after, at_ms: end.filter(|_| at_expiry) }
    }
}

/// Until when a session that passed before may go on, if it may: its token and that one's parent are
/// there, and every grant still reaches what it reached.
pub fn still_allowed(
    config: &Config,
    holder: &Holder,
    target: &scope::Target<'_>,
    keeps_model: impl FnOnce(&Bounds<'_>) -> bool,
) -> Option<Ends> {
    let bounds = holder.bounds(config).ok().filter(|_| holder.is_enabled())?;
    let check = |b: Bound<'_>| scope::check(b.grant, b.inference_only, target);
    let kept = bounds.each(check, Step::Scope).is_ok() && keeps_model(&bounds);
    kept.then(|| bounds.ends(holder))
}

/// The limits in force: an inline grant inherits what it leaves out from the default policy.
struct Limits {
    rate: Option<RateLimit>,
    concurrency: Option<u32>,
}

impl Limits {
    fn of(config: &Config, token: &Token) -> Self {
        let none = Self { rate: None, concurrency: None };
        let of = |grant: &Grant| Self { rate: grant.rate_limit, concurrency: grant.concurrency };
        match (&token.grant, token.client.as_ref().map(|client| &client.above)) {
            // What it leaves out is its parent's, which is counted there.
            (GrantSource::Inline(grant), Some(Above::Parent { .. })) => of(grant),
            // Nothing else counts for these.
            (_, Some(Above::Issuer(issuer))) => ceiling(config, issuer).map_or(none, of),
            (GrantSource::Inline(grant), None) => {
                let fallback = config.default_policy.as_deref().map_or(none, of);
                Self {
                    rate: grant.rate_limit.or(fallback.rate),
                    concurrency: grant.concurrency.or(fallback.concurrency),
                }
            }
            _ => granted(config, token).map_or(none, of),
        }
    }
}

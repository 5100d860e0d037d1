//! Proof that the gate passed. Only `policy::check` makes one; without one no key is injected.
//!
//! There are two kinds. A decided permit has every step behind it. A pending one lacks the models
//! of a body that is still to come: headers and key may go to the key's own provider, but the
//! request's last byte only once [`Pass::decide`] has made a decided one of it.

use super::concurrency::InFlight;
use super::denial::Denial;
use super::model::{self, Named};
use super::scope::Target;
use super::{Holder, step::Step};
use crate::config::Config;
use crate::token::Token;
use std::sync::Arc;

/// Its own place under the concurrency limit, and that under its parent's.
type Places = (InFlight, Option<InFlight>);

/// A decided permit: every step has passed.
#[derive(Debug)]
pub struct Permit {
    holder: Holder,
    model: Option<Box<str>>,
    /// Whether a model was looked for.
    scoped: bool,
    /// Held for its drop.
    _in_flight: Places,
    ends: Ends,
}

/// A permit whose last step waits for the body.
#[derive(Debug)]
pub struct Pending {
    holder: Holder,
    /// From path and query.
    named: Named,
    in_flight: Places,
    ends: Ends,
}

/// When a session ends, however it is going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// After so long.
    pub after: Option<std::time::Duration>,
    /// At this instant (wall clock, milliseconds).
    pub at_ms: Option<u64>,
}

/// A permit of either kind.
#[derive(Debug)]
pub enum Pass {
    /// Every step has passed.
    Decided(Permit),
    /// The body's models are to be decided.
    Pending(Pending),
}

impl Permit {
    /// Private to the gate.
    pub(super) fn new(
        holder: Holder,
        (model, scoped): (Option<Box<str>>, bool),
        in_flight: Places,
        ends: Ends,
    ) -> Self {
        Self { holder, model, scoped, _in_flight: in_flight, ends }
    }

    /// Whose it is.
    pub fn token(&self) -> &Arc<Token> {
        &self.holder.token
    }

    /// The model that was decided upon, where one was looked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl Pending {
    /// Private to the gate.
    pub(super) fn new(holder: Holder, named: Named, in_flight: Places, ends: Ends) -> Self {
        Self { holder, named, in_flight, ends }
    }
}

impl Pass {
    /// Whose it is.
    pub fn token(&self) -> &Arc<Token> {
        &self.holder().token
    }

    /// Whose it is, with what bounds it.
    pub fn holder(&self) -> &Holder {
        match self {
            Self::Decided(permit) => &permit.holder,
            Self::Pending(pending) => &pending.holder,
        }
    }

    /// Whether some grant of its holder names models.
    pub fn is_scoped(&self) -> bool {
        self.decided().is_none_or(|permit| permit.scoped)
    }

    /// When what it admits must end.
    pub fn ends(&self) -> Ends {
        match self {
            Self::Decided(permit) => permit.ends,
            Self::Pending(pending) => pending.ends,
        }
    }

    /// The decided permit, once it is one.
    pub fn decided(&self) -> Option<&Permit> {
        match self {
            Self::Decided(permit) => Some(permit),
            Self::Pending(_) => None,
        }
    }

    /// Whether a model that the body names may be used, ahead of the decision.
    ///
    /// # Errors
    /// `model_not_allowed`.
    pub fn allows(&self, config: &Config, model: &str) -> Result<(), Denial> {
        let bounds = self.holder().bounds(config).map_err(|d| d.at(Step::Authentication))?;
        bounds.fit_model(model)
    }

    /// The body has ended, and names these: step 12 is decided now.
    ///
    /// # Errors
    /// As step 12.
    pub fn decide(
        &mut self,
        config: &Config,
        target: &Target<'_>,
        body: Named,
    ) -> Result<(), Denial> {
        let Self::Pending(pending) = self else { return Ok(()) };
        let mut named = std::mem::take(&mut pending.named);
        named.join(body);
        let bounds = pending.holder.bounds(config).map_err(|d| d.at(Step::Authentication))?;
        bounds.each(|b| model::check(b.grant, target, &named), Step::Model)?;
        let (own, above) = &mut pending.in_flight;
        let in_flight = (own.pass_on(), above.as_mut().map(InFlight::pass_on));
        let permit =
            Permit::new(pending.holder.clone(), (named.model, true), in_flight, pending.ends);
        *self = Self::Decided(permit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::super::concurrency;
    use super::super::denial::Code;
    use super::*;
    use crate::token::index::Index;
    use crate::token::{Counters, GrantSource};
    use crate::values::ids::TokenDigest;
    use crate::values::timestamp::Expiry;
    use http::Method;

    fn pending(named: Named) -> (Config, Pass, Arc<Counters>) {
        let yaml = "
listen: [{ address: 127.0.0.1:0 }]
providers: { internal: { kind: generic, url: 'http://127.0.0.1:1', keys: [] } }
policies: { bound: { models: [ok] } }
";
        let config = crate::config::parse(yaml).unwrap_or_else(|p| panic!("{p}"));
        let counters = Arc::new(Counters::default());
        let token = Arc::new(Token {
            id: "t".into(),
            name: "t".into(),
            digest: TokenDigest::of(b"t"),
            expires_at: Expiry::Never,
            disabled: false,
            may_mint: false,
            grant: GrantSource::Policy("bound".into()),
            counters: counters.clone(),
            client: None,
        });
        let in_flight = concurrency::enter(&counters, Some(1)).expect("a place");
        let holder = Holder::of(token, &Index::new()).expect("it has no parent");
        let pending = Pending::new(holder, named, (in_flight, None), Ends::default());
        (config, Pass::Pending(pending), counters)
    }

    fn decided(model: Option<&str>, body: Option<&str>) -> Result<(), Code> {
        let named = |model: Option<&str>| Named {
            model: model.map(Into::into),
            expected: true,
            ..Named::default()
        };
        let (config, mut pass, counters) = pending(named(model));
        let target = Target {
            provider: "internal",
            path: "/x",
            class: Class::Inference,
            method: &Method::POST,
        };
        let verdict = pass.decide(&config, &target, named(body));
        assert_eq!(concurrency::open(&counters), 1, "it keeps its place");
        assert_eq!(pass.decided().is_some(), verdict.is_ok(), "decided or denied");
        drop(pass);
        assert_eq!(concurrency::open(&counters), 0, "and gives it back");
        verdict.map_err(|denial| denial.code)
    }

    #[test]
    fn what_is_pending_is_decided_by_all_places_together() {
        assert_eq!(decided(None, Some("ok")), Ok(()));
        assert_eq!(decided(Some("ok"), Some("models/ok")), Ok(()));
        assert_eq!(decided(None, Some("other")), Err(Code::ModelNotAllowed));
        assert_eq!(decided(Some("other"), Some("ok")), Err(Code::AmbiguousModel));
        assert_eq!(decided(None, None), Err(Code::ModelNotAllowed), "none was named");
    }

    #[test]
    fn what_is_known_to_be_forbidden_need_not_wait_for_the_end() {
        let (config, pass, _) = pending(Named::default());
        assert!(pass.allows(&config, "ok").is_ok());
        let denial = pass.allows(&config, "other").expect_err("it is not in the grant");
        assert_eq!((denial.code, denial.step), (Code::ModelNotAllowed, Some(Step::Model)));
    }
}

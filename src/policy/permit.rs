//! Proof that the gate passed. Only `policy::check` makes one; without one no key is injected.
//!
//! There are two kinds. A decided permit has every step behind it. A pending one lacks the models
//! of a body that is still to come: headers and key may go to the key's own provider, but the
//! request's last byte only once [`Pass::decide`] has made a decided one of it.

use super::concurrency::InFlight;
use super::denial::Denial;
use super::model::{self, Named};
use super::scope::Target;
use super::{granted, step::Step};
use crate::config::Config;
use crate::token::Token;
use std::sync::Arc;

/// A decided permit: every step has passed.
#[derive(Debug)]
pub struct Permit {
    token: Arc<Token>,
    model: Option<Box<str>>,
    /// Held for its drop.
    _in_flight: InFlight,
}

/// A permit whose last step waits for the body.
#[derive(Debug)]
pub struct Pending {
    token: Arc<Token>,
    /// From path and query.
    named: Named,
    in_flight: InFlight,
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
    pub(super) fn new(token: Arc<Token>, model: Option<Box<str>>, in_flight: InFlight) -> Self {
        Self { token, model, _in_flight: in_flight }
    }

    /// The model that was decided upon, where one was looked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl Pending {
    /// Private to the gate.
    pub(super) fn new(token: Arc<Token>, named: Named, in_flight: InFlight) -> Self {
        Self { token, named, in_flight }
    }
}

impl Pass {
    /// Whose it is.
    pub fn token(&self) -> &Arc<Token> {
        match self {
            Self::Decided(permit) => &permit.token,
            Self::Pending(pending) => &pending.token,
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
        let grant = granted(config, self.token()).map_err(|d| d.at(Step::Authentication))?;
        model::fits(grant, model).map_err(|d| d.at(Step::Model))
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
        let grant = granted(config, &pending.token).map_err(|d| d.at(Step::Authentication))?;
        let model = model::check(grant, target, named).map_err(|d| d.at(Step::Model))?;
        let permit = Permit::new(pending.token.clone(), model, pending.in_flight.pass_on());
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
            grant: GrantSource::Policy("bound".into()),
            counters: counters.clone(),
        });
        let in_flight = concurrency::enter(&counters, Some(1)).expect("a place");
        (config, Pass::Pending(Pending::new(token, named, in_flight)), counters)
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

//! Step 12: the model, wherever the request names it. Never "unknown, so allowed".

use super::Class;
use super::denial::{Code, Denial};
use super::scope::{self, Target};
use crate::values::grant::Grant;

/// Every place in which a request names a model, decoded.
#[derive(Debug, Default)]
pub struct Named {
    /// The first that was found, in the order path, query, body.
    pub model: Option<Box<str>>,
    /// Another place names another one.
    pub differ: bool,
    /// Models that stand beside the main one by the API's design (a tool's own, a batch's): each
    /// must be allowed, but they may differ.
    pub further: Vec<Box<str>>,
    /// Whether requests of this kind name a model by nature.
    pub expected: bool,
    /// The body may name more, and is still to come.
    pub pending: bool,
    /// The messages of the socket name it: none passes that was not held against the grant.
    pub in_messages: bool,
}

impl Named {
    /// What the body names, beside what path and query do.
    pub(super) fn join(&mut self, body: Self) {
        if let Some(model) = body.model {
            self.add(model);
        }
        self.differ |= body.differ;
        self.further.extend(body.further);
    }

    /// Another place names this one.
    pub fn add(&mut self, model: Box<str>) {
        match &self.model {
            None => self.model = Some(model),
            Some(first) => self.differ |= !same(first, &model),
        }
    }
}

/// Holds what was found against the grant.
///
/// # Errors
/// `ambiguous_model` when places disagree, `model_not_allowed`.
pub(super) fn check(grant: &Grant, target: &Target<'_>, named: &Named) -> Result<(), Denial> {
    if grant.models.is_none() {
        return Ok(());
    }
    agree(named)?;
    if named.model.is_none() && named.further.is_empty() {
        let by_nature = target.class == Class::ModelList
            || (!named.expected && scope::names(grant, target.path));
        return if by_nature || named.in_messages { Ok(()) } else { Err(unnamed()) };
    }
    if named.expected && named.model.is_none() {
        return Err(unnamed());
    }
    named.model.iter().chain(&named.further).try_for_each(|model| fits(grant, model))
}

/// What can be said while the body is still to come.
///
/// # Errors
/// `ambiguous_model` when path and query disagree, `model_not_allowed`.
pub(super) fn check_so_far(grant: &Grant, named: &Named) -> Result<(), Denial> {
    if grant.models.is_none() {
        return Ok(());
    }
    agree(named)?;
    named.model.iter().chain(&named.further).try_for_each(|model| fits(grant, model))
}

fn agree(named: &Named) -> Result<(), Denial> {
    if named.differ {
        return Err(Denial::new(
            Code::AmbiguousModel,
            "path, query and body name different models",
        ));
    }
    Ok(())
}

/// Whether the grant has this model.
///
/// # Errors
/// `model_not_allowed`.
pub(super) fn fits(grant: &Grant, model: &str) -> Result<(), Denial> {
    match &grant.models {
        Some(allowed) if !allowed.iter().any(|p| p.matches(plain(model))) => {
            Err(Denial::from(Code::ModelNotAllowed).about(model))
        }
        _ => Ok(()),
    }
}

/// Whether two names mean the same model.
pub fn same(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

/// `models/x`, as Gemini's bodies say it, and `x` are the same model.
pub fn plain(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn unnamed() -> Denial {
    Denial::new(
        Code::ModelNotAllowed,
        "the token may use certain models only, and no model was found in the request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::grant::GrantText;
    use http::Method;

    fn verdict(
        models: &[&str],
        further: &[&str],
        expected: bool,
        class: Class,
    ) -> Result<(), Code> {
        let grant = GrantText {
            models: Some(vec!["gpt-4o-mini".into(), "gemini-2.5-flash*".into()]),
            paths: Some(vec!["/v1/*".into()]),
            ..GrantText::default()
        };
        let further = further.iter().map(|m| (*m).into()).collect();
        let mut named = Named { further, expected, ..Named::default() };
        models.iter().for_each(|model| named.add((*model).into()));
        let target = Target { provider: "p", path: "/v1/x", class, method: &Method::POST };
        check(&grant.read().unwrap(), &target, &named).map_err(|d| d.code)
    }

    #[test]
    fn every_named_model_must_be_allowed() {
        let inference = Class::Inference;
        assert_eq!(verdict(&["gpt-4o-mini"], &[], true, inference), Ok(()));
        assert_eq!(verdict(&["models/gemini-2.5-flash-lite"], &[], true, inference), Ok(()));
        assert_eq!(verdict(&["gpt-4o"], &[], true, inference), Err(Code::ModelNotAllowed));
        assert_eq!(
            verdict(&["gpt-4o-mini"], &["gpt-image-1"], true, inference),
            Err(Code::ModelNotAllowed)
        );
        assert_eq!(
            verdict(&["gpt-4o-mini", "gpt-4o"], &[], true, inference),
            Err(Code::AmbiguousModel)
        );
    }

    #[test]
    fn unknown_is_never_allowed_where_a_model_belongs() {
        assert_eq!(verdict(&[], &[], true, Class::Inference), Err(Code::ModelNotAllowed));
        assert_eq!(
            verdict(&[], &["gpt-4o-mini"], true, Class::Inference),
            Err(Code::ModelNotAllowed)
        );
        assert_eq!(
            verdict(&[], &[], false, Class::Stateful),
            Ok(()),
            "named paths without a model by nature"
        );
        assert_eq!(verdict(&[], &[], false, Class::ModelList), Ok(()));
    }
}

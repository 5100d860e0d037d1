//! Step 12: the model, wherever the request names it. Never "unknown, so allowed".

use super::Class;
use super::denial::{Code, Denial};
use super::scope::{self, Target};
use crate::values::grant::Grant;

/// Every place in which a request names a model, decoded.
#[derive(Debug, Default)]
pub struct Named {
    /// What was found, in the order path, query, body.
    pub models: Vec<Box<str>>,
    /// Models that stand beside the main one by the API's design (a tool's own, a batch's): each
    /// must be allowed, but they may differ.
    pub further: Vec<Box<str>>,
    /// Whether requests of this kind name a model by nature.
    pub expected: bool,
}

/// The model that was decided upon.
pub(super) fn decided(mut named: Named) -> Option<Box<str>> {
    (!named.models.is_empty()).then(|| named.models.swap_remove(0))
}

/// Holds what was found against the grant.
///
/// # Errors
/// `ambiguous_model` when places disagree, `model_not_allowed`.
pub(super) fn check(grant: &Grant, target: &Target<'_>, named: &Named) -> Result<(), Denial> {
    let Some(allowed) = &grant.models else { return Ok(()) };
    let fits = |model: &str| {
        // `models/x`, as Gemini's bodies say it, and `x` are the same model.
        let name = model.strip_prefix("models/").unwrap_or(model);
        allowed.iter().any(|p| p.matches(name))
    };
    if let Some((first, rest)) = named.models.split_first()
        && rest.iter().any(|other| plain(other) != plain(first))
    {
        return Err(Denial::new(
            Code::AmbiguousModel,
            "path, query and body name different models",
        ));
    }
    let found = !named.models.is_empty() || !named.further.is_empty();
    if !found {
        let by_nature = target.class == Class::ModelList
            || (!named.expected && scope::names(grant, target.path));
        return if by_nature { Ok(()) } else { Err(unnamed()) };
    }
    if named.expected && named.models.is_empty() {
        return Err(unnamed());
    }
    if named.models.iter().chain(&named.further).all(|model| fits(model)) {
        Ok(())
    } else {
        Err(Code::ModelNotAllowed.into())
    }
}

fn plain(model: &str) -> &str {
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
        let boxed = |l: &[&str]| l.iter().map(|m| (*m).into()).collect();
        let named = Named { models: boxed(models), further: boxed(further), expected };
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

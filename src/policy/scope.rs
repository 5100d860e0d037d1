//! Step 9: provider, path and method of the grant.

use super::Class;
use super::denial::{Code, Denial};
use crate::values::grant::Grant;
use http::Method;

/// What the step is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The path as the provider will see it, percent-decoded.
    pub path: &'a str,
    /// What kind of path it is.
    pub class: Class,
    /// The method.
    pub method: &'a Method,
}

/// Holds `target` against the grant.
///
/// Behind one shared key, stateful paths reach everybody's data: a grant with `models` has
/// inference paths and the model list only, unless `paths` names more; one that is for
/// `inference_only` has no more than those whatever its `paths` name. What mints is no
/// provider's: of its paths only the method counts here, and step 16 decides.
///
/// # Errors
/// `provider_not_allowed`, `path_not_allowed`, `method_not_granted`.
pub(super) fn check(
    grant: &Grant,
    inference_only: bool,
    target: &Target<'_>,
) -> Result<(), Denial> {
    if target.class != Class::Minting {
        reach(grant, inference_only, target)?;
    }
    match &grant.methods {
        Some(methods) if !methods.contains(target.method) => Err(Code::MethodNotGranted.into()),
        _ => Ok(()),
    }
}

fn reach(grant: &Grant, inference_only: bool, target: &Target<'_>) -> Result<(), Denial> {
    if let Some(providers) = &grant.providers
        && !providers.iter().any(|p| &**p == target.provider)
    {
        return Err(Code::ProviderNotAllowed.into());
    }
    match &grant.paths {
        Some(_) if !names(grant, target.path) => Err(Code::PathNotAllowed.into()),
        Some(_) if !inference_only => Ok(()),
        None if !inference_only && grant.models.is_none() => Ok(()),
        _ if open_to_scoped(target) => Ok(()),
        _ => Err(Denial::new(
            Code::PathNotAllowed,
            "a client token, or one with a list of models, may use inference paths only; its grant can name more paths",
        )),
    }
}

/// Whether the grant's `paths` name this path.
pub(super) fn names(grant: &Grant, path: &str) -> bool {
    grant.paths.as_ref().is_some_and(|paths| paths.iter().any(|p| p.matches(path)))
}

fn open_to_scoped(target: &Target<'_>) -> bool {
    match target.class {
        Class::Inference => true,
        Class::ModelList => target.method == Method::GET || target.method == Method::HEAD,
        Class::Stateful | Class::OutOfBand | Class::Minting => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::grant::GrantText;

    fn grant(paths: Option<&[&str]>, models: Option<&[&str]>) -> Grant {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        GrantText { paths: paths.map(list), models: models.map(list), ..GrantText::default() }
            .read()
            .unwrap()
    }

    fn verdict(grant: &Grant, path: &str, class: Class) -> Result<(), Code> {
        let target = Target { provider: "openai", path, class, method: &Method::GET };
        check(grant, false, &target).map_err(|d| d.code)
    }

    #[test]
    fn a_grant_with_models_reaches_stateful_paths_only_by_name() {
        let scoped = grant(None, Some(&["gpt-4o"]));
        assert_eq!(verdict(&scoped, "/v1/chat/completions", Class::Inference), Ok(()));
        assert_eq!(verdict(&scoped, "/v1/models", Class::ModelList), Ok(()));
        assert_eq!(verdict(&scoped, "/v1/files", Class::Stateful), Err(Code::PathNotAllowed));
        assert_eq!(
            verdict(&scoped, "/v1/realtime/calls", Class::OutOfBand),
            Err(Code::PathNotAllowed)
        );
        let named = grant(Some(&["/v1/files*"]), Some(&["gpt-4o"]));
        assert_eq!(verdict(&named, "/v1/files/f1", Class::Stateful), Ok(()));
        assert_eq!(
            verdict(&named, "/v1/chat/completions", Class::Inference),
            Err(Code::PathNotAllowed)
        );
    }

    #[test]
    fn what_a_client_token_did_not_ask_for_is_not_opened_by_its_parents_paths() {
        let inherited = grant(Some(&["/v1/*"]), None);
        let verdict = |path: &str, class: Class| {
            let target = Target { provider: "openai", path, class, method: &Method::GET };
            check(&inherited, true, &target).map_err(|d| d.code)
        };
        assert_eq!(verdict("/v1/chat/completions", Class::Inference), Ok(()));
        assert_eq!(verdict("/v1/models", Class::ModelList), Ok(()));
        assert_eq!(verdict("/v1/files", Class::Stateful), Err(Code::PathNotAllowed));
        assert_eq!(verdict("/v1/realtime/calls", Class::OutOfBand), Err(Code::PathNotAllowed));
        assert_eq!(verdict("/v2/chat", Class::Inference), Err(Code::PathNotAllowed));
    }
}

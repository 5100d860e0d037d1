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
/// inference paths and the model list only, unless `paths` names more.
///
/// # Errors
/// `provider_not_allowed`, `path_not_allowed`, `method_not_granted`, `may_not_mint`.
pub(super) fn check(grant: &Grant, target: &Target<'_>) -> Result<(), Denial> {
    if target.class == Class::Minting {
        // The provider would answer with a real credential that bypasses the gateway.
        return Err(Code::MayNotMint.into());
    }
    if let Some(providers) = &grant.providers
        && !providers.iter().any(|p| &**p == target.provider)
    {
        return Err(Code::ProviderNotAllowed.into());
    }
    match &grant.paths {
        Some(_) if names(grant, target.path) => {}
        Some(_) => return Err(Code::PathNotAllowed.into()),
        None if grant.models.is_some() && !open_to_scoped(target) => {
            return Err(Denial::new(
                Code::PathNotAllowed,
                "a token with a list of models may use inference paths only; its grant can name more paths",
            ));
        }
        None => {}
    }
    match &grant.methods {
        Some(methods) if !methods.contains(target.method) => Err(Code::MethodNotGranted.into()),
        _ => Ok(()),
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
        check(grant, &target).map_err(|d| d.code)
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
    fn no_entry_ever_lets_a_minting_path_through() {
        for grant in [grant(None, None), grant(Some(&["*"].map(|_| "/*")), None)] {
            assert_eq!(
                verdict(&grant, "/v1/realtime/client_secrets", Class::Minting),
                Err(Code::MayNotMint)
            );
        }
    }
}

//! Policies: what [`GrantText`](crate::values::grant::GrantText) judges, and the names in them.

use super::known;
use crate::config::Problems;
use crate::config::file::policy::Policy;
use crate::values::grant::Grant;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// `policies:`
pub(super) fn all(
    written: Vec<(String, Policy)>,
    providers: &HashSet<String>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Arc<Grant>> {
    let mut policies = BTreeMap::new();
    for (name, policy) in written {
        let path = format!("policies.{name}");
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            problems.push(&path, "a policy's name is one word");
        }
        if let Some(grant) = one(&path, policy, providers, problems) {
            policies.insert(name.into(), grant);
        }
    }
    policies
}

/// One policy; `None` if it has problems.
pub(super) fn one(
    path: &str,
    written: Policy,
    providers: &HashSet<String>,
    problems: &mut Problems,
) -> Option<Arc<Grant>> {
    let text = written.into_grant();
    for (index, name) in text.providers.iter().flatten().enumerate() {
        if !name.is_empty() && !providers.contains(name) {
            let why = format!("'{name}' is no provider; known: {}", known(providers));
            problems.push(format!("{path}.providers[{index}]"), why);
        }
    }
    if text.allow_missing_origin == Some(true) && text.origins.is_none() {
        let why = "it changes nothing without origins: name some, or remove it";
        problems.push(format!("{path}.allow_missing_origin"), why);
    }
    match text.read() {
        Ok(grant) => Some(Arc::new(grant)),
        Err(found) => {
            for (place, why) in found {
                problems.push(format!("{path}.{place}"), why.to_string());
            }
            None
        }
    }
}

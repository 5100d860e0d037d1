//! Refuses what is part of the format and has no effect yet. Ignoring it would be worse: whoever
//! sets a budget relies on it.

use crate::config::Problems;
use crate::config::file::File;
use crate::config::file::policy::Policy;
use crate::config::file::provider::Provider;

const REMOVE: &str = "not in effect yet; remove it";

/// Reports everything of this sort.
pub(super) fn refuse(file: &File, problems: &mut Problems) {
    if file.store.as_ref().is_some_and(|store| store.redis.is_some()) {
        problems.push("store.redis", "not in effect yet; use sqlite");
    }
    for (name, provider) in &file.providers.0 {
        refuse_in_provider(name, provider, problems);
    }
    for (name, policy) in &file.policies.0 {
        refuse_in_policy(&format!("policies.{name}"), policy, problems);
    }
    if let Some(policy) = &file.default_policy {
        refuse_in_policy("default_policy", policy, problems);
    }
    if file.prices.is_some() {
        problems.push("prices", REMOVE);
    }
}

fn refuse_in_provider(name: &str, provider: &Provider, problems: &mut Problems) {
    for index in 1..provider.keys.as_ref().map_or(0, |keys| keys.0.len()) {
        let why = "not in effect yet; keep one key";
        problems.push(format!("providers.{name}.keys[{index}]"), why);
    }
    if provider.egress.is_some() {
        problems.push(format!("providers.{name}.egress"), REMOVE);
    }
}

fn refuse_in_policy(path: &str, policy: &Policy, problems: &mut Problems) {
    for (key, is_set) in
        [("token_rate", policy.token_rate.is_some()), ("budget", policy.budget.is_some())]
    {
        if is_set {
            problems.push(format!("{path}.{key}"), REMOVE);
        }
    }
}

//! From what was written to what it means.
//!
//! Each section has a file. They all push what they find into one list of problems, with its YAML
//! path, and go on with whatever can still be judged: an operator sees everything at once.
//! Invariant: a [`Config`] comes out only if the list is empty.

mod access;
mod client;
mod limit;
mod listen;
mod not_yet;
mod policy;
mod provider;
mod route;
mod slot;
mod stream;
mod token;
mod url;

use super::file::File;
use super::secret_ref::Source;
use super::{Config, Problems, Provider};
use std::collections::HashSet;

/// Resolves; secrets come from `source`.
///
/// # Errors
/// Every semantic problem at once.
pub(crate) fn resolve(file: File, source: &Source<'_>) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    not_yet::refuse(&file, &mut problems);

    let written = file.listen.unwrap_or_default();
    let listen = listen::addresses(&written, &mut problems);
    let listeners = listen::listeners(written, &listen, source, &mut problems);
    let public_url = file.public_url.and_then(|text| listen::public_url(&text, &mut problems));
    let server_names = file.server_names.map(|names| listen::server_names(&names, &mut problems));
    let trusted = file.trusted_proxies.unwrap_or_default();
    let trusted_proxies = listen::trusted_proxies(&trusted, &mut problems);
    let store = file.store.and_then(|store| access::store(store, &mut problems));
    let admin = file.admin.and_then(|admin| access::admin(admin, &listen, source, &mut problems));
    let cors = access::cors(file.cors, &mut problems);
    let access_log = access::access_log(file.access_log.as_ref(), &mut problems);
    let limits = limit::limits(&file.limits, &mut problems);

    // Names of refused providers and policies still count as known: one mistake, one problem.
    let providers: HashSet<String> = file.providers.0.iter().map(|(n, _)| n.clone()).collect();
    let policies: HashSet<String> = file.policies.0.iter().map(|(n, _)| n.clone()).collect();
    route::check(&file.providers.0, &mut problems);
    let resolved = file.providers.0.into_iter();
    let resolved =
        resolved.filter_map(|(name, written)| provider::one(&name, written, source, &mut problems));
    let resolved: Vec<Provider> = resolved.collect();
    if listeners.len() == listen.len() {
        stream::check_cookies(&resolved, &listeners, &trusted_proxies, &mut problems);
    }
    let client_tokens = client::tokens(file.client_tokens, public_url.as_deref(), &mut problems);
    let own = &client_tokens.issuer;
    let issuers = client::issuers(file.issuers.unwrap_or_default(), own, &policies, &mut problems);
    let config = Config {
        listen: listeners,
        public_url,
        server_names,
        trusted_proxies,
        store,
        admin,
        cors,
        access_log,
        limits,
        providers: resolved,
        policies: policy::all(file.policies.0, &providers, &mut problems),
        default_policy: file
            .default_policy
            .and_then(|written| policy::one("default_policy", written, &providers, &mut problems)),
        tokens: token::all(file.tokens.unwrap_or_default(), &policies, &mut problems),
        client_tokens,
        issuers,
    };
    if problems.0.is_empty() { Ok(config) } else { Err(problems) }
}

/// The names there are, for messages about one there isn't.
fn known(names: &HashSet<String>) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    if names.is_empty() { "there is none".to_owned() } else { names.join(", ") }
}

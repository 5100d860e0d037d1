//! Which paths lead to which provider, as far as two of them could want the same.
//!
//! `/NAME/` comes before configured routes, these before the kinds' bare paths; a path that could
//! never be reached, or would be two providers', is a problem.

use crate::config::file::provider::Provider;
use crate::config::{Problems, STREAMS};
use std::collections::HashMap;

/// Bare paths that a route could be equal to.
const BARE: [(&str, &[&str]); 4] = [
    ("openai", &["/v1/"]),
    ("anthropic", &["/v1/messages/", "/v1/complete/"]),
    ("gemini", &["/v1beta/", "/v1alpha/", "/upload/", "/download/"]),
    ("durable-streams", &[STREAMS]),
];

/// Reports wrong routes, and whatever is there twice.
pub(super) fn check(providers: &[(String, Provider)], problems: &mut Problems) {
    let mut bare: HashMap<&str, &str> = HashMap::new();
    for (name, provider) in providers {
        let has_bare = BARE.iter().any(|(kind, _)| *kind == provider.kind);
        if !has_bare || provider.routes.is_some() {
            continue;
        }
        if let Some(first) = bare.get(provider.kind.as_str()) {
            let why = format!(
                "the bare paths of kind {} are those of {first} already: add routes: [] here (it \
                 still answers at /{name}/)",
                provider.kind
            );
            problems.push(format!("providers.{name}"), why);
        } else {
            bare.insert(&provider.kind, name);
        }
    }
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for (name, provider) in providers {
        for (index, route) in provider.routes.iter().flatten().enumerate() {
            let judged = check_syntax(route)
                .and_then(|()| check_reach(route, providers))
                .and_then(|()| check_bare(route, &bare))
                .and_then(|()| match taken.insert(route, name) {
                    Some(first) if first == name => {
                        Err("the route is there twice: keep one".into())
                    }
                    Some(first) => Err(format!("the route is {first}'s already: keep one")),
                    None => Ok(()),
                });
            if let Err(why) = judged {
                problems.push(format!("providers.{name}.routes[{index}]"), why);
            }
        }
    }
}

fn check_syntax(route: &str) -> Result<(), String> {
    let is_path = |c: u8| c.is_ascii_graphic() && !b"?#%*{}\\".contains(&c);
    if !route.starts_with('/') || !route.ends_with('/') {
        return Err(format!("'{route}': a route begins and ends with '/', such as \"/tools/\""));
    }
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    let inner = route.trim_start_matches('/').trim_end_matches('/');
    let slashes_fit = route.len() == inner.len() + if inner.is_empty() { 1 } else { 2 };
    if !slashes_fit
        || !route.bytes().all(is_path)
        || (!inner.is_empty() && inner.split('/').any(odd))
    {
        return Err(format!("'{route}': a route is a plain prefix, without dots, // or wildcards"));
    }
    Ok(())
}

/// `/NAME/` and keygate's own paths are matched first.
fn check_reach(route: &str, providers: &[(String, Provider)]) -> Result<(), String> {
    let first = route.split('/').nth(1).unwrap_or_default();
    if first == ".well-known" {
        return Err("/.well-known/ is keygate's own: choose another".to_owned());
    }
    if providers.iter().any(|(name, _)| name == first) {
        return Err(format!("'{route}' is never reached: /{first}/ leads to provider {first}"));
    }
    Ok(())
}

fn check_bare(route: &str, bare: &HashMap<&str, &str>) -> Result<(), String> {
    for (kind, paths) in BARE {
        if let (true, Some(owner)) = (paths.contains(&route), bare.get(kind)) {
            return Err(format!("'{route}' is a bare path of {owner}: add routes: [] there"));
        }
    }
    Ok(())
}

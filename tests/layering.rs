//! What may depend on what: the paths of `src/` held against one table.
//!
//! Every `crate::…` and `super::…` path counts, in `use` lines and in code; comments, literals
//! and `#[cfg(test)]` items do not. Crates that belong into one room are checked too, in tests
//! as well: what needs no server must be testable without one.

use crate::support::path;
use crate::support::source::{self, Source};
use std::collections::BTreeMap;

/// A module, and what it may use beside itself. An entry may be a path.
const TABLE: &[(&str, &[&str])] = &[
    ("values", &[]),
    ("config", &["values"]),
    ("telemetry", &["config", "values"]),
    ("token", &["config", "values", "telemetry"]),
    ("policy", &["token", "config", "values", "telemetry"]),
    ("slot", &["policy", "token", "config", "values", "telemetry"]),
    ("provider", &["config", "values", "policy", "slot::place"]),
    ("body", &["values", "config"]),
    ("ws", &["values", "config"]),
    ("cors", &["values", "config"]),
    ("session", &["token", "policy", "telemetry", "values", "config", "ws"]),
    ("egress", &["config", "values", "provider", "telemetry"]),
    ("stream", &["values", "telemetry"]),
    ("store", &["token", "stream", "values", "config", "telemetry"]),
    (
        "proxy",
        &[
            "egress",
            "session",
            "cors",
            "stream",
            "ws",
            "body",
            "provider",
            "slot",
            "policy",
            "token",
            "telemetry",
            "config",
            "values",
        ],
    ),
    ("control", &["token", "policy", "session", "egress", "telemetry", "config", "values"]),
    ("demo", &["values", "telemetry"]),
    (
        "app",
        &[
            "proxy",
            "control",
            "store",
            "demo",
            "egress",
            "session",
            "cors",
            "stream",
            "stream",
            "ws",
            "body",
            "provider",
            "slot",
            "policy",
            "token",
            "telemetry",
            "config",
            "values",
        ],
    ),
    ("cli", &["app", "config", "values", "token", "store", "control", "demo", "telemetry"]),
];

/// Crates whose names begin so, and the modules that may name them. The first that fits decides.
const CRATES: &[(&str, &[&str])] = &[
    ("pingora_limits", &["policy"]),
    ("pingora", &["proxy", "egress", "session", "app"]),
    ("axum", &["control", "demo"]),
    ("rusqlite", &["store"]),
];

#[test]
fn modules_use_only_what_is_below_them() {
    let found: Vec<_> = source::rust_files("src").iter().flat_map(violations).collect();
    assert!(found.is_empty(), "forbidden dependencies:\n{}", found.join("\n"));
}

#[test]
fn table_only_leads_downwards() {
    let rows: BTreeMap<_, _> = TABLE.iter().copied().collect();
    let mut done: Vec<&str> = Vec::new();
    while done.len() < rows.len() {
        let below = |used: &&str| used.split("::").next().is_some_and(|used| done.contains(&used));
        let next =
            rows.iter().find(|(name, uses)| !done.contains(*name) && uses.iter().all(&below));
        let (name, _) = next.unwrap_or_else(|| panic!("the table has a circle outside {done:?}"));
        done.push(name);
    }
}

/// What a file uses and may not, one message each.
fn violations(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(own) = module.first() else { return Vec::new() };
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| name == own) else {
        return vec![format!("{}: module {own} is not in the table of {}", source.path, file!())];
    };
    let named = path::named(source);
    let mut found = Vec::new();
    let mut last = (0, String::new());
    for (line, path) in named.own {
        let target = path.first().map_or("the crate's root", String::as_str);
        let fits = |entry: &&str| {
            entry.split("::").enumerate().all(|(i, part)| path.get(i).is_some_and(|p| p == part))
        };
        // A group of one line and module is one edge.
        let edge = (line, target.to_owned());
        if target != own.as_str() && edge != last && !allowed.iter().any(fits) {
            found.push(format!(
                "{}:{line}: {own} may not use {target} (crate::{}); it may use {allowed:?}",
                source.path,
                path.join("::"),
            ));
            last = edge;
        }
    }
    for (line, name) in named.first {
        let rule = CRATES.iter().find(|(prefix, _)| name.starts_with(prefix));
        if let Some((_, rooms)) = rule.filter(|(_, rooms)| !rooms.contains(&own.as_str())) {
            found.push(format!(
                "{}:{line}: {own} may not name the crate {name}; only {rooms:?} may",
                source.path
            ));
        }
    }
    found
}

mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        violations(&Source::planted(path, text))
    }

    #[test]
    fn planted_dependency_upwards_is_found_with_file_and_line() {
        for (path, text) in [
            ("src/token/mod.rs", "\nuse crate::session::Live;"),
            ("src/token/mod.rs", "\nuse crate::{values::ids, session};"),
            ("src/token/mod.rs", "use crate::{values,\n session::{self, Live}};"),
            ("src/token/index.rs", "\nfn f(s: &crate::session::Live) {}"),
            ("src/token/index.rs", "\nuse super::super::session::Live;"),
            ("src/token/mod.rs", "\nuse super::session::Live;"),
            ("src/token/index.rs", "\nmod inner { use super::super::super::session::Live; }"),
            ("src/token/mod.rs", "#[cfg(test)] mod t { fn f() {} }\npub use crate::session::*;"),
            ("src/token/mod.rs", "#[cfg(test)] use crate::app::X;\nuse crate::session::Y;"),
        ] {
            let found = found(path, text);
            assert_eq!(found.len(), 1, "{text:?} has one forbidden edge: {found:?}");
            let (line, edge) = (format!("{path}:2: "), "token may not use session");
            assert!(found[0].starts_with(&line) && found[0].contains(edge), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn planted_crate_in_the_wrong_room_is_found() {
        for (path, text) in [
            ("src/policy/mod.rs", "use pingora::prelude::*;"),
            ("src/slot/mod.rs", "fn f(h: &pingora_http::RequestHeader) {}"),
            ("src/proxy/mod.rs", "use pingora_limits::rate::Rate;"),
            ("src/proxy/mod.rs", "use {axum::Router, bytes::Bytes};"),
            ("src/token/mod.rs", "use ::rusqlite::Connection;"),
            ("src/token/mod.rs", "use rusqlite;"),
            ("src/body/mod.rs", "#[cfg(test)] mod tests { use pingora_core::Error; }"),
        ] {
            let found = found(path, text);
            assert!(found.len() == 1 && found[0].contains("may not name the crate"), "{found:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_complained_about() {
        for (path, text) in [
            ("src/token/mod.rs", "use crate::{token::index, values::{ids::TokenDigest as D}};"),
            ("src/provider/mod.rs", "use crate::slot::place::Place;"),
            (
                "src/values/mod.rs",
                "// crate::app\n/// see [`crate::proxy`]\nconst A: &str = \"crate::cli\";",
            ),
            ("src/values/mod.rs", "#[cfg(test)]\nmod tests {\n use crate::app::X;\n}"),
            ("src/values/clock.rs", "pub(super) fn f() {} use super::Invalid;"),
            ("src/app.rs", "use crate::proxy; use pingora_core::server::Server;"),
            ("src/policy/rate.rs", "use pingora_limits::rate::Rate;"),
            ("src/main.rs", "use keygate::cli;"),
        ] {
            let found = found(path, text);
            assert!(found.is_empty(), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn open_part_of_a_module_does_not_open_the_rest() {
        for text in [
            "use crate::slot::inject;",
            "use crate::slot;",
            "use crate::slot::{place, strip};",
            "use crate::*;",
        ] {
            assert_eq!(found("src/provider/mod.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn module_that_nobody_entered_in_the_table_is_found() {
        let found = found("src/cache/mod.rs", "");
        assert!(found.len() == 1 && found[0].contains("cache is not in the table"), "{found:?}");
    }
}

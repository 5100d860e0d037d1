//! The little of a configuration that offline commands need: where the store is, and which names
//! there are.
//!
//! It resolves no secret and judges nothing else, so `keygate token …` works on a shell that lacks
//! the providers' keys, and while another part of the file is being edited. What is wrong with the
//! rest is for [`super::load`] to say.

use super::Problems;
use serde_yaml::Value;
use std::path::{Path, PathBuf};

/// What [`outline`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The SQLite file of tokens; `None`: only static tokens.
    pub store: Option<PathBuf>,
    /// Names in `policies`.
    pub policies: Vec<String>,
    /// Names in `providers`.
    pub providers: Vec<String>,
    /// `client_tokens.signing`, as it is written.
    pub signing: Option<String>,
    /// Where the running gateway listens for commands.
    pub control_socket: PathBuf,
}

/// Reads the outline of the file at `path`.
///
/// # Errors
/// The file can't be read, is no YAML, or its `store` can't be made out.
pub fn outline(path: &Path) -> Result<Outline, Problems> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Problems::one("", format!("can't read {}: {e}", path.display())))?;
    parse(&text).map_err(|mut problems| {
        for problem in problems.0.iter_mut().filter(|p| p.path.is_empty()) {
            problem.message = format!("{}: {}", path.display(), problem.message);
        }
        problems
    })
}

/// Where the control socket lives: `/run/NAME` for a store below `/var/lib/NAME`, else beside
/// the store; without one, `/run/keygate`. Both sides derive it, so that every command
/// needs only `-c`.
pub fn control_socket(store: Option<&Path>) -> PathBuf {
    let Some(dir) = store.and_then(Path::parent) else {
        return PathBuf::from("/run/keygate/control.sock");
    };
    match dir.strip_prefix("/var/lib").ok().and_then(|rest| rest.components().next()) {
        Some(name) => Path::new("/run").join(name).join("control.sock"),
        None => dir.join("control.sock"),
    }
}

fn parse(text: &str) -> Result<Outline, Problems> {
    let file: Value = serde_yaml::from_str(text).map_err(|e| Problems::one("", e.to_string()))?;
    let store = match file.get("store") {
        None => None,
        Some(store) => Some(sqlite(store)?),
    };
    Ok(Outline {
        control_socket: control_socket(store.as_deref()),
        store,
        signing: signing(&file),
        policies: names(file.get("policies")),
        providers: names(file.get("providers")),
    })
}

fn signing(file: &Value) -> Option<String> {
    file.get("client_tokens")?.get("signing")?.as_str().map(str::to_owned)
}

fn sqlite(store: &Value) -> Result<PathBuf, Problems> {
    match store.get("sqlite").and_then(Value::as_str) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(Problems::one("store", "write it as { sqlite: /var/lib/keygate/keygate.db }")),
    }
}

fn names(section: Option<&Value>) -> Vec<String> {
    let entries = section.and_then(Value::as_mapping);
    entries
        .into_iter()
        .flat_map(serde_yaml::Mapping::keys)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_and_names_are_found_and_the_rest_is_not_judged() {
        let text = "
store: { sqlite: /var/lib/keygate/keygate.db }
providers:
  openai: { keys: [{ env: NOT_SET_ANYWHERE }], kind: nonsense }
  gemini: {}
policies: { browser: {}, ci: { models: [] } }
unknown: [key
]";
        assert_eq!(
            parse(text),
            Ok(Outline {
                store: Some("/var/lib/keygate/keygate.db".into()),
                signing: None,
                policies: vec!["browser".into(), "ci".into()],
                providers: vec!["openai".into(), "gemini".into()],
                control_socket: "/run/keygate/control.sock".into(),
            })
        );
    }

    #[test]
    fn what_is_left_out_is_none_and_what_is_wrong_is_said() {
        let empty = parse("listen: []").unwrap();
        assert!(empty.store.is_none() && empty.policies.is_empty() && empty.providers.is_empty());
        for text in ["store:", "store: x.db", "store: { sqlite: }", "store: { redis: {} }"] {
            assert_eq!(parse(text).unwrap_err().0[0].path, "store", "{text}");
        }
        let problem = parse("store: [\nx: }").unwrap_err().to_string();
        assert!(problem.contains("line 2"), "syntax errors have a place: {problem}");
    }

    #[test]
    fn both_sides_derive_the_same_control_socket() {
        for (store, socket) in [
            (None, "/run/keygate/control.sock"),
            (Some("/var/lib/keygate/keygate.db"), "/run/keygate/control.sock"),
            (Some("/var/lib/other/deep/keygate.db"), "/run/other/control.sock"),
            (Some("/srv/data/keygate.db"), "/srv/data/control.sock"),
            (Some("/var/lib/keygate.db"), "/var/lib/control.sock"),
        ] {
            assert_eq!(control_socket(store.map(Path::new)), Path::new(socket), "{store:?}");
        }
    }
}

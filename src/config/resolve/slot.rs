//! What a `generic` provider chooses for itself: where its key goes, where its model is, and which
//! query parameters are credentials.

use crate::config::file::provider as file;
use crate::config::file::shape::Choice;
use crate::config::{ModelChoice, Problems, SlotChoice};
use http::HeaderName;

/// A scanned body's names are kept so far.
const LONGEST_MEMBER: usize = 128;

/// Query parameters that are read as credentials.
const QUERY_SLOTS: [&str; 3] = ["key", "api_key", "access_token"];

/// Headers that belong to the connection, the body or the browser. A key in one of them would be
/// removed on the way or break the message (RFC 9110 sections 7.6.1, 7.2, 8.6; RFC 6455).
const TAKEN_HEADERS: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "via",
];

const SLOT: &str = "write bearer, { header: NAME } or { query: NAME }";
const MODEL: &str = "write none, { json: NAME }, { query: NAME } or { path: \"/models/{model}\" }";

/// The choices.
pub(super) struct Generic {
    pub(super) query_slots: Option<Vec<Box<str>>>,
    pub(super) slot: SlotChoice,
    pub(super) model: ModelChoice,
}

impl Default for Generic {
    fn default() -> Self {
        Self { query_slots: None, slot: SlotChoice::Bearer, model: ModelChoice::None }
    }
}

/// Reads them; what has a problem stays at its default.
pub(super) fn generic(path: &str, written: &file::Provider, problems: &mut Problems) -> Generic {
    let mut found = Generic::default();
    match written.slot.as_ref().map(slot) {
        None => {}
        Some(Ok(slot)) => found.slot = slot,
        Some(Err(why)) => problems.push(format!("{path}.slot"), why),
    }
    found.query_slots = query_slots(path, written, problems);
    match written.model.as_ref().map(model) {
        None => {}
        Some(Ok(model)) => found.model = model,
        Some(Err(why)) => problems.push(format!("{path}.model"), why),
    }
    found
}

/// Which query parameters are credentials; `None`: the usual ones.
pub(super) fn query_slots(
    path: &str,
    written: &file::Provider,
    problems: &mut Problems,
) -> Option<Vec<Box<str>>> {
    let names = written.query_slots.as_ref()?;
    for (index, name) in names.iter().enumerate() {
        if !QUERY_SLOTS.contains(&name.as_str()) {
            let known = QUERY_SLOTS.join(", ");
            let why = format!("'{name}' is not read as a credential anyway; known: {known}");
            problems.push(format!("{path}.query_slots[{index}]"), why);
        }
    }
    Some(names.iter().map(|name| name.as_str().into()).collect())
}

fn slot(written: &Choice) -> Result<SlotChoice, String> {
    match written {
        Choice::Word(word) if word == "bearer" => Ok(SlotChoice::Bearer),
        Choice::Entry(key, name) if key == "header" => {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("'{name}' is no header's name"))?;
            let taken = TAKEN_HEADERS.contains(&header.as_str())
                || header.as_str().starts_with("sec-")
                || header.as_str().starts_with("x-keygate-");
            if taken {
                return Err(format!("the header {header} can't carry a key: choose another"));
            }
            Ok(SlotChoice::Header(header))
        }
        Choice::Entry(key, name) if key == "query" => {
            parameter(name).map(|name| SlotChoice::Query(name.into()))
        }
        Choice::Word(_) | Choice::Entry(..) => Err(SLOT.to_owned()),
    }
}

fn model(written: &Choice) -> Result<ModelChoice, String> {
    match written {
        Choice::Word(word) if word == "none" => Ok(ModelChoice::None),
        Choice::Entry(key, name) if key == "json" => {
            if name.is_empty() || name.len() > LONGEST_MEMBER {
                return Err("a member's name has 1 to 128 bytes".to_owned());
            }
            Ok(ModelChoice::Json(name.as_str().into()))
        }
        Choice::Entry(key, name) if key == "query" => {
            parameter(name).map(|name| ModelChoice::Query(name.into()))
        }
        Choice::Entry(key, path) if key == "path" => model_path(path),
        Choice::Word(_) | Choice::Entry(..) => Err(MODEL.to_owned()),
    }
}

fn model_path(path: &str) -> Result<ModelChoice, String> {
    let wrong = || format!("'{path}': a path begins with '/' and has {{model}} in it exactly once");
    let (before, after) = path.split_once("{model}").ok_or_else(wrong)?;
    let is_path = |c: u8| c.is_ascii_graphic() && !b"?#{}\\".contains(&c);
    if !before.starts_with('/') || !before.bytes().chain(after.bytes()).all(is_path) {
        return Err(wrong());
    }
    Ok(ModelChoice::Path { before: before.into(), after: after.into() })
}

/// A query parameter's name. One that would have to be percent-encoded is refused, so that names
/// compare as they are written.
fn parameter(name: &str) -> Result<&str, String> {
    let unreserved = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    if !name.is_empty() && name.bytes().all(unreserved) {
        Ok(name)
    } else {
        Err(format!("'{name}' is no parameter's name: use A-Z a-z 0-9 - . _ ~"))
    }
}

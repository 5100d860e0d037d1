//! Turns serde_yaml's first error into one problem: line, column, path, what, remedy.
//!
//! Invariant: no value of the file is repeated. A key pasted into the wrong place is the commonest
//! way to get here, and the message goes to terminals and logs. serde's own messages quote the
//! value they stumbled upon; only its type is kept.

use super::{File, place, shape};
use crate::config::Problem;
use serde::de::IgnoredAny;
use serde_path_to_error::{Path, Segment};

/// Explains why `text` could not be read.
pub(super) fn explain(text: &str, error: &serde_yaml::Error) -> Problem {
    // Whatever is no YAML fails without any type to compare it with.
    let message = match serde_yaml::from_str::<IgnoredAny>(text) {
        Err(syntax) => not_yaml(&syntax),
        Ok(IgnoredAny) => wrong_shape(text, error),
    };
    Problem { path: String::new(), message }
}

fn not_yaml(error: &serde_yaml::Error) -> String {
    let (place, what) = split_place(error);
    if what.contains("more than one document") {
        return "the file has more than one document: remove the line with ---".to_owned();
    }
    format!("{}{what}: this is no YAML; check indentation, quotes and brackets", at(place))
}

fn wrong_shape(text: &str, error: &serde_yaml::Error) -> String {
    // Tracking the path costs time, so only a reading that has failed does it.
    let reader = serde_yaml::Deserializer::from_str(text);
    let path = match serde_path_to_error::deserialize::<_, File>(reader) {
        Ok(_) => None,
        Err(error) => Some(error.path().clone()),
    };
    let mut segments: Vec<Segment> = path.iter().flat_map(Path::iter).cloned().collect();
    let (mut place, message) = split_place(error);
    let message = strip_path(&message, &segments);

    let message = if message == shape::NULL {
        place = place::find(text, &segments, 1).or(place);
        message.to_owned()
    } else if let Some(key) = quoted(message, "duplicate field `") {
        segments.push(Segment::Map { key: key.to_owned() });
        place = place::find(text, &segments, 2).or(place);
        "the key is there twice: keep one".to_owned()
    } else if let Some(key) = quoted(message, "missing field `") {
        format!("the key {key} is missing")
    } else if let Some(key) = quoted(message, "unknown field `") {
        if segments.last().is_some_and(|last| matches!(last, Segment::Map { key: k } if k == key)) {
            segments.pop();
        }
        unknown_key(key, message)
    } else {
        wrong_type(message)
    };
    match written(&segments) {
        path if path.is_empty() => format!("{}{message}", at(place)),
        path => format!("{}{path}: {message}", at(place)),
    }
}

fn at(place: Option<(usize, usize)>) -> String {
    place.map_or_else(String::new, |(line, column)| format!("line {line} column {column}: "))
}

/// Line and column, and the message without them.
fn split_place(error: &serde_yaml::Error) -> (Option<(usize, usize)>, String) {
    let message = error.to_string();
    match error.location() {
        None => (None, message),
        Some(place) => {
            let (line, column) = (place.line(), place.column());
            let suffix = format!(" at line {line} column {column}");
            (Some((line, column)), message.replacen(&suffix, "", 1))
        }
    }
}

/// serde_yaml puts a path of its own before the message: that of the value or of one around it.
fn strip_path<'a>(message: &'a str, segments: &[Segment]) -> &'a str {
    (1..=segments.len())
        .rev()
        .filter_map(|length| segments.get(..length))
        .find_map(|part| message.strip_prefix(&written(part))?.strip_prefix(": "))
        .unwrap_or(message)
}

fn written(segments: &[Segment]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Segment::Unknown => path.push_str(".?"),
        }
    }
    path
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split_once('`').map(|(name, _)| name)
}

/// Our keys are words of lower-case letters, and so are most misspelt ones; anything else may be a
/// token or a key in the wrong place.
fn unknown_key(key: &str, message: &str) -> String {
    let known = message.rsplit_once(", expected ").map_or("", |(_, known)| known);
    let known = known.trim_start_matches("one of ").replace(" or ", ", ").replace('`', "");
    let is_word = key.len() <= 30 && key.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    let key = if is_word { format!(" {key}") } else { String::new() };
    format!("unknown key{key}; known here: {known}")
}

/// `invalid type: string "…", expected a sequence` without the quotation, in the file's own terms.
fn wrong_type(message: &str) -> String {
    // Wherever it begins: if a path were left before it, the quotation must go all the same.
    let found = message.split_once("invalid type: ").or(message.split_once("invalid value: "));
    let Some((_, found)) = found else { return message.to_owned() };
    let expected = match found.rsplit_once(", expected ").map_or("", |(_, expected)| expected) {
        "a sequence" => "a list",
        "a string" => "text",
        "a boolean" => "true or false",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number",
        "f64" => "a number",
        other if other.starts_with("struct ") => "a map",
        other => other,
    };
    let found = match found.split([' ', ',']).next().unwrap_or_default() {
        "string" | "character" => "text",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a map",
        "unit" => "nothing",
        _ => "something else",
    };
    match expected.ends_with("number") || expected.starts_with("a whole number") {
        true if found == "a number" => format!("{expected} belongs here"),
        _ => format!("{expected} belongs here, not {found}"),
    }
}

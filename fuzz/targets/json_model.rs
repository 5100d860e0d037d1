//! The model scan held against `serde_json`'s own reading of the whole body: what it lets pass is
//! JSON, and the models that it found are the ones that stand there. Chunks may end anywhere: what
//! comes of it is the same.
#![no_main]

use keygate::body::json_model::{Found, Refused, Scanner, Wanted, scan};
use libfuzzer_sys::fuzz_target;
use serde_json::{Error, Value};

const WANTED: Wanted<'static> = Wanted {
    main: &["model"],
    configured: None,
    further: &[
        &["tools", "[]", "model"],
        &["session", "model"],
        &["requests", "[]", "params", "model"],
    ],
};

fuzz_target!(|body: &[u8]| {
    let read: Result<Value, Error> = serde_json::from_slice(body);
    let scanned = scan(body, WANTED);
    let size = 1 + usize::from(body.last().copied().unwrap_or(0) % 16);
    match (&scanned, chunked(body, size)) {
        (Ok(whole), Ok(split)) => assert_eq!(*whole, split, "in chunks of {size}"),
        (Err(_), Err(_)) => {}
        (whole, split) => panic!("in chunks of {size} {split:?} instead of {whole:?}"),
    }
    match (scanned, read) {
        (Ok(found), Ok(value)) => {
            assert!(found.others.is_empty(), "there is one main member");
            let main: Vec<&str> = found.main.iter().map(|m| &**m).collect();
            match value.get("model") {
                Some(Value::String(model)) => assert_eq!(main, [model], "another model"),
                Some(other) => panic!("{other} passed for a model"),
                None => assert!(main.is_empty(), "a model from nowhere: {main:?}"),
            }
            for path in WANTED.further {
                further(&value, path, &mut |model| {
                    let is_known =
                        model.as_str().is_some_and(|m| found.further.iter().any(|f| **f == *m));
                    assert!(is_known, "{model} at {path:?} was not seen, only {:?}", found.further);
                });
            }
        }
        (Ok(_), Err(error)) => {
            assert!(is_grammatical(&error), "it passed, and it is no JSON: {error}")
        }
        (Err(Refused::Syntax(why)), Ok(_)) => panic!("good JSON was refused: {why}"),
        (Err(_), _) => {}
    }
});

fn chunked(body: &[u8], size: usize) -> Result<Found, Refused> {
    let mut scanner = Scanner::new(WANTED);
    body.chunks(size).try_for_each(|chunk| scanner.feed(chunk))?;
    scanner.finish()
}

/// What RFC 8259's grammar allows, and only has no value in Rust: a lone surrogate in a text, a
/// number out of range. The scan need not understand what it skips.
fn is_grammatical(error: &Error) -> bool {
    let text = error.to_string();
    ["number out of range", "lone leading surrogate", "unexpected end of hex escape"]
        .iter()
        .any(|known| text.starts_with(known))
}

/// Every value at the end of `path`.
fn further(value: &Value, path: &[&str], found: &mut impl FnMut(&Value)) {
    match (path, value) {
        ([], value) => found(value),
        (["[]", rest @ ..], Value::Array(all)) => all.iter().for_each(|v| further(v, rest, found)),
        ([first, rest @ ..], Value::Object(members)) => {
            for (key, value) in members {
                if key.eq_ignore_ascii_case(first) {
                    further(value, rest, found);
                }
            }
        }
        _ => {}
    }
}

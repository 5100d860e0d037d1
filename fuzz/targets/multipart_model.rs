//! The search of forms: chunks may end anywhere and nothing else comes of it; and what it lets pass,
//! a plain reader of forms reads in the same way.
#![no_main]

use keygate::body::json_model::{Found, Wanted};
use keygate::body::multipart_model::{Broken, Scanner};
use libfuzzer_sys::fuzz_target;

const WANTED: Wanted<'static> = Wanted {
    main: &["model"],
    configured: None,
    further: &[&["tools", "[]", "model"], &["session", "model"]],
};

fuzz_target!(|body: &[u8]| {
    let whole = scan(body, body.len().max(1));
    let size = 1 + usize::from(body.last().copied().unwrap_or(0) % 16);
    match (&whole, scan(body, size)) {
        (Ok(whole), Ok(split)) => assert_eq!(*whole, split, "in chunks of {size}"),
        (Err(_), Err(_)) => {}
        (whole, split) => panic!("in chunks of {size} {split:?} instead of {whole:?}"),
    }
    if let Ok(found) = whole {
        let all = models(body);
        let main: Vec<&[u8]> = found.main.iter().map(|m| m.as_bytes()).collect();
        assert_eq!(main, all, "the fields that stand there");
    }
});

fn scan(body: &[u8], size: usize) -> Result<Found, Broken> {
    let mut scanner = Scanner::new("b", WANTED);
    body.chunks(size).try_for_each(|chunk| scanner.feed(chunk))?;
    scanner.finish()
}

/// The contents of all fields `model`, by splitting at delimiters.
fn models(body: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = body.strip_prefix(b"--b").unwrap_or_default();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, b"\r\n--b").expect("every part has its end");
        let content = find(&part[..end], b"\r\n\r\n").expect("every part has a header");
        if name(&String::from_utf8_lossy(&part[..content])).as_deref() == Some("model") {
            found.push(&part[content + 4..end]);
        }
        rest = &part[end + 5..];
    }
    found
}

/// The field that a part's header names.
fn name(header: &str) -> Option<String> {
    let value = header.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut quoted = false;
    let parameters = value.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    parameters.skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"').to_owned();
        name.trim().eq_ignore_ascii_case("name").then_some(value)
    })
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

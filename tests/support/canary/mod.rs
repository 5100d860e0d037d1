//! The canary: every key and token of the tests is unique, and every output is searched for them.
//!
//! A provider key may show nowhere but in a request to its provider, not even in part; a token
//! nowhere at all once it exists, the first answer with a minted one excepted. The harness hands
//! in what it reads; a leak fails the test that caused it. Besides, all of it is kept below
//! `target/canary/`, where [`sweep`] finds the leaks between tests, processes and test binaries.
//!
//! Programs of other languages take part with plain files in that directory: `*.keys` and
//! `*.tokens` hold one secret a line, every other file is an output.

mod journal;
mod pattern;

pub(crate) use journal::{Finding, Survey, survey, sweep};

use journal::Journal;
use pattern::{Patterns, Rank};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};

static PATTERNS: LazyLock<RwLock<Patterns>> = LazyLock::new(Default::default);
static JOURNAL: LazyLock<Mutex<Journal>> =
    LazyLock::new(|| Mutex::new(Journal::create(&directory()).expect("target/ can be written")));

/// Where outputs and secrets of all runs are kept until somebody removes them.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("canary")
}

/// A provider key that nobody had before, in the shape of the provider's own.
pub(crate) fn key(provider: &str) -> String {
    let prefix = match provider {
        "anthropic" => "sk-ant-",
        "gemini" => "AIzaSy",
        _ => "sk-canary-",
    };
    let key = format!("{prefix}{}", letters(24));
    register(Rank::Key, provider, &key);
    key
}

/// A proxy token that nobody had before.
pub(crate) fn token() -> String {
    let token = format!("ptk_{}", letters(32));
    register(Rank::Token, "token", &token);
    token
}

/// Takes in a token that keygate made. From here on it may not show; the answer in which it was
/// shown, once, has been observed before.
pub(crate) fn adopt_token(token: &str) {
    assert!(token.len() >= 16, "a token this short can't be told from other text");
    register(Rank::Token, "adopted token", token);
}

/// A key for proofs that leak it on purpose: this process searches for it, the sweep does not
/// know it.
pub(crate) fn planted_key() -> String {
    plant(Rank::Key, "sk-canary-")
}

/// A token for proofs, as [`planted_key`].
pub(crate) fn planted_token() -> String {
    plant(Rank::Token, "ptk_planted_")
}

fn plant(rank: Rank, prefix: &str) -> String {
    let secret = format!("{prefix}{}", letters(24));
    know(rank, "planted", &secret);
    secret
}

/// Panics when any key or token is in `bytes`.
#[track_caller]
pub(crate) fn search(bytes: impl AsRef<[u8]>, what: &str) {
    complain(what, &found(bytes.as_ref(), Rank::Key));
}

/// Takes an output of the gateway, from whatever side: keeps it, and panics when a key or token
/// is in it.
#[track_caller]
pub(crate) fn observe(kind: &str, bytes: &[u8]) {
    keep(Rank::Key, kind, bytes);
}

/// Takes what an upstream received: a key belongs there, a token does not.
#[track_caller]
pub(crate) fn observe_upstream(kind: &str, bytes: &[u8]) {
    keep(Rank::Token, kind, bytes);
}

#[track_caller]
fn keep(sought: Rank, kind: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let hits = found(bytes, sought);
    let mut journal = JOURNAL.lock().unwrap_or_else(PoisonError::into_inner);
    journal.output(sought, kind, bytes).expect("target/ can be written");
    drop(journal);
    complain(kind, &hits);
}

fn found(bytes: &[u8], sought: Rank) -> Vec<String> {
    let patterns = PATTERNS.read().unwrap_or_else(PoisonError::into_inner);
    patterns.find(bytes, sought).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn complain(what: &str, hits: &[String]) {
    // Outputs are handed in by destructors too: a second panic would hide the first.
    assert!(hits.is_empty() || std::thread::panicking(), "{what} shows {}", hits.join(", "));
}

fn register(rank: Rank, label: &str, secret: &str) {
    let mut journal = JOURNAL.lock().unwrap_or_else(PoisonError::into_inner);
    journal.secret(rank, label, secret).expect("target/ can be written");
    drop(journal);
    know(rank, label, secret);
}

fn know(rank: Rank, label: &str, secret: &str) {
    PATTERNS.write().unwrap_or_else(PoisonError::into_inner).add(rank, label, secret);
}

fn letters(count: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789Zz";
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 64)])).collect()
}

mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn a_registered_secret_is_found_and_an_unknown_one_is_not() {
        let (key, token) = (key("openai"), token());
        for secret in [&key, &token] {
            let text = format!("<p>{secret}</p>");
            assert!(catch_unwind(|| search(&text, "page")).is_err(), "{secret} must be found");
        }
        search("sk-canary-ABCDEFGHIJKLMNOPQRSTUVWX ptk_ABCDEFGHIJKLMNOPQRSTUVWX", "page");
    }

    #[test]
    fn an_upstream_may_receive_keys_but_no_tokens() {
        let (key, token) = (key("gemini"), token());
        let hits = found(format!("x-goog-api-key: {key}").as_bytes(), Rank::Token);
        assert!(hits.is_empty(), "the key is for the provider");
        let hits = found(format!("authorization: Bearer {token}").as_bytes(), Rank::Token);
        assert_eq!(hits.len(), 1, "the token is not");
    }

    #[test]
    fn a_minted_token_may_show_until_it_is_adopted() {
        let minted = format!("ek_kg{}", letters(32));
        observe("response", minted.as_bytes());
        adopt_token(&minted);
        assert!(catch_unwind(|| search(&minted, "log")).is_err(), "from now on it may not");
    }

    #[test]
    #[ignore = "`make test` runs it behind everything else"]
    fn nothing_leaked_in_the_whole_suite() {
        let survey = survey(&directory());
        assert!(survey.secrets > 0 && survey.outputs > 0, "nothing to search: {survey:?}");
        assert!(survey.findings.is_empty(), "leaks: {:#?}", survey.findings);
    }
}

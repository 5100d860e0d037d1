//! House rules that no compiler knows: sizes, names, first lines, and whom the text speaks of.

use crate::support::source::{self, Source};
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES: usize = 400;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"];

/// What means something only on the machine where the text was written. In two pieces, so that
/// this file does not contain them.
const FORBIDDEN: &[&str] =
    &[concat!("/wo", "rk/"), concat!("shared/", "spec"), concat!("shared/", "design")];

#[test]
fn sources_keep_to_the_house_rules() {
    let sources = source::rust_files("src");
    let mut broken: Vec<_> = sources.iter().filter_map(too_long).collect();
    for dir in ["src", "tests", "benches"].into_iter().filter(|d| source::root().join(d).exists()) {
        let sources = source::rust_files(dir);
        broken.extend(sources.iter().filter_map(nameless));
        broken.extend(sources.iter().filter_map(headless));
    }
    assert!(broken.is_empty(), "against the house rules:\n{}", broken.join("\n"));
}

#[test]
fn no_tracked_file_mentions_the_place_where_it_was_written() {
    let files = tracked();
    assert!(files.len() > 20, "only {} files are tracked: was the list read?", files.len());
    // A file that was removed and is still tracked has nothing to say.
    let read = |file: &PathBuf| std::fs::read(source::root().join(file)).unwrap_or_default();
    let broken: Vec<_> = files.iter().flat_map(|file| strangers(file, &read(file))).collect();
    assert!(broken.is_empty(), "the text speaks of a place:\n{}", broken.join("\n"));
}

fn too_long(source: &Source) -> Option<String> {
    let own = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    let is_test = source.module().last().is_some_and(|name| name == "tests");
    let message = || format!("{}: {own} lines without its tests, {LINES} are enough", source.path);
    (own > LINES && !is_test).then(message)
}

fn nameless(source: &Source) -> Option<String> {
    let mut module = source.module();
    for line in source::code_only(&source.text).lines() {
        let mut words = line.split(|c| !source::is_word(c)).skip_while(|word| *word != "mod");
        module.extend(words.nth(1).map(str::to_owned));
    }
    let bad = module.into_iter().find(|name| EMPTY_NAMES.contains(&name.as_str()))?;
    Some(format!("{}: {bad} says nothing: name the module for what it is", source.path))
}

fn headless(source: &Source) -> Option<String> {
    let message = || format!("{}: the first line must say what the file is for (//!)", source.path);
    (!source.text.starts_with("//! ")).then(message)
}

fn strangers(file: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
        for word in FORBIDDEN {
            // A path of ours may have such a segment; an absolute one begins with it.
            let place = line.match_indices(word).find(|(at, _)| {
                let before = line[..*at].chars().next_back();
                !before.is_some_and(|c| source::is_word(c) || "./-~}".contains(c))
            });
            if place.is_some() {
                found.push(format!("{}:{}: mentions {word}", file.display(), number + 1));
            }
        }
    }
    found
}

/// Files that git tracks; outside of a repository, all that are there.
fn tracked() -> Vec<PathBuf> {
    let root = source::root();
    if !root.join(".git").exists() {
        let mut files = Vec::new();
        source::walk(root, &mut files);
        return files;
    }
    let list = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    let list = list.expect("git is there, since .git is");
    assert!(list.status.success(), "git: {}", String::from_utf8_lossy(&list.stderr));
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    names.split_terminator('\0').map(PathBuf::from).collect()
}

mod tests {
    use super::*;

    #[test]
    fn planted_faults_are_found() {
        let plant = Source::planted;
        let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(LINES));
        assert!(too_long(&plant("src/a.rs", &long)).is_some(), "401 lines are too many");
        let tested = format!("//! Fine.\n#[cfg(test)]\n{long}");
        assert!(too_long(&plant("src/a.rs", &tested)).is_none(), "tests do not count");
        for (path, text) in [
            ("src/utils.rs", ""),
            ("src/policy/common/mod.rs", ""),
            ("src/helpers/rate.rs", ""),
            ("src/policy/mod.rs", "pub(crate) mod manager;"),
        ] {
            assert!(nameless(&plant(path, text)).is_some(), "{path} {text}");
        }
        assert!(nameless(&plant("src/rate.rs", "mod window; // mod utils")).is_none());
        assert!(headless(&plant("src/a.rs", "use std::fmt;")).is_some(), "no word on its purpose");
        assert!(headless(&plant("src/a.rs", "//! For this.")).is_none());
    }

    #[test]
    fn planted_mention_of_a_place_is_found_with_its_line() {
        let text = format!("fine\nsee {}notes and net{}x", FORBIDDEN[0], FORBIDDEN[0]);
        let found = strangers(Path::new("README.md"), text.as_bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("README.md:2: "), "{found:?}");
        assert_eq!(strangers(Path::new("a"), FORBIDDEN[1].as_bytes()).len(), 1);
        let fine = format!("the path net{}x is ours", FORBIDDEN[0]);
        assert!(strangers(Path::new("a"), fine.as_bytes()).is_empty(), "a segment is no place");
    }
}

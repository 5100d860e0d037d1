//! The repository as text: Rust files, and their code without comments and literals.

use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Below the repository's root: `src/policy/mod.rs`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

impl Source {
    /// A text that is not on the disk, for proofs.
    pub(crate) fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The path of module names: `["policy", "rate"]` for `src/policy/rate.rs`; empty for
    /// `src/lib.rs`.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").split('/').skip(1);
        let mut module: Vec<_> = path.map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        module
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `dir`, sorted. Panics when there is none: then a test would check
/// nothing.
pub(crate) fn rust_files(dir: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(dir), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|e| e == "rs"));
    paths.sort();
    assert!(!paths.is_empty(), "there are no Rust files in {dir}");
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("sources are UTF-8");
        let below = path.strip_prefix(root()).expect("found below the root");
        Source { path: below.to_string_lossy().into_owned(), text }
    };
    paths.iter().map(read).collect()
}

/// Every file below `dir`, hidden ones and build output apart.
pub(crate) fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        match path.is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

/// `text` with comments, strings and character literals blanked, line by line the same.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            // An identifier goes as a whole: the r of `for"` begins no raw string.
            let word = chars[at..].iter().take_while(|c| is_word(**c)).count().max(1);
            out.extend(&chars[at..at + word]);
            at += word;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal ends that begins at `at`; `at` itself if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c));
    if starts("//") {
        return at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
    }
    if starts("/*") {
        return at + block_comment(rest);
    }
    if let Some(prefix) = ["\"", "b\"", "c\""].iter().find(|p| starts(p)) {
        return at + quoted(rest, prefix.len(), '"');
    }
    if let Some(prefix) = ["r", "br", "cr"].iter().find(|p| starts(p)) {
        let hashes = rest[prefix.len()..].iter().take_while(|c| **c == '#').count();
        if rest.get(prefix.len() + hashes) == Some(&'"') {
            let end: Vec<char> = format!("\"{}", "#".repeat(hashes)).chars().collect();
            let from = prefix.len() + hashes + 1;
            let len = rest[from..].windows(end.len()).position(|w| w == end);
            return at + len.map_or(rest.len(), |len| from + len + end.len());
        }
    }
    let quote = usize::from(starts("b'"));
    let is_char = rest.get(quote) == Some(&'\'')
        && (rest.get(quote + 1) == Some(&'\\') || rest.get(quote + 2) == Some(&'\''));
    if is_char { at + quoted(rest, quote + 1, '\'') } else { at }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match (rest[i], rest.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i.min(rest.len())
}

fn quoted(rest: &[char], from: usize, quote: char) -> usize {
    let mut i = from;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(rest.len())
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let text = r##"
            let a = "// no comment"; // crate::x
            /* crate::y /* nested */ still */ let b = 'x'; let c: &'a str = r#"crate::"z"#;
            let d = '"'; let e = b'\''; for"w"; let r#type = '\u{41}';
        "##;
        let code = code_only(text);
        assert_eq!(code.lines().count(), text.lines().count(), "lines stay where they are");
        assert!(!code.contains("crate"), "{code}");
        for kept in ["let a =", "let b =", "&'a str", "let e =", "for", "let r#type"] {
            assert!(code.contains(kept), "{kept:?} must stay: {code}");
        }
        assert!(!code.contains("comment") && !code.contains("still"), "{code}");
    }

    #[test]
    fn modules_follow_from_paths() {
        let module = |path| Source::planted(path, "").module().join("::");
        assert_eq!(module("src/lib.rs"), "");
        assert_eq!(module("src/app.rs"), "app");
        assert_eq!(module("src/policy/mod.rs"), "policy");
        assert_eq!(module("src/policy/rate.rs"), "policy::rate");
    }
}

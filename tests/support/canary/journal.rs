//! The canary's memory: one file a process, secrets and outputs in the order in which they came.
//!
//! An entry is a line, and behind an output's line its bytes. The order matters: a token that
//! keygate made may show in what its own process observed before it was taken in. Of an output
//! beyond [`KEPT`] bytes only the beginning is kept; its own process has searched all of it.

use super::pattern::{Patterns, Rank};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const KEPT: usize = 1 << 20;

/// The file of this process.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let name = format!("{}-{}.journal", std::process::id(), super::letters(8));
        File::create_new(dir.join(name)).map(Self)
    }

    pub(super) fn secret(&mut self, rank: Rank, label: &str, secret: &str) -> io::Result<()> {
        self.0.write_all(format!("{rank:?} {} {secret}\n", label.replace(' ', "-")).as_bytes())
    }

    pub(super) fn output(&mut self, sought: Rank, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let side = match sought {
            Rank::Key => "output",
            Rank::Token => "upstream",
        };
        let kept = &bytes[..bytes.len().min(KEPT)];
        let head = format!("{side} {} {}\n", kind.replace(' ', "-"), kept.len());
        self.0.write_all(&[head.as_bytes(), kept, b"\n"].concat())
    }
}

/// A secret where none may be.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The file.
    pub(crate) file: PathBuf,
    /// Which output in it.
    pub(crate) output: String,
    /// What was found there.
    pub(crate) what: String,
}

/// What a sweep saw.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Secrets that were looked for.
    pub(crate) secrets: usize,
    /// Outputs that were searched.
    pub(crate) outputs: usize,
    /// What was found.
    pub(crate) findings: Vec<Finding>,
}

/// Searches all outputs in `dir` for all secrets in it.
pub(crate) fn sweep(dir: &Path) -> Vec<Finding> {
    survey(dir).findings
}

enum Entry {
    Secret(Rank, String, String),
    Output(Rank, String, Vec<u8>),
}

/// As [`sweep`], and says how much there was.
pub(crate) fn survey(dir: &Path) -> Survey {
    let mut files = Vec::new();
    collect(dir, &mut files);
    files.sort();
    let (mut survey, mut patterns, mut places) = (Survey::default(), Patterns::default(), vec![]);
    // Twice over the files, not all of them in memory at once.
    for file in &files {
        for (line, entry) in read(file).into_iter().enumerate() {
            if let Entry::Secret(rank, label, secret) = entry {
                patterns.add(rank, &label, &secret);
                places.push((file, line));
            }
        }
    }
    survey.secrets = places.len();
    for file in &files {
        for (line, entry) in read(file).into_iter().enumerate() {
            let Entry::Output(sought, kind, bytes) = entry else { continue };
            survey.outputs += 1;
            let mut hits = patterns.find(&bytes, sought);
            hits.retain(|hit| places[hit.secret].0 != file || places[hit.secret].1 < line);
            survey.findings.extend(hits.iter().map(|hit| Finding {
                file: file.clone(),
                output: format!("entry {line}, {kind}"),
                what: hit.to_string(),
            }));
        }
    }
    survey
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> Vec<Entry> {
    let bytes =
        std::fs::read(file).unwrap_or_else(|e| panic!("can't read {}: {e}", file.display()));
    let secrets = |rank| {
        let text = String::from_utf8_lossy(&bytes);
        let long = text.lines().map(str::trim).filter(|line| line.len() >= 16);
        long.map(|line| Entry::Secret(rank, file.display().to_string(), line.to_owned())).collect()
    };
    match file.extension().and_then(|e| e.to_str()) {
        Some("journal") => parse(&bytes),
        Some("keys") => secrets(Rank::Key),
        Some("tokens") => secrets(Rank::Token),
        _ => vec![Entry::Output(Rank::Key, "file".to_owned(), bytes)],
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 1..];
        let mut words = line.split(' ').map(str::to_owned);
        let [Some(tag), Some(name), Some(last)] = [words.next(), words.next(), words.next()] else {
            panic!("not a journal entry: {line:?}")
        };
        let sought = match tag.as_str() {
            "Key" => Err(Rank::Key),
            "Token" => Err(Rank::Token),
            "output" => Ok(Rank::Key),
            "upstream" => Ok(Rank::Token),
            _ => panic!("not a journal entry: {line:?}"),
        };
        entries.push(match sought {
            Err(rank) => Entry::Secret(rank, name, last),
            Ok(sought) => {
                // A process that was killed leaves its last entry unfinished.
                let len = last.parse::<usize>().unwrap_or(0).min(bytes.len());
                let output = bytes[..len].to_vec();
                bytes = bytes.get(len + 1..).unwrap_or_default();
                Entry::Output(sought, name, output)
            }
        });
    }
    entries
}

mod tests {
    use super::*;

    const KEY: &str = "sk-canary-Qm7xK2vR9pLw4tYz8nBc3dFg";
    const TOKEN: &str = "ptk_Vh5jN8rT2wXq6zLc9mKb4gPd7sYf3aUe";

    fn suite() -> (tempfile::TempDir, Journal, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let mut one = Journal::create(dir.path()).unwrap();
        let two = Journal::create(dir.path()).unwrap();
        one.secret(Rank::Key, "openai", KEY).unwrap();
        one.output(Rank::Key, "minted", TOKEN.as_bytes()).unwrap();
        one.secret(Rank::Token, "minted", TOKEN).unwrap();
        one.output(Rank::Token, "wire", format!("authorization: {KEY}").as_bytes()).unwrap();
        one.output(Rank::Key, "response", b"HTTP/1.1 200 OK\r\n\r\n{}\n\n").unwrap();
        (dir, one, two)
    }

    #[test]
    fn a_clean_suite_passes() {
        let (dir, _one, mut two) = suite();
        two.output(Rank::Key, "log", b"Key and Token are words, ptk_Vh5j is an id\n").unwrap();
        let survey = survey(dir.path());
        assert!(survey.findings.is_empty(), "{:?}", survey.findings);
        assert_eq!((survey.secrets, survey.outputs), (2, 4), "all of it was looked at");
    }

    #[test]
    fn a_planted_leak_is_found_wherever_it_is() {
        let response = format!("{{\"error\":\"bad key {}\"}}", &KEY[8..30]);
        type Leak<'a> = (&'a str, &'a dyn Fn(&Path, &mut Journal, &mut Journal));
        let leaks: [Leak; 6] = [
            ("a response of the same process", &|_, one, _| {
                one.output(Rank::Key, "response", response.as_bytes()).unwrap();
            }),
            ("a log of another process", &|_, _, two| {
                two.output(Rank::Key, "stderr", format!("got {TOKEN}").as_bytes()).unwrap();
            }),
            ("a token after it was adopted", &|_, one, _| {
                one.output(Rank::Key, "page", TOKEN.as_bytes()).unwrap();
            }),
            ("a token at an upstream", &|_, _, two| {
                two.output(Rank::Token, "wire", TOKEN.as_bytes()).unwrap();
            }),
            ("a file of another program", &|dir, _, _| {
                std::fs::create_dir(dir.join("browser")).unwrap();
                std::fs::write(dir.join("browser/page.html"), format!("<p>{KEY}</p>")).unwrap();
            }),
            ("a secret of another program", &|dir, one, _| {
                std::fs::write(dir.join("python.keys"), "sk-python-1234567890abcdef\n").unwrap();
                one.output(Rank::Key, "log", b"sk-python-1234567890abcdef").unwrap();
            }),
        ];
        for (name, plant) in leaks {
            let (dir, mut one, mut two) = suite();
            plant(dir.path(), &mut one, &mut two);
            assert_eq!(sweep(dir.path()).len(), 1, "{name} must be found, once");
        }
    }

    #[test]
    fn an_unfinished_last_entry_is_searched() {
        let (dir, _one, two) = suite();
        let Journal(mut file) = two;
        file.write_all(format!("output response 5000\nleaked {KEY}").as_bytes()).unwrap();
        assert_eq!(sweep(dir.path()).len(), 1, "what a killed process left counts");
    }
}

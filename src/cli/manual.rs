//! Man pages and shell completions, generated from the definition of the command line, kept in
//! `docs/man/` and `packaging/completions/`, and held against it.
//!
//! All of it is a test: nothing of it is in the program. `make generated` writes the files anew.

use super::Cli;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAN: &str = "docs/man";
const COMPLETIONS: &str = "packaging/completions";

/// Every file by its path below the repository.
fn generated() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut cli = Cli::command();
    // Gives every command its whole name, and the options that all have.
    cli.build();
    pages(&cli, "keygate", &mut files);
    for (shell, name) in
        [(Shell::Bash, "keygate.bash"), (Shell::Zsh, "_keygate"), (Shell::Fish, "keygate.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "keygate", &mut text);
        files.insert(Path::new(COMPLETIONS).join(name), utf8(text));
    }
    files
}

/// `keygate.1`, `keygate-token.1`, `keygate-token-create.1` …
fn pages(command: &Command, name: &str, files: &mut BTreeMap<PathBuf, String>) {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(sub, &format!("{name}-{}", sub.get_name()), files);
    }
    let source = concat!("keygate ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name.to_uppercase()).manual("keygate");
    let mut text = Vec::new();
    man.date("").source(source).render(&mut text).expect("writing to memory");
    // The date is left out, and its place must stay: man(7) goes by position.
    let text = utf8(text).replacen(" 1  \"", " 1 \"\" \"", 1);
    files.insert(Path::new(MAN).join(format!("{name}.1")), text);
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `make generated` asks for it: then what is committed is written before it is compared.
#[allow(clippy::disallowed_methods, reason = "the ban is for secrets")]
fn update() -> bool {
    std::env::var_os("UPDATE_GENERATED").is_some()
}

#[test]
fn the_committed_pages_and_completions_are_the_command_lines() {
    let files = generated();
    assert!(files.len() > 10, "the commands must have been found: {:?}", files.keys());
    let head = ".TH KEYGATE-TOKEN-CREATE 1 \"\" \"keygate ";
    let page = &files[Path::new(MAN).join("keygate-token-create.1").as_path()];
    assert!(page.contains(head), "the title's fields are in their places: {page}");
    for (path, text) in &files {
        if update() {
            let path = root().join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let committed = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(committed == *text, "{} is out of date: run `make generated`", path.display());
    }
    for directory in [MAN, COMPLETIONS] {
        for entry in std::fs::read_dir(root().join(directory)).expect(directory) {
            let path = Path::new(directory).join(entry.expect(directory).file_name());
            assert!(files.contains_key(&path), "{} is of no command: remove it", path.display());
        }
    }
}

//! Where the clients are installed, how they are run, and which versions they have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A set of pins: libraries of a language that get along.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Environment {
    Python(&'static str),
    Node(&'static str),
    /// Whatever the system has.
    Bash,
}

pub(crate) const PYTHON: Environment = Environment::Python("current");
/// Another library for signed tokens than keygate's.
pub(crate) const PYTHON_JWT: Environment = Environment::Python("jwt");
pub(super) const PYTHON_PREVIOUS: Environment = Environment::Python("previous");
pub(super) const PYTHON_DECART: Environment = Environment::Python("decart");
pub(crate) const NODE: Environment = Environment::Node("current");
pub(super) const NODE_PREVIOUS: Environment = Environment::Node("previous");
pub(super) const NODE_DECART: Environment = Environment::Node("decart");
/// The reference server and client of durable streams.
pub(super) const NODE_STREAMS: Environment = Environment::Node("streams");

impl Environment {
    /// The command that runs `script`, but for its arguments.
    pub(crate) fn command(self, script: &str) -> Command {
        // It starts an interpreter on a machine that may be busy; but it must end.
        let mut command = Command::new("timeout");
        command.arg("120");
        match self {
            Self::Python(name) => {
                command.arg(installed().join("python").join(name).join("bin/python"));
                command.arg(scripts().join("python").join(script));
            }
            Self::Node(name) => {
                let place = installed().join("node");
                command.arg(place.join("runtime/node"));
                // A module is looked for where the script's link is, not where the script is.
                command.args(["--preserve-symlinks", "--preserve-symlinks-main"]);
                command.arg(place.join(name).join("scripts").join(script));
            }
            Self::Bash => {
                command.arg("bash").arg(scripts().join(script));
            }
        }
        command
    }

    /// The version at which a package is pinned.
    pub(super) fn version(self, package: &str) -> String {
        let (file, before, after) = match self {
            Self::Python(name) => (format!("python/{name}.txt"), format!("\n{package}=="), "\n"),
            Self::Node(name) => {
                (format!("node/{name}/package.json"), format!("\"{package}\": \""), "\"")
            }
            Self::Bash => return String::new(),
        };
        let pins = std::fs::read_to_string(scripts().join(&file)).expect("the pins are there");
        let rest = pins.split_once(&before).map(|(_, rest)| rest);
        let version = rest.and_then(|rest| rest.split(after).next());
        version.unwrap_or_else(|| panic!("{package} is not pinned in {file}")).to_owned()
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where the tests' build output is.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is below target/")
}

fn installed() -> PathBuf {
    target().join("clients")
}

/// Installs the clients, once for all tests.
pub(crate) fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let output = Command::new(scripts().join("setup")).arg(target()).output();
        let output = output.expect("tests/clients/setup can be run");
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the clients could not be installed: {problems}");
    });
}

/// The directory with the programs of the current Python environment.
pub(crate) fn python_programs() -> PathBuf {
    installed().join("python/current/bin")
}

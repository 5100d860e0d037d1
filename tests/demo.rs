//! `keygate demo` as somebody sees it who tries keygate for the first time: every command that it
//! prints is pasted into a shell.

use crate::clients;
use crate::support::process::{Process, keygate_in};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// As much of websocat as the demo's command needs, on a library that the clients have anyway.
const WEBSOCAT: &str = r#"
import sys, threading
from websockets.sync.client import connect
_, flag, header, url = sys.argv
assert flag == "-H", flag
socket = connect(url, additional_headers=[header.split(": ", 1)])
def show():
    for message in socket:
        print(message, flush=True)
showing = threading.Thread(target=show)
showing.start()
for line in sys.stdin:
    socket.send(line.rstrip("\n"))
socket.close()
showing.join()
"#;

struct Demo {
    process: Process,
    dir: Arc<TempDir>,
}

impl Demo {
    /// Starts one whose temporary directory is below `scratch`, with these arguments.
    async fn start(args: &[&str]) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        std::fs::create_dir(scratch(&dir)).expect("it is ours");
        let mut process = keygate_in(&dir, [&["demo"], args].concat())
            .env("TMPDIR", scratch(&dir).to_str().expect("UTF-8"))
            .start();
        process.wait_for_stdout("Ctrl-C").await;
        Self { process, dir }
    }

    /// What follows `name` at the start of a line.
    fn value(&self, name: &str) -> String {
        let text = self.process.stdout();
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in: {text}")).trim();
        line.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Pastes the commands below the title that begins so; gives all that they print.
    async fn paste(&self, title: &str) -> String {
        let text = self.process.stdout();
        let block = text.split("\n# ").find(|block| block.starts_with(title));
        let block = block.unwrap_or_else(|| panic!("no '{title}' in: {text}"));
        let (_title, rest) = block.split_once('\n').expect("commands below the title");
        let commands = rest.split("\n\n").next().unwrap_or_default().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = std::env::split_paths(&path);
        let own = [clients::python_programs(), self.dir.path().to_owned()];
        let path = std::env::join_paths(own.into_iter().chain(programs));
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-c", &format!("set -e\n{commands}")]);
        command.env_clear().env("PATH", path.expect("no colons")).current_dir(self.dir.path());
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("it returns").expect("bash is there");
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{}: {problems}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn provide_websocat(&self) {
        let file = self.dir.path().join("websocat");
        let python = clients::python_programs().join("python");
        let script = format!("#!{}\n{WEBSOCAT}", python.display());
        std::fs::write(&file, script).expect("the directory is ours");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, mode).expect("the file is ours");
    }

    /// Ctrl-C; the exit code, and what is left behind.
    async fn stop(mut self) -> (Option<i32>, Vec<PathBuf>) {
        self.process.signal("INT");
        (self.process.wait().await.code(), left(&scratch(&self.dir)))
    }
}

fn scratch(dir: &TempDir) -> PathBuf {
    dir.path().join("scratch")
}

fn left(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

#[tokio::test]
async fn every_command_it_prints_works_when_pasted() {
    let installed = tokio::task::spawn_blocking(clients::install);
    let demo = Demo::start(&["--port", "0"]).await;
    for (title, parts) in [
        ("OpenAI\n", &["You said: hello", "\"total_tokens\""][..]),
        ("OpenAI, streaming", &["\"content\":\"hello\"", "data: [DONE]"]),
        ("Anthropic", &["You said: hello", "end_turn"]),
        ("Gemini", &["You said: hello", "usageMetadata"]),
        ("A wrong token", &["HTTP/1.1 401", "x-keygate-error: token_invalid"]),
        ("The token at the provider itself", &["HTTP/1.1 401", "invalid_api_key"]),
        ("The operator's side", &["demo", "gpt-4o-mini*", "uptime_seconds"]),
    ] {
        let printed = demo.paste(title).await;
        for part in parts {
            assert!(printed.contains(part), "{title}: no {part} in: {printed}");
        }
    }
    installed.await.expect("the clients are installed");
    assert_eq!(demo.paste("Python").await.trim_end(), "You said: hello");
    demo.provide_websocat();
    let spoken = demo.paste("WebSocket").await;
    for part in ["session.created", "\"delta\":\"hello\"", "response.done"] {
        assert!(spoken.contains(part), "no {part} in: {spoken}");
    }
    let page = format!("curl -sSf {}/readyz", demo.value("admin "));
    let ready = Command::new("bash").args(["-c", &page]).output().expect("curl is there");
    assert!(ready.status.success(), "the admin address is right: {page}: {ready:?}");
    let log = std::fs::read_to_string(demo.value("cat ")).unwrap_or_default();
    assert!(!log.contains(&demo.value("token ")), "the access log shows no token: {log}");
    assert_eq!(demo.stop().await, (Some(0), vec![]), "it ends well and leaves nothing behind");
}

#[tokio::test]
async fn two_demos_get_along() {
    let (one, two) = (Demo::start(&[]).await, Demo::start(&[]).await);
    assert_ne!(one.value("gateway "), two.value("gateway "), "each has an address of its own");
    for demo in [one, two] {
        assert!(demo.paste("OpenAI\n").await.contains("You said: hello"));
        assert_eq!(demo.stop().await, (Some(0), vec![]));
    }
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let scratch = dir.path().to_str().expect("UTF-8");
    let launch = keygate_in(&dir, ["demo", "--port", &port]).env("TMPDIR", scratch);
    let output = launch.run().await;
    assert!(output.failure(1).contains(&port), "the message names it: {output:?}");
    let demos = left(dir.path());
    let is_demo = |path: &&PathBuf| path.to_string_lossy().contains("keygate-demo");
    assert_eq!(demos.iter().find(is_demo), None, "a failed start leaves nothing behind either");
}

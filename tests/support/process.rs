//! The real binary as a process of its own: started, watched, signalled, ended.
//!
//! It sees no environment but what the test gives it. Its output goes to files, which are handed
//! to the canary when it ends; its own id is the only thing that is ever signalled.

use super::{DEADLINE, canary, within};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often a file or a process is looked at; nothing tells when they change.
const POLL: Duration = Duration::from_millis(10);

/// A process that is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    command: Command,
    dir: Arc<TempDir>,
}

impl Launch {
    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Process {
        let output = |name: &str| {
            let (file, path) = tempfile::Builder::new()
                .prefix(name)
                .tempfile_in(self.dir.path())
                .and_then(|f| f.keep().map_err(io::Error::from))
                .expect("the directory can be written");
            (Stdio::from(file), path)
        };
        let ((out, stdout), (err, stderr)) = (output("stdout-"), output("stderr-"));
        self.command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = self.command.spawn().expect("the binary can be started");
        Process { child, stdout, stderr, status: None, dir: self.dir }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Output {
        let mut process = self.start();
        let status = process.wait().await;
        Output { status, stdout: process.stdout(), stderr: process.stderr() }
    }
}

/// What a finished process said.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output; panics unless the exit code is 0.
    #[track_caller]
    pub(crate) fn success(&self) -> &str {
        assert!(self.status.success(), "the command must succeed: {self:?}");
        &self.stdout
    }

    /// Standard error; panics unless the exit code is this one.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(self.status.code(), Some(code), "the command must fail: {self:?}");
        &self.stderr
    }
}

/// `keygate` with these arguments, in a directory of its own.
pub(crate) fn keygate<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Launch {
    keygate_in(&Arc::new(tempfile::tempdir().expect("a temporary directory")), args)
}

/// Another binary than the one that was built with the tests: `make bench` asks the released one.
pub(crate) fn chosen() -> Option<std::ffi::OsString> {
    std::env::var_os("KEYGATE_BINARY")
}

/// `keygate` in a directory that it shares with others.
pub(crate) fn keygate_in<S: AsRef<std::ffi::OsStr>>(
    dir: &Arc<TempDir>,
    args: impl IntoIterator<Item = S>,
) -> Launch {
    let chosen = chosen().unwrap_or_else(|| env!("CARGO_BIN_EXE_keygate").into());
    program(&chosen.to_string_lossy(), dir, args)
}

fn program<S: AsRef<std::ffi::OsStr>>(
    program: &str,
    dir: &Arc<TempDir>,
    args: impl IntoIterator<Item = S>,
) -> Launch {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir.path()).env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", dir.path());
    Launch { command, dir: Arc::clone(dir) }
}

/// A process. Dropping it kills it, if it is still there.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
    dir: Arc<TempDir>,
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it was started.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Whether it is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("it is our child");
        }
        self.status.is_none()
    }

    /// Waits for a line on standard error that contains `part`, and returns it. Panics when the
    /// process ends before.
    pub(crate) async fn wait_for_stderr(&mut self, part: &str) -> String {
        let line =
            |p: &Self| whole_lines(&p.stderr()).find(|l| l.contains(part)).map(str::to_owned);
        self.poll(&format!("{part:?} on standard error"), line).await
    }

    /// As [`wait_for_stderr`](Self::wait_for_stderr), for standard output.
    pub(crate) async fn wait_for_stdout(&mut self, part: &str) -> String {
        let line =
            |p: &Self| whole_lines(&p.stdout()).find(|l| l.contains(part)).map(str::to_owned);
        self.poll(&format!("{part:?} on standard output"), line).await
    }

    /// Waits until a connection to `addr` is accepted. Panics when the process ends before.
    pub(crate) async fn wait_for_accept(&mut self, addr: SocketAddr) {
        let connect = |_: &Self| std::net::TcpStream::connect_timeout(&addr, POLL).ok();
        self.poll(&format!("a listener at {addr}"), connect).await;
    }

    /// Sends it a signal by name: `TERM`, `HUP`, `KILL` …
    pub(crate) fn signal(&self, name: &str) {
        assert!(self.status.is_none(), "the process has ended, and its id may be another's");
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill exists");
        assert!(sent.success(), "signal {name} could not be sent to process {id}");
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let waiting = async {
            while self.is_running() {
                tokio::time::sleep(POLL).await;
            }
        };
        within("the process to end", waiting).await;
        self.status.expect("it has ended")
    }

    async fn poll<T>(&mut self, what: &str, found: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let running = self.is_running();
            if let Some(found) = found(self) {
                return found;
            }
            let late = start.elapsed() > DEADLINE;
            if late || !running {
                let how =
                    self.status.map_or("is still running".to_owned(), |s| format!("ended: {s}"));
                let (out, err) = (self.stdout(), self.stderr());
                panic!("no {what}; the process {how}; stdout:\n{out}\nstderr:\n{err}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let (out, err) = (std::fs::read(&self.stdout), std::fs::read(&self.stderr));
        canary::observe("stdout", &out.unwrap_or_default());
        canary::observe("stderr", &err.unwrap_or_default());
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::trim_end)
}

mod tests {
    use super::*;

    fn shell(script: &str) -> Launch {
        program("/bin/sh", &Arc::new(tempfile::tempdir().unwrap()), ["-c", script])
    }

    #[tokio::test]
    async fn keygate_itself_can_be_run() {
        let output = keygate(["--version"]).run().await;
        assert!(output.success().starts_with("keygate "), "{output:?}");
        let output = keygate(["no-such-command"]).run().await;
        assert!(output.failure(2).contains("no-such-command"), "clap names it: {output:?}");
    }

    #[tokio::test]
    async fn output_and_exit_code_are_kept_apart() {
        let output = shell("echo out; echo err >&2; exit 3").run().await;
        assert_eq!((output.stdout.as_str(), output.failure(3)), ("out\n", "err\n"));
    }

    #[tokio::test]
    async fn signals_arrive_and_lines_are_waited_for() {
        let script =
            "trap 'echo got it >&2; exit 7' TERM; echo ready >&2; while :; do sleep 0.01; done";
        let mut process = shell(script).start();
        assert_eq!(process.wait_for_stderr("read").await, "ready", "the whole line comes back");
        process.signal("TERM");
        assert_eq!(process.wait().await.code(), Some(7), "its own handler ended it");
        assert!(process.stderr().contains("got it"));
    }

    #[tokio::test]
    async fn environment_is_the_test_s_alone() {
        let output = shell("env").env("KEYGATE_X", "1").run().await;
        assert!(output.success().contains("KEYGATE_X=1"), "what was given is there");
        assert!(!output.stdout.contains("CARGO"), "nothing of ours is: {}", output.stdout);
    }

    #[tokio::test]
    async fn dropped_process_is_gone() {
        let process = shell("echo $$; exec sleep 600").start();
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "it was killed and waited for");
    }
}

//! `keygate reload` and `keygate status`: they ask the running gateway over its control socket.
//!
//! Both exit with 0 only if the gateway said so. Where the socket is follows from the configuration
//! file alone, without the secrets in it, which the one who asks may not be able to read.

use super::output;
use crate::config::{self, Problems};
use crate::control::socket::{Answer, Command, Request};
use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A reload opens stores and files.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    file: super::ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `keygate reload`
///
/// # Errors
/// The reload's own problems, or nobody answers.
pub fn reload(file: &super::ConfigFile) -> anyhow::Result<()> {
    // Where to ask is in the file: one that can't be read never reaches the gateway.
    let path =
        socket_path(&file.config).context("the reload was not asked for, what runs serves on")?;
    let answer = ask(&path, Command::Reload)?;
    let Answer { ok: true, message, .. } = answer else {
        bail!("the reload failed, the old configuration serves on:\n{}", problems(answer));
    };
    output::line(message.as_deref().unwrap_or("reloaded"));
    Ok(())
}

/// `keygate status`
///
/// # Errors
/// Nobody answers, or not as expected.
pub fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let answer = ask(&socket_path(&args.file.config)?, Command::Status)?;
    let Answer { ok: true, status: Some(status), .. } = answer else {
        bail!("the gateway does not say how it is: {}", problems(answer));
    };
    let text = if args.json { format!("{status:#}") } else { describe(&status) };
    output::line(&text);
    Ok(())
}

/// Where the gateway with this configuration file listens for commands.
fn socket_path(file: &Path) -> Result<PathBuf, Problems> {
    Ok(config::outline(file)?.control_socket)
}

fn ask(path: &Path, command: Command) -> anyhow::Result<Answer> {
    let stream = UnixStream::connect(path).map_err(|error| explain(path, &error))?;
    let lost = || format!("no answer from the gateway at {}", path.display());
    let line = exchange(&stream, command).with_context(lost)?;
    serde_json::from_slice(&line)
        .with_context(|| format!("{} does not answer as a keygate does", path.display()))
}

fn exchange(mut stream: &UnixStream, command: Command) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = serde_json::to_vec(&Request { command })?;
    request.push(b'\n');
    // One that refuses us answers without reading, and may have closed already.
    let sent = stream.write_all(&request);
    let mut line = Vec::new();
    BufReader::new(stream).take(LONGEST_ANSWER).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        sent?;
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

fn explain(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "no gateway runs with this configuration (there is no {path}); \
             start it with `keygate serve -c FILE`"
        ),
        ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "nobody answers at {path}: the gateway has died; start it with `keygate serve -c FILE`"
        ),
        ErrorKind::PermissionDenied => anyhow::anyhow!(
            "no permission to use {path}; run this as root or as the gateway's user, \
             with `sudo -u keygate`"
        ),
        _ => anyhow::anyhow!("can't connect to {path}: {error}"),
    }
}

fn problems(answer: Answer) -> String {
    answer.problems.unwrap_or_else(|| "it gives no reason; see its log".into())
}

/// One aligned line for each value, nested ones with their path.
fn describe(status: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), status, &mut rows);
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(key, value)| format!("{key:width$}  {value}")).collect();
    lines.join("\n")
}

fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let key = printable(key);
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(path, value, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{path}[{index}]"), item, rows);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(scalar).collect();
            rows.push((path, if words.is_empty() { "-".into() } else { words.join(", ") }));
        }
        other => rows.push((path, scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) => "-".into(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// Names of tokens and the like must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Answers one connection with this text; gives what was asked.
    fn answer_once(path: &Path, answer: &'static str) -> thread::JoinHandle<String> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        })
    }

    #[test]
    fn client_and_socket_understand_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let socket = crate::control::socket::bind(&path).unwrap();
        let operations = std::sync::Arc::new(crate::control::tests::Scripted::default());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let held = operations.clone();
        let served = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(crate::control::socket::serve(socket, held, stopped))
        });
        let answer = ask(&path, Command::Reload).unwrap();
        assert_eq!(answer.message.as_deref(), Some("2 providers, 3 tokens"));
        *operations.reload.lock() = Err("a: bad\nb: worse".into());
        let answer = ask(&path, Command::Reload).unwrap();
        assert!(!answer.ok, "the outcome arrives");
        assert_eq!(problems(answer), "a: bad\nb: worse", "every problem arrives");
        let status = ask(&path, Command::Status).unwrap().status.unwrap();
        assert_eq!(status["version"], "1.2.3");
        stop.send_replace(true);
        served.join().unwrap().unwrap();
    }

    #[test]
    fn whoever_does_not_answer_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let text = |path: &Path| format!("{:#}", ask(path, Command::Status).unwrap_err());
        assert!(text(&path).contains("no gateway runs"), "{}", text(&path));
        drop(UnixListener::bind(&path).unwrap());
        assert!(text(&path).contains("has died"), "{}", text(&path));
        let denied = explain(&path, &ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("as root or as the gateway's user"), "{denied}");
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (name, answer, expected) in
            [("a", "", "no answer"), ("b", "HTTP/1.1 400\r\n", "as a keygate does")]
        {
            let path = dir.path().join(name);
            let peer = answer_once(&path, answer);
            let error = format!("{:#}", ask(&path, Command::Reload).unwrap_err());
            assert!(error.contains(expected), "{answer:?}: {error}");
            assert_eq!(peer.join().unwrap(), "{\"command\":\"reload\"}\n");
        }
    }

    #[test]
    fn status_is_shown_as_aligned_lines() {
        let status = json!({
            "version": "1.2.3",
            "health": { "status": "ok", "since": null },
            "policies": ["browser", "ci"],
            "none": [],
            "keys": [{ "name": "A\u{1b}[2J", "errors": 0 }],
        });
        let mut lines: Vec<String> = describe(&status).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "health.since    -",
                "health.status   ok",
                "keys[0].errors  0",
                "keys[0].name    A\u{fffd}[2J",
                "none            -",
                "policies        browser, ci",
                "version         1.2.3",
            ]
        );
    }
}

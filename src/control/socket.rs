//! The control socket: `reload` and `status` for whoever runs the gateway.
//!
//! Invariant: only the gateway's own user and root are answered. The socket is never, not for a
//! moment, open to others: it is bound in a directory that only we can enter and moved into place.
//!
//! A request is one line of JSON, so is its answer. What the commands do is [`Operations`]' to say.

use super::Operations;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// Bytes of a request line.
const LONGEST_LINE: u64 = 64 * 1024;
/// For a request line to come, and for an answer to be taken.
const DEADLINE: Duration = Duration::from_secs(5);
/// Connections served at a time.
const CONNECTIONS: usize = 16;
/// How long answers under way may take once the gateway stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A bound control socket. Dropping it removes the file, unless that is another gateway's by then.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    place: (u64, u64),
    /// Who owns it: the user that we run as.
    owner: u32,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Read the configuration again.
    Reload,
    /// Say how you are.
    Status,
}

/// A request line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) command: Command,
}

/// An answer line.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problems: Option<String>,
}

/// Binds the socket at `path`, mode 0600, in place of one that a dead gateway left behind.
///
/// # Errors
/// Another gateway answers there, something that is no socket is there, or the directory is
/// missing or not ours to write to.
pub fn bind(path: &Path) -> io::Result<Socket> {
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("control socket {}: {error}", path.display()))
    };
    check_free(path).and_then(|()| place(path)).map_err(explain)
}

/// Answers requests until `stop` turns true, then removes the socket.
///
/// # Errors
/// The runtime can't watch the socket.
pub async fn serve(
    socket: Socket,
    operations: Arc<dyn Operations>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    socket.listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match stream {
            Ok((stream, _)) => {
                connections.spawn(answer_peer(
                    stream,
                    socket.owner,
                    operations.clone(),
                    stop.clone(),
                ));
            }
            Err(error) => {
                // Out of descriptors, most likely: those come back.
                log::warn!("the control socket can't take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(FAREWELL, all).await.is_err() {
        log::warn!("a command on the control socket was still under way at the end");
    }
    Ok(())
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.place);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("can't remove the control socket {}: {error}", self.path.display());
        }
    }
}

/// Whether a new socket may take this place.
fn check_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "something else is there; move it away",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another gateway answers there; stop it, or give this one a store of its own",
        )),
        // Nobody listens: it was left behind. It is replaced by the rename.
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A directory that only we can enter, removed with what is in it.
struct Workshop(PathBuf);

impl Workshop {
    const SOCKET: &str = "s";

    /// Beside `path`, under a name that is no longer than a socket's may be.
    fn beside(path: &Path) -> io::Result<Self> {
        let workshop = Self(path.with_file_name(format!(".kg{}", std::process::id())));
        // A predecessor with our process id may have died in between.
        workshop.clear();
        DirBuilder::new().mode(0o700).create(&workshop.0)?;
        Ok(workshop)
    }

    fn clear(&self) {
        // What is not there need not be removed; whatever else is wrong, creating reports.
        let _gone = fs::remove_file(self.0.join(Self::SOCKET));
        let _gone = fs::remove_dir(&self.0);
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.clear();
    }
}

fn place(path: &Path) -> io::Result<Socket> {
    let workshop = Workshop::beside(path)?;
    let made = workshop.0.join(Workshop::SOCKET);
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    let found = fs::symlink_metadata(&made)?;
    fs::rename(&made, path)?;
    Ok(Socket {
        listener,
        path: path.to_owned(),
        place: (found.dev(), found.ino()),
        owner: found.uid(),
    })
}

async fn answer_peer(
    stream: tokio::net::UnixStream,
    owner: u32,
    operations: Arc<dyn Operations>,
    stop: watch::Receiver<bool>,
) {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let (reader, mut writer) = stream.into_split();
    if !peer.as_ref().is_ok_and(|uid| may_ask(*uid, owner)) {
        log::warn!("refused a command on the control socket from user {peer:?}");
        let refusal = Answer::problem("only root and the gateway's own user may ask");
        let _gone = send(&mut writer, &refusal).await;
        return;
    }
    let mut reader = BufReader::new(reader);
    let mut stop = stop;
    loop {
        let line = tokio::select! {
            line = timeout(DEADLINE, read_line(&mut reader)) => line,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (answer, go_on) = match line {
            Ok(Ok(Some(line))) => (answer_line(&line, &operations).await, true),
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                (Answer::problem(error), false)
            }
            // It has gone, or says nothing.
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        };
        if send(&mut writer, &answer).await.is_err() || !go_on {
            return;
        }
    }
}

fn may_ask(peer: u32, owner: u32) -> bool {
    peer == owner || peer == 0
}

async fn read_line(
    reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE + 1).read_until(b'\n', &mut line).await?;
    if line.len() as u64 > LONGEST_LINE {
        let text = format!("a request has at most {LONGEST_LINE} bytes and ends with a line feed");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

async fn answer_line(line: &[u8], operations: &Arc<dyn Operations>) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            return Answer::problem(format!(
                "a request is {{\"command\":\"reload\"}} or {{\"command\":\"status\"}}: {error}"
            ));
        }
    };
    let operations = operations.clone();
    let done = spawn_blocking(move || match request.command {
        Command::Reload => match operations.reload() {
            Ok(message) => Answer { ok: true, message: Some(message), ..Answer::default() },
            Err(problems) => Answer::problem(problems),
        },
        Command::Status => {
            Answer { ok: true, status: Some(operations.status()), ..Answer::default() }
        }
    });
    done.await.unwrap_or_else(|error| {
        log::error!("a command on the control socket failed: {error}");
        Answer::problem("the command failed inside of the gateway; its log says more")
    })
}

async fn send(writer: &mut tokio::net::unix::OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(DEADLINE, writer.write_all(&line)).await?
}

impl Answer {
    fn problem(text: impl ToString) -> Self {
        Self { problems: Some(text.to_string()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scripted;
    use super::*;
    use serde_json::{Value, json};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Instant;

    /// A served socket in a directory of its own.
    struct Served {
        dir: tempfile::TempDir,
        operations: Arc<Scripted>,
        stop: watch::Sender<bool>,
        served: Option<std::thread::JoinHandle<io::Result<()>>>,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = bind(&dir.path().join("control.sock")).unwrap();
            let operations = Arc::new(Scripted::default());
            let (stop, stopped) = watch::channel(false);
            let held = operations.clone();
            let served = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()?;
                runtime.block_on(serve(socket, held, stopped))
            });
            Self { dir, operations, stop, served: Some(served) }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("control.sock")
        }

        fn connect(&self) -> UnixStream {
            let stream = UnixStream::connect(self.path()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        }

        fn ask(&self, line: &str) -> Value {
            let mut stream = self.connect();
            stream.write_all(line.as_bytes()).unwrap();
            read_answer(&mut BufReader::new(stream))
        }

        fn end(&mut self) -> io::Result<()> {
            self.stop.send_replace(true);
            self.served.take().map_or(Ok(()), |served| served.join().unwrap())
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.end().unwrap();
        }
    }

    fn read_answer(reader: &mut impl BufRead) -> Value {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "an answer is a whole line: {line:?}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn the_answer_carries_the_outcome_of_the_reload() {
        let served = Served::start();
        let reload = "{\"command\":\"reload\"}\n";
        assert_eq!(served.ask(reload), json!({"ok": true, "message": "2 providers, 3 tokens"}));
        *served.operations.reload.lock() = Err("listen: missing\npolicies.a: empty".into());
        let bad = json!({"ok": false, "problems": "listen: missing\npolicies.a: empty"});
        assert_eq!(served.ask(reload), bad);
        assert_eq!(served.operations.reloads.load(Relaxed), 2, "each request reloads once");
    }

    #[test]
    fn a_reload_that_panics_is_a_problem_and_the_socket_serves_on() {
        let served = Served::start();
        *served.operations.reload.lock() = Ok("panic".into());
        let answer = served.ask("{\"command\":\"reload\"}\n");
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["problems"].as_str().unwrap().contains("log"), "{answer}");
        assert_eq!(served.ask("{\"command\":\"status\"}\n")["ok"], true);
    }

    #[test]
    fn several_requests_follow_each_other_on_one_connection() {
        let served = Served::start();
        let mut stream = served.connect();
        stream.write_all(b"{\"command\":\"status\"}\n{\"command\":").unwrap();
        stream.write_all(b" \"reload\"}\n").unwrap();
        let mut reader = BufReader::new(stream);
        let status = read_answer(&mut reader);
        assert_eq!(status["status"]["version"], "1.2.3", "{status}");
        assert!(status.get("problems").is_none(), "only what there is to say: {status}");
        assert_eq!(read_answer(&mut reader)["message"], "2 providers, 3 tokens");
    }

    #[test]
    fn garbage_is_refused_without_an_effect() {
        let served = Served::start();
        let nested = format!("{}\n", "[".repeat(60_000));
        for line in [
            "\n",
            "reload\n",
            "{\"command\":\"explode\"}\n",
            "{\"command\":\"reload\",\"force\":true}\n",
            "{\"command\":\"reload\",\"command\":\"reload\"}\n",
            "{\"command\":\"reload\"} {}\n",
            "GET / HTTP/1.1\r\n\r\n",
            &nested,
        ] {
            let answer = served.ask(line);
            assert_eq!(answer["ok"], false, "{line:?}");
            assert!(answer["problems"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        }
        assert_eq!(served.operations.reloads.load(Relaxed), 0, "nothing was reloaded");
    }

    #[test]
    fn a_line_without_end_is_cut_off_at_its_limit() {
        let served = Served::start();
        let mut stream = served.connect();
        let endless = vec![b' '; LONGEST_LINE as usize + 1];
        stream.write_all(&endless).unwrap();
        let mut reader = BufReader::new(stream);
        let answer = read_answer(&mut reader);
        assert!(answer["problems"].as_str().unwrap().contains("65536"), "{answer}");
        let closed = reader.read_to_end(&mut Vec::new());
        assert_eq!(closed.unwrap(), 0, "and the connection is closed");
    }

    #[test]
    fn whoever_says_nothing_is_hung_up_on() {
        let served = Served::start();
        let started = Instant::now();
        let mut half = served.connect();
        half.write_all(b"{\"command\":").unwrap();
        let read = half.read(&mut [0; 1]).unwrap();
        assert_eq!(read, 0, "closed without an answer");
        let took = started.elapsed();
        assert!(took >= DEADLINE - Duration::from_millis(50), "not before the deadline: {took:?}");
    }

    #[test]
    fn nobody_else_may_even_connect() {
        let served = Served::start();
        let found = fs::symlink_metadata(served.path()).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(served.dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing but the socket stays behind: {left:?}");
        assert!(may_ask(0, 1000) && may_ask(1000, 1000), "root and our own user");
        assert!(!may_ask(1001, 1000), "and nobody else");
    }

    #[test]
    fn stopping_removes_the_socket_and_does_not_wait_for_idle_peers() {
        let mut served = Served::start();
        let _idle = served.connect();
        assert_eq!(served.ask("{\"command\":\"status\"}\n")["ok"], true);
        let started = Instant::now();
        served.end().unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
        assert!(!served.path().exists(), "the socket is gone");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the test needs a socket that was left behind");
        let first = bind(&path).unwrap();
        let error = bind(&path).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another gateway"), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "the first still listens");
        drop(first);
        assert!(!path.exists(), "its own file is removed");
    }

    #[test]
    fn a_successors_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let old = bind(&path).unwrap();
        let new = place(&path).unwrap();
        drop(old);
        assert!(UnixStream::connect(&path).is_ok(), "the old one must not remove the new one's");
        drop(new);
    }

    #[test]
    fn what_is_no_socket_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        let error = bind(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("control.sock") && error.contains("move it away"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = bind(&dir.path().join("no/control.sock")).map(|_| ()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    }
}

//! The access log: one JSON line a request.
//!
//! Invariant: [`AccessLog::write`] neither waits for the file nor wakes anybody per request. Lines
//! gather in one buffer, which a thread of its own writes out ten times a second, or when a mebibyte
//! has come together. If the file blocks, at most 4 MiB wait; further lines are dropped and counted.
//!
//! [`Line`] says what is in a line; when one is written is the proxy's to decide.

use super::sink::Sink;
use crate::config;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use super::line::Line;

/// Bytes upon which the buffer is written before its time. Without that, 100 ms of a fast machine's
/// lines would not fit.
const EARLY: usize = 1024 * 1024;

/// Where lines go. Dropping it writes what is left, for at most a second.
pub struct AccessLog {
    sink: Option<Sink>,
    path: Option<PathBuf>,
}

impl AccessLog {
    /// Opens what the configuration names; a file is created with mode 0640 and appended to.
    ///
    /// # Errors
    /// The file can't be opened, or the system gives no thread.
    pub fn open(target: &config::AccessLog) -> io::Result<Self> {
        let (out, path) = match target {
            config::AccessLog::None => return Ok(Self { sink: None, path: None }),
            // A descriptor of our own: the standard library's would hold a lock while it blocks.
            config::AccessLog::Stdout => {
                (File::from(io::stdout().as_fd().try_clone_to_owned()?), None)
            }
            config::AccessLog::File(path) => (open_file(path)?, Some(path.clone())),
        };
        Ok(Self { sink: Some(Sink::start(out, EARLY, report)?), path })
    }

    /// Takes in a line.
    pub fn write(&self, line: &Line<'_>) {
        if let Some(sink) = &self.sink {
            sink.append(line.room(), |out| line.write(out));
        }
    }

    /// Opens the file anew, for log rotation: what is not written yet goes there. Without a file
    /// it does nothing.
    ///
    /// # Errors
    /// The file can't be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        if let (Some(sink), Some(path)) = (&self.sink, &self.path) {
            sink.replace(open_file(path)?);
        }
        Ok(())
    }

    /// Waits until the lines taken in so far are written, at most a second.
    pub fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush();
        }
    }

    /// Lines lost since the start: the file blocked, or refused them.
    pub fn dropped(&self) -> u64 {
        self.sink.as_ref().map_or(0, Sink::dropped)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    // Opening a named pipe for writing alone waits until somebody reads it, perhaps for ever.
    let pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    options.read(pipe).open(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't open the access log {}: {error}", path.display()),
        )
    })
}

fn report(error: &io::Error) {
    log::error!("the access log can't be written: {error}; lines are lost until it can");
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::plain;
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    fn file_log(path: &Path) -> AccessLog {
        AccessLog::open(&config::AccessLog::File(path.to_owned())).unwrap()
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let id =
            |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].take();
        text.lines().map(|line| id(line).as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_reach_the_file_by_themselves_and_at_the_latest_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        fs::write(&path, "{\"request_id\":\"before\"}\n").unwrap();
        let log = file_log(&path);
        log.write(&Line { request_id: "timer", ..plain() });
        let deadline = Instant::now() + Duration::from_secs(10);
        while ids(&path).len() < 2 {
            assert!(Instant::now() < deadline, "nothing wrote the line");
            std::thread::sleep(Duration::from_millis(5));
        }
        log.write(&Line { request_id: "drop", ..plain() });
        drop(log);
        assert_eq!(ids(&path), ["before", "timer", "drop"], "appended, in order");
    }

    #[test]
    fn flush_waits_for_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = file_log(&path);
        for round in 1..=20 {
            log.write(&plain());
            log.flush();
            assert_eq!(ids(&path).len(), round, "written when flush returns");
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "others can't read it, nobody runs it: {mode:o}");
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = file_log(&path);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| log.write(&plain())));
            }
        });
        drop(log);
        assert_eq!(ids(&path).len(), 2000, "each parses, none is missing");
    }

    #[test]
    fn after_rotation_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = file_log(&path);
        log.write(&Line { request_id: "one", ..plain() });
        log.flush();
        fs::rename(&path, &old).unwrap();
        log.reopen().unwrap();
        log.write(&Line { request_id: "two", ..plain() });
        log.flush();
        assert_eq!((ids(&old), ids(&path)), (vec!["one".to_owned()], vec!["two".to_owned()]));

        fs::remove_dir_all(dir.path()).unwrap();
        let error = log.reopen().unwrap_err().to_string();
        assert!(error.contains("access.log"), "says which file: {error}");
    }

    #[test]
    fn a_named_pipe_that_nobody_reads_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success(), "mkfifo works");
        let started = Instant::now();
        let log = file_log(&path);
        let mut written = 0;
        while log.dropped() == 0 {
            log.write(&plain());
            written += 1;
            assert!(started.elapsed() < Duration::from_secs(60), "the buffer has no end");
        }
        assert!(written > 5_000, "only {written} lines fit");
        let mut reader = File::options().read(true).open(&path).unwrap();
        let mut some = [0; 9];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"{\"time\":\"", "and a late reader gets whole lines");
    }

    #[test]
    fn no_access_log_takes_lines_and_does_nothing() {
        let log = AccessLog::open(&config::AccessLog::None).unwrap();
        log.write(&plain());
        log.flush();
        log.reopen().unwrap();
        assert_eq!(log.dropped(), 0, "what nobody wanted is not lost");
    }
}

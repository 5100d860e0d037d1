//! Lines on their way out: one bounded buffer and one thread that writes it.
//!
//! Invariant: whoever appends waits for nobody but other appenders, however long the file or pipe
//! behind it blocks. What no longer fits is dropped and counted; so is what could not be written.
//! Lines are never torn: after a write that failed half-way, the next one starts on a new line.
//!
//! What a line looks like, and where lines go, is up to the access log and the diagnostics.

use parking_lot::{Condvar, Mutex};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that may wait to be written; as many again may be in the write that is under way.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;
/// How long a line waits at most, if the file takes it.
const PACE: Duration = Duration::from_millis(100);
/// How long [`Sink::flush`] and dropping wait for a file that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a descriptor that says "would block" is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// A bounded buffer with a thread that empties it into a file.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    /// The thread is woken early once this many bytes wait.
    early: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    settled: Condvar,
    dropped: AtomicU64,
    /// Nobody waits for the thread any more.
    abandoned: AtomicBool,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// Lines ever taken in.
    appended: u64,
    /// Of those, the ones that were written or given up.
    settled: u64,
    /// The thread is to write now, and has been told.
    urgent: bool,
    closing: bool,
    ended: bool,
    /// The file to go on with.
    next: Option<File>,
}

/// What the thread alone holds.
struct Writer {
    out: File,
    /// The file ends in half a line.
    torn: bool,
    /// The last write failed, and was reported.
    failing: bool,
    report: fn(&io::Error),
}

impl Sink {
    /// Starts the thread that writes to `out`. It is woken as soon as `early` bytes wait, else
    /// looks every 100 ms. `report` is told of the first of a row of failed writes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(out: File, early: usize, report: fn(&io::Error)) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            settled: Condvar::new(),
            dropped: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
        });
        let held = shared.clone();
        let writer = Writer { out, torn: false, failing: false, report };
        thread::Builder::new().name("log".into()).spawn(move || run(&held, writer))?;
        Ok(Self { shared, early })
    }

    /// Takes in one line of at most `room` bytes, which `write` appends, line feed included.
    pub(crate) fn append(&self, room: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.shared.state.lock();
        if state.buffer.len().saturating_add(room) > LIMIT {
            drop(state);
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        write(&mut state.buffer);
        state.appended += 1;
        if state.buffer.len() >= self.early && !state.urgent {
            // Once per buffer, not once per line.
            state.urgent = true;
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Waits until everything taken in so far was written or given up, at most a second.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        let target = state.appended;
        state.urgent = true;
        self.shared.wake.notify_one();
        while state.settled < target && !state.ended {
            if self.shared.settled.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Goes on with another file, from the next write on.
    pub(crate) fn replace(&self, out: File) {
        self.shared.state.lock().next = Some(out);
    }

    /// Lines lost since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        state.closing = true;
        self.shared.wake.notify_one();
        while !state.ended {
            if self.shared.settled.wait_until(&mut state, deadline).timed_out() {
                // It sits in a write that blocks, and ends with the process.
                self.shared.abandoned.store(true, Relaxed);
                return;
            }
        }
    }
}

fn run(shared: &Shared, mut writer: Writer) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.state.lock();
        if !state.urgent && !state.closing {
            shared.wake.wait_for(&mut state, PACE);
        }
        mem::swap(&mut state.buffer, &mut batch);
        let upto = state.appended;
        let closing = state.closing;
        let next = state.next.take();
        state.urgent = false;
        drop(state);

        if let Some(out) = next {
            writer.out = out;
            writer.torn = false;
        }
        let lost = writer.write(&batch, &shared.abandoned);
        if lost > 0 {
            shared.dropped.fetch_add(lost, Relaxed);
        }
        batch.clear();

        let mut state = shared.state.lock();
        state.settled = upto;
        state.ended = closing && state.buffer.is_empty();
        let ended = state.ended;
        drop(state);
        shared.settled.notify_all();
        if ended || shared.abandoned.load(Relaxed) {
            return;
        }
    }
}

impl Writer {
    /// Writes whole lines; gives how many were lost.
    fn write(&mut self, batch: &[u8], abandoned: &AtomicBool) -> u64 {
        if batch.is_empty() {
            return 0;
        }
        let mut rest = batch;
        let mut result = Ok(());
        if self.torn {
            let mut end: &[u8] = b"\n";
            result = self.push(&mut end, abandoned);
            self.torn = result.is_err();
        }
        if result.is_ok() {
            result = self.push(&mut rest, abandoned);
            let written = batch.len() - rest.len();
            let last = written.checked_sub(1).and_then(|at| batch.get(at));
            self.torn = last.is_some_and(|byte| *byte != b'\n');
        }
        match result {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                (self.report)(&error);
            }
            Err(_) => {}
        }
        memchr::memchr_iter(b'\n', rest).count() as u64
    }

    /// Writes `rest` and moves its start along.
    fn push(&mut self, rest: &mut &[u8], abandoned: &AtomicBool) -> io::Result<()> {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pipe that somebody else made non-blocking: wait as a blocking one would.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if abandoned.load(Relaxed) {
                        return Err(error);
                    }
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn pipe() -> (io::PipeReader, File) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, File::from(OwnedFd::from(writer)))
    }

    #[test]
    fn a_pipe_nobody_reads_costs_lines_and_no_time() {
        let (reader, out) = pipe();
        let sink = Sink::start(out, 64 * 1024, |_| {}).unwrap();
        let line = [b'x'; 1023];
        let started = Instant::now();
        let count = 3 * LIMIT / 1024;
        for _ in 0..count {
            sink.append(1024, |out| {
                out.extend_from_slice(&line);
                out.push(b'\n');
            });
        }
        assert!(started.elapsed() < Duration::from_secs(5), "appending must not wait");
        let dropped = sink.dropped();
        // At most one full buffer waits and one is being written.
        assert!(dropped >= (count - 2 * LIMIT / 1024 - 64) as u64, "only {dropped} dropped");

        let drain = thread::spawn(move || {
            let mut all = Vec::new();
            { reader }.read_to_end(&mut all).unwrap();
            all
        });
        sink.flush();
        drop(sink);
        let written = drain.join().unwrap();
        let lines = memchr::memchr_iter(b'\n', &written).count();
        assert_eq!(lines as u64 + dropped, count as u64, "every line is written or counted");
    }

    #[test]
    fn dropping_a_blocked_sink_ends_in_bounded_time() {
        let (_reader, out) = pipe();
        let sink = Sink::start(out, 1, |_| {}).unwrap();
        for _ in 0..100 {
            sink.append(4096, |out| out.extend_from_slice(&[b'\n'; 4096]));
        }
        let started = Instant::now();
        sink.flush();
        drop(sink);
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_sink_recovers() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::start(full, 1 << 20, |_| {}).unwrap();
        for _ in 0..3 {
            sink.append(8, |out| out.extend_from_slice(b"lost\n"));
        }
        sink.flush();
        assert_eq!(sink.dropped(), 3, "a full disk loses these three lines");
        let (mut reader, out) = pipe();
        sink.replace(out);
        sink.append(8, |out| out.extend_from_slice(b"kept\n"));
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept\n");
    }

    #[test]
    fn after_half_a_line_the_next_one_starts_on_its_own() {
        let (mut reader, out) = pipe();
        let mut writer = Writer { out, torn: true, failing: false, report: |_| {} };
        assert_eq!(writer.write(b"{}\n", &AtomicBool::new(false)), 0, "nothing is lost");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n{}\n", "the torn line is ended first");
    }
}

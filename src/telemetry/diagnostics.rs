//! Diagnostics: what `log` is told, as lines on standard error (`LEVEL target: message`).
//!
//! Invariant: no line leaves with a secret of the current configuration in it, or with a control
//! character (callers' text must not forge lines or drive a terminal). Logging never waits for
//! standard error and never fails: a thread of its own writes, what does not fit is dropped and
//! counted. Time is journald's to add.

use super::redact::Redactor;
use super::sink::Sink;
use arc_swap::ArcSwapOption;
use log::{Level, LevelFilter, Log, Metadata, Record};
use once_cell::sync::OnceCell;
use std::borrow::Cow;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of a message that are kept.
const LONGEST: usize = 8 * 1024;

static DIAGNOSTICS: Diagnostics =
    Diagnostics { journald: AtomicBool::new(false), sink: OnceCell::new() };
static REDACTOR: ArcSwapOption<Redactor> = ArcSwapOption::const_empty();

struct Diagnostics {
    journald: AtomicBool,
    sink: OnceCell<Sink>,
}

/// Sends what is logged to standard error from now on, `level` and what is graver. With `journald`
/// (the caller saw `JOURNAL_STREAM` set) lines begin with their syslog priority, `<4>`. Called
/// again, it changes both.
///
/// # Errors
/// Standard error is closed, the system gives no thread, or something else is the logger already.
pub fn install(level: LevelFilter, journald: bool) -> io::Result<()> {
    DIAGNOSTICS.journald.store(journald, Relaxed);
    DIAGNOSTICS.sink.get_or_try_init(|| {
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let sink = Sink::start(out, 1, |_| {})?;
        log::set_logger(&DIAGNOSTICS).map_err(|error| io::Error::other(error.to_string()))?;
        Ok::<_, io::Error>(sink)
    })?;
    log::set_max_level(level);
    Ok(())
}

/// Takes these secrets out of every line from now on.
pub fn set_redactor(redactor: Arc<Redactor>) {
    REDACTOR.store(Some(redactor));
}

/// Waits until what was logged is written, at most a second. For the end of the process.
pub fn flush() {
    DIAGNOSTICS.flush();
}

/// Lines lost since the start: standard error blocked, or refused them.
pub fn dropped() -> u64 {
    DIAGNOSTICS.sink.get().map_or(0, Sink::dropped)
}

impl Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        passes(metadata.target(), metadata.level(), log::max_level())
    }

    fn log(&self, record: &Record<'_>) {
        let Some(sink) = self.sink.get().filter(|_| self.enabled(record.metadata())) else {
            return;
        };
        let redactor = REDACTOR.load();
        let line = render(record, self.journald.load(Relaxed), redactor.as_deref());
        sink.append(line.len(), |out| out.extend_from_slice(line.as_bytes()));
    }

    fn flush(&self) {
        if let Some(sink) = self.sink.get() {
            sink.flush();
        }
    }
}

/// Pingora tells of every connection at info; only who asks for debug wants that. Below info it
/// prints whole requests, tokens included: never.
fn passes(target: &str, level: Level, max: LevelFilter) -> bool {
    let quiet = target.starts_with("pingora") && max < LevelFilter::Debug;
    let pingora = if quiet { LevelFilter::Warn } else { LevelFilter::Info };
    level <= if target.starts_with("pingora") { max.min(pingora) } else { max }
}

fn render(record: &Record<'_>, journald: bool, redactor: Option<&Redactor>) -> String {
    let text = format!("{}: {}", record.target(), record.args());
    // Cleaned before it is escaped or cut: either could hide a secret from the search.
    let text = match redactor.map(|redactor| redactor.clean(text.as_bytes())) {
        Some(Cow::Owned(cleaned)) => String::from_utf8_lossy(&cleaned).into_owned(),
        Some(Cow::Borrowed(_)) | None => text,
    };
    let mut line = String::with_capacity(text.len() + 16);
    if journald {
        line.push_str(priority(record.level()));
    }
    line.push_str(record.level().as_str());
    line.push(' ');
    push_escaped(&mut line, &text);
    line.push('\n');
    line
}

/// Syslog's numbers, as `sd-daemon(3)` has them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

fn push_escaped(line: &mut String, text: &str) {
    let end = line.len() + LONGEST;
    for c in text.chars() {
        if line.len() >= end {
            line.push('…');
            return;
        }
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // The two separators end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                if write!(line, "\\u{{{:x}}}", u32::from(c)).is_err() {
                    // Writing into a String does not fail.
                }
            }
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::secret::Secret;

    fn rendered(level: Level, message: &str, journald: bool) -> String {
        let redactor = Redactor::new([&Secret::new("sk-canary\nwith a break")]);
        render(
            &Record::builder()
                .level(level)
                .target("keygate::test")
                .args(format_args!("{message}"))
                .build(),
            journald,
            Some(&redactor),
        )
    }

    #[test]
    fn lines_have_level_target_and_message_and_a_priority_for_journald() {
        assert_eq!(rendered(Level::Warn, "careful", false), "WARN keygate::test: careful\n");
        for (level, expected) in [
            (Level::Error, "<3>ERROR keygate::test: x\n"),
            (Level::Warn, "<4>WARN keygate::test: x\n"),
            (Level::Info, "<6>INFO keygate::test: x\n"),
            (Level::Debug, "<7>DEBUG keygate::test: x\n"),
        ] {
            assert_eq!(rendered(level, "x", true), expected);
        }
    }

    #[test]
    fn callers_text_cannot_forge_a_line_or_drive_a_terminal() {
        let line = rendered(Level::Info, "a\n<3>ERROR b\r\t\x1b[2J\u{9b}1m\u{2028}\0é", false);
        assert_eq!(
            line,
            "INFO keygate::test: a\\n<3>ERROR b\\r\\t\\u{1b}[2J\\u{9b}1m\\u{2028}\\u{0}é\n"
        );
    }

    #[test]
    fn secrets_are_taken_out_even_where_escaping_or_cutting_would_hide_them() {
        let line = rendered(Level::Error, "key sk-canary\nwith a break failed", false);
        assert_eq!(line, "ERROR keygate::test: key [redacted] failed\n");
        let long = format!("{}sk-canary\nwith a break", "x".repeat(LONGEST - 20));
        let line = rendered(Level::Error, &long, false);
        assert!(!line.contains("sk-"), "nothing of it may be left at the cut: …{}", &line[8000..]);
    }

    #[test]
    fn long_messages_are_cut() {
        let line = rendered(Level::Info, &"é".repeat(100_000), false);
        assert!(line.len() < LONGEST + 64 && line.ends_with("…\n"), "{} bytes", line.len());
    }

    #[test]
    fn a_standard_error_that_blocks_or_is_closed_blocks_nobody() {
        let (reader, out) = io::pipe().unwrap();
        let sink = Sink::start(File::from(std::os::fd::OwnedFd::from(out)), 1, |_| {}).unwrap();
        let diagnostics =
            Diagnostics { journald: AtomicBool::new(false), sink: OnceCell::with_value(sink) };
        log::set_max_level(LevelFilter::Info);
        let message = "x".repeat(LONGEST);
        let dropped = || diagnostics.sink.get().map_or(0, Sink::dropped);
        let tell = || {
            diagnostics.log(
                &Record::builder().level(Level::Error).args(format_args!("{message}")).build(),
            );
        };
        (0..2000).for_each(|_| tell());
        let blocked = dropped();
        assert!(blocked > 500, "8 MiB can't wait for a pipe of 64 KiB: {blocked} dropped");
        drop(reader);
        diagnostics.flush();
        let closed = dropped();
        assert!(closed > blocked, "what waited is lost with the reader, and counted");
        tell();
        diagnostics.flush();
        assert_eq!(dropped(), closed + 1, "and so is what comes later");
    }

    #[test]
    fn pingora_is_heard_from_warn_on_unless_debug_is_asked_for() {
        use LevelFilter as F;
        for (target, level, max, expected) in [
            ("pingora_core::server", Level::Info, F::Info, false),
            ("pingora_core::server", Level::Warn, F::Info, true),
            ("pingora_core::server", Level::Warn, F::Error, false),
            ("pingora_proxy", Level::Info, F::Debug, true),
            ("pingora_proxy", Level::Debug, F::Trace, false),
            ("keygate::app", Level::Info, F::Info, true),
            ("keygate::app", Level::Debug, F::Info, false),
        ] {
            assert_eq!(passes(target, level, max), expected, "{target} {level} at {max}");
        }
    }
}

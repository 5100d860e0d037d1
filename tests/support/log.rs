//! Hands the log of the gateway that runs inside the test process to the canary.

use super::canary;
use log::{LevelFilter, Log, Metadata, Record};

/// The logger.
pub(super) struct ToCanary;

impl Log for ToCanary {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The caller's own library writes what the caller sends, which is no leak.
        !metadata.target().contains("tungstenite")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {} {}", record.level(), record.target(), record.args());
            canary::observe("log", line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Watches everything that is logged up to `level` from now on. A leak panics in the thread that
/// logged it, and the sweep finds it again. Returns false when another logger was there first.
pub(crate) fn watch(level: LevelFilter) -> bool {
    let first = log::set_logger(&ToCanary).is_ok();
    if first {
        log::set_max_level(level);
    }
    first
}

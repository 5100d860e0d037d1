//! The only place that prints. A closed pipe (`keygate token list | head`) is no failure.

use std::io::Write;

/// A line of result on standard output.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // The reader has gone; there is nobody left to tell.
    }
}

/// A problem on standard error.
pub fn problem(text: &str) {
    let mut err = std::io::stderr().lock();
    if writeln!(err, "keygate: {text}").is_err() {
        // As above.
    }
}

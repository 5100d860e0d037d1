//! Times work by the pass: a pass is long enough for the clock, and short enough that most are
//! spared an interruption. What counts is the median of many.
//!
//! `cargo bench` gives `--bench`; without it (`cargo test --all-targets`) a benchmark only proves
//! that it still works.

use std::io::Write;
use std::time::Instant;

/// How many passes.
const PASSES: usize = 2_000;

/// Whether this run measures, or only proves that it could.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Runs `pass`, which makes `calls` calls, over and over; gives the nanoseconds that one call
/// takes in the middle one of all passes.
///
/// # Errors
/// The first one of `pass`.
pub(crate) fn median_ns<E>(
    calls: usize,
    mut pass: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    let passes = if measures() { PASSES } else { 1 };
    // Caches, branch predictor and the processor's clock come up to speed.
    for _ in 0..passes / 4 {
        pass()?;
    }
    let mut samples = Vec::with_capacity(passes);
    for _ in 0..passes {
        let start = Instant::now();
        pass()?;
        samples.push(start.elapsed().as_secs_f64() * 1e9 / calls as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples.get(passes / 2).copied().unwrap_or_default())
}

/// Prints what was measured. A run that measured nothing has nothing to say.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn report(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    if measures() { writeln!(std::io::stdout(), "{line}") } else { Ok(()) }
}

//! A million stored policies: how long a start takes to read them, what each costs in memory, and what
//! a lookup costs. Once with a thousand lists that they share, once with a list of its own for each.
//!
//! `cargo bench` gives `--bench`; without it (`cargo test --all-targets`) it only proves that it still
//! works.

use keygate::store::Sqlite;
use keygate::stream::store::PolicyStore;
use keygate::stream::{Name, Page, Source, Streams, Verdict};
use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, params};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many policies, and lookups.
fn streams() -> u32 {
    if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 2_000 }
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = streams();
    for lists in [1_000, count] {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("keygate.db");
        let store = Arc::new(Sqlite::open(&path)?);
        fill(&Connection::open(&path)?, count, lists)?;
        let before = resident()?;
        let (begun, worked) = (Instant::now(), worked()?);
        let streams = Streams::new(Some(store as Arc<dyn PolicyStore>));
        streams.follow()?;
        let took = begun.elapsed();
        let worked = self::worked()?.saturating_sub(worked);
        let bytes = resident()?.saturating_sub(before) / u64::from(count);
        assert_eq!(streams.len(), count as usize, "all of them");
        let lookup = lookups(&streams, count);
        report(&format!(
            "{lists} lists: {count} policies read in {:.2} s ({:.2} s of a processor), {bytes} bytes each, {lookup:.0} ns a lookup",
            took.as_secs_f64(),
            worked.as_secs_f64()
        ))?;
    }
    Ok(())
}

fn path(n: u32) -> String {
    format!("/v1/stream/user-{n}/conversation")
}

fn origin(n: u32) -> String {
    format!("https://tenant-{n}.example.com")
}

/// As [`PolicyStore::change`] writes them, in one transaction.
fn fill(file: &Connection, count: u32, lists: u32) -> Result<(), Box<dyn Error>> {
    file.execute_batch("BEGIN")?;
    let sql = "INSERT INTO streams (stream, label, spelling, policy, pending, owner, changed_at)
        VALUES (?1, ?2, ?3, ?4, NULL, 0, 0)";
    let mut insert = file.prepare(sql)?;
    for n in 0..count {
        let name = Name::of("streams", &path(n));
        let label = format!("streams{}", path(n));
        insert.execute(params![name.key.as_slice(), label, name.spelling, origin(n % lists)])?;
    }
    drop(insert);
    Ok(file.execute_batch("COMMIT")?)
}

/// Names, too: a request has to make its own.
fn lookups(streams: &Streams, count: u32) -> f64 {
    let page = Page { source: Source::Site(origin(7).into_bytes().into()), own: None };
    let begun = worked().unwrap_or_default();
    let mut allowed = 0;
    for n in 0..count {
        let name = Name::of("streams", &path(n.wrapping_mul(2_654_435_761) % count));
        let verdict = streams.verdict(black_box(&name), &page, false);
        allowed += u32::from(matches!(verdict, Verdict::Allowed(_)));
    }
    black_box(allowed);
    let took = worked().unwrap_or_default().saturating_sub(begun);
    took.as_secs_f64() * 1e9 / f64::from(count)
}

/// Time that processors have spent on this.
fn worked() -> Result<Duration, Box<dyn Error>> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Bytes of memory in use.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("no such field")?.parse()?;
    Ok(pages * 4_096)
}

fn report(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")
}

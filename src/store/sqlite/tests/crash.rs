//! What the store has acknowledged survives the end of its process.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where a file of this name lies, the test below is the child that it starts and kills.
const MARK: &str = "to-be-killed";

/// Creates records and says so.
fn create_until_killed() -> ! {
    let store = Sqlite::open("keygate.db").unwrap();
    let run = std::process::id();
    for i in 0_u64.. {
        let record = record(&format!("{run}-{i}"));
        store.create(&record).unwrap();
        // In one piece: half an id would look like one that is missing.
        std::io::stderr().write_all(format!("created {}\n", record.id).as_bytes()).unwrap();
    }
    unreachable!("it is killed long before");
}

#[test]
fn acknowledged_creates_survive_kill_nine() {
    if Path::new(MARK).exists() {
        create_until_killed();
    }
    let t = Temporary::new();
    std::fs::write(t.dir.path().join(MARK), "").unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(
                concat!(module_path!(), "::acknowledged_creates_survive_kill_nine")
                    .trim_start_matches("keygate::"),
            )
            .current_dir(t.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for line in lines.by_ref().take(7 * round) {
            acknowledged.push(line.unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said between our decision and its end counts too.
        acknowledged.extend(lines.map_while(Result::ok));
        let begun = Instant::now();
        let store = Sqlite::open(t.path()).unwrap();
        let stored: HashSet<_> = store.all().unwrap().into_iter().map(|r| r.id).collect();
        assert!(begun.elapsed() < Duration::from_secs(2), "opens in {:?}", begun.elapsed());
        for line in &acknowledged {
            let id = line.strip_prefix("created ").unwrap_or_else(|| panic!("said {line:?}"));
            assert!(stored.contains(id), "{id} was acknowledged");
        }
        let check: String =
            t.raw().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
    assert!(acknowledged.len() >= 7 * 15, "{} creates were seen", acknowledged.len());
}

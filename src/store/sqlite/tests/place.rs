//! The store's files: whose they are, what is refused, and what happens when there is no room, a lock,
//! or another file in their place.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn a_newer_or_foreign_file_is_refused_and_left_alone() {
    let t = Temporary::new();
    t.raw().pragma_update(None, "user_version", 99).unwrap();
    let error = why(Sqlite::open(t.path()).err().unwrap());
    assert!(error.contains("schema 99") && error.contains("newer keygate"), "{error}");

    let foreign = t.dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    let error = why(Sqlite::open(&foreign).err().unwrap());
    assert!(error.contains("another program's"), "{error}");
    assert_eq!(std::fs::read(&foreign).unwrap(), before, "not a byte of it was changed");

    let text = t.dir.path().join("text.db");
    std::fs::write(&text, "not a database ".repeat(100)).unwrap();
    let error = why(Sqlite::open(&text).err().unwrap());
    assert!(error.contains("text.db") && error.contains("not a database"), "{error}");
}

#[test]
fn a_missing_directory_is_named() {
    let t = Temporary::new();
    let error = why(Sqlite::open(t.dir.path().join("missing/keygate.db")).err().unwrap());
    assert!(error.contains("missing does not exist; create it"), "{error}");
}

#[test]
fn all_files_are_for_their_owner_alone() {
    let t = Temporary::new();
    t.store.create(&record("a")).unwrap();
    for path in file::files(&t.path()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// Needs root, as the packaged command line has it; there is nothing to adopt otherwise.
#[test]
fn files_made_by_root_belong_to_the_directorys_owner() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    if std::fs::metadata(dir.path()).unwrap().uid() != 0 {
        return;
    }
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let path = dir.path().join("keygate.db");
    let owners =
        || file::files(&path).map(|f| std::fs::metadata(f).map_or((0, 0), |m| (m.uid(), m.gid())));
    let store = Sqlite::open(&path).unwrap();
    store.create(&record("a")).unwrap();
    assert_eq!(owners(), [(NOBODY, NOBODY); 3], "database, log and shared memory");
    drop(store);
    // As after root copied a backup into place.
    std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    let store = Sqlite::open(&path).unwrap();
    store.create(&record("b")).unwrap();
    assert_eq!(owners(), [(NOBODY, NOBODY); 3], "also what root left there");
}

#[test]
fn adoption_follows_no_link_out_of_the_directory() {
    const NOBODY: u32 = 65_534;
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if std::fs::metadata(dir.path()).unwrap().uid() != 0 {
        return;
    }
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let target = elsewhere.path().join("roots");
    let second = elsewhere.path().join("roots-too");
    std::fs::write(&target, "").unwrap();
    std::fs::write(&second, "").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("keygate.db")).unwrap();
    std::fs::hard_link(&second, dir.path().join("keygate.db-wal")).unwrap();
    file::adopt(&dir.path().join("keygate.db"));
    for path in [target, second] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0, "{} stays", path.display());
    }
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_keeps_what_was_acknowledged() {
    let t = Temporary::new();
    let pages: i64 = t.raw().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |pages: i64| {
        let opened = t.store.writing.lock();
        opened
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
    };
    limit(pages + 2);
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let record = Record { name: "x".repeat(500), ..record(&acknowledged.len().to_string()) };
        match t.store.create(&record) {
            Ok(()) => acknowledged.push(record),
            Err(error) => break why(error),
        }
    };
    assert!(refusal.contains("make room"), "{refusal}");
    assert!(!acknowledged.is_empty(), "some did fit");
    let other = Sqlite::open(t.path()).unwrap();
    assert_eq!(other.all().unwrap(), acknowledged, "no more and no less");
    let version = other.version().unwrap();
    limit(pages + 100);
    t.store.create(&record("after")).unwrap();
    assert_ne!(other.version().unwrap(), version, "the same connection goes on");
}

#[test]
fn a_locked_store_refuses_after_its_patience_and_reads_meanwhile() {
    let t = Temporary::new();
    t.store.create(&record("a")).unwrap();
    let mut raw = t.raw();
    let lock = raw.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let begun = Instant::now();
    t.store.version().unwrap();
    t.store.all().unwrap();
    let error = why(t.store.touch(&[("tok_a".into(), 1)]).unwrap_err());
    assert!(begun.elapsed() < Duration::from_secs(2), "reads and touch do not wait long");
    assert!(error.contains("locked"), "{error}");
    let error = why(t.store.create(&record("b")).unwrap_err());
    assert!(begun.elapsed() >= connection::PATIENCE, "a change waits its turn");
    assert!(error.contains("try again"), "{error}");
    drop(lock);
    t.store.create(&record("b")).unwrap();
}

#[test]
fn another_file_in_the_stores_place_is_followed_and_a_missing_one_fails() {
    let t = Temporary::new();
    t.store.create(&record("old")).unwrap();
    let before = t.store.version().unwrap();
    let aside = t.dir.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    for file in file::files(&t.path()) {
        std::fs::rename(&file, aside.join(file.file_name().unwrap())).unwrap();
    }
    let error = why(t.store.create(&record("lost")).unwrap_err());
    assert!(error.contains("put the file back"), "nothing is acknowledged into the void: {error}");
    assert!(t.store.version().is_err());
    Sqlite::open(t.path()).unwrap().create(&record("new")).unwrap();
    assert_ne!(t.store.version().unwrap(), before, "another file is another version");
    assert_eq!(t.store.all().unwrap(), [record("new")]);
}

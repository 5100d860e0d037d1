//! Keeps the index that authentication asks in step with the store.
//!
//! A thread asks the store's version five times a second and reads everything when it differs, so
//! a change by any process holds here within a second. While the store fails, what is known stays
//! known. Once a minute, and when it is stopped, it writes down when tokens were last used.
//! Ending the sessions of tokens that are gone is left to whoever is told of the change.

use super::entry;
use crate::token::index::Index;
use crate::token::store::{StoreError, TokenStore};
use crate::values::clock::Clock;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(200);
/// With very many tokens, reading them all must leave the processor to others in between.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often last uses are written.
const TOUCH_EVERY_MS: u64 = 60_000;

/// The thread that follows a store. Dropping it writes the last uses and stops it.
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: Mutex<bool>,
    wake: Condvar,
    /// The last reading succeeded.
    reads: AtomicBool,
    /// The last writing succeeded.
    writes: AtomicBool,
}

/// What else is done at each look, and who is told.
pub struct Hooks {
    /// Reads what is not in the index; gives whether open sessions may be concerned.
    pub read: Box<dyn FnMut(bool) -> Result<bool, StoreError> + Send>,
    /// Told of changes, on the follower's thread.
    pub changed: Box<dyn Fn() + Send>,
    /// Told when the store can't be read.
    pub lost: Box<dyn Fn() + Send>,
}

struct Work {
    store: Arc<dyn TokenStore>,
    index: Arc<Index>,
    clock: Clock,
    hooks: Hooks,
    shared: Arc<Shared>,
    seen: Option<i64>,
    /// Tokens whose unreadable grant was reported.
    reported: HashSet<String>,
    /// Uses up to here (wall clock) are written.
    written_ms: u64,
    /// When to write again (steady clock).
    write_at_ms: u64,
}

/// Fills the index from the store, then keeps it in step.
///
/// # Errors
/// The store can't be read, or there is no thread to be had.
pub fn follow(
    store: Arc<dyn TokenStore>,
    index: Arc<Index>,
    clock: Clock,
    hooks: Hooks,
) -> std::io::Result<Follower> {
    let shared = Arc::new(Shared {
        stop: Mutex::new(false),
        wake: Condvar::new(),
        reads: AtomicBool::new(true),
        writes: AtomicBool::new(true),
    });
    let write_at_ms = clock.steady_ms().saturating_add(TOUCH_EVERY_MS);
    let mut work = Work {
        store,
        index,
        clock,
        hooks,
        shared: shared.clone(),
        seen: None,
        reported: HashSet::new(),
        written_ms: 0,
        write_at_ms,
    };
    let version = work.store.version().map_err(std::io::Error::other)?;
    work.load().map_err(std::io::Error::other)?;
    (work.hooks.read)(true).map_err(std::io::Error::other)?;
    work.seen = Some(version);
    let thread =
        std::thread::Builder::new().name("store-follow".to_owned()).spawn(move || work.run())?;
    Ok(Follower { shared, thread: Some(thread) })
}

impl Follower {
    /// Whether the store could be read and written when that was last tried. While it is false,
    /// known tokens keep working, and changes by others are not seen.
    pub fn healthy(&self) -> bool {
        let alive = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        alive && self.shared.reads.load(Relaxed) && self.shared.writes.load(Relaxed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        *self.shared.stop.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that follows the store had died");
        }
    }
}

impl Shared {
    /// Waits that long, or until it is time to stop; gives whether it is.
    fn stopped_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut stop = self.stop.lock();
        while !*stop {
            if self.wake.wait_until(&mut stop, deadline).timed_out() {
                break;
            }
        }
        *stop
    }
}

impl Work {
    fn run(mut self) {
        let shared = self.shared.clone();
        let mut pause = POLL;
        while !shared.stopped_within(pause) {
            let begun = Instant::now();
            // A panic in what is told of changes must not freeze the tokens as they are.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step()))
                .unwrap_or_else(|_| Err(StoreError::Failed("following it panicked".to_owned())));
            if outcome.is_err() {
                (self.hooks.lost)();
            }
            note(&shared.reads, "read", outcome.as_ref().err());
            if self.clock.steady_ms() >= self.write_at_ms {
                self.write_uses();
            }
            pause = begun.elapsed().clamp(POLL, LONGEST_PAUSE);
        }
        self.write_uses();
    }

    /// One look at the store. The version is read first: a change that comes between the two is
    /// then read twice, never missed.
    fn step(&mut self) -> Result<(), StoreError> {
        let version = self.store.version()?;
        let changed = self.seen != Some(version);
        if changed {
            self.load()?;
        }
        let concerned = (self.hooks.read)(changed)?;
        if changed || concerned {
            (self.hooks.changed)();
        }
        self.seen = Some(version);
        Ok(())
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let records = self.store.all()?;
        let mut unreadable = HashSet::new();
        let entries: Vec<_> = records
            .into_iter()
            .map(|record| {
                let (entry, problem) = entry::entry(&record);
                if let Some(why) = problem {
                    if !self.reported.contains(&record.id) {
                        log::error!("token '{}' is refused everything: {why}", record.id);
                    }
                    unreadable.insert(record.id);
                }
                entry
            })
            .collect();
        self.reported = unreadable;
        self.index.replace_stored(entries);
        Ok(())
    }

    fn write_uses(&mut self) {
        let now = self.clock.wall_ms();
        // The wall clock may have been set back: what is used from then on counts again.
        let uses = self.index.used_since(self.written_ms.min(now));
        let outcome = self.store.touch(&uses);
        if outcome.is_ok() {
            // A use in this very millisecond may still come; writing one twice does no harm.
            self.written_ms = now.saturating_sub(1);
        }
        note(&self.shared.writes, "written", outcome.as_ref().err());
        self.write_at_ms = self.clock.steady_ms().saturating_add(TOUCH_EVERY_MS);
    }
}

/// Keeps a flag of health, and says so when it turns.
fn note(flag: &AtomicBool, done: &str, error: Option<&StoreError>) {
    let was_good = flag.swap(error.is_none(), Relaxed);
    match error {
        Some(e) if was_good => {
            log::error!("the store can't be {done}; known tokens keep working: {e}");
        }
        None if !was_good => log::info!("the store can be {done} again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sqlite;
    use crate::token::GrantSource;
    use crate::token::store::{Change, Record};
    use crate::values::ids::TokenDigest;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A store that fails when told to.
    #[derive(Default)]
    struct Fake {
        records: Mutex<Vec<Record>>,
        version: Mutex<i64>,
        touched: Mutex<Vec<Vec<(String, u64)>>>,
        broken: AtomicBool,
        full: AtomicBool,
        loads: AtomicUsize,
        polls: AtomicUsize,
    }

    impl Fake {
        /// Waits until the follower has looked so many times more.
        fn polled(&self, times: usize) {
            let goal = self.polls.load(Relaxed) + times;
            until("polls", || self.polls.load(Relaxed) >= goal);
        }
        fn set(&self, records: Vec<Record>) {
            *self.records.lock() = records;
            *self.version.lock() += 1;
        }
        fn check(&self) -> Result<(), StoreError> {
            let broken = self.broken.load(Relaxed);
            if broken { Err(StoreError::Failed("broken".into())) } else { Ok(()) }
        }
    }

    impl TokenStore for Fake {
        fn create(&self, _: &Record) -> Result<(), StoreError> {
            unreachable!("following never writes records")
        }
        fn all(&self) -> Result<Vec<Record>, StoreError> {
            self.check()?;
            self.loads.fetch_add(1, Ordering::SeqCst);
            Ok(self.records.lock().clone())
        }
        fn get(&self, _: &str) -> Result<Record, StoreError> {
            unreachable!("following reads everything")
        }
        fn update(&self, _: &str, _: &Change) -> Result<Record, StoreError> {
            unreachable!("following never writes records")
        }
        fn delete(&self, _: &str) -> Result<(), StoreError> {
            unreachable!("following never writes records")
        }
        fn version(&self) -> Result<i64, StoreError> {
            self.polls.fetch_add(1, Relaxed);
            self.check()?;
            Ok(*self.version.lock())
        }
        fn ticket_key(&self) -> Result<zeroize::Zeroizing<[u8; 64]>, StoreError> {
            unreachable!("following asks for no key")
        }
        fn touch(&self, uses: &[(String, u64)]) -> Result<(), StoreError> {
            if self.full.load(Relaxed) {
                return Err(StoreError::Failed("full".into()));
            }
            self.touched.lock().push(uses.to_vec());
            Ok(())
        }
    }

    fn hooks(changed: Box<dyn Fn() + Send>) -> Hooks {
        Hooks { read: Box::new(|_| Ok(false)), changed, lost: Box::new(|| ()) }
    }

    fn record(name: &str) -> Record {
        Record {
            id: format!("tok_{name}"),
            name: name.into(),
            digest: TokenDigest::of(name.as_bytes()),
            last4: "last".into(),
            created_at: 1,
            expires_at: None,
            disabled: false,
            may_mint: false,
            policy: None,
            grant: None,
            last_used_at: None,
        }
    }

    fn until(what: &str, holds: impl FnMut() -> bool) {
        within(Duration::from_secs(10), what, holds);
    }

    fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    struct Setup {
        store: Arc<Fake>,
        index: Arc<Index>,
        clock: Clock,
        /// How many tokens the index had at each call of `on_change`.
        changes: Arc<Mutex<Vec<usize>>>,
        follower: Follower,
    }

    fn setup(records: Vec<Record>) -> Setup {
        let store = Arc::new(Fake::default());
        store.set(records);
        let index = Arc::new(Index::new());
        let clock = Clock::manual(1_000_000);
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (seen, told) = (index.clone(), changes.clone());
        let on_change = hooks(Box::new(move || told.lock().push(seen.len())));
        let follower = follow(store.clone(), index.clone(), clock.clone(), on_change).unwrap();
        Setup { store, index, clock, changes, follower }
    }

    fn knows(index: &Index, name: &str) -> bool {
        index.lookup(&TokenDigest::of(name.as_bytes())).is_some()
    }

    #[test]
    fn the_index_is_filled_before_the_first_request_and_follows_within_a_second() {
        let t = setup(vec![record("a")]);
        assert!(knows(&t.index, "a"), "loaded before follow returns");
        assert!(t.changes.lock().is_empty(), "the first load is no change");
        t.store.set(vec![record("b"), record("c")]);
        within(Duration::from_secs(1), "change", || !t.changes.lock().is_empty());
        assert_eq!(*t.changes.lock(), [2], "told once, after the index changed");
        assert!(knows(&t.index, "b") && knows(&t.index, "c") && !knows(&t.index, "a"));
    }

    #[test]
    fn an_unchanged_store_is_not_read_again() {
        let t = setup(vec![record("a")]);
        t.store.set(vec![record("a")]);
        until("second load", || t.store.loads.load(Ordering::SeqCst) == 2);
        t.store.polled(3);
        assert_eq!(t.store.loads.load(Ordering::SeqCst), 2, "only the version is asked");
    }

    #[test]
    fn a_failing_store_leaves_known_tokens_and_shows_in_health() {
        let t = setup(vec![record("a")]);
        assert!(t.follower.healthy(), "a store that answers is healthy");
        t.store.broken.store(true, Relaxed);
        t.store.set(vec![]);
        until("degraded", || !t.follower.healthy());
        assert!(knows(&t.index, "a"), "known tokens keep working");
        t.store.broken.store(false, Relaxed);
        until("healthy", || t.follower.healthy());
        assert!(t.index.is_empty(), "what changed meanwhile is caught up with");
    }

    #[test]
    fn a_store_that_fails_at_the_start_is_an_error() {
        let store = Arc::new(Fake::default());
        store.broken.store(true, Relaxed);
        let outcome = follow(
            store,
            Arc::new(Index::new()),
            Clock::manual(1),
            hooks(Box::new(|| unreachable!())),
        );
        assert!(outcome.is_err(), "nothing is known yet that could keep working");
    }

    #[test]
    fn a_panic_of_the_listener_does_not_stop_the_following() {
        let store = Arc::new(Fake::default());
        let index = Arc::new(Index::new());
        let first = AtomicBool::new(true);
        let on_change = hooks(Box::new(move || assert!(!first.swap(false, Relaxed), "once")));
        let follower = follow(store.clone(), index.clone(), Clock::manual(1), on_change).unwrap();
        store.set(vec![record("a")]);
        until("a", || knows(&index, "a"));
        store.set(vec![record("b")]);
        until("b", || knows(&index, "b"));
        until("healthy", || follower.healthy());
    }

    #[test]
    fn last_uses_are_written_once_a_minute_and_when_stopped() {
        let t = setup(vec![record("a"), record("b")]);
        let used = |name: &str| {
            let token = t.index.lookup(&TokenDigest::of(name.as_bytes())).unwrap();
            token.counters.last_used_ms.store(t.clock.wall_ms(), Relaxed);
        };
        used("a");
        t.store.polled(2);
        assert!(t.store.touched.lock().is_empty(), "not before the minute is over");
        t.clock.advance(TOUCH_EVERY_MS);
        until("touch", || !t.store.touched.lock().is_empty());
        assert_eq!(*t.store.touched.lock(), [vec![("tok_a".to_owned(), 1_000_000)]]);
        t.clock.advance(5);
        used("b");
        let store = t.store.clone();
        drop(t.follower);
        let second = vec![("tok_b".to_owned(), 1_060_005)];
        assert_eq!(store.touched.lock().get(1), Some(&second), "only what is new, at the stop");
    }

    #[test]
    fn uses_that_could_not_be_written_are_kept_and_show_in_health() {
        let t = setup(vec![record("a")]);
        let token = t.index.lookup(&TokenDigest::of(b"a")).unwrap();
        token.counters.last_used_ms.store(t.clock.wall_ms(), Relaxed);
        t.store.full.store(true, Relaxed);
        t.clock.advance(TOUCH_EVERY_MS);
        until("degraded", || !t.follower.healthy());
        t.store.full.store(false, Relaxed);
        t.clock.advance(TOUCH_EVERY_MS);
        until("healthy", || t.follower.healthy());
        assert_eq!(*t.store.touched.lock(), [vec![("tok_a".to_owned(), 1_000_000)]]);
    }

    #[test]
    fn stopping_is_prompt() {
        let stop = || {
            let t = setup(vec![record("a")]);
            let begun = Instant::now();
            drop(t.follower);
            begun.elapsed()
        };
        // The best of five: a busy machine may delay one, a sleeping thread delays all.
        let best = (0..5).map(|_| stop()).min().unwrap();
        assert!(best < POLL / 2, "{best:?} is no less than a poll takes");
    }

    #[test]
    fn a_hundred_thousand_tokens_are_followed() {
        const MANY: usize = 100_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keygate.db");
        let store = Arc::new(Sqlite::open(&path).unwrap());
        let mut raw = rusqlite::Connection::open(&path).unwrap();
        let tx = raw.transaction().unwrap();
        for i in 0..MANY {
            let digest = TokenDigest::of(i.to_string().as_bytes());
            tx.prepare_cached(
                "INSERT INTO tokens (id, name, sha256, last4, created_at, grant_json)
                 VALUES (?1, 'load', ?2, 'last', 1, '{\"models\":[\"gpt-4o*\"]}')",
            )
            .unwrap()
            .execute(rusqlite::params![format!("tok_{i}"), digest.0.as_slice()])
            .unwrap();
        }
        tx.commit().unwrap();
        let index = Arc::new(Index::new());
        let follower =
            follow(store.clone(), index.clone(), Clock::system(), hooks(Box::new(|| {}))).unwrap();
        let token = index.lookup(&TokenDigest::of(b"99999")).unwrap();
        assert!(matches!(token.grant, GrantSource::Inline(_)), "with its grant");
        assert_eq!(index.len(), MANY);
        store.create(&record("one-more")).unwrap();
        // A second is the promise; an unoptimised build on a busy machine gets some slack.
        within(Duration::from_secs(5), "one more", || knows(&index, "one-more"));
        assert!(follower.healthy());
    }
}

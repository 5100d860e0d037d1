//! Creations against a store that two processes share, and a stream server that knows what each stream
//! was created with: whatever happens in between, nobody reads beyond that.

mod world;

use super::creation::Wish;
use super::name::Key;
use super::store::{Content, Decide, Failed, PolicyStore, Row};
use super::streams::Refusal;
use super::turn::Turn;
use super::*;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const APP: &str = "https://app.test";
const EVIL: &str = "https://evil.test";

/// What processes share.
#[derive(Default)]
struct Disk {
    rows: Mutex<(i64, HashMap<Key, Row>)>,
    alive: Mutex<HashSet<i64>>,
    broken: AtomicBool,
}

/// One process's way to it.
struct Fake {
    disk: Arc<Disk>,
    owner: i64,
}

impl PolicyStore for Fake {
    fn since(&self, seq: i64, visit: &mut dyn FnMut(Row)) -> Result<i64, Failed> {
        self.works()?;
        let rows = self.disk.rows.lock();
        let mut changed: Vec<_> = rows.1.values().filter(|row| row.seq > seq).cloned().collect();
        changed.sort_by_key(|row| row.seq);
        changed.into_iter().for_each(visit);
        Ok(rows.0)
    }

    fn change(&self, key: &Key, _: &str, decide: &mut Decide<'_>) -> Result<Option<Row>, Failed> {
        self.works()?;
        let mut rows = self.disk.rows.lock();
        let Some(content) = decide(rows.1.get(key)) else { return Ok(rows.1.get(key).cloned()) };
        rows.0 += 1;
        let row = Row { seq: rows.0, key: *key, content };
        rows.1.insert(*key, row.clone());
        Ok(Some(row))
    }

    fn owner(&self) -> Result<i64, Failed> {
        Ok(self.owner)
    }

    fn mark(&self) -> Option<u64> {
        Some(self.disk.rows.lock().0.unsigned_abs())
    }

    fn lives(&self, owner: i64) -> bool {
        self.disk.alive.lock().contains(&owner)
    }

    fn forget(&self, _: u64) -> Result<(), Failed> {
        self.works()
    }
}

impl Fake {
    fn works(&self) -> Result<(), Failed> {
        if self.disk.broken.load(Relaxed) { Err(Failed("broken".into())) } else { Ok(()) }
    }
}

impl Disk {
    fn process(self: &Arc<Self>, owner: i64) -> Arc<Streams> {
        self.alive.lock().insert(owner);
        let streams = Streams::new(Some(Arc::new(Fake { disk: self.clone(), owner })));
        streams.follow().expect("it can be read");
        Arc::new(streams)
    }

    fn content(&self) -> Option<Content> {
        let content = self.rows.lock().1.get(&name().key).map(|row| row.content.clone());
        content.filter(|content| !content.is_empty())
    }
}

fn name() -> Name {
    Name::of("streams", "/v1/stream/x")
}

fn wish(brought: Option<&str>) -> Wish {
    let brought = brought.map(Policy::stored);
    Wish { name: name(), label: "x".into(), brought, inherited: None }
}

fn turn(streams: &Streams) -> Turn {
    streams.turns.try_take(name().key).expect("nobody else has it")
}

fn begin(streams: &Arc<Streams>, brought: Option<&str>) -> Creation {
    let begun = streams.begin(wish(brought), turn(streams), 1_000);
    begun.unwrap_or_else(|why| panic!("it begins: {why:?}"))
}

fn create(streams: &Arc<Streams>, brought: Option<&str>) {
    begin(streams, brought).created().expect("the store works");
}

fn allows(streams: &Streams, origin: &str) -> bool {
    let page = Page { source: Source::Site(origin.as_bytes().into()), own: None };
    streams.follow().expect("the store works");
    matches!(streams.verdict(&name(), &page, false), Verdict::Allowed(_))
}

#[test]
fn a_pending_policy_is_durable_and_in_force_before_anything_is_forwarded() {
    let disk = Arc::new(Disk::default());
    let (one, other) = (disk.process(1), disk.process(2));
    create(&one, Some(APP));
    let creation = begin(&one, Some(EVIL));
    let content = disk.content().expect("it is stored");
    assert_eq!(content.current.as_deref(), Some(APP));
    assert_eq!(content.pending.expect("it is pending").policy.as_ref(), EVIL);
    for streams in [&one, &other] {
        assert!(!allows(streams, APP) && !allows(streams, EVIL), "both are needed");
    }
    assert!(!creation.agrees(), "a stream that exists has another one");
    creation.dropped().expect("the store works");
    for streams in [&one, &other] {
        assert!(allows(streams, APP) && !allows(streams, EVIL), "as before");
    }
}

#[test]
fn one_process_at_a_time_creates_a_stream() {
    let disk = Arc::new(Disk::default());
    let (one, other) = (disk.process(1), disk.process(2));
    let creation = begin(&one, Some(APP));
    assert!(one.turns.try_take(name().key).is_none(), "here it is a turn");
    let busy = other.begin(wish(Some("*")), turn(&other), 2_000);
    assert!(matches!(busy, Err(Refusal::Busy(_))), "elsewhere the row says so");
    drop(busy);
    creation.created().expect("the store works");
    assert!(!allows(&other, EVIL));
    begin(&other, Some("*")).dropped().expect("its turn has come");
    assert!(!allows(&one, EVIL));
}

#[test]
fn what_a_killed_process_left_stays_in_force_until_it_is_settled() {
    let disk = Arc::new(Disk::default());
    let one = disk.process(1);
    std::mem::forget(begin(&one, Some(APP)));
    disk.alive.lock().clear();
    let next = disk.process(2);
    assert!(!allows(&next, EVIL) && allows(&next, APP));
    let leftover = next.leftover(&name()).expect("nobody will settle it");
    assert!(next.leftover(&name()).is_none(), "one asks at a time");
    next.settle(&name(), "x", (leftover, false), 30_000).expect("the store works");
    assert!(!allows(&next, EVIL), "the request may still be on its way");
    next.forget(0).expect("the store works");
    assert!(next.leftover(&name()).is_none(), "asked a moment ago");
    let again = Leftovers::of(&next).settle(true, 30_000);
    assert!(again && !allows(&next, EVIL) && allows(&next, APP), "it exists: it has its policy");
    assert_eq!(disk.content().expect("stored").pending, None);
}

/// Leftovers without waiting for the second between two questions.
struct Leftovers<'a>(&'a Arc<Streams>);

impl<'a> Leftovers<'a> {
    fn of(streams: &'a Arc<Streams>) -> Self {
        Self(streams)
    }

    fn settle(&self, exists: bool, now_ms: u64) -> bool {
        self.0.ask_again();
        let Some(leftover) = self.0.leftover(&name()) else { return false };
        self.0.settle(&name(), "x", (leftover, exists), now_ms).expect("the store works");
        true
    }
}

#[test]
fn a_leftover_of_a_stream_that_never_came_goes_when_it_can_no_longer_come() {
    let disk = Arc::new(Disk::default());
    let one = disk.process(1);
    std::mem::forget(begin(&one, Some(APP)));
    disk.alive.lock().clear();
    let next = disk.process(2);
    assert!(Leftovers::of(&next).settle(false, 61_001));
    assert_eq!(disk.content(), None, "nothing is left");
    assert!(allows(&next, EVIL));
}

#[test]
fn a_store_that_fails_takes_nothing_back() {
    let disk = Arc::new(Disk::default());
    let one = disk.process(1);
    disk.broken.store(true, Relaxed);
    let begun = one.begin(wish(Some(APP)), turn(&one), 1);
    assert!(matches!(begun, Err(Refusal::Failed(_))), "nothing may be forwarded");
    drop(begun);
    disk.broken.store(false, Relaxed);
    let creation = begin(&one, Some(APP));
    disk.broken.store(true, Relaxed);
    assert!(creation.created().is_err(), "the caller must not be told that it was created");
    let page = Page { source: Source::Site(EVIL.as_bytes().into()), own: None };
    assert_eq!(one.verdict(&name(), &page, false), Verdict::Refused, "it stays in force");
    assert!(one.follow().is_err());
    assert_eq!(one.verdict(&name(), &page, false), Verdict::Unknown, "nobody knows");
    let program = Page { source: Source::Program, own: None };
    assert!(matches!(one.verdict(&name(), &program, false), Verdict::Allowed(_)));
    disk.broken.store(false, Relaxed);
    assert!(!allows(&one, EVIL) && allows(&one, APP), "and comes back");
    assert!(Leftovers::of(&one).settle(true, 5_000), "this process's own is over, too");
}

#[test]
fn a_request_that_did_not_get_through_leaves_nothing() {
    let disk = Arc::new(Disk::default());
    let one = disk.process(1);
    drop(begin(&one, Some(APP)));
    assert_eq!(disk.content(), None, "it was not sent, or not whole");
    let mut whole = begin(&one, Some(APP));
    whole.forwarded(true);
    drop(whole);
    let pending = disk.content().expect("it may have been acted upon").pending.expect("pending");
    assert_eq!(pending.owner, 0, "nobody's any more");
    assert!(!allows(&one, EVIL));
}

#[test]
fn a_deleted_stream_keeps_what_has_changed_since() {
    let disk = Arc::new(Disk::default());
    let (one, other) = (disk.process(1), disk.process(2));
    create(&one, Some(APP));
    let seen = one.known(&name()).expect("known").seq;
    one.remove(&name(), "x", seen).expect("the store works");
    assert_eq!(disk.content(), None);
    create(&one, Some(APP));
    let seen = one.known(&name()).expect("known").seq;
    assert!(allows(&other, APP));
    let creation = begin(&other, Some(EVIL));
    one.remove(&name(), "x", seen).expect("the store works");
    creation.created().expect("the store works");
    one.remove(&name(), "x", seen).expect("the store works");
    assert!(!allows(&one, APP) && allows(&one, EVIL), "the new one stays");
}

//! The policies of all streams: the index, kept in step with the durable store, and who may change
//! what.
//!
//! Everything that asks the store blocks; the proxy calls it off its threads, with a deadline.

use super::Policy;
use super::creation::{Creation, Wish};
use super::decision::{Page, Standing, Verdict, decide};
use super::index::{Index, Known};
use super::name::{Key, Name};
use super::store::{Content, Failed, Pending, PolicyStore, Row};
use super::turn::{Turn, Turns};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// How old the last look at the store may be before nobody knows what others have stored.
const STALE: Duration = Duration::from_secs(10);
/// How often a stream server is asked about one leftover.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a request that was sent may still lie before a stream server that says that there is no
/// such stream.
const IN_TRANSIT_MS: u64 = 60_000;

/// The policies of all streams.
pub struct Streams {
    index: Index,
    store: Option<Arc<dyn PolicyStore>>,
    /// Who creates.
    pub turns: Arc<Turns>,
    /// How far the store was read.
    seen: Mutex<i64>,
    /// The store's mark before that was read.
    mark: AtomicU64,
    /// Which of the stores that were at its place was read.
    incarnation: AtomicI64,
    reads: AtomicBool,
    begun: Instant,
    read_at_ms: AtomicU64,
    asked: Mutex<HashMap<Key, Instant>>,
    /// Whoever looks at the store for requests: one at a time, however long it takes.
    pub looking: Arc<tokio::sync::Mutex<()>>,
}

/// Why a creation can't begin.
#[derive(Debug)]
pub enum Refusal {
    /// Another process creates this stream; the turn for another try.
    Busy(Turn),
    /// Its policy stands under another spelling of its path.
    Misspelt,
    /// There is no store.
    NoStore,
    /// The store failed.
    Failed(Failed),
}

/// A pending policy whose request is over, or whose process is gone.
#[derive(Debug)]
pub struct Leftover {
    turn: Turn,
    since_ms: u64,
}

impl Streams {
    /// Without a store nothing can be stored, and nothing is.
    pub fn new(store: Option<Arc<dyn PolicyStore>>) -> Self {
        if let Some(Err(why)) = store.as_ref().map(|store| store.owner()) {
            log::error!("streams can't be created with a policy: {why}");
        }
        Self {
            index: Index::new(),
            mark: AtomicU64::new(0),
            incarnation: AtomicI64::new(0),
            reads: AtomicBool::new(store.is_none()),
            store,
            turns: Arc::default(),
            seen: Mutex::new(0),
            begun: Instant::now(),
            read_at_ms: AtomicU64::new(0),
            asked: Mutex::default(),
            looking: Arc::default(),
        }
    }

    /// Takes in what was changed since the last look, by whomever.
    ///
    /// # Errors
    /// The store can't be read: from now on nobody knows.
    pub fn follow(&self) -> Result<(), Failed> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut seen = self.seen.lock();
        // Asked first: what changes meanwhile is looked for once more.
        let mark = store.mark();
        let mut read = store.since(*seen, &mut |row| self.index.take(&row));
        let incarnation = store.incarnation();
        if read.is_ok() && self.incarnation.swap(incarnation, AcqRel) != incarnation {
            // Another file has taken the place of the one before: what it says is all that counts.
            // Until it is read nobody knows.
            self.lost();
            self.index.clear();
            read = store.since(0, &mut |row| self.index.take(&row));
        }
        match read {
            Ok(last) => {
                *seen = last;
                self.mark.store(mark.unwrap_or(0), Release);
                self.read_at_ms.store(self.elapsed_ms(), Release);
                self.reads.store(true, Release);
                Ok(())
            }
            Err(why) => {
                self.lost();
                Err(why)
            }
        }
    }

    /// Whether somebody has changed something that was not taken in yet: a stream may have been created
    /// by another process since the last look.
    pub fn is_behind(&self) -> bool {
        let mark = self.store.as_ref().and_then(|store| store.mark());
        mark.is_some_and(|mark| mark != self.mark.load(Acquire))
    }

    /// The store can't be read.
    pub fn lost(&self) {
        self.reads.store(self.store.is_none(), Release);
    }

    /// Forgets streams that have had no policy since `before_ms`.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn forget(&self, before_ms: u64) -> Result<(), Failed> {
        let now = Instant::now();
        self.asked.lock().retain(|_, at| now.duration_since(*at) < ASK_AGAIN);
        self.store.as_ref().map_or(Ok(()), |store| store.forget(before_ms))
    }

    /// How many streams have a policy.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Grows with every change of any policy.
    pub fn generation(&self) -> u64 {
        self.index.generation()
    }

    /// What is known of a stream.
    pub fn known(&self, name: &Name) -> Option<Known> {
        self.index.get(&name.key)
    }

    /// Whether a request may go on. `established` is one whose answer has begun: what is only pending
    /// does not end it.
    pub fn verdict(&self, name: &Name, page: &Page, established: bool) -> Verdict {
        if page.is_browser() && !established && !self.is_in_step() {
            return Verdict::Unknown;
        }
        let Some(mut known) = self.known(name) else { return decide(&Standing::default(), page) };
        if known.spelling != name.spelling {
            return Verdict::Misspelt;
        }
        if established {
            known.standing.pending = None;
        }
        decide(&known.standing, page)
    }

    /// What the answers about a stream say of its policy.
    pub fn told(&self, name: &Name) -> Option<Policy> {
        self.known(name)?.standing.current
    }

    /// The one policy that stands for all that are in force.
    pub fn in_force(&self, name: &Name) -> Option<Policy> {
        let standing = self.known(name)?.standing;
        both(standing.current, standing.pending)
    }

    /// Begins a creation: what it brings is pending, in memory and durably, when this returns.
    ///
    /// # Errors
    /// Nothing may be forwarded.
    pub fn begin(
        self: &Arc<Self>,
        wish: Wish,
        turn: Turn,
        now_ms: u64,
    ) -> Result<Creation, Refusal> {
        let known = self.known(&wish.name);
        if known.as_ref().is_some_and(|known| known.spelling != wish.name.spelling) {
            return Err(Refusal::Misspelt);
        }
        let seq = known.as_ref().map_or(0, |known| known.seq);
        let standing = known.map(|known| known.standing).unwrap_or_default();
        let Some(wanted) = wish.wanted().cloned() else {
            return Ok(Creation::new(self.clone(), wish, turn, (seq, standing.current, false)));
        };
        let Some(store) = &self.store else { return Err(Refusal::NoStore) };
        // Also where it asks for what is in force: a deletion that is under way may take that away.
        let owner = store.owner().map_err(Refusal::Failed)?;
        let (mut busy, mut misspelt) = (false, false);
        let stored = self.change(&wish.name, &wish.label, &mut |row| {
            let content = row.map(|row| row.content.clone()).filter(|c| !c.is_empty());
            let content = content.unwrap_or_default();
            misspelt = !content.is_empty() && content.spelling != wish.name.spelling;
            busy = content.pending.as_ref().is_some_and(|p| self.is_elsewhere(p));
            let policy: Box<str> = wanted.as_str().into();
            let pending = Some(Pending { policy, owner, since_ms: now_ms });
            let spelling = wish.name.spelling;
            (!busy && !misspelt).then(|| Content { spelling, current: settled(&content), pending })
        });
        match stored.map_err(Refusal::Failed)? {
            _ if misspelt => Err(Refusal::Misspelt),
            _ if busy => Err(Refusal::Busy(turn)),
            Some(row) => {
                let before = row.content.current.as_deref().map(Policy::stored);
                Ok(Creation::new(self.clone(), wish, turn, (row.seq, before, true)))
            }
            None => Err(Refusal::Failed(Failed("the store took nothing".to_owned()))),
        }
    }

    /// A pending policy of this stream that no request will settle; given once a second at most.
    pub fn leftover(&self, name: &Name) -> Option<Leftover> {
        let (owner, since_ms) = self.known(name)?.held?;
        // Whoever has the turn will settle it.
        let turn = self.turns.try_take(name.key)?;
        let pending = Pending { policy: Box::default(), owner, since_ms };
        if self.is_elsewhere(&pending) {
            return None;
        }
        let (mut asked, now) = (self.asked.lock(), Instant::now());
        let due = asked.get(&name.key).is_none_or(|at| now.duration_since(*at) >= ASK_AGAIN);
        due.then(|| {
            asked.insert(name.key, now);
            Leftover { turn, since_ms }
        })
    }

    #[cfg(test)]
    pub(super) fn ask_again(&self) {
        self.asked.lock().clear();
    }

    /// Settles a leftover by whether the stream server has the stream. Which of the two policies it was
    /// created with nobody knows: what both allow stays. A stream that is not there may still come
    /// into being by the request that was sent, for a while.
    ///
    /// # Errors
    /// The store failed: both stay in force.
    pub fn settle(
        &self,
        name: &Name,
        label: &str,
        (leftover, exists): (Leftover, bool),
        now_ms: u64,
    ) -> Result<(), Failed> {
        let in_transit = now_ms.saturating_sub(leftover.since_ms) < IN_TRANSIT_MS;
        if !exists && in_transit {
            return Ok(());
        }
        let done = self.change(name, label, &mut |row| {
            let content = &row?.content;
            let pending = content.pending.as_ref()?;
            if pending.since_ms != leftover.since_ms || self.is_elsewhere(pending) {
                return None;
            }
            let current = if exists { settled(content) } else { None };
            Some(Content { spelling: content.spelling, current, pending: None })
        });
        drop(leftover.turn);
        done.map(|_| ())
    }

    /// The stream is gone: so is its policy, unless that has changed since it was `seen`, or somebody
    /// creates the stream.
    ///
    /// # Errors
    /// The store failed: the policy stays.
    pub fn remove(&self, name: &Name, label: &str, seen: i64) -> Result<(), Failed> {
        if seen == 0 {
            return Ok(());
        }
        let unchanged = |row: &Row| row.seq == seen && row.content.pending.is_none();
        let spelling = name.spelling;
        let gone = Content { spelling, ..Content::default() };
        self.change(name, label, &mut |row| row.filter(|row| unchanged(row)).map(|_| gone.clone()))
            .map(|_| ())
    }

    /// One change, in the store and then here.
    pub(super) fn change(
        &self,
        name: &Name,
        label: &str,
        decide: &mut super::store::Decide<'_>,
    ) -> Result<Option<Row>, Failed> {
        let Some(store) = &self.store else { return Ok(None) };
        let row = store.change(&name.key, label, decide)?;
        if let Some(row) = &row {
            self.index.take(row);
        }
        Ok(row)
    }

    /// Whether another process that lives has it under way. What is this process's own is over: whoever
    /// asks has the turn.
    pub(super) fn is_elsewhere(&self, pending: &Pending) -> bool {
        let Some(store) = &self.store else { return false };
        pending.owner != 0
            && store.owner().map_or(true, |own| own != pending.owner)
            && store.lives(pending.owner)
    }

    /// Whether what is known here is what is stored, as far as anybody can tell.
    pub fn is_in_step(&self) -> bool {
        let age = self.elapsed_ms().saturating_sub(self.read_at_ms.load(Acquire));
        self.store.is_none() || self.reads.load(Acquire) && u128::from(age) < STALE.as_millis()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What stays of a row whose pending policy nobody will settle.
fn settled(content: &Content) -> Option<Box<str>> {
    let read = |text: &str| Policy::stored(text);
    let pending = content.pending.as_ref().map(|pending| read(&pending.policy));
    let both = both(content.current.as_deref().map(read), pending);
    both.map(|policy| policy.as_str().into())
}

/// The one policy that stands for both.
pub(super) fn both(one: Option<Policy>, other: Option<Policy>) -> Option<Policy> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.narrower(&other)),
        (one, other) => one.or(other),
    }
}

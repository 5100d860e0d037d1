//! One `PUT` on its way, from before anything is forwarded until its answer is settled.
//!
//! Whatever becomes of the request, its pending policy is settled or left to be: dropping a creation
//! that was not answered takes it back where the stream server can't have acted upon it, and else leaves
//! it in force, to be settled by asking the stream server.

use super::Policy;
use super::name::Name;
use super::store::{Content, Failed, Pending, Row};
use super::streams::{Streams, both};
use super::turn::Turn;
use std::sync::Arc;

/// What a `PUT` asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which stream.
    pub name: Name,
    /// What people call it.
    pub label: Box<str>,
    /// Its own header.
    pub brought: Option<Policy>,
    /// What a fork has from its source.
    pub inherited: Option<Policy>,
}

impl Wish {
    /// What the stream is to have, if it is created.
    pub fn wanted(&self) -> Option<&Policy> {
        self.brought.as_ref().or(self.inherited.as_ref())
    }
}

/// How much of the request may have reached the stream server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Not all of it: a request that is not whole is not acted upon (RFC 9112 section 8).
    Part,
    /// All of it.
    Whole,
}

/// A creation under way.
pub struct Creation {
    streams: Arc<Streams>,
    wish: Wish,
    /// The row that is to be unchanged; 0: none was there.
    seq: i64,
    /// What the stream has, if it exists.
    before: Option<Policy>,
    /// Its policy is pending in the store.
    stored: bool,
    /// What became of the request so far.
    reached: Reached,
    settled: bool,
    /// Held until the end.
    turn: Option<Turn>,
    /// Given up on another thread already: what is dropped there unfinished stays as it is.
    late: bool,
}

impl Creation {
    pub(super) fn new(
        streams: Arc<Streams>,
        wish: Wish,
        turn: Turn,
        (seq, before, stored): (i64, Option<Policy>, bool),
    ) -> Self {
        let (reached, turn) = (Reached::Part, Some(turn));
        Self { streams, wish, seq, before, stored, reached, settled: false, turn, late: false }
    }

    /// The request goes out; `whole` once its last byte does.
    pub fn forwarded(&mut self, whole: bool) {
        if whole {
            self.reached = Reached::Whole;
        }
    }

    /// Whether a stream that exists already has what this asks for, or it asks for nothing.
    pub fn agrees(&self) -> bool {
        self.wish.brought.is_none() || self.wish.brought == self.before
    }

    /// A fork's source has this policy by now: the copy may hold what was written under it.
    pub fn inherits(&mut self, now: Option<Policy>) {
        if self.wish.brought.is_none() {
            self.wish.inherited = both(self.wish.inherited.take(), now);
        }
    }

    /// The stream was created: what it brought is all that counts, durably.
    ///
    /// # Errors
    /// The store failed: what was in force stays, beside what is pending.
    pub fn created(mut self) -> Result<(), Failed> {
        // Whatever it had read by then, it has acted.
        self.reached = Reached::Whole;
        if self.stored || self.seq != 0 || self.wish.wanted().is_some() {
            let wish = &self.wish;
            self.streams.change(&wish.name, &wish.label, &mut |row| self.replaced(row))?;
        }
        self.settled = true;
        Ok(())
    }

    /// It was not: all is as before, durably.
    ///
    /// # Errors
    /// The store failed: what was in force stays, beside what is pending.
    pub fn dropped(mut self) -> Result<(), Failed> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), Failed> {
        if self.stored {
            self.amend(&|content| Content { pending: None, ..content.clone() })?;
        }
        self.settled = true;
        Ok(())
    }

    /// No answer came. Where the stream server can't have acted, all is as before; else both policies
    /// stay, nobody's any more.
    fn give_up(&mut self) -> Result<(), Failed> {
        if self.reached == Reached::Part {
            return self.take_back();
        }
        log::warn!("{}: its creation got no answer, both policies stay", self.wish.label);
        self.amend(&|content| {
            let pending = content.pending.clone().map(|pending| Pending { owner: 0, ..pending });
            Content { pending, ..content.clone() }
        })
    }

    /// Changes the row as it was left.
    fn amend(&self, change: &dyn Fn(&Content) -> Content) -> Result<(), Failed> {
        let ours = |row: &&Row| row.seq == self.seq;
        let mut decide = |row: Option<&Row>| row.filter(ours).map(|row| change(&row.content));
        self.streams.change(&self.wish.name, &self.wish.label, &mut decide).map(|_| ())
    }

    fn replaced(&self, row: Option<&Row>) -> Option<Content> {
        let (wanted, spelling) = (self.wish.wanted(), self.wish.name.spelling);
        let Some(wanted) = wanted else {
            // It was created with nothing. What somebody else has stored meanwhile stays.
            let row = row.filter(|row| row.seq == self.seq)?;
            let elsewhere = |p| self.streams.is_elsewhere(p);
            let free = !row.content.pending.as_ref().is_some_and(elsewhere);
            return free.then_some(Content { spelling, ..Content::default() });
        };
        let unchanged = row.is_some_and(|row| row.seq == self.seq);
        let other = row.filter(|_| !unchanged).map(|row| &row.content);
        let current = other.and_then(|c| c.current.as_deref()).map(Policy::stored);
        let pending = other.and_then(|c| c.pending.clone());
        let pending = pending.filter(|p| self.streams.is_elsewhere(p));
        let current = both(current, Some(wanted.clone())).map(|policy| policy.as_str().into());
        Some(Content { spelling, current, pending })
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        // A runtime that is stopping drops what was to run on it: whoever starts next settles it.
        if self.settled || !self.stored || self.late {
            return;
        }
        // The turn goes along: nobody begins before it is done.
        let mut late = Self {
            streams: self.streams.clone(),
            wish: self.wish.clone(),
            seq: self.seq,
            before: None,
            stored: true,
            reached: self.reached,
            settled: false,
            turn: self.turn.take(),
            late: true,
        };
        let mut settle = move || {
            let done = late.give_up();
            late.settled = true;
            if let Err(why) = done {
                log::error!("{}: a pending policy stays in force: {why}", late.wish.label);
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(settle)),
            Err(_) => settle(),
        }
    }
}

//! What a durable store of policies has to offer. Implemented in `crate::store`.

use super::name::Key;

/// Why a store could not do something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// A policy that a `PUT` would put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its text.
    pub policy: Box<str>,
    /// The process whose request it is; 0: nobody's any more.
    pub owner: i64,
    /// When it was stored, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What is stored for a stream; nothing at all is as good as no row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The spelling of its path, see [`super::Name`].
    pub spelling: i64,
    /// What it was created with.
    pub current: Option<Box<str>>,
    /// What is under way.
    pub pending: Option<Pending>,
}

impl Content {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.pending.is_none()
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Grows with every change of any row.
    pub seq: i64,
    /// The stream's.
    pub key: Key,
    /// What it says.
    pub content: Content,
}

/// Given what is stored, what is to be stored instead; `None` leaves it.
pub type Decide<'a> = dyn FnMut(Option<&Row>) -> Option<Content> + 'a;

/// A durable store of policies, shared by any number of processes. Calls block.
pub trait PolicyStore: Send + Sync {
    /// Shows every row that was changed behind `seq`, in the order of the changes; gives how far that
    /// goes.
    ///
    /// # Errors
    /// It can't be read.
    fn since(&self, seq: i64, visit: &mut dyn FnMut(Row)) -> Result<i64, Failed>;
    /// Changes a stream's row by what `decide` makes of it as it is; no other change comes between.
    /// Gives the row as it is then, durable. `label` is what people call the stream.
    ///
    /// # Errors
    /// It can't be written: nothing has changed.
    fn change(
        &self,
        key: &Key,
        label: &str,
        decide: &mut Decide<'_>,
    ) -> Result<Option<Row>, Failed>;
    /// What this process is called while it lives.
    ///
    /// # Errors
    /// It can't be made known to others.
    fn owner(&self) -> Result<i64, Failed>;
    /// Differs after any process changed any row, as soon as the change returns to whoever made it. Next
    /// to nothing to ask, and asks no disk. `None` where there is no such thing: rows are then seen only
    /// when somebody looks.
    fn mark(&self) -> Option<u64>;
    /// Differs after another store has taken the place of the one that was read before: its rows count
    /// anew.
    fn incarnation(&self) -> i64 {
        0
    }
    /// Whether the process that is called so lives; where that can't be told, it does.
    fn lives(&self, owner: i64) -> bool;
    /// Forgets rows that have said nothing since `before_ms`.
    ///
    /// # Errors
    /// It can't be written.
    fn forget(&self, before_ms: u64) -> Result<(), Failed>;
}

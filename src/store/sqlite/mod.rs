//! Tokens in an SQLite file.
//!
//! What is acknowledged is durable (`synchronous=FULL`), each change is one transaction, and any
//! number of processes may have the file open (WAL). When another file takes its place, the store
//! follows; when it is gone, the store fails rather than write where nobody will look.
//! [`connection`] opens, [`mod@file`] sees to owners and modes, [`schema`] to the tables; [`record`]
//! holds what is asked of a store, [`row`] reads what it answers; [`queue`] writes what requests
//! wait for, many in one transaction; [`stream`] has the policies of streams, [`owner`] knows which
//! process a request under way belongs to.

mod client;
mod connection;
mod file;
mod owner;
mod queue;
mod record;
mod row;
mod schema;
mod stream;
#[cfg(test)]
mod tests;

pub use row::Unreadable;

use crate::token::store::{Change, Record, StoreError};
use connection::{Opened, PATIENCE, failed};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicI64,
    Ordering::{AcqRel, Acquire},
};
use std::time::Duration;

/// An SQLite store. Readers wait for readers and writers for writers, never one for the other:
/// whoever holds the file locked must not keep a revocation from being seen.
pub struct Sqlite {
    path: PathBuf,
    writing: Mutex<Opened>,
    reading: Mutex<Option<Opened>>,
    /// How often another file was found in the place of the one before.
    replaced: AtomicI64,
    requests: OnceLock<queue::Queue>,
    reported: Mutex<HashSet<String>>,
    owner: owner::Owner,
}

/// What is in the store, the unreadable too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// In the order of their creation.
    pub records: Vec<Record>,
    /// Rows that are no records; all one can do with them is to delete them.
    pub unreadable: Vec<Unreadable>,
}

impl Sqlite {
    /// Opens the database at `path`, makes it if there is none (the directory must exist), and
    /// brings it to the current schema.
    ///
    /// # Errors
    /// The directory is missing; the file is not to be opened by this user, of another program,
    /// or of a newer keygate.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        file::create(&path)?;
        file::adopt(&path);
        file::warn_of_mode(&path);
        let opened = Opened::at(&path)?;
        file::adopt(&path);
        Ok(Self {
            owner: owner::Owner::beside(&path),
            path,
            writing: Mutex::new(opened),
            reading: Mutex::new(None),
            replaced: AtomicI64::new(0),
            requests: OnceLock::new(),
            reported: Mutex::default(),
        })
    }

    /// Everything in the store.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let sql = format!("SELECT {} FROM tokens ORDER BY seq", row::COLUMNS);
        self.with(|connection| {
            let mut inventory = Inventory { records: Vec::new(), unreadable: Vec::new() };
            let mut read = || -> rusqlite::Result<()> {
                let mut statement = connection.prepare_cached(&sql)?;
                for found in statement.query_map([], row::read)? {
                    match found? {
                        Ok(record) => inventory.records.push(record),
                        Err(unreadable) => inventory.unreadable.push(unreadable),
                    }
                }
                Ok(())
            };
            read().map_err(|e| failed(&self.path, &e))?;
            Ok(inventory)
        })
    }

    /// Changes a record by what `decide` makes of it as it is; no other change comes between.
    ///
    /// # Errors
    /// As [`crate::token::store::TokenStore::update`], and whatever `decide` refuses.
    pub fn amend<E: From<StoreError>>(
        &self,
        id: &str,
        decide: impl FnOnce(&Record) -> Result<Change, E>,
    ) -> Result<Record, E> {
        self.write(|tx| {
            let change = decide(&record::find(&self.path, tx, id)?)?;
            record::apply(&self.path, tx, id, &change)?;
            Ok(record::find(&self.path, tx, id)?)
        })
    }

    /// Differs after another file has taken the place of the one that was read before.
    pub fn incarnation(&self) -> i64 {
        self.replaced.load(Acquire)
    }

    /// Reads.
    fn with<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut place = self.reading.lock();
        let opened = match place.take() {
            Some(opened) if file::identity(&self.path)? == opened.file => opened,
            Some(_) => {
                self.replaced.fetch_add(1, AcqRel);
                Opened::at(&self.path)?
            }
            None => Opened::at(&self.path)?,
        };
        work(&mut place.insert(opened).connection)
    }

    /// One transaction; it has taken the write lock before it reads, so it can't be overtaken.
    fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_within(PATIENCE, work)
    }

    /// The same; others may hold the file locked for so long.
    fn write_within<T, E: From<StoreError>>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        let mut opened = self.writing.lock();
        if file::identity(&self.path)? != opened.file {
            *opened = Opened::at(&self.path)?;
        }
        let connection = &mut opened.connection;
        connection.busy_timeout(patience).map_err(sql)?;
        let tx =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let outcome = work(&tx)?;
        tx.commit().map_err(sql)?;
        Ok(outcome)
    }
}

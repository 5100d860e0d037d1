//! Tokens in an SQLite file.
//!
//! What is acknowledged is durable (`synchronous=FULL`), each change is one transaction, and any
//! number of processes may have the file open (WAL). When another file takes its place, the store
//! follows; when it is gone, the store fails rather than write where nobody will look.
//! [`connection`] opens, [`mod@file`] sees to owners and modes, [`schema`] to the tables; [`record`]
//! holds what is asked of a store, [`row`] reads what it answers; [`stream`] has the policies of
//! streams, [`owner`] knows which process a request under way belongs to.

mod client;
mod connection;
mod file;
mod owner;
mod record;
mod row;
mod schema;
mod stream;
#[cfg(test)]
mod tests;

pub use row::Unreadable;

use crate::token::store::{Change, Record, StoreError};
use connection::{Opened, failed};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::HashSet;
use std::path::PathBuf;

/// An SQLite store. Calls from several threads wait for each other.
pub struct Sqlite {
    path: PathBuf,
    opened: Mutex<Opened>,
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
        let owner = owner::Owner::beside(&path);
        Ok(Self { path, opened: Mutex::new(opened), reported: Mutex::default(), owner })
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

    fn with<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut opened = self.opened.lock();
        if file::identity(&self.path)? != opened.file {
            *opened = Opened::at(&self.path)?;
        }
        work(&mut opened.connection)
    }

    /// One transaction; it has taken the write lock before it reads, so it can't be overtaken.
    fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        self.with(|connection| {
            let tx = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(sql)?;
            let outcome = work(&tx)?;
            tx.commit().map_err(sql)?;
            Ok(outcome)
        })
    }
}

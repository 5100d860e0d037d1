//! What is asked of a store of tokens, in SQL. Names of columns are [`super::schema`]'s.

use super::Sqlite;
use super::connection::{PATIENCE, failed};
use super::row::{self, Unreadable};
use crate::token::store::{Change, Record, StoreError, TokenStore};
use crate::token::ticket::{KEY_BYTES, draw_key};
use crate::values::grant::GrantText;
use rusqlite::{
    Connection, OptionalExtension, Transaction, TransactionBehavior, named_params, params,
};
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long [`TokenStore::touch`] waits for others: it may be left undone, and must not delay a
/// stop.
const TOUCH_PATIENCE: Duration = Duration::from_millis(250);

impl TokenStore for Sqlite {
    fn create(&self, record: &Record) -> Result<(), StoreError> {
        const TAKEN: &str = "SELECT 1 FROM tokens WHERE sha256 = ?1";
        const INSERT: &str = "INSERT INTO tokens
            (id, name, sha256, last4, created_at, expires_at, disabled, policy, grant_json,
             last_used_at, may_mint)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        let grant = match &record.grant {
            None => None,
            Some(Ok(text)) => Some(json(text)?),
            Some(Err(_)) => {
                return Err(StoreError::Failed("a grant that can't be read is not stored".into()));
            }
        };
        self.write(|tx| {
            let digest = record.digest.0.as_slice();
            if tx.prepare_cached(TAKEN).and_then(|mut s| s.exists([digest])).map_err(sql)? {
                return Err(StoreError::Exists);
            }
            let values = params![
                record.id,
                record.name,
                digest,
                record.last4,
                integer(record.created_at),
                record.expires_at,
                record.disabled,
                record.policy,
                grant,
                record.last_used_at.map(integer),
                record.may_mint,
            ];
            tx.prepare_cached(INSERT).and_then(|mut s| s.execute(values)).map_err(sql)?;
            Ok(())
        })
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        let inventory = self.inventory()?;
        let mut reported = self.reported.lock();
        for Unreadable { id, why } in inventory.unreadable {
            if !reported.contains(&id) {
                log::error!("token '{id}' can't be used: {why}; delete it");
                reported.insert(id);
            }
        }
        Ok(inventory.records)
    }

    fn get(&self, id: &str) -> Result<Record, StoreError> {
        self.with(|connection| find(&self.path, connection, id))
    }

    fn update(&self, id: &str, change: &Change) -> Result<Record, StoreError> {
        self.amend(id, |_| Ok(change.clone()))
    }

    fn delete(&self, id: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            let removed = tx
                .prepare_cached("DELETE FROM tokens WHERE id = ?1")
                .and_then(|mut statement| statement.execute([id]))
                .map_err(|e| failed(&self.path, &e))?;
            if removed == 0 { Err(StoreError::NotFound(id.to_owned())) } else { Ok(()) }
        })
    }

    fn version(&self) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT value FROM counter WHERE name = 'version'";
        self.with(|connection| {
            connection
                .prepare_cached(SQL)
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(|e| failed(&self.path, &e))
        })
    }

    fn ticket_key(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, StoreError> {
        const FIND: &str = "SELECT value FROM secrets WHERE name = 'ticket_key'";
        const ADD: &str = "INSERT INTO secrets (name, value) VALUES ('ticket_key', ?1)";
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        let drawn = draw_key().map_err(|e| StoreError::Failed(e.to_string()))?;
        self.write(|tx| {
            let found: Option<Zeroizing<Vec<u8>>> = tx
                .query_row(FIND, [], |row| row.get(0).map(Zeroizing::new))
                .optional()
                .map_err(sql)?;
            let Some(found) = found else {
                tx.execute(ADD, [drawn.as_slice()]).map_err(sql)?;
                return Ok(drawn);
            };
            let key = found.as_slice().try_into().map(Zeroizing::new);
            key.map_err(|_| {
                let what = "its key of upload tickets is no key; delete the row 'ticket_key' of the \
                    table 'secrets', and begin open uploads anew";
                StoreError::Failed(format!("{}: {what}", self.path.display()))
            })
        })
    }

    fn touch(&self, uses: &[(String, u64)]) -> Result<(), StoreError> {
        // Two processes may report the same token; the later use wins, whoever writes last.
        const SQL: &str = "UPDATE tokens SET last_used_at = ?2
            WHERE id = ?1 AND coalesce(last_used_at, 0) < ?2";
        if uses.is_empty() {
            return Ok(());
        }
        self.with(|connection| {
            let write = |connection: &mut Connection| -> rusqlite::Result<()> {
                connection.busy_timeout(TOUCH_PATIENCE)?;
                let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let mut statement = tx.prepare_cached(SQL)?;
                for (id, used) in uses {
                    statement.execute(params![id, integer(*used)])?;
                }
                drop(statement);
                tx.commit()
            };
            let written = write(connection);
            let restored = connection.busy_timeout(PATIENCE);
            written.and(restored).map_err(|e| failed(&self.path, &e))
        })
    }
}

/// The record with this id.
pub(super) fn find(path: &Path, connection: &Connection, id: &str) -> Result<Record, StoreError> {
    let sql = format!("SELECT {} FROM tokens WHERE id = ?1", row::COLUMNS);
    let found = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([id], row::read).optional())
        .map_err(|e| failed(path, &e))?;
    found.ok_or_else(|| StoreError::NotFound(id.to_owned()))?.map_err(|Unreadable { id, why }| {
        StoreError::Failed(format!("token '{id}' can't be used: {why}; delete it"))
    })
}

/// Changes what `change` names and leaves the rest as it is, readable or not.
pub(super) fn apply(
    path: &Path,
    tx: &Transaction<'_>,
    id: &str,
    change: &Change,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE tokens SET
        name = coalesce(:name, name),
        expires_at = iif(:set_expires_at, :expires_at, expires_at),
        disabled = coalesce(:disabled, disabled),
        may_mint = coalesce(:may_mint, may_mint),
        policy = iif(:set_policy, :policy, policy),
        grant_json = iif(:set_grant, :grant, grant_json)
        WHERE id = :id";
    let grant = change.grant.as_ref().and_then(Option::as_ref).map(json).transpose()?;
    let values = named_params! {
        ":id": id,
        ":name": change.name,
        ":set_expires_at": change.expires_at.is_some(),
        ":expires_at": change.expires_at.as_ref().and_then(Option::as_ref),
        ":disabled": change.disabled,
        ":may_mint": change.may_mint,
        ":set_policy": change.policy.is_some(),
        ":policy": change.policy.as_ref().and_then(Option::as_ref),
        ":set_grant": change.grant.is_some(),
        ":grant": grant,
    };
    let changed = tx
        .prepare_cached(SQL)
        .and_then(|mut statement| statement.execute(values))
        .map_err(|e| failed(path, &e))?;
    if changed == 0 { Err(StoreError::NotFound(id.to_owned())) } else { Ok(()) }
}

pub(super) fn json(grant: &GrantText) -> Result<String, StoreError> {
    serde_json::to_string(grant).map_err(|e| StoreError::Failed(format!("grant: {e}")))
}

pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

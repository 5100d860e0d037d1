//! The policies of streams in SQL.

use super::connection::failed;
use super::record::integer;
use super::{Sqlite, row};
use crate::stream::name::Key;
use crate::stream::store::{Content, Decide, Failed, Pending, PolicyStore, Row};
use crate::token::store::StoreError;
use crate::values::clock::Clock;
use rusqlite::{OptionalExtension, Transaction, params};

const COLUMNS: &str = "seq, stream, spelling, policy, pending, owner, changed_at";

impl From<StoreError> for Failed {
    fn from(why: StoreError) -> Self {
        Self(why.to_string())
    }
}

impl PolicyStore for Sqlite {
    fn since(&self, seq: i64, visit: &mut dyn FnMut(Row)) -> Result<i64, Failed> {
        let sql = format!("SELECT {COLUMNS} FROM streams WHERE seq > ?1 ORDER BY seq");
        self.with(|connection| {
            let mut read = || -> rusqlite::Result<i64> {
                let mut statement = connection.prepare_cached(&sql)?;
                let mut last = seq;
                let mut rows = statement.query([seq])?;
                while let Some(found) = rows.next()? {
                    last = found.get(0)?;
                    if let Some(row) = policy(found)? {
                        visit(row);
                    }
                }
                Ok(last)
            };
            read().map_err(|e| failed(&self.path, &e).into())
        })
    }

    fn change(
        &self,
        key: &Key,
        label: &str,
        decide: &mut Decide<'_>,
    ) -> Result<Option<Row>, Failed> {
        let mut changed = false;
        let row = self.write(|tx| {
            let mut decide = |row: Option<&Row>| {
                let content = decide(row);
                changed = content.is_some();
                content
            };
            change(tx, key, label, &mut decide).map_err(|e| Failed::from(failed(&self.path, &e)))
        })?;
        if changed {
            self.owner.tell()?;
        }
        Ok(row)
    }

    fn mark(&self) -> Option<u64> {
        self.owner.mark()
    }

    fn owner(&self) -> Result<i64, Failed> {
        self.owner.number()
    }

    fn incarnation(&self) -> i64 {
        Self::incarnation(self)
    }

    fn lives(&self, owner: i64) -> bool {
        self.owner.lives(owner)
    }

    fn forget(&self, before_ms: u64) -> Result<(), Failed> {
        const SQL: &str = "DELETE FROM streams
            WHERE policy IS NULL AND pending IS NULL AND changed_at < ?1";
        self.write(|tx| {
            let done = tx.prepare_cached(SQL).and_then(|mut s| s.execute([integer(before_ms)]));
            done.map(|_| ()).map_err(|e| failed(&self.path, &e).into())
        })
    }
}

fn change(
    tx: &Transaction<'_>,
    key: &Key,
    label: &str,
    decide: &mut Decide<'_>,
) -> rusqlite::Result<Option<Row>> {
    // Takes the place of the stream's row, with a new `seq`.
    const PUT: &str = "REPLACE INTO streams
        (stream, label, spelling, policy, pending, owner, changed_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let find = format!("SELECT {COLUMNS} FROM streams WHERE stream = ?1");
    let found = tx.prepare_cached(&find)?.query_row([key.as_slice()], policy).optional()?.flatten();
    let Some(content) = decide(found.as_ref()) else { return Ok(found) };
    if found.is_none() && content.is_empty() {
        return Ok(None);
    }
    let pending = content.pending.as_ref();
    let values = params![
        key.as_slice(),
        label,
        content.spelling,
        content.current,
        pending.map(|pending| &pending.policy),
        pending.map_or(0, |pending| pending.owner),
        pending.map_or_else(|| integer(Clock::system().wall_ms()), |p| integer(p.since_ms)),
    ];
    tx.prepare_cached(PUT)?.execute(values)?;
    Ok(Some(Row { seq: tx.last_insert_rowid(), key: *key, content }))
}

/// A row of [`COLUMNS`]; one whose key is no key is nobody's.
fn policy(found: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Row>> {
    let Some(key) = found.get_ref(1)?.as_blob().ok().and_then(|key| key.try_into().ok()) else {
        return Ok(None);
    };
    let text = |index: usize| -> rusqlite::Result<Option<Box<str>>> {
        Ok(found.get_ref(index)?.as_str_or_null()?.map(Into::into))
    };
    let since_ms = row::number(found.get_ref(6)?).unwrap_or(0);
    let owner = found.get(5)?;
    let pending = text(4)?.map(|policy| Pending { policy, owner, since_ms });
    let content = Content { spelling: found.get(2)?, current: text(3)?, pending };
    Ok(Some(Row { seq: found.get(0)?, key, content }))
}

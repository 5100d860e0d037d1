//! Client tokens and signing keys in SQL.

use super::connection::{Refused, failed};
use super::queue::Queue;
use super::record::integer;
use super::{Sqlite, row};
use crate::config::client::Algorithm;
use crate::token::client::REFUSED_FOR;
use crate::token::jwks::KeyRecord;
use crate::token::store::{Answer, ClientChange, ClientRecord, ClientStore, Decide, StoreError};
use crate::values::ids::TokenDigest;
use rusqlite::{Connection, Row, Transaction, params};
use std::sync::Arc;
use zeroize::Zeroizing;

const COLUMNS: &str = "seq, id, parent, sha256, name, created_at, starts_until, ends_at, uses,
    inference, grant_json, metadata_json, revoked, parent_sha256";

/// Carries out what a request waits for; gives whether it could have what it asked for.
pub(super) fn carry_out(tx: &Transaction<'_>, change: &ClientChange) -> Result<bool, Refused> {
    match change {
        ClientChange::Add(record) => add(tx, record).map(|()| true),
        ClientChange::Use { id, uses, ends_at } => {
            const SQL: &str = "INSERT INTO client_uses (id, used, ends_at) VALUES (?1, 1, ?3)
                ON CONFLICT (id) DO UPDATE SET used = used + 1 WHERE used < ?2";
            let values = params![&**id, uses, integer(*ends_at)];
            let taken = tx.prepare_cached(SQL)?.execute(values)?;
            Ok(taken == 1 && *uses > 0)
        }
    }
}

fn add(tx: &Transaction<'_>, record: &ClientRecord) -> Result<(), Refused> {
    const SQL: &str = "INSERT INTO client_tokens (id, parent, sha256, name, created_at,
        starts_until, ends_at, uses, inference, grant_json, metadata_json, revoked, parent_sha256)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let unreadable = || Refused::Because("a grant that can't be read is not stored".to_owned());
    let grant = record.grant.as_ref().map_err(|_| unreadable())?;
    let grant = super::record::json(grant).map_err(|e| Refused::Because(e.to_string()))?;
    let values = params![
        record.id,
        record.parent,
        record.digest.0.as_slice(),
        record.name,
        integer(record.created_at),
        integer(record.starts_until),
        integer(record.ends_at),
        record.uses,
        record.inference,
        grant,
        record.metadata,
        record.revoked,
        record.parent_digest.0.as_slice(),
    ];
    tx.prepare_cached(SQL)?.execute(values)?;
    Ok(())
}

impl ClientStore for Sqlite {
    fn request(self: Arc<Self>, change: ClientChange) -> Answer {
        let queue = self.requests.get_or_init(|| Queue::of(&self));
        queue.push(change)
    }

    fn clients_since(&self, seq: i64) -> Result<(i64, Vec<ClientRecord>), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM client_tokens WHERE seq > ?1 ORDER BY seq");
        let read = |connection: &mut Connection| -> rusqlite::Result<_> {
            let mut statement = connection.prepare_cached(&sql)?;
            let (mut last, mut records) = (seq, Vec::new());
            for found in statement.query_map([seq], |row| Ok((row.get(0)?, client(row)?)))? {
                let (seq, record) = found?;
                last = seq;
                records.extend(record);
            }
            Ok((last, records))
        };
        self.with(|connection| read(connection).map_err(|e| failed(&self.path, &e)))
    }

    fn revoke_client(&self, id: &str) -> Result<(), StoreError> {
        // A new `seq` is what others look for.
        const SQL: &str = "UPDATE client_tokens SET revoked = 1,
            seq = (SELECT max(coalesce((SELECT max(seq) FROM client_tokens), 0),
                (SELECT seq FROM sqlite_sequence WHERE name = 'client_tokens')) + 1)
            WHERE id = ?1 AND revoked = 0";
        // What is inserted later must not come before it, even if this row is forgotten.
        const PASSED: &str = "UPDATE sqlite_sequence
            SET seq = max(seq, (SELECT max(seq) FROM client_tokens))
            WHERE name = 'client_tokens'";
        const KNOWN: &str = "SELECT 1 FROM client_tokens WHERE id = ?1";
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        self.write(|tx| {
            let changed = tx.prepare_cached(SQL).and_then(|mut s| s.execute([id])).map_err(sql)?;
            tx.execute(PASSED, []).map_err(sql)?;
            let known = tx.prepare_cached(KNOWN).and_then(|mut s| s.exists([id])).map_err(sql)?;
            if changed == 0 && !known {
                return Err(StoreError::NotFound(id.to_owned()));
            }
            Ok(())
        })
    }

    fn forget_ended(&self, now_ms: u64) -> Result<(), StoreError> {
        self.write(|tx| {
            for (sql, after) in [
                ("DELETE FROM client_tokens WHERE ends_at < ?1 AND revoked = 0", 60_000),
                ("DELETE FROM client_tokens WHERE ends_at < ?1", REFUSED_FOR),
                ("DELETE FROM client_uses WHERE ends_at < ?1", REFUSED_FOR),
            ] {
                tx.prepare_cached(sql)
                    .and_then(|mut s| s.execute([integer(now_ms.saturating_sub(after))]))
                    .map_err(|e| failed(&self.path, &e))?;
            }
            Ok(())
        })
    }

    fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.with(|connection| read_keys(connection).map_err(|e| failed(&self.path, &e)))
    }

    fn rotate(&self, decide: &mut Decide<'_>) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO signing_keys (kid, algorithm, pkcs8, created_at, signs_from)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        let sql = |e: rusqlite::Error| failed(&self.path, &e);
        self.write(|tx| {
            let keys = read_keys(tx).map_err(sql)?;
            let rotation = decide(&keys).map_err(|e| StoreError::Failed(e.to_string()))?;
            if let Some(key) = &rotation.create {
                let values = params![
                    key.kid,
                    key.algorithm.as_str(),
                    key.pkcs8.as_slice(),
                    integer(key.created_at),
                    integer(key.signs_from),
                ];
                tx.execute(ADD, values).map_err(sql)?;
            }
            for kid in &rotation.remove {
                tx.execute("DELETE FROM signing_keys WHERE kid = ?1", [kid]).map_err(sql)?;
            }
            Ok(())
        })
    }
}

impl Sqlite {
    /// Every minted token, by creation, with how many connections it has opened where they are
    /// counted; those that ended are forgotten a minute later.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn clients(&self) -> Result<Vec<(ClientRecord, u32)>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, (SELECT used FROM client_uses WHERE client_uses.id = client_tokens.id)
             FROM client_tokens ORDER BY created_at, seq"
        );
        let read = |connection: &mut Connection| -> rusqlite::Result<_> {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = Vec::new();
            for row in statement.query_map([], |row| {
                let used: Option<u32> = row.get(14)?;
                Ok(client(row)?.map(|record| (record, used.unwrap_or(0))))
            })? {
                found.extend(row?);
            }
            Ok(found)
        };
        self.with(|connection| read(connection).map_err(|e| failed(&self.path, &e)))
    }
}

fn read_keys(connection: &Connection) -> rusqlite::Result<Vec<KeyRecord>> {
    const SQL: &str = "SELECT kid, algorithm, pkcs8, created_at, signs_from FROM signing_keys
        ORDER BY signs_from, kid";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut keys = Vec::new();
    for found in statement.query_map([], |row| {
        let algorithm: String = row.get(1)?;
        // Of a newer keygate: not ours to sign with.
        let Some(algorithm) = Algorithm::parse(&algorithm) else { return Ok(None) };
        Ok(Some(KeyRecord {
            kid: row.get(0)?,
            algorithm,
            pkcs8: Zeroizing::new(row.get(2)?),
            created_at: row::number(row.get_ref(3)?).unwrap_or(0),
            signs_from: row::number(row.get_ref(4)?).unwrap_or(0),
        }))
    })? {
        keys.extend(found?);
    }
    Ok(keys)
}

/// A row of [`COLUMNS`]; what can't be read allows nothing.
fn client(row: &Row<'_>) -> rusqlite::Result<Option<ClientRecord>> {
    let digest = |index: usize| -> rusqlite::Result<Option<TokenDigest>> {
        let bytes = row.get_ref(index)?.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
        Ok(bytes.map(TokenDigest))
    };
    let (Some(own), Some(parent)) = (digest(3)?, digest(13)?) else { return Ok(None) };
    let number = |index: usize| -> rusqlite::Result<u64> {
        Ok(row::number(row.get_ref(index)?).unwrap_or(0))
    };
    let grant: String = row.get(10)?;
    Ok(Some(ClientRecord {
        id: row.get(1)?,
        parent: row.get(2)?,
        parent_digest: parent,
        digest: own,
        name: row.get(4)?,
        created_at: number(5)?,
        starts_until: number(6)?,
        ends_at: number(7)?,
        uses: row.get(8)?,
        inference: row.get(9)?,
        grant: serde_json::from_str(&grant).map_err(|_| grant),
        metadata: row.get(11)?,
        revoked: row.get(12)?,
    }))
}

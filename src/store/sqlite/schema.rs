//! The tables, and how an older file comes to have them.
//!
//! `PRAGMA user_version` is the schema's number, `PRAGMA application_id` says that the file is
//! ours. A newer schema is refused before anything is written. Triggers keep the change counter,
//! so that no writer can forget it, an operator's `sqlite3` shell included.

use super::connection::Refused;
use rusqlite::{Connection, TransactionBehavior};

/// The schema that this keygate writes.
const VERSION: i64 = 4;
/// `keyg`
const APPLICATION_ID: i64 = 0x6b65_7967;

/// From an empty file to schema 1. The counter starts at random: a database that takes another's
/// place must not look unchanged. `last_used_at` is in no trigger.
const TO_1: &str = "
CREATE TABLE tokens (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    sha256 BLOB NOT NULL UNIQUE,
    last4 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at TEXT,
    disabled INTEGER NOT NULL DEFAULT 0,
    policy TEXT,
    grant_json TEXT,
    last_used_at INTEGER,
    CHECK (policy IS NULL OR grant_json IS NULL)
) STRICT;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES ('version', random() & 0xffffffffffff);
CREATE TRIGGER token_added AFTER INSERT ON tokens
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
CREATE TRIGGER token_changed AFTER UPDATE OF
    id, name, sha256, last4, created_at, expires_at, disabled, policy, grant_json ON tokens
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
CREATE TRIGGER token_removed AFTER DELETE ON tokens
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
";

/// From schema 1: what processes share and nobody else may know. In no trigger: no token changes.
const TO_2: &str = "
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// From schema 2: who may mint, what was minted, and what signs. Client tokens are read by
/// `seq` alone, which grows with every change, so that minting one re-reads no other.
const TO_3: &str = "
ALTER TABLE tokens ADD COLUMN may_mint INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER token_may_mint AFTER UPDATE OF may_mint ON tokens
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
CREATE TABLE client_tokens (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    parent TEXT NOT NULL,
    parent_sha256 BLOB NOT NULL,
    sha256 BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    starts_until INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    uses INTEGER,
    inference INTEGER NOT NULL,
    grant_json TEXT NOT NULL,
    metadata_json TEXT,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX client_tokens_end ON client_tokens (ends_at);
CREATE TABLE client_uses (
    id TEXT PRIMARY KEY,
    used INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL,
    pkcs8 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER signing_key_added AFTER INSERT ON signing_keys
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
CREATE TRIGGER signing_key_removed AFTER DELETE ON signing_keys
    BEGIN UPDATE counter SET value = value + 1 WHERE name = 'version'; END;
";

/// From schema 3: which origins may use a stream. Each change of a row gives it a new `seq`, which is all
/// that others look for; one without policies is kept for a while, so that they see that too.
const TO_4: &str = "
CREATE TABLE streams (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream BLOB NOT NULL UNIQUE,
    label TEXT NOT NULL,
    spelling INTEGER NOT NULL,
    policy TEXT,
    pending TEXT,
    owner INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX streams_empty ON streams (changed_at) WHERE policy IS NULL AND pending IS NULL;
";

/// Reads what the file is, writes nothing. Gives its schema; 0 is an empty file. It is one
/// statement, so that another process's migration shows whole or not at all.
pub(super) fn inspect(connection: &Connection) -> Result<i64, Refused> {
    const SQL: &str = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
        FROM pragma_user_version, pragma_application_id";
    let (version, application, objects): (i64, i64, i64) =
        connection.query_row(SQL, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    match (version, application, objects) {
        (0, 0, 0) => Ok(0),
        (found, APPLICATION_ID, _) if found > VERSION => Err(Refused::Because(format!(
            "it has schema {found}, this keygate knows {VERSION}; run the newer keygate, or \
             restore a backup from before its upgrade"
        ))),
        (found @ 1.., APPLICATION_ID, _) => Ok(found),
        _ => {
            Err(Refused::Because("it is another program's database; name another file".to_owned()))
        }
    }
}

/// Brings the file to [`VERSION`], in one transaction. Another process may have been faster.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Refused> {
    if inspect(connection)? == VERSION {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = inspect(&tx)?;
    if found < 1 {
        tx.execute_batch(TO_1)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    if found < 2 {
        tx.execute_batch(TO_2)?;
    }
    if found < 3 {
        tx.execute_batch(TO_3)?;
    }
    if found < 4 {
        tx.execute_batch(TO_4)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    Ok(())
}

//! Opening the database, and wording what SQLite refuses.

use super::{file, schema};
use crate::token::store::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a change waits for another process's.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and which file it leads to.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) file: file::Identity,
}

/// Why a file was not opened.
pub(super) enum Refused {
    /// SQLite's own reason.
    Sql(rusqlite::Error),
    /// Ours.
    Because(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Opened {
    /// Opens an existing file. Two processes that turn a new file into WAL mode at once may both
    /// be told that it is busy, without SQLite's own waiting: try again.
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = file::identity(path)?;
            match connect(path) {
                Ok(connection) => return Ok(Self { connection, file }),
                Err(Refused::Sql(e)) if busy(&e) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Refused::Sql(e)) => return Err(failed(path, &e)),
                Err(Refused::Because(why)) => {
                    return Err(StoreError::Failed(format!("{}: {why}", path.display())));
                }
            }
        }
    }
}

fn connect(path: &Path) -> Result<Connection, Refused> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    schema::inspect(&connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let why = "its file system can't share memory between processes; use a local one";
        return Err(Refused::Because(why.to_owned()));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

fn busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// SQLite's words, and what an operator can do about them.
pub(super) fn failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another process kept it locked, try again"
        }
        Some(ErrorCode::DiskFull) => "; make room",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; run as the user that owns it, or as root"
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => "; restore a backup",
        Some(ErrorCode::ConstraintViolation) => {
            "; a token has a policy or a grant of its own, not both"
        }
        _ => "",
    };
    StoreError::Failed(format!("{}: {error}{remedy}", path.display()))
}

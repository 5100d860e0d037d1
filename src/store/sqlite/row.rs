//! From a row to a record, forgiving and safe at once: one row that can't be read must not hide
//! the others, and each column that can't be read counts as what allows least.

use crate::token::store::Record;
use crate::values::ids::TokenDigest;
use rusqlite::Row;
use rusqlite::types::ValueRef;

/// What [`read`] expects, in its order.
pub(super) const COLUMNS: &str =
    "id, name, sha256, last4, created_at, expires_at, disabled, policy, grant_json, last_used_at,
     may_mint";

/// A row that is no record: nothing can match its token, so nothing can use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, as far as it is text.
    pub id: String,
    /// What is wrong.
    pub why: &'static str,
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Result<Record, Unreadable>> {
    let id = text(row.get_ref(0)?);
    let ValueRef::Text(raw_id) = row.get_ref(0)? else {
        return Ok(Err(Unreadable { id, why: "its id is no text" }));
    };
    if raw_id != id.as_bytes() {
        return Ok(Err(Unreadable { id, why: "its id is no text" }));
    }
    let digest = match row.get_ref(2)? {
        ValueRef::Blob(bytes) => bytes.try_into().ok().map(TokenDigest),
        _ => None,
    };
    let Some(digest) = digest else {
        return Ok(Err(Unreadable { id, why: "its digest is no SHA-256" }));
    };
    Ok(Ok(Record {
        id,
        name: text(row.get_ref(1)?),
        digest,
        last4: text(row.get_ref(3)?),
        created_at: number(row.get_ref(4)?).unwrap_or(0),
        expires_at: present(row.get_ref(5)?).map(text),
        disabled: row.get_ref(6)? != ValueRef::Integer(0),
        policy: present(row.get_ref(7)?).map(text),
        grant: present(row.get_ref(8)?).map(|value| {
            let written = text(value);
            match value {
                ValueRef::Text(raw) if raw == written.as_bytes() => {
                    serde_json::from_str(&written).map_err(|_| written)
                }
                _ => Err(written),
            }
        }),
        last_used_at: number(row.get_ref(9)?),
        may_mint: row.get_ref(10)? == ValueRef::Integer(1),
    }))
}

fn present(value: ValueRef<'_>) -> Option<ValueRef<'_>> {
    Some(value).filter(|v| *v != ValueRef::Null)
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Null => String::new(),
        ValueRef::Real(_) | ValueRef::Blob(_) => "(unreadable)".to_owned(),
    }
}

pub(super) fn number(value: ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

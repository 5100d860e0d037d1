//! How minted tokens are listed and shown. They are made by the gateway and live for minutes; what
//! there is to do with one is to look at it, and to end it.

use super::{OneArgs, view};
use crate::cli::{Target, output};
use crate::token::store::{ClientRecord, StoreError};
use crate::values::clock::Clock;
use crate::values::timestamp;
use serde_json::{Value, json};

/// Prints every minted token that the store has.
pub(super) fn list(target: &Target) -> anyhow::Result<()> {
    let minted = target.store()?.clients()?;
    if target.json {
        let rows = minted.iter().map(|(record, used)| to_json(record, *used));
        output::line(&Value::Array(rows.collect()).to_string());
    } else if minted.is_empty() {
        output::line("no client tokens are alive: whoever may mint makes them at the gateway");
    } else {
        output::line(&table(&minted));
    }
    Ok(())
}

/// Prints one of them.
pub(super) fn show(args: &OneArgs) -> anyhow::Result<()> {
    let id = args.id()?;
    let mut minted = args.target.store()?.clients()?.into_iter();
    let found = minted.find(|(record, _)| record.id == id);
    let (record, used) = found.ok_or_else(|| StoreError::NotFound(id.to_owned()))?;
    if args.target.json {
        output::line(&to_json(&record, used).to_string());
    } else {
        output::line(&view::aligned(&rows(&record, used)));
    }
    Ok(())
}

fn to_json(record: &ClientRecord, used: u32) -> Value {
    let grant = match &record.grant {
        // Text where an object is expected: no reader may take this for "unrestricted".
        Err(written) => written.as_str().into(),
        Ok(grant) => serde_json::to_value(grant).unwrap_or_else(|e| e.to_string().into()),
    };
    let metadata = record
        .metadata
        .as_deref()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())));
    json!({
        "id": record.id,
        "parent": record.parent,
        "parent_name": record.name,
        "status": status(record, used),
        "created_at": timestamp::format(record.created_at),
        "opens_until": timestamp::format(record.starts_until),
        "expires_at": timestamp::format(record.ends_at),
        "uses": record.uses,
        "used": record.uses.map(|_| used),
        "inference_only": record.inference,
        "grant": grant,
        "metadata": metadata,
    })
}

fn status(record: &ClientRecord, used: u32) -> &'static str {
    let now_ms = Clock::system().wall_ms();
    match () {
        () if record.revoked => "revoked",
        () if now_ms >= record.ends_at.min(record.starts_until) => "expired",
        () if record.uses.is_some_and(|uses| used >= uses) => "used up",
        () if record.grant.is_err() => "unreadable",
        () => "active",
    }
}

fn uses(record: &ClientRecord, used: u32) -> String {
    record.uses.map_or_else(|| "any".to_owned(), |uses| format!("{used} of {uses}"))
}

fn rows(record: &ClientRecord, used: u32) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("id", record.id.clone()),
        (
            "minted by",
            format!("{} ({})", view::printable(&record.name), view::printable(&record.parent)),
        ),
        ("status", status(record, used).to_owned()),
        ("created", view::to_second(record.created_at)),
        ("opens until", view::to_second(record.starts_until)),
        ("expires", view::to_second(record.ends_at)),
        ("uses", uses(record, used)),
        ("inference", if record.inference { "only" } else { "and the paths named" }.to_owned()),
    ];
    match &record.grant {
        Ok(grant) => rows.extend(view::dimensions(grant)),
        Err(text) => {
            let why = format!("unreadable, nothing is allowed: {}", view::printable(text));
            rows.push(("grant", why));
        }
    }
    rows.extend(record.metadata.as_deref().map(|text| ("metadata", view::printable(text))));
    rows
}

fn table(minted: &[(ClientRecord, u32)]) -> String {
    let head = ["ID", "MINTED BY", "PARENT", "STATUS", "USES", "EXPIRES"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(minted.iter().map(|(record, used)| {
        [
            record.id.clone(),
            view::printable(&record.name),
            view::printable(&record.parent),
            status(record, *used).to_owned(),
            uses(record, *used),
            view::to_second(record.ends_at),
        ]
    }));
    view::columns(&lines)
}

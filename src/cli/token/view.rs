//! How tokens are shown, as JSON and to people. No view has a place for a plain token but
//! [`print_created`].

use crate::cli::output;
use crate::store::entry;
use crate::token::store::Record;
use crate::values::clock::Clock;
use crate::values::grant::GrantText;
use crate::values::secret::Secret;
use crate::values::timestamp::{self, Expiry};
use serde_json::{Value, json};

/// Prints a new token, this once.
pub(super) fn print_created(record: &Record, token: &Secret, as_json: bool) {
    // The one time that its holder gets to see it.
    let plain = token.expose();
    if as_json {
        let mut value = to_json(record);
        if let Some(map) = value.as_object_mut() {
            map.insert("token".to_owned(), plain.into());
        }
        output::line(&value.to_string());
    } else {
        let mut rows = vec![("token", plain.to_owned())];
        rows.extend(rows_of(record).into_iter().filter(|(key, _)| *key != "ends in"));
        output::line(&aligned(&rows));
        output::line("\nKeep the token now: it is stored nowhere and can't be shown again.");
    }
}

/// Prints one token.
pub(super) fn print_one(record: &Record, as_json: bool) {
    let text = if as_json { to_json(record).to_string() } else { aligned(&rows_of(record)) };
    output::line(&text);
}

/// Prints all tokens.
pub(super) fn print_list(records: &[Record], as_json: bool) {
    if as_json {
        output::line(&Value::Array(records.iter().map(to_json).collect()).to_string());
    } else if records.is_empty() {
        output::line("no tokens yet: `keygate token create --name NAME` makes one");
    } else {
        output::line(&table(records));
    }
}

/// `text` without what could steer a terminal; names may have come from elsewhere.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn to_json(record: &Record) -> Value {
    let grant = match &record.grant {
        None => Value::Null,
        // Text where an object is expected: no reader may take this for "unrestricted".
        Some(Err(written)) => written.as_str().into(),
        Some(Ok(grant)) => serde_json::to_value(grant).unwrap_or_else(|e| e.to_string().into()),
    };
    json!({
        "id": record.id,
        "name": record.name,
        "last4": record.last4,
        "status": status(record),
        "created_at": timestamp::format(record.created_at),
        "expires_at": record.expires_at,
        "disabled": record.disabled,
        "may_mint": record.may_mint,
        "policy": record.policy,
        "grant": grant,
        "last_used_at": record.last_used_at.map(timestamp::format),
    })
}

fn status(record: &Record) -> &'static str {
    let over = Expiry::read(record.expires_at.as_deref()).is_over(Clock::system().wall_ms());
    match () {
        () if record.disabled => "disabled",
        () if over => "expired",
        () if entry::grant(record).is_err() => "unreadable",
        () => "active",
    }
}

fn rows_of(record: &Record) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("id", record.id.clone()),
        ("name", printable(&record.name)),
        ("ends in", printable(&record.last4)),
        ("status", status(record).to_owned()),
        ("created", to_second(record.created_at)),
        ("expires", expires(record)),
        ("last used", last_used(record)),
    ];
    if record.may_mint {
        rows.push(("may mint", "yes".to_owned()));
    }
    match (&record.policy, &record.grant) {
        (Some(policy), _) => rows.push(("policy", printable(policy))),
        (None, None) => rows.push(("grant", "the default policy".to_owned())),
        (None, Some(Err(written))) => {
            rows.push(("grant", format!("unreadable, nothing is allowed: {}", printable(written))));
        }
        (None, Some(Ok(grant))) => rows.extend(dimensions(grant)),
    }
    rows
}

pub(super) fn dimensions(grant: &GrantText) -> Vec<(&'static str, String)> {
    let list = |values: &Option<Vec<String>>| values.as_ref().map(|v| printable(&v.join(", ")));
    let rate =
        grant.rate_limit.as_ref().map(|r| format!("{} per {}", r.requests, printable(&r.per)));
    [
        ("providers", list(&grant.providers)),
        ("models", list(&grant.models)),
        ("origins", list(&grant.origins)),
        ("paths", list(&grant.paths)),
        ("methods", list(&grant.methods)),
        ("rate", rate),
        ("concurrency", grant.concurrency.map(|n| n.to_string())),
        ("session", grant.max_session.as_deref().map(printable)),
        (
            "no origin",
            grant
                .allow_missing_origin
                .map(|yes| if yes { "allowed" } else { "refused" }.to_owned()),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

fn table(records: &[Record]) -> String {
    let head = ["ID", "NAME", "ENDS IN", "STATUS", "GRANT", "EXPIRES", "LAST USED"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(records.iter().map(|record| {
        let grant = match (&record.policy, &record.grant) {
            (Some(policy), _) => format!("policy {}", printable(policy)),
            (None, Some(Ok(_))) => "its own".to_owned(),
            (None, Some(Err(_))) => "unreadable".to_owned(),
            (None, None) => "default".to_owned(),
        };
        [
            record.id.clone(),
            printable(&record.name),
            printable(&record.last4),
            status(record).to_owned(),
            grant,
            expires(record),
            last_used(record),
        ]
    }));
    columns(&lines)
}

/// Lines whose cells stand below each other.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            let cells: Vec<_> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

pub(super) fn aligned(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows.iter().map(|(key, value)| format!("{key:width$}  {value}")).collect();
    lines.join("\n")
}

fn expires(record: &Record) -> String {
    record.expires_at.as_deref().map_or_else(|| "never".to_owned(), printable)
}

fn last_used(record: &Record) -> String {
    record.last_used_at.map_or_else(|| "never".to_owned(), to_second)
}

pub(super) fn to_second(ms: u64) -> String {
    timestamp::format(ms - ms % 1000)
}

//! The tables of `docs/clients.md`: each row is made by the test that saw it happen.
//!
//! With `UPDATE_CLIENTS` in the environment (`make clients-table`) a row that differs is written.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Every row there is: its table, and its first cell.
const ROWS: &[(&str, &str)] = &[
    ("Requests and streams", "OpenAI, Python"),
    ("Requests and streams", "OpenAI, Python, previous major"),
    ("Requests and streams", "OpenAI, JavaScript"),
    ("Requests and streams", "Anthropic, Python"),
    ("Requests and streams", "Anthropic, Python, `x-api-key` generation"),
    ("Requests and streams", "Anthropic, JavaScript"),
    ("Requests and streams", "Anthropic, JavaScript, `x-api-key` generation"),
    ("Requests and streams", "google-genai, Python"),
    ("Requests and streams", "google-genai, JavaScript"),
    ("Requests and streams", "Decart, Python"),
    ("Requests and streams", "Decart, JavaScript"),
    ("Requests and streams", "`fetch`, Node"),
    ("Requests and streams", "curl"),
    ("Sessions over a WebSocket", "OpenAI realtime, Python"),
    ("Sessions over a WebSocket", "OpenAI realtime, Python, previous major"),
    ("Sessions over a WebSocket", "OpenAI realtime, JavaScript"),
    ("Sessions over a WebSocket", "OpenAI responses, Python"),
    ("Sessions over a WebSocket", "OpenAI responses, Python, previous major"),
    ("Sessions over a WebSocket", "OpenAI responses, JavaScript"),
    ("Sessions over a WebSocket", "Gemini Live, Python"),
    ("Sessions over a WebSocket", "Gemini Live, JavaScript"),
    ("Sessions over a WebSocket", "Decart realtime, Python"),
    ("Sessions over a WebSocket", "Decart realtime, JavaScript"),
    ("Sessions over a WebSocket", "`websockets`, Python"),
    ("Sessions over a WebSocket", "`ws`, Node"),
    ("Uploads", "google-genai, Python"),
    ("Uploads", "google-genai, JavaScript"),
    ("What a refusal becomes", "OpenAI, Python"),
    ("What a refusal becomes", "OpenAI, Python, previous major"),
    ("What a refusal becomes", "OpenAI, JavaScript"),
    ("What a refusal becomes", "Anthropic, Python"),
    ("What a refusal becomes", "Anthropic, Python, `x-api-key` generation"),
    ("What a refusal becomes", "Anthropic, JavaScript"),
    ("What a refusal becomes", "Anthropic, JavaScript, `x-api-key` generation"),
    ("What a refusal becomes", "google-genai, Python"),
    ("What a refusal becomes", "google-genai, JavaScript"),
    ("What a refusal becomes", "Decart, Python"),
    ("What a refusal becomes", "Decart, JavaScript"),
    ("What a refusal becomes", "`fetch`, Node"),
    ("What a refused session becomes", "OpenAI realtime, Python"),
    ("What a refused session becomes", "OpenAI realtime, Python, previous major"),
    ("What a refused session becomes", "OpenAI realtime, JavaScript"),
    ("What a refused session becomes", "OpenAI responses, Python"),
    ("What a refused session becomes", "OpenAI responses, JavaScript"),
    ("What a refused session becomes", "Gemini Live, Python"),
    ("What a refused session becomes", "Gemini Live, JavaScript"),
    ("What a refused session becomes", "Decart realtime, Python"),
    ("What a refused session becomes", "Decart realtime, JavaScript"),
    ("What a refused session becomes", "`websockets`, Python"),
    ("What a refused session becomes", "`ws`, Node"),
];

static WRITING: Mutex<()> = Mutex::new(());

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")
}

/// The rows of all tables, without heads: table, first cell, line.
fn rows(text: &str) -> Vec<(&str, &str, &str)> {
    let mut rows = Vec::new();
    for section in text.split("\n## ").skip(1) {
        let (title, rest) = section.split_once('\n').unwrap_or((section, ""));
        let table = rest.lines().filter(|line| line.starts_with("| "));
        rows.extend(table.skip(1).map(|line| {
            let first = line.split(" | ").next().unwrap_or_default();
            (title, first.trim_start_matches("| "), line)
        }));
    }
    rows
}

/// Holds what a run gave against the row that begins with `client`.
#[track_caller]
pub(super) fn check(table: &str, client: &str, cells: &[&str]) {
    assert!(ROWS.contains(&(table, client)), "{table} has no row {client}: add it to the list");
    let row = format!("| {client} | {} |", cells.join(" | "));
    let guard = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = std::fs::read_to_string(page()).expect("docs/clients.md is there");
    let rows = rows(&text);
    let known = rows.iter().find(|known| (known.0, known.1) == (table, client));
    if known.is_some_and(|known| known.2 == row) {
        return;
    }
    if std::env::var_os("UPDATE_CLIENTS").is_some() {
        std::fs::write(page(), written(&text, table, client, &row)).expect("it can be written");
        return;
    }
    drop(guard);
    let known = known.map_or("nothing", |known| known.2);
    panic!(
        "docs/clients.md differs from the run; 'make clients-table' writes it anew\n{known}\n{row}"
    );
}

/// `text` with this row, in the place that [`ROWS`] gives it.
fn written(text: &str, table: &str, client: &str, row: &str) -> String {
    let of_table = |row: &&(&str, &'static str)| row.0 == table;
    let order: Vec<_> = ROWS.iter().filter(of_table).map(|row| row.1).collect();
    let place = |name: &str| order.iter().position(|known| *known == name);
    let mut lines: Vec<String> =
        rows(text).iter().filter(|r| r.0 == table && r.1 != client).map(|r| r.2.into()).collect();
    lines.push(row.to_owned());
    lines.sort_by_key(|line| {
        place(line.split(" | ").next().unwrap_or_default().trim_start_matches("| "))
    });
    let (before, section) = text.split_once(&format!("\n## {table}\n")).expect("its section");
    let (head, rest) = section.split_once("|---").expect("its head");
    let (bars, rest) = rest.split_once('\n').expect("the head's end");
    let after: String = rest.split_inclusive('\n').skip_while(|l| l.starts_with("| ")).collect();
    format!("{before}\n## {table}\n{head}|---{bars}\n{}\n{after}", lines.join("\n"))
}

#[test]
fn every_row_is_made_by_a_run() {
    let text = std::fs::read_to_string(page()).expect("docs/clients.md is there");
    if std::env::var_os("UPDATE_CLIENTS").is_none() {
        let found: Vec<_> = rows(&text).iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(found, ROWS, "docs/clients.md has these rows and no others, in this order");
    }
}

#[test]
fn a_row_is_replaced_or_put_in_its_place() {
    let text = "# T\n\n## Uploads\n\nIntro.\n\n| C | V |\n|---|---|\n| google-genai, JavaScript | 1 |\n\nEnd.\n";
    let both = written(text, "Uploads", "google-genai, Python", "| google-genai, Python | 2 |");
    assert_eq!(
        both,
        text.replace("| google-genai, J", "| google-genai, Python | 2 |\n| google-genai, J")
    );
    assert_eq!(
        written(&both, "Uploads", "google-genai, Python", "| google-genai, Python | 2 |"),
        both
    );
}

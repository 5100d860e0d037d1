//! The store by its promises: shared, and closed where it can't read; [`place`] and [`crash`] are
//! about the file and what survives.

mod client;
mod crash;
mod place;
mod stream;

use super::*;
use crate::token::store::{ClientStore, TokenStore};
use crate::values::grant::{GrantText, RateText};
use crate::values::ids::TokenDigest;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn record(name: &str) -> Record {
    Record {
        id: format!("tok_{name}"),
        name: name.into(),
        digest: TokenDigest::of(name.as_bytes()),
        last4: "last".into(),
        created_at: 1_700_000_000_123,
        expires_at: None,
        disabled: false,
        may_mint: false,
        policy: None,
        grant: None,
        last_used_at: None,
    }
}

fn grant() -> GrantText {
    GrantText {
        models: Some(vec!["gpt-4o*".into()]),
        rate_limit: Some(RateText { requests: 20, per: "60s".into() }),
        ..GrantText::default()
    }
}

struct Temporary {
    dir: tempfile::TempDir,
    store: Sqlite,
}

impl Temporary {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path().join("keygate.db")).unwrap();
        Self { dir, store }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("keygate.db")
    }
    fn another(&self) -> Sqlite {
        Sqlite::open(self.path()).unwrap()
    }
    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn why(error: StoreError) -> String {
    error.to_string()
}

#[test]
fn records_come_back_as_they_were_stored_in_the_order_of_their_creation() {
    let t = Temporary::new();
    let full = Record {
        expires_at: Some("2099-01-01T00:00:00Z".into()),
        disabled: true,
        grant: Some(Ok(grant())),
        last_used_at: Some(5),
        ..record("full")
    };
    let later = Record { created_at: 1, policy: Some("browser".into()), ..record("later") };
    t.store.create(&full).unwrap();
    t.store.create(&later).unwrap();
    assert_eq!(t.store.all().unwrap(), [full.clone(), later.clone()]);
    assert_eq!(t.store.get("tok_full").unwrap(), full);
    drop(t.store);
    let again = Sqlite::open(t.dir.path().join("keygate.db")).unwrap();
    assert_eq!(again.all().unwrap(), [full, later], "also after a restart");
}

#[test]
fn a_token_can_exist_once_only() {
    let t = Temporary::new();
    t.store.create(&record("a")).unwrap();
    let twin = Record { id: "tok_other".into(), ..record("a") };
    assert!(matches!(t.store.create(&twin), Err(StoreError::Exists)));
    let same_id = Record { id: "tok_a".into(), ..record("b") };
    assert!(matches!(t.store.create(&same_id), Err(StoreError::Failed(_))));
    assert_eq!(t.store.all().unwrap().len(), 1, "what was refused left nothing behind");
}

#[test]
fn a_change_touches_what_it_names_and_nothing_else() {
    let t = Temporary::new();
    let before = Record { policy: Some("p".into()), ..record("a") };
    t.store.create(&before).unwrap();
    assert_eq!(t.store.update("tok_a", &Change::default()).unwrap(), before);
    let change = Change {
        name: Some("b".into()),
        expires_at: Some(Some("2099-01-01T00:00:00Z".into())),
        disabled: Some(true),
        may_mint: Some(true),
        policy: Some(None),
        grant: Some(Some(grant())),
    };
    let after = t.store.update("tok_a", &change).unwrap();
    let expected = Record {
        name: "b".into(),
        expires_at: Some("2099-01-01T00:00:00Z".into()),
        disabled: true,
        may_mint: true,
        policy: None,
        grant: Some(Ok(grant())),
        ..before.clone()
    };
    assert_eq!(after, expected);
    assert_eq!(t.store.get("tok_a").unwrap(), expected, "what update gives is what is stored");
    let back = Change {
        expires_at: Some(None),
        disabled: Some(false),
        may_mint: Some(false),
        policy: Some(Some("p".into())),
        grant: Some(None),
        ..Change::default()
    };
    assert_eq!(
        t.store.update("tok_a", &back).unwrap(),
        Record { name: "b".into(), ..before },
        "each field can be emptied again"
    );
}

#[test]
fn policy_and_grant_together_are_refused() {
    let t = Temporary::new();
    let both = Record { policy: Some("p".into()), grant: Some(Ok(grant())), ..record("a") };
    assert!(why(t.store.create(&both).unwrap_err()).contains("not both"));
    t.store.create(&Record { policy: Some("p".into()), ..record("a") }).unwrap();
    let change = Change { grant: Some(Some(grant())), ..Change::default() };
    assert!(why(t.store.update("tok_a", &change).unwrap_err()).contains("not both"));
    assert_eq!(t.store.get("tok_a").unwrap().grant, None, "the refused change left nothing");
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let t = Temporary::new();
    let missing = |e: StoreError| matches!(e, StoreError::NotFound(id) if id == "tok_x");
    assert!(missing(t.store.get("tok_x").unwrap_err()));
    assert!(missing(t.store.update("tok_x", &Change::default()).unwrap_err()));
    assert!(missing(t.store.delete("tok_x").unwrap_err()));
    t.store.create(&record("x")).unwrap();
    t.store.delete("tok_x").unwrap();
    assert!(missing(t.store.get("tok_x").unwrap_err()), "deleted is gone");
}

#[test]
fn the_version_differs_after_every_change_by_anyone_and_not_after_touch() {
    let t = Temporary::new();
    let other = Sqlite::open(t.path()).unwrap();
    let mut seen = t.store.version().unwrap();
    let mut changed = |what: &str| {
        let now = t.store.version().unwrap();
        assert_ne!(now, seen, "{what} must show");
        assert_eq!(now, other.version().unwrap(), "both connections agree");
        seen = now;
    };
    t.store.create(&record("a")).unwrap();
    changed("own create");
    other.create(&record("b")).unwrap();
    changed("another's create");
    other.update("tok_a", &Change { disabled: Some(true), ..Change::default() }).unwrap();
    changed("another's update");
    t.store.update("tok_a", &Change { name: Some("n".into()), ..Change::default() }).unwrap();
    changed("own update");
    other.delete("tok_b").unwrap();
    changed("another's delete");
    t.raw().execute("UPDATE tokens SET disabled = 0", []).unwrap();
    changed("an operator's shell");
    let before = t.store.version().unwrap();
    other.touch(&[("tok_a".into(), 7)]).unwrap();
    assert_eq!(t.store.version().unwrap(), before, "touch is no change");
    assert_eq!(t.store.get("tok_a").unwrap().last_used_at, Some(7), "but it is written");
    t.store.create(&record("a")).unwrap_err();
    assert_eq!(t.store.version().unwrap(), before, "a refused change is no change");
}

#[test]
fn a_use_never_moves_back_and_unknown_ids_do_no_harm() {
    let t = Temporary::new();
    t.store.create(&record("a")).unwrap();
    t.store.touch(&[("tok_gone".into(), 9), ("tok_a".into(), 9)]).unwrap();
    t.store.touch(&[("tok_a".into(), 8)]).unwrap();
    assert_eq!(t.store.get("tok_a").unwrap().last_used_at, Some(9));
}

#[test]
fn two_connections_see_each_other_at_once() {
    let t = Temporary::new();
    let other = Sqlite::open(t.path()).unwrap();
    t.store.create(&record("a")).unwrap();
    assert_eq!(other.get("tok_a").unwrap(), record("a"));
    other.delete("tok_a").unwrap();
    assert!(t.store.all().unwrap().is_empty());
}

#[test]
fn concurrent_writers_lose_nothing() {
    let t = Temporary::new();
    let path = Arc::new(t.path());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                let store = Sqlite::open(&*path).unwrap();
                for i in 0..25 {
                    store.create(&record(&format!("{writer}-{i}"))).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(t.store.all().unwrap().len(), 100);
}

#[test]
fn amending_sees_the_record_as_it_is_while_others_write() {
    let t = Temporary::new();
    t.store.create(&record("a")).unwrap();
    let append = |store: &Sqlite, letter: char| {
        store
            .amend::<StoreError>("tok_a", |now| {
                Ok(Change { name: Some(format!("{}{letter}", now.name)), ..Change::default() })
            })
            .unwrap();
    };
    let path = t.path();
    let other = std::thread::spawn(move || {
        let store = Sqlite::open(path).unwrap();
        for _ in 0..30 {
            append(&store, 'y');
        }
    });
    for _ in 0..30 {
        append(&t.store, 'x');
    }
    other.join().unwrap();
    assert_eq!(t.store.get("tok_a").unwrap().name.len(), 61, "no change was overwritten");
}

#[test]
fn what_cannot_be_read_allows_nothing_and_hides_nothing() {
    let t = Temporary::new();
    for name in ["good", "digest", "grant", "expiry", "text"] {
        t.store.create(&record(name)).unwrap();
    }
    t.raw()
        .execute_batch(
            "UPDATE tokens SET sha256 = x'0102' WHERE name = 'digest';
             UPDATE tokens SET grant_json = '{\"models\":null}' WHERE name = 'grant';
             UPDATE tokens SET expires_at = 'soon' WHERE name = 'expiry';
             UPDATE tokens SET policy = CAST(x'ff' AS TEXT), expires_at = CAST(x'ff' AS TEXT),
                disabled = 7 WHERE name = 'text';",
        )
        .unwrap();
    let records = t.store.all().unwrap();
    let names: Vec<_> = records.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["good", "grant", "expiry", "text"], "only the digest's row is left out");
    assert_eq!(records[1].grant, Some(Err("{\"models\":null}".into())));
    assert_eq!(records[2].expires_at.as_deref(), Some("soon"), "present, so it counts as over");
    assert!(records[3].policy.is_some() && records[3].expires_at.is_some() && records[3].disabled);
    let unreadable = t.store.inventory().unwrap().unreadable;
    assert_eq!(unreadable.len(), 1);
    assert_eq!(unreadable[0].id, "tok_digest");
    assert!(why(t.store.get("tok_digest").unwrap_err()).contains("delete it"));
    let change = Change { name: Some("new".into()), ..Change::default() };
    assert_eq!(
        t.store.update("tok_grant", &change).unwrap().grant,
        Some(Err("{\"models\":null}".into())),
        "another field's change leaves the unreadable as it is"
    );
    t.store.delete("tok_digest").unwrap();
    assert!(t.store.inventory().unwrap().unreadable.is_empty(), "it can be got rid of");
}

#[test]
fn the_key_of_tickets_is_drawn_once_and_the_same_for_everybody() {
    let t = Temporary::new();
    let version = t.store.version().unwrap();
    let key = t.store.ticket_key().unwrap();
    assert_eq!(t.store.ticket_key().unwrap(), key, "asked again");
    let other = Sqlite::open(t.path()).unwrap();
    assert_eq!(other.ticket_key().unwrap(), key, "asked by another process");
    assert_ne!(Temporary::new().store.ticket_key().unwrap(), key, "another store has another");
    assert_eq!(t.store.version().unwrap(), version, "no token has changed");
    t.raw().execute("UPDATE secrets SET value = x'00'", []).unwrap();
    let error = why(t.store.ticket_key().err().unwrap());
    assert!(error.contains("delete the row 'ticket_key'"), "{error}");
}

/// Takes back what schemas 3 and 4 brought.
const TO_2_AGAIN: &str = "DROP TRIGGER token_may_mint; ALTER TABLE tokens DROP COLUMN may_mint;
    DROP TABLE client_tokens; DROP TABLE client_uses; DROP TABLE signing_keys; DROP TABLE streams;
    PRAGMA user_version = 2";

#[test]
fn a_file_of_the_second_schema_keeps_its_tokens_and_its_key_of_tickets() {
    let t = Temporary::new();
    t.store.create(&record("old")).unwrap();
    let key = t.store.ticket_key().unwrap();
    t.raw().execute_batch(TO_2_AGAIN).unwrap();
    let store = Sqlite::open(t.path()).unwrap();
    assert_eq!(store.all().unwrap(), [record("old")], "nobody may mint who could not before");
    assert_eq!(store.ticket_key().unwrap(), key, "tickets that are out stay good");
    assert_eq!(
        store.clients_since(0).unwrap(),
        (0, Vec::new()),
        "there is room for what is minted"
    );
    assert!(store.keys().unwrap().is_empty(), "and for keys");
}

#[test]
fn a_file_of_the_first_schema_is_brought_up_with_its_tokens() {
    let t = Temporary::new();
    t.store.create(&record("old")).unwrap();
    t.raw().execute_batch(&format!("{TO_2_AGAIN}; DROP TABLE secrets")).unwrap();
    t.raw().pragma_update(None, "user_version", 1).unwrap();
    let store = Sqlite::open(t.path()).unwrap();
    assert_eq!(store.all().unwrap(), [record("old")], "its tokens are still there");
    assert_eq!(store.ticket_key().unwrap(), t.store.ticket_key().unwrap());
}

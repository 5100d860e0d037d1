//! Policies of streams: what is changed is seen behind the last look, by everybody.

use super::*;
use crate::stream::store::{Content, Failed, Pending, PolicyStore, Row};

const ONE: [u8; 16] = [1; 16];
const TWO: [u8; 16] = [2; 16];

fn content(current: Option<&str>) -> Content {
    Content { spelling: -3, current: current.map(Into::into), pending: None }
}

fn put(store: &Sqlite, key: [u8; 16], content: &Content) -> Option<Row> {
    store.change(&key, "streams/x", &mut |_| Some(content.clone())).expect("it is written")
}

fn since(store: &Sqlite, seq: i64) -> (i64, Vec<Row>) {
    let mut rows = Vec::new();
    let last = store.since(seq, &mut |row| rows.push(row)).expect("it is read");
    (last, rows)
}

#[test]
fn changes_are_seen_once_in_their_order_by_every_process() {
    let t = Temporary::new();
    let other = t.another();
    let pending = Pending { policy: "*".into(), owner: 7, since_ms: 9 };
    let both = Content { pending: Some(pending), ..content(Some("same-origin")) };
    let first = put(&t.store, ONE, &both).expect("a row");
    put(&t.store, TWO, &content(Some("*")));
    let (last, rows) = since(&other, 0);
    assert_eq!(rows[0], first, "as it was written: {rows:?}");
    assert_eq!((rows.len(), rows[0].content.clone()), (2, both));
    assert_eq!(since(&other, last), (last, vec![]), "nothing has changed since");
    let again = put(&other, ONE, &content(Some("same-origin"))).expect("a row");
    assert!(again.seq > last, "it comes behind all that was there");
    assert_eq!(since(&t.store, last).1, [again]);
    let removed = put(&t.store, TWO, &content(None)).expect("what was there is emptied");
    assert_eq!(since(&other, 0).1.last(), Some(&removed), "others see that it is gone");
    other.forget(u64::MAX).expect("it is written");
    assert_eq!(since(&other, 0).1.len(), 1, "what says nothing is forgotten, the rest is not");
    let next = put(&other, TWO, &content(Some("*"))).expect("a row");
    assert!(next.seq > removed.seq, "numbers do not come back");
}

#[test]
fn a_change_sees_what_is_there_and_may_leave_it() {
    let t = Temporary::new();
    assert_eq!(t.store.change(&ONE, "x", &mut |row| row.map(|_| content(None))).unwrap(), None);
    assert_eq!(put(&t.store, ONE, &content(None)), None, "nothing is not stored");
    let row = put(&t.store, ONE, &content(Some("*")));
    let mut seen = None;
    let left = t.store.change(&ONE, "x", &mut |row| {
        seen = row.cloned();
        None
    });
    assert_eq!((seen, left.expect("it is read")), (row.clone(), row), "as it is");
}

#[test]
fn a_mark_differs_as_soon_as_a_change_returns() {
    let t = Temporary::new();
    let other = t.another();
    other.owner().expect("it is claimed");
    let before = other.mark().expect("there is one");
    put(&t.store, ONE, &content(Some("*")));
    assert_ne!(other.mark(), Some(before), "another process sees it without asking the database");
    let before = other.mark();
    t.store.change(&ONE, "x", &mut |_| None).expect("it is read");
    assert_eq!(other.mark(), before, "nothing has changed");
}

#[test]
fn a_file_of_the_third_schema_gets_the_table() {
    let t = Temporary::new();
    t.store.create(&record("old")).unwrap();
    t.raw().execute_batch("DROP TABLE streams; PRAGMA user_version = 3").unwrap();
    let store = t.another();
    assert_eq!(store.all().unwrap().len(), 1, "its tokens are there");
    assert!(put(&store, ONE, &content(Some("*"))).is_some());
}

#[test]
fn a_row_that_is_no_text_is_an_error_and_not_an_open_stream() {
    let t = Temporary::new();
    put(&t.store, ONE, &content(Some("*")));
    t.raw().execute_batch("UPDATE streams SET policy = CAST(x'ff' AS TEXT)").unwrap();
    let read: Result<i64, Failed> = t.store.since(0, &mut |_| ());
    assert!(read.is_err(), "who asks must learn that nobody knows");
}

//! What minted tokens and signing keys promise across processes and files.

use super::*;
use crate::config::client::Algorithm;
use crate::store::client::reader;
use crate::token::client::{Clients, REFUSED_FOR};
use crate::token::jwks::{Rotation, generate};
use crate::token::store::{ClientChange, ClientRecord};

const NOW: u64 = 1_800_000_000_000;

fn minted(id: &str) -> ClientRecord {
    ClientRecord {
        id: format!("ctk_{id}"),
        parent: "tok_parent".into(),
        parent_digest: TokenDigest::of(b"parent"),
        digest: TokenDigest::of(id.as_bytes()),
        name: "parent".into(),
        created_at: NOW,
        starts_until: NOW + 60_000,
        ends_at: NOW + 60_000,
        uses: Some(1),
        inference: true,
        grant: Ok(GrantText::default()),
        metadata: None,
        revoked: false,
    }
}

fn add(store: &Arc<Sqlite>, record: &ClientRecord) {
    let change = ClientChange::Add(Box::new(record.clone()));
    assert!(store.clone().request(change).blocking_recv().unwrap().unwrap());
}

fn take(store: &Arc<Sqlite>, record: &ClientRecord) -> bool {
    let change =
        ClientChange::Use { id: record.id.as_str().into(), uses: 1, ends_at: record.ends_at };
    store.clone().request(change).blocking_recv().unwrap().unwrap()
}

#[test]
fn a_clock_that_jumps_ahead_and_back_brings_nothing_to_life() {
    let t = Temporary::new();
    let store = Arc::new(t.store);
    let record = minted("a");
    add(&store, &record);
    assert!(take(&store, &record), "its one use");
    store.revoke_client(&record.id).unwrap();
    store.forget_ended(record.ends_at + REFUSED_FOR / 2).unwrap();
    assert!(!take(&store, &record), "a use that was taken stays taken");
    let (_, known) = store.clients_since(0).unwrap();
    assert!(known.iter().any(|r| r.id == record.id && r.revoked), "and it stays revoked");
    store.forget_ended(record.ends_at + REFUSED_FOR + 1_000).unwrap();
    assert!(store.clients_since(0).unwrap().1.is_empty(), "in the end it is forgotten");
}

#[test]
fn a_revocation_in_a_file_that_took_the_others_place_is_seen() {
    let t = Temporary::new();
    let store = Arc::new(t.store);
    let clients = Arc::new(Clients::new());
    let mut look = reader(store.clone(), clients.clone());
    for n in 0..5 {
        add(&store, &minted(&n.to_string()));
    }
    look(true).unwrap();
    assert_eq!(clients.len(), 5);
    let path = t.dir.path().join("keygate.db");
    for file in file::files(&path) {
        std::fs::remove_file(file).unwrap();
    }
    let other = Arc::new(Sqlite::open(&path).unwrap());
    add(&other, &minted("0"));
    other.revoke_client("ctk_0").unwrap();
    assert!(look(true).unwrap(), "open sessions are concerned");
    assert!(clients.is_revoked("ctk_0"), "its number in the new file is smaller than those seen");
}

#[test]
fn what_a_removed_key_has_signed_is_not_remembered() {
    let t = Temporary::new();
    let store = Arc::new(t.store);
    let clients = Arc::new(Clients::new());
    let key = generate(Algorithm::EdDsa, NOW, NOW).unwrap();
    let kid = key.kid.clone();
    let mut rotation = Some(Rotation { create: Some(key), remove: Vec::new() });
    store.rotate(&mut |_| Ok(rotation.take().unwrap())).unwrap();
    let mut look = reader(store.clone(), clients.clone());
    assert!(!look(true).unwrap(), "a first key concerns nobody");
    store.rotate(&mut |_| Ok(Rotation { create: None, remove: vec![kid.clone()] })).unwrap();
    assert!(look(true).unwrap(), "whoever came with it is looked at again");
    assert!(clients.keys.document().body.contains("\"keys\":[]"), "and it verifies nothing");
}

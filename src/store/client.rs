//! Following what is minted, and what signs, into memory.

use super::Sqlite;
use crate::token::client::Clients;
use crate::token::store::{ClientStore, StoreError};
use std::sync::Arc;

/// What [`super::Hooks::read`] does: client tokens that were added or revoked since the last look,
/// and the signing keys whenever the store's version has changed.
pub fn reader(
    store: Arc<Sqlite>,
    clients: Arc<Clients>,
) -> impl FnMut(bool) -> Result<bool, StoreError> + Send {
    let mut seen = 0;
    let mut incarnation = store.incarnation();
    move |changed| {
        let mut concerned = false;
        if changed {
            let replaced = clients.keys.replace(&store.keys()?);
            for kid in &replaced.unreadable {
                log::error!("the signing key '{kid}' can't be read; nothing is signed with it");
            }
            if replaced.gone {
                // What a key that is gone has signed is not good any more.
                clients.forget_verified();
                concerned = true;
            }
        }
        let (mut last, mut records) = store.clients_since(seen)?;
        if store.incarnation() != incarnation {
            // Another file has taken the place of the one before, and counts anew.
            incarnation = store.incarnation();
            (last, records) = store.clients_since(0)?;
        }
        for record in &records {
            concerned |= clients.take(record);
        }
        seen = last;
        Ok(concerned)
    }
}

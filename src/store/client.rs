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
    move |changed| {
        if changed {
            for kid in clients.keys.replace(&store.keys()?) {
                log::error!("the signing key '{kid}' can't be read; nothing is signed with it");
            }
        }
        let (last, records) = store.clients_since(seen)?;
        let mut revoked = false;
        for record in &records {
            revoked |= clients.take(record);
        }
        seen = last;
        Ok(revoked)
    }
}

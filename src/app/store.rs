//! The store, opened once and followed.

use super::{StartError, operations};
use crate::config::Config;
use crate::proxy::gateway::Gateway;
use crate::store::{Follower, Hooks, Sqlite, client, follow};
use crate::token::store::{StoreError, TokenStore};
use crate::token::ticket::Seal;
use std::path::Path;
use std::sync::Arc;

/// Opens it, where there is one.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Sqlite>>, StartError> {
    let Some(path) = config.store.as_deref() else { return Ok(None) };
    Ok(Some(Arc::new(Sqlite::open(path).map_err(|e| failed(path, &e))?)))
}

/// With the store's key, so that tickets are good in every process and after a restart; without a
/// store each start has its own.
pub(super) fn seal(store: Option<&Sqlite>, config: &Config) -> Result<Seal, StartError> {
    let Some(store) = store else {
        return Seal::draw().map_err(|e| StartError::new("drawing a key for upload tickets", e));
    };
    let path = config.store.as_deref().unwrap_or(Path::new(""));
    store.ticket_key().map(Seal::new).map_err(|e| failed(path, &e))
}

/// Fills the gateway's memory from it, and keeps it in step.
pub(super) fn follow_it(
    store: Arc<Sqlite>,
    gateway: &Arc<Gateway>,
) -> Result<Arc<Follower>, StartError> {
    let told = Arc::downgrade(gateway);
    let mut clients = client::reader(store.clone(), gateway.clients.clone());
    let (followed, lost) = (gateway.streams.clone(), gateway.streams.clone());
    let hooks = Hooks {
        read: Box::new(move |changed| {
            let concerned = clients(changed)?;
            followed.follow().map_err(|why| StoreError::Failed(why.0))?;
            Ok(concerned)
        }),
        lost: Box::new(move || lost.lost()),
        changed: Box::new(move || {
            if let Some(gateway) = told.upgrade() {
                operations::recheck(&gateway);
            }
        }),
    };
    let follower = follow(store, gateway.index.clone(), gateway.clock.clone(), hooks);
    let snapshot = gateway.snapshot.load();
    let path = snapshot.config.store.as_deref().unwrap_or(Path::new(""));
    follower.map(Arc::new).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> StartError {
    StartError::new(format!("opening the store {}", path.display()), why)
}

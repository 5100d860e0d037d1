//! Signing keys: made at the first start, changed on schedule. Tokens that have ended are forgotten
//! here too.
//!
//! With a store every process decides inside one transaction, so that the first of them makes the
//! key for all. Without one, keys live and die with the process.

use super::StartError;
use crate::config::Config;
use crate::proxy::gateway::Gateway;
use crate::token::client::Clients;
use crate::token::jwks::{self, KeyRecord};
use crate::token::store::{ClientStore, StoreError};
use crate::values::Invalid;
use crate::values::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// How often is looked whether a key is due.
const EVERY: Duration = Duration::from_secs(10);

/// Makes the first key, or reads what the store has.
pub(super) fn start(
    clients: &Clients,
    store: Option<&dyn ClientStore>,
    config: &Config,
    clock: &Clock,
) -> Result<(), StartError> {
    let failed = |e: &dyn std::fmt::Display| StartError::new("signing keys", e);
    let mut kept = Vec::new();
    match store {
        Some(store) => {
            rotate(store, config, clock.wall_ms()).map_err(|e| failed(&e))?;
            kept = store.keys().map_err(|e| failed(&e))?;
        }
        None => rotate_in_memory(&mut kept, config, clock.wall_ms()).map_err(|e| failed(&e))?,
    }
    clients.keys.replace(&kept);
    Ok(())
}

fn rotate(store: &dyn ClientStore, config: &Config, now_ms: u64) -> Result<(), StoreError> {
    let Some(algorithm) = config.client_tokens.signing else { return Ok(()) };
    let every = config.client_tokens.rotate_every;
    // Looked at without the write lock first: nearly always there is nothing to do.
    let is_due = |keys: &[KeyRecord]| jwks::is_due(keys, algorithm, every, now_ms);
    if !is_due(&store.keys()?) {
        return Ok(());
    }
    store.rotate(&mut |keys| jwks::due(keys, algorithm, every, now_ms, false))
}

fn rotate_in_memory(
    keys: &mut Vec<KeyRecord>,
    config: &Config,
    now_ms: u64,
) -> Result<(), Invalid> {
    let Some(algorithm) = config.client_tokens.signing else { return Ok(()) };
    let every = config.client_tokens.rotate_every;
    let rotation = jwks::due(keys, algorithm, every, now_ms, false)?;
    keys.retain(|key| !rotation.remove.contains(&key.kid));
    keys.extend(rotation.create);
    Ok(())
}

/// Looks until `stop` turns true.
pub(super) async fn run(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
        let gateway = gateway.clone();
        if let Err(e) = spawn_blocking(move || look(&gateway)).await {
            log::error!("looking after signing keys failed: {e}");
        }
    }
}

/// Puts in force what the store has now, ahead of its follower.
fn refresh(gateway: &Gateway, store: &dyn ClientStore) -> Result<(), StoreError> {
    if gateway.clients.keys.replace(&store.keys()?).gone {
        gateway.clients.forget_verified();
    }
    Ok(())
}

/// Makes or removes what is due, and forgets what has ended.
pub(super) fn look(gateway: &Gateway) {
    let now_ms = gateway.clock.wall_ms();
    gateway.clients.forget_ended(now_ms);
    // Long after every process has seen that they are empty.
    if let Err(why) = gateway.streams.forget(now_ms.saturating_sub(3_600_000)) {
        log::error!("streams without a policy can't be forgotten: {why}");
    }
    let snapshot = gateway.snapshot.load_full();
    let outcome = match &gateway.client_store {
        Some(store) => store
            .forget_ended(now_ms)
            .and_then(|()| rotate(store.as_ref(), &snapshot.config, now_ms))
            .and_then(|()| refresh(gateway, store.as_ref()))
            .map_err(|e| e.to_string()),
        None => {
            let mut rotated = Ok(());
            gateway.clients.keys.change(|keys| {
                rotated = rotate_in_memory(keys, &snapshot.config, now_ms);
            });
            rotated.map_err(|e| e.to_string())
        }
    };
    if let Err(why) = outcome {
        log::error!("signing keys can't be looked after: {why}");
    }
}

//! Fetching other issuers' keys, in the background: requests never wait for it.

use crate::config::client::Jwks;
use crate::egress::fetch;
use crate::proxy::gateway::Gateway;
use crate::token::issuers::Source;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

const EVERY: Duration = Duration::from_millis(200);
/// Bytes of a set.
const LARGEST: usize = 256 << 10;
/// For a set, from the look-up of its host to its last byte.
const WITHIN: Duration = Duration::from_secs(5);

/// Looks until `stop` turns true.
pub(super) async fn run(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    loop {
        let due = gateway.clients.issuers.due(gateway.clock.steady_ms());
        let read = join_all(due.iter().map(|source| read(source))).await;
        if read.contains(&true) {
            // What a key that is gone has signed is not good any more.
            gateway.clients.forget_verified();
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Reads one set; gives whether it brought another.
async fn read(source: &Source) -> bool {
    let text = match &source.jwks {
        Jwks::Url(url) => match tokio::time::timeout(WITHIN, fetch::get(url, LARGEST)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {WITHIN:?}")),
        },
        Jwks::File(path) => {
            let path = path.clone();
            let reading = spawn_blocking(move || std::fs::read(path)).await;
            reading.map_err(|e| e.to_string()).and_then(|read| read.map_err(|e| e.to_string()))
        }
    };
    let taken = text.and_then(|text| source.take(&text).map_err(|e| e.to_string()));
    taken.unwrap_or_else(|why| {
        log::warn!(
            "the keys of issuer {} can't be read, the last good ones stay: {why}",
            source.issuer
        );
        false
    })
}

//! Stopping: what is open runs on until it ends or the drain time does; then sockets get 1001.
//!
//! Pingora sleeps its whole grace period whatever is going on; this watches the registry instead,
//! so that an idle process is gone at once.

use super::connection::Cut;
use super::connections::Connections;
use super::registry::Registry;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the registry is looked at.
const STEP: Duration = Duration::from_millis(20);
/// What cut sessions get to write their last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What open connections get to say that they end (HTTP/2: GOAWAY), once nothing is in flight.
const FAREWELL: Duration = Duration::from_millis(200);

/// Waits until nothing is in flight, at most `limit`; then cuts what is left. Gives how many
/// sessions had to be cut.
pub async fn drain(registry: &Registry, connections: &Connections, limit: Duration) -> usize {
    let mut cut = 0;
    let in_flight = || registry.open() > 0;
    if !over_within(limit, in_flight).await {
        cut = registry.cut(|_| Some(Cut::ShuttingDown));
        over_within(LAST_WORDS, in_flight).await;
    }
    over_within(FAREWELL, || connections.open() > 0).await;
    cut
}

async fn over_within(limit: Duration, going_on: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while going_on() {
        if Instant::now() >= end {
            return false;
        }
        sleep(STEP).await;
    }
    true
}

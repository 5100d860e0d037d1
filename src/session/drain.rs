//! Stopping: what is open runs on until it ends or the drain time does; then sockets get 1001.
//!
//! Pingora sleeps its whole grace period whatever is going on; this watches the registry instead,
//! so that an idle process is gone at once.

use super::connection::Cut;
use super::registry::Registry;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the registry is looked at.
const STEP: Duration = Duration::from_millis(20);
/// What cut sessions get to write their last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Waits until nothing is in flight, at most `limit`; then cuts what is left. Gives how many
/// sessions had to be cut.
pub async fn drain(registry: &Registry, limit: Duration) -> usize {
    if idle_within(registry, limit).await {
        return 0;
    }
    let cut = registry.cut(|_| Some(Cut::ShuttingDown));
    idle_within(registry, LAST_WORDS).await;
    cut
}

async fn idle_within(registry: &Registry, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while registry.open() > 0 {
        if Instant::now() >= end {
            return false;
        }
        sleep(STEP).await;
    }
    true
}

//! What requests wait for: minted tokens and connections that are counted.
//!
//! One thread writes whatever has come meanwhile in one transaction, so that a thousand requests
//! wait for one another's disk no longer than one. What has waited too long is not begun: whoever
//! asked has been told that it failed, and must not have paid for it.

use super::connection::Refused;
use super::{Sqlite, client};
use crate::token::store::{Answer, ClientChange, StoreError, WITHIN};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Changes that wait at most.
const WAITING: usize = 4_096;
/// Changes in one transaction.
const TOGETHER: usize = 512;
/// How long another process may hold the file.
const LOCKED: Duration = Duration::from_millis(50);

/// The queue's entrance. The thread ends with it.
pub(super) struct Queue(Option<SyncSender<Waiting>>);

struct Waiting {
    change: ClientChange,
    by: Instant,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl Queue {
    /// Starts the thread. It keeps the store no longer than others do.
    pub(super) fn of(store: &Arc<Sqlite>) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let store = Arc::downgrade(store);
        let thread = std::thread::Builder::new().name("store-write".to_owned());
        match thread.spawn(move || run(&store, &receiver)) {
            Ok(_) => Self(Some(sender)),
            Err(e) => {
                log::error!("the store's thread could not be started, nothing is minted: {e}");
                Self(None)
            }
        }
    }

    pub(super) fn push(&self, change: ClientChange) -> Answer {
        let (answer, receiver) = oneshot::channel();
        let waiting = Waiting { change, by: Instant::now() + WITHIN, answer };
        let refused = match &self.0 {
            None => Some(waiting),
            Some(sender) => match sender.try_send(waiting) {
                Ok(()) => None,
                Err(TrySendError::Full(waiting) | TrySendError::Disconnected(waiting)) => {
                    Some(waiting)
                }
            },
        };
        if let Some(waiting) = refused {
            // Nobody hears it only if nobody waits.
            let _ = waiting.answer.send(Err(late()));
        }
        receiver
    }
}

fn late() -> StoreError {
    StoreError::Failed("it is too slow; what waited too long was not begun".to_owned())
}

fn run(store: &Weak<Sqlite>, waiting: &Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let Some(store) = store.upgrade() else { return };
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(TOGETHER - 1));
        let now = Instant::now();
        let (batch, over): (Vec<_>, Vec<_>) = batch.into_iter().partition(|w| w.by > now);
        for waiting in over {
            let _ = waiting.answer.send(Err(late()));
        }
        if !batch.is_empty() {
            write(&store, batch);
        }
    }
}

/// One transaction for all; a change that fails takes no other with it.
fn write(store: &Sqlite, batch: Vec<Waiting>) {
    let outcome = store.write_within(LOCKED, |tx| {
        let outcomes: Vec<_> = batch.iter().map(|w| client::carry_out(tx, &w.change)).collect();
        Ok::<_, StoreError>(outcomes)
    });
    match outcome {
        Ok(outcomes) => {
            for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                let told = outcome.map_err(|why| match why {
                    Refused::Sql(e) => super::failed(&store.path, &e),
                    Refused::Because(why) => StoreError::Failed(why),
                });
                let _ = waiting.answer.send(told);
            }
        }
        Err(why) => {
            for waiting in batch {
                let _ = waiting.answer.send(Err(StoreError::Failed(why.to_string())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::store::ClientStore;

    fn opened() -> (tempfile::TempDir, Arc<Sqlite>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(dir.path().join("keygate.db")).unwrap());
        (dir, store)
    }

    fn one_of(store: &Arc<Sqlite>, id: &str, uses: u32) -> Answer {
        store.clone().request(ClientChange::Use { id: id.into(), uses, ends_at: u64::MAX / 2 })
    }

    #[test]
    fn exactly_so_many_of_a_thousand_at_once_are_admitted() {
        let (_dir, store) = opened();
        let answers: Vec<_> = (0..1_000).map(|n| one_of(&store, ["a", "b"][n % 2], 3)).collect();
        let admitted = answers.into_iter().filter_map(|a| a.blocking_recv().unwrap().ok());
        assert_eq!(admitted.filter(|left| *left).count(), 6, "three of each");
    }

    #[test]
    fn what_waited_for_a_locked_file_has_cost_nothing() {
        let (dir, store) = opened();
        let other = rusqlite::Connection::open(dir.path().join("keygate.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let begun = Instant::now();
        let refused = one_of(&store, "a", 1).blocking_recv().unwrap();
        assert!(refused.is_err(), "nobody can say whether one is left");
        assert!(begun.elapsed() < super::super::PATIENCE, "a request does not wait so long");
        assert!(store.inventory().is_ok(), "reading goes on meanwhile");
        other.execute_batch("COMMIT").unwrap();
        assert!(one_of(&store, "a", 1).blocking_recv().unwrap().unwrap(), "it was not taken");
        assert!(!one_of(&store, "a", 1).blocking_recv().unwrap().unwrap(), "now it is");
    }

    #[test]
    fn the_thread_does_not_keep_the_store() {
        let (_dir, store) = opened();
        assert!(one_of(&store, "a", 1).blocking_recv().unwrap().unwrap());
        let weak = Arc::downgrade(&store);
        drop(store);
        let deadline = Instant::now() + Duration::from_secs(10);
        while weak.upgrade().is_some() {
            assert!(Instant::now() < deadline, "it must go");
            std::thread::yield_now();
        }
    }
}

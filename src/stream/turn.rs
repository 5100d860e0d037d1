//! Whose turn it is to create a stream: one `PUT` of a stream at a time, in this process.

use super::name::Key;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// The streams that somebody creates, or waits to create.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// A turn. Dropping it lets the next one have it.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    key: Key,
    /// Taken out when it is dropped.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a turn.
    pub async fn wait(self: &Arc<Self>, key: Key) -> Turn {
        let place = Place { turns: self, key, lock: Some(self.lock_of(key)) };
        // A caller that stops waiting gives its place back.
        let guard = match &place.lock {
            Some(lock) => Some(lock.clone().lock_owned().await),
            None => None,
        };
        Turn { turns: self.clone(), key, guard }
    }

    /// A turn, if nobody has it.
    pub fn try_take(self: &Arc<Self>, key: Key) -> Option<Turn> {
        let mut map = self.0.lock();
        if map.contains_key(&key) {
            return None;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        let guard = lock.clone().try_lock_owned().ok()?;
        map.insert(key, lock);
        Some(Turn { turns: self.clone(), key, guard: Some(guard) })
    }

    fn lock_of(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        self.0.lock().entry(key).or_default().clone()
    }

    /// Forgets a stream that nobody creates or waits for.
    fn leave(&self, key: Key) {
        let mut map = self.0.lock();
        // Whoever has or wants it holds it too.
        if map.get(&key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(&key);
        }
    }
}

struct Place<'a> {
    turns: &'a Turns,
    key: Key,
    lock: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lock = None;
        self.turns.leave(self.key);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        self.turns.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait([1; 16]).await;
        assert!(turns.try_take([1; 16]).is_none(), "it is taken");
        let other = turns.try_take([2; 16]).expect("another stream is not concerned");
        let mut second = pin!(turns.wait([1; 16]));
        assert!(second.as_mut().now_or_never().is_none(), "the second waits");
        {
            let mut gives_up = pin!(turns.wait([1; 16]));
            assert!(gives_up.as_mut().now_or_never().is_none(), "so does the third");
        }
        drop(first);
        drop(second.await);
        drop(other);
        assert!(turns.0.lock().is_empty(), "streams that nobody creates are forgotten");
    }
}

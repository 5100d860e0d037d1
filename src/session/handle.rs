//! What ends a request from outside: its connection, where that is its own, or the one stream of a
//! shared connection on which it came.
//!
//! A handle names its request: when the next one has begun on a kept connection, a cut that was
//! meant for the one before does nothing.

use super::connection::{Connection, Cut};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::*};
use std::time::Duration;
use tokio::sync::Notify;

/// What a request that was cut gets to end in its own way, with its answer and its line in the
/// log, before it is dropped.
const LAST_WORDS: Duration = Duration::from_millis(900);

tokio::task_local! {
    /// The stream that a task serves: Pingora gives all streams of a connection one digest.
    static SUBSTREAM: Arc<Substream>;
}

/// Ends one request.
#[derive(Debug)]
pub enum Handle {
    /// HTTP/1: the connection, as long as it serves this request.
    Connection(Arc<Connection>, u64),
    /// HTTP/2: one stream among others.
    Substream(Arc<Substream>),
}

impl Handle {
    /// Ends the request, unless it is over. The first reason stays.
    pub fn cut(&self, why: Cut) -> bool {
        match self {
            Self::Connection(connection, serving) => connection.cut(*serving, why),
            Self::Substream(substream) => substream.cut(why),
        }
    }

    /// Why it was cut, if it was.
    pub fn was_cut(&self) -> Option<Cut> {
        match self {
            Self::Connection(connection, _) => connection.was_cut(),
            Self::Substream(substream) => substream.was_cut(),
        }
    }

    /// The stream, where the request shares its connection.
    pub fn substream(&self) -> Option<&Arc<Substream>> {
        match self {
            Self::Connection(..) => None,
            Self::Substream(substream) => Some(substream),
        }
    }
}

/// One stream of a connection that has several.
#[derive(Default)]
pub struct Substream {
    cut: AtomicU8,
    /// Ends the request's own connection to the provider.
    hang_up: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    noticed: Notify,
}

impl Substream {
    /// The stream that this task serves, if it serves one.
    pub fn current() -> Option<Arc<Self>> {
        SUBSTREAM.try_with(Arc::clone).ok()
    }

    /// Serves a request on a stream of its own; drops it where it was cut and does not end.
    pub async fn serve<T>(request: impl Future<Output = Option<T>>) -> Option<T> {
        let substream = Arc::new(Self::default());
        let request = SUBSTREAM.scope(substream.clone(), request);
        tokio::select! {
            biased;
            ended = request => ended,
            () = substream.overdue() => None,
        }
    }

    /// The request now has a connection to the provider, which `hang_up` ends. Gives false where
    /// the request was cut meanwhile.
    pub fn rides(&self, hang_up: impl FnOnce() + Send + 'static) -> bool {
        *self.hang_up.lock() = Some(Box::new(hang_up));
        self.was_cut().is_none()
    }

    /// Why it was cut, if it was.
    pub fn was_cut(&self) -> Option<Cut> {
        Cut::of(self.cut.load(Acquire))
    }

    fn cut(&self, why: Cut) -> bool {
        if self.cut.compare_exchange(0, why as u8, AcqRel, Acquire).is_err() {
            return false;
        }
        if let Some(hang_up) = self.hang_up.lock().take() {
            hang_up();
        }
        self.noticed.notify_one();
        true
    }

    /// Waits until the stream was cut and has had its time.
    async fn overdue(&self) {
        self.noticed.notified().await;
        tokio::time::sleep(LAST_WORDS).await;
    }
}

impl std::fmt::Debug for Substream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Substream").field("cut", &self.was_cut()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_was_cut_hangs_up_at_once_and_is_dropped_after_its_time() {
        let hung_up = Arc::new(AtomicBool::new(false));
        let noted = hung_up.clone();
        let served = Substream::serve(async move {
            let substream = Substream::current().expect("the task serves one");
            assert!(substream.rides(move || noted.store(true, Release)));
            let handle = Handle::Substream(substream.clone());
            assert!(handle.cut(Cut::Revoked) && !handle.cut(Cut::TimedOut), "once");
            assert_eq!(handle.was_cut(), Some(Cut::Revoked), "the first reason stays");
            assert!(!substream.rides(|| ()), "a connection that comes too late is not used");
            std::future::pending::<Option<()>>().await
        });
        assert_eq!(served.await, None, "what does not end by itself is ended");
        assert!(hung_up.load(Acquire), "the provider's connection was ended");
        assert!(Substream::current().is_none(), "outside there is no stream");
    }

    #[test]
    fn a_cut_meant_for_one_request_does_not_hit_the_next() {
        let connection = Arc::new(Connection::plain(None, Duration::from_secs(1), None));
        let first = Handle::Connection(connection.clone(), connection.serve());
        connection.rest();
        assert!(!first.cut(Cut::Revoked), "it is over");
        let second = Handle::Connection(connection.clone(), connection.serve());
        assert!(!first.cut(Cut::Revoked), "another request is served now");
        assert_eq!(second.was_cut(), None, "the stranger is unharmed");
        assert!(second.cut(Cut::TimedOut), "its own handle ends it");
        assert_eq!(second.was_cut(), Some(Cut::TimedOut));
    }
}

//! The threads that serve: each runs a runtime of its own and accepts for itself, so that a
//! connection stays on one thread and nobody is woken for it.
//!
//! Pingora's own pool of that kind is not used: it remembers a thread's pool by an id that the next
//! thread inherits, and a second gateway in the process would be served by the first one's.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A pool of single-threaded runtimes. Dropping it ends them at once.
pub(super) struct Threads {
    first: Handle,
    all: Vec<Thread>,
}

struct Thread {
    handle: Handle,
    stop: oneshot::Sender<Duration>,
    join: JoinHandle<()>,
}

impl Threads {
    /// Starts `count` threads, at least one.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let first = thread()?;
        let handle = first.handle.clone();
        let mut all = vec![first];
        for _ in 1..count {
            all.push(thread()?);
        }
        Ok(Self { first: handle, all })
    }

    /// The first one: what is not a connection runs there.
    pub(super) fn first(&self) -> &Handle {
        &self.first
    }

    /// Each of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &Handle> {
        self.all.iter().map(|thread| &thread.handle)
    }

    /// Ends all; what they still do gets `limit` to finish.
    pub(super) fn stop(self, limit: Duration) {
        let joins: Vec<_> = self
            .all
            .into_iter()
            .map(|thread| {
                // It is gone already, if nobody listens.
                let _ = thread.stop.send(limit);
                thread.join
            })
            .collect();
        for join in joins {
            // A thread that panicked has ended too.
            let _ = join.join();
        }
    }
}

fn thread() -> io::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let join =
        std::thread::Builder::new().name("keygate".to_owned()).spawn(move || {
            match runtime.block_on(stopped) {
                Ok(limit) => runtime.shutdown_timeout(limit),
                Err(_) => runtime.shutdown_background(),
            }
        })?;
    Ok(Thread { handle, stop, join })
}

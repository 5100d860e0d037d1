//! The life of a connection: one task reads and records, another answers.

use super::answer::Answer;
use super::deliver::{Delivery, Next};
use super::record::{How, Received, Record};
use crate::support::DEADLINE;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Chooses an answer by the request.
pub(super) type Rule = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// What the tasks of one upstream share with the test.
pub(super) struct Shared {
    pub(super) record: watch::Sender<Record>,
    pub(super) script: Mutex<Script>,
    pub(super) gate: Semaphore,
    pub(super) push: broadcast::Sender<Vec<u8>>,
}

/// Which answer comes next.
pub(super) struct Script {
    pub(super) queue: VecDeque<Answer>,
    pub(super) standing: Answer,
    pub(super) rule: Option<Rule>,
}

impl Script {
    /// The answer that is known from the head alone: all but those of a rule.
    fn at_head(&mut self) -> Option<Answer> {
        match (self.queue.pop_front(), &self.rule) {
            (Some(answer), _) => Some(answer),
            (None, None) => Some(self.standing.clone()),
            (None, Some(_)) => None,
        }
    }
}

/// Accepts connections until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set, with this task, ends every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut connection = 0;
    shared.record.send_modify(|r| connection = r.open());
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let reading = tokio::spawn(read_all(read, connection, Arc::clone(&shared)));
    let _guard = AbortOnDrop(reading.abort_handle());
    let pushed = shared.push.subscribe();
    let mut delivery = Delivery { shared: &shared, connection, write, pushed };
    let next = answer_all(&mut delivery).await;
    // What can't be written was closed by the peer; the reader is about to notice.
    let next = next.unwrap_or(Next::Wait);
    let mut write = delivery.write;
    match next {
        Next::Keep | Next::Wait => shared.closed(connection).await,
        Next::Shut => {
            let _ = write.shutdown().await;
            let _ = tokio::time::timeout(DEADLINE, shared.closed(connection)).await;
        }
        Next::Drop | Next::Reset => {}
    }
    shared.record.send_modify(|r| r.close(connection, How::Script));
    if next == Next::Reset {
        let _ = write.as_ref().set_zero_linger();
        // Else dropping this half would shut it first, and the peer see an orderly end.
        write.forget();
    }
    reading.abort();
    let _ = reading.await;
}

async fn read_all(mut read: OwnedReadHalf, connection: usize, shared: Arc<Shared>) {
    let mut buffer = vec![0; 64 * 1024];
    let how = loop {
        match read.read(&mut buffer).await {
            Ok(0) => break How::Fin,
            Ok(n) => shared.record.send_modify(|r| r.absorb(connection, &buffer[..n])),
            Err(_) => break How::Reset,
        }
    };
    shared.record.send_modify(|r| r.close(connection, how));
}

async fn answer_all(delivery: &mut Delivery<'_>) -> io::Result<Next> {
    let (shared, connection) = (delivery.shared, delivery.connection);
    for nth in 0.. {
        let came = |r: &Record| r.nth_of(connection, nth);
        let Some(number) = shared.find(connection, came).await else { return Ok(Next::Drop) };
        let known = shared.script.lock().expect("no rule panics below this lock").at_head();
        let head = shared.record.borrow().request(number);
        if known.as_ref().is_some_and(|a| a.says_continue) && head.wants_continue() {
            delivery.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let answer = match known {
            Some(answer) if answer.early => answer,
            known => {
                let whole = |r: &Record| r.is_complete(number).then_some(());
                if shared.find(connection, whole).await.is_none() {
                    return Ok(Next::Drop);
                }
                let request = shared.record.borrow().request(number);
                known.unwrap_or_else(|| shared.decide(&request))
            }
        };
        match delivery.deliver(answer, &head).await? {
            Next::Keep => {}
            next => return Ok(next),
        }
    }
    Ok(Next::Keep)
}

impl Shared {
    pub(super) fn new(standing: Answer) -> Self {
        Self {
            record: watch::Sender::new(Record::default()),
            script: Mutex::new(Script { queue: VecDeque::new(), standing, rule: None }),
            gate: Semaphore::new(0),
            push: broadcast::channel(1_024).0,
        }
    }

    /// Waits for what `found` finds; `None` when the connection ended before.
    pub(super) async fn find<T>(
        &self,
        connection: usize,
        found: impl Fn(&Record) -> Option<T>,
    ) -> Option<T> {
        let ended = |r: &Record| r.connections[connection].closed.is_some();
        let mut record = self.record.subscribe();
        let now = record.wait_for(|r| ended(r) || found(r).is_some()).await.ok()?;
        found(&now)
    }

    pub(super) async fn closed(&self, connection: usize) {
        self.find(connection, |_| None::<()>).await;
    }

    fn decide(&self, request: &Received) -> Answer {
        let (rule, standing) = {
            let script = self.script.lock().expect("no rule panics below this lock");
            (script.rule.clone(), script.standing.clone())
        };
        rule.map_or(standing, |rule| rule(request))
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

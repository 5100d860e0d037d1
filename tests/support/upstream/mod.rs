//! A scriptable upstream that records every byte it receives.
//!
//! ```text
//! let upstream = Upstream::start().await;
//! upstream.answer(Answer::sse(["one", "two"]).gated());
//! …
//! assert_eq!(upstream.received()[0].header("authorization"), Some("Bearer sk-…"));
//! ```
//! It listens on a port of its own, speaks HTTP/1.1 and WebSocket, and ends with its value. Then
//! everything it received is searched for tokens: they may not reach a provider.

mod answer;
mod compress;
mod deliver;
mod record;
mod serve;

pub(crate) use answer::Answer;
pub(crate) use record::{Closed, Connection, How, Received, Socket};

use super::canary;
use super::frame::{Frame, TEXT};
use record::Record;
use serve::{Script, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// The upstream. Dropping it closes all its connections.
pub(crate) struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Starts one that answers `{"ok":true}` to everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let standing = Answer::json(200, r#"{"ok":true}"#);
        let shared = Arc::new(Shared::new(standing));
        let accepting = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it answers from now on, when nothing is queued.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut script = self.script();
        (script.standing, script.rule) = (answer, None);
    }

    /// Queues an answer for one request.
    pub(crate) fn answer_next(&self, answer: Answer) {
        self.script().queue.push_back(answer);
    }

    /// Chooses every answer by the request, when its body is there.
    pub(crate) fn answer_with(&self, rule: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        self.script().rule = Some(Arc::new(rule));
    }

    /// Lets one chunk of a gated answer pass.
    pub(crate) fn release(&self) {
        self.shared.gate.add_permits(1);
    }

    /// What does the same from elsewhere, as long as it lives.
    pub(crate) fn releaser(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.gate.add_permits(1)
    }

    /// Sends a text on every WebSocket that is open.
    pub(crate) fn say(&self, text: &str) {
        self.push(Frame::new(TEXT, text).to_bytes());
    }

    /// Sends bytes on every WebSocket that is open, frames or not.
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        let _ = self.shared.push.send(bytes);
    }

    /// The requests so far, in the order in which their heads came.
    pub(crate) fn received(&self) -> Vec<Received> {
        let record = self.shared.record.borrow();
        (0..record.arrived()).map(|number| record.request(number)).collect()
    }

    /// The only request there was; panics when it was none or several.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Received {
        let mut all = self.received();
        assert_eq!(all.len(), 1, "the upstream must have seen exactly one request: {all:#?}");
        all.remove(0)
    }

    /// Everything that ever came, connection by connection.
    pub(crate) fn raw_bytes(&self) -> Vec<u8> {
        self.connections().into_iter().flat_map(|c| c.raw).collect()
    }

    /// The connections so far, ended ones too.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.shared.record.borrow().connections.clone()
    }

    /// The WebSockets so far, ended ones too.
    pub(crate) fn sockets(&self) -> Vec<Socket> {
        self.shared.record.borrow().sockets.clone()
    }

    /// Every text that came over a WebSocket.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.shared.record.borrow().sockets.iter().flat_map(Socket::texts).collect()
    }

    /// Waits until `n` requests are complete, or their connections gone, and returns all.
    pub(crate) async fn wait_for(&self, n: usize) -> Vec<Received> {
        self.until(&format!("{n} requests at the upstream"), |r| r.settled() >= n).await;
        self.received()
    }

    /// Waits until the heads of `n` requests have come, and returns all.
    pub(crate) async fn wait_for_heads(&self, n: usize) -> Vec<Received> {
        self.until(&format!("{n} heads at the upstream"), |r| r.arrived() >= n).await;
        self.received()
    }

    /// Waits until `n` texts have come over WebSockets, and returns all.
    pub(crate) async fn wait_for_texts(&self, n: usize) -> Vec<String> {
        let count = |r: &Record| r.sockets.iter().map(|s| s.texts().len()).sum::<usize>();
        self.until(&format!("{n} texts at the upstream"), |r| count(r) >= n).await;
        self.texts()
    }

    /// Waits until a WebSocket got a close frame, and returns its code and reason.
    pub(crate) async fn wait_for_close_frame(&self) -> Option<(u16, String)> {
        let closed = |r: &Record| r.sockets.iter().find_map(|s| s.close.clone());
        self.until("a close frame at the upstream", |r| closed(r).is_some()).await;
        closed(&self.shared.record.borrow()).flatten()
    }

    /// Waits until every connection so far, and at least one, was closed by the other side;
    /// returns the last closing.
    pub(crate) async fn wait_for_close(&self) -> Closed {
        let by_peer = |c: &Connection| c.closed.filter(|closed| closed.how != How::Script);
        let all = |r: &Record| {
            let open = r.connections.iter().any(|c| c.closed.is_none());
            let last = r.connections.iter().filter_map(by_peer).max_by_key(|closed| closed.at);
            last.filter(|_| !open)
        };
        self.until("the gateway to close its connections", |r| all(r).is_some()).await;
        all(&self.shared.record.borrow()).expect("a connection that is closed stays closed")
    }

    /// Waits until one connection ([`Received::connection`]) has ended, and says how.
    pub(crate) async fn wait_for_close_of(&self, connection: usize) -> Closed {
        let closed = |r: &Record| r.connections.get(connection).and_then(|c| c.closed);
        let what = format!("the end of connection {connection}");
        self.until(&what, |r| closed(r).is_some()).await;
        closed(&self.shared.record.borrow()).expect("a connection that is closed stays closed")
    }

    async fn until(&self, what: &str, done: impl Fn(&Record) -> bool) {
        let mut record = self.shared.record.subscribe();
        let waited = tokio::time::timeout(super::DEADLINE, record.wait_for(|r| done(r))).await;
        if waited.is_err() {
            let (connections, requests) = (self.connections().len(), self.received());
            panic!("waited in vain for {what}; {connections} connections brought {requests:#?}");
        }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.shared.script.lock().expect("no rule panics below this lock")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
        let record = self.shared.record.borrow();
        for connection in &record.connections {
            canary::observe_upstream("wire", &connection.raw);
        }
        // What chunks or masks have hidden on the wire.
        for number in 0..record.arrived() {
            canary::observe_upstream("body", &record.request(number).body);
        }
        for socket in &record.sockets {
            let payloads: Vec<_> = socket.frames.iter().map(|f| f.payload.as_slice()).collect();
            canary::observe_upstream("frames", &payloads.concat());
        }
    }
}

/// An address at which nobody listens, and which nobody else can get as long as this lives.
pub(crate) struct Refusing(TcpSocket);

impl Refusing {
    /// Reserves one.
    pub(crate) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self(socket)
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("bound"))
    }
}

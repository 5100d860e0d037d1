//! Sockets and threads.

use super::StartError;
use pingora_core::listeners::Listeners;
use pingora_core::server::{Fds, ListenFds};
use pingora_runtime::Runtime;
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Bound listeners, as Pingora takes them over.
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) listeners: Listeners,
    pub(super) fds: ListenFds,
}

/// A pool of single-threaded runtimes: each connection stays on the thread that it was given to,
/// so that nothing is stolen and nobody is woken for it.
pub(super) fn runtime(threads: usize) -> Runtime {
    Runtime::new_no_steal(threads.max(1), "keygate")
}

/// Binds every address. Port 0 takes a free one: the socket is handed over, never let go.
pub(super) fn bind(addresses: &[SocketAddr]) -> Result<Bound, StartError> {
    let mut bound = Vec::new();
    let mut listeners = Listeners::new();
    let mut fds = Fds::new();
    for address in addresses {
        let (actual, fd) =
            listener(*address).map_err(|e| StartError::new(format!("binding {address}"), e))?;
        listeners.add_tcp(&actual.to_string());
        fds.add(actual.to_string(), fd);
        bound.push(actual);
    }
    let fds = Arc::new(parking_lot::Mutex::new(fds));
    Ok(Bound { addresses: bound, listeners, fds })
}

fn listener(address: SocketAddr) -> io::Result<(SocketAddr, i32)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    Ok((listener.local_addr()?, listener.into_raw_fd()))
}

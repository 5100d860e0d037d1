//! Sockets and threads.

use super::StartError;
use pingora_core::listeners::Listeners;
use pingora_core::server::{Fds, ListenFds};
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Bound listeners, as Pingora takes them over.
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) listeners: Listeners,
    pub(super) fds: ListenFds,
}

/// A runtime with so many workers. One worker needs no work stealing, and costs less without.
pub(super) fn runtime(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("keygate")
        .enable_all()
        .build()
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

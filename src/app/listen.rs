//! The listening sockets.

use super::StartError;
use crate::config::Listener;
use pingora_core::listeners::Listeners;
use pingora_core::server::{Fds, ListenFds};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Bound sockets. Not `SO_REUSEPORT`: a second gateway on the same port must fail to start.
pub(super) struct Bound(Vec<(SocketAddr, TcpListener)>);

impl Bound {
    /// Binds every address. Port 0 takes a free one. Wants a runtime.
    pub(super) fn to(listen: &[Listener]) -> Result<Self, StartError> {
        let bind = |Listener { address, .. }: &Listener| {
            listener(*address).map_err(|e| StartError::new(format!("binding {address}"), e))
        };
        listen.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// What was bound.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }

    /// The same sockets for one more thread, each as Pingora takes it over.
    pub(super) fn share(&self) -> Result<Vec<(Listeners, ListenFds)>, StartError> {
        let share = |(address, listener): &(SocketAddr, TcpListener)| {
            let shared = listener
                .try_clone()
                .map_err(|e| StartError::new(format!("sharing {address}"), e))?;
            let mut fds = Fds::new();
            fds.add(address.to_string(), shared.into_raw_fd());
            let listeners = Listeners::tcp(&address.to_string());
            Ok((listeners, Arc::new(parking_lot::Mutex::new(fds))))
        };
        self.0.iter().map(share).collect()
    }
}

fn listener(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    Ok((listener.local_addr()?, listener))
}

//! One listener per core on the same address (SO_REUSEPORT): the kernel spreads connections, cores share nothing.

use std::io;
use std::net::SocketAddr;

use monoio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::Conn;

/// Connections that wait to be accepted, per core. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds the listeners of all cores before any of them serves, so that the port is either wholly ours or not at all.
/// With port 0 the kernel picks one, and all listeners share it.
///
/// # Errors
/// The address is in use, not ours, or may not be bound by this user.
pub fn bind(addr: SocketAddr, cores: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners: Vec<std::net::TcpListener> = Vec::with_capacity(cores);
    let mut addr = addr;
    // A first socket without SO_REUSEPORT finds out whether another process has the port: with the option set, two
    // gateways of one user would silently share it.
    if addr.port() != 0 {
        let probe = socket(addr, false)?;
        probe.bind(&addr.into())?;
    }
    for _ in 0..cores.max(1) {
        let socket = socket(addr, true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener: std::net::TcpListener = socket.into();
        addr = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: without it streams stall 40 ms on delayed acknowledgements.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// One core's listener.
pub struct Listener(TcpListener);

impl Listener {
    /// Hands a bound listener to this core's driver.
    ///
    /// # Errors
    /// When the driver cannot take the descriptor.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Listener> {
        // io_uring answers EAGAIN at once on a non-blocking socket instead of waiting; epoll needs it non-blocking.
        listener.set_nonblocking(monoio::utils::is_legacy())?;
        TcpListener::from_std(listener).map(Listener)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Out of descriptors or memory: the caller pauses and tries again. A connection that died in the queue is not
    /// an error of the listener either.
    pub async fn accept(&self) -> io::Result<Conn> {
        let (stream, _) = self.0.accept().await?;
        Ok(Conn::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_share_the_port_that_the_kernel_picked() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap());
    }

    #[test]
    fn a_port_that_another_gateway_has_is_refused_not_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let error = bind(first[0].local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

//! A port becomes a listener.
//!
//! Promises: an error names the address and says what to do; a port is free again at once after a restart
//! (`SO_REUSEADDR`); several listeners of [`listen_shared`] divide the connections of one port among them; a client that has
//! gone without a word is noticed.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps for us while we are busy; it cuts this down to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// A client without power, or behind a NAT that has forgotten it, is noticed after ten minutes, also where nothing is sent to
/// it: an upgraded connection would stay for ever. A laptop that sleeps for a moment keeps its connections.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(300))
    .with_interval(Duration::from_secs(60))
    .with_retries(5);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program, or another part of this one, listens there.
    #[error(
        "port {port} on {addr} is already in use: stop what listens there or choose another port"
    )]
    InUse {
        /// The address as configured.
        addr: String,
        /// The port as configured.
        port: u16,
    },
    /// The operating system does not allow it, as for ports under 1024 without the privilege.
    #[error(
        "not allowed to listen on port {port} of {addr}: ports under 1024 need a privilege, choose a higher one"
    )]
    Denied {
        /// The address as configured.
        addr: String,
        /// The port as configured.
        port: u16,
    },
    /// The address is neither an IP address of this machine nor a name of one.
    #[error(
        "{addr:?} is not an address of this machine: use one of its IP addresses, 127.0.0.1 or 0.0.0.0"
    )]
    NoSuchAddress {
        /// The address as configured.
        addr: String,
    },
    /// Anything else.
    #[error("cannot listen on port {port} of {addr}: {source}")]
    Other {
        /// The address as configured.
        addr: String,
        /// The port as configured.
        port: u16,
        /// What the operating system says.
        source: io::Error,
    },
}

impl ListenError {
    fn new(addr: &str, port: u16, source: io::Error) -> ListenError {
        let addr = addr.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { addr, port },
            io::ErrorKind::PermissionDenied => ListenError::Denied { addr, port },
            io::ErrorKind::AddrNotAvailable => ListenError::NoSuchAddress { addr },
            _ => ListenError::Other { addr, port, source },
        }
    }
}

/// Listens on `addr` (an IP address, or a name of this machine) and `port` (0: any free one).
///
/// # Errors
/// See [`ListenError`].
pub fn listen(addr: &str, port: u16) -> Result<TcpListener, ListenError> {
    bind(resolve(addr, port)?, Sharing::Alone).map_err(|error| ListenError::new(addr, port, error))
}

/// Listens `listeners` times (at least once) on the same port: the kernel spreads new connections over them
/// (`SO_REUSEPORT`), so that each core can have an accept loop of its own.
///
/// # Errors
/// See [`ListenError`]. A port that another program holds without `SO_REUSEPORT` is in use here too.
pub fn listen_shared(
    addr: &str,
    port: u16,
    listeners: usize,
) -> Result<Vec<TcpListener>, ListenError> {
    let fail = |error| ListenError::new(addr, port, error);
    let wanted = resolve(addr, port)?;
    // With SO_REUSEPORT the kernel would let a second program in and split the requests between the two.
    drop(bind(wanted, Sharing::Alone).map_err(fail)?);
    let first = bind(wanted, Sharing::Port).map_err(fail)?;
    // With port 0 the first one chooses; the others follow it.
    let chosen = first.local_addr().map_err(fail)?;
    let mut all = vec![first];
    for _ in 1..listeners {
        all.push(bind(chosen, Sharing::Port).map_err(fail)?);
    }
    Ok(all)
}

/// Whether others may listen on the same port.
#[derive(Copy, Clone, PartialEq)]
enum Sharing {
    Alone,
    Port,
}

fn resolve(addr: &str, port: u16) -> Result<SocketAddr, ListenError> {
    let bare = addr.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(addr);
    let no_such = || ListenError::NoSuchAddress { addr: addr.to_owned() };
    (bare, port).to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(no_such)
}

fn bind(addr: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Port {
        socket.set_reuse_port(true)?;
    }
    // The sockets of its connections have it from the listener.
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;

    fn error(addr: &str, port: u16) -> String {
        listen(addr, port).expect_err("must not listen").to_string()
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let held = listen("127.0.0.1", 0).unwrap();
        let port = held.local_addr().unwrap().port();
        assert_eq!(
            error("127.0.0.1", port),
            format!(
                "port {port} on 127.0.0.1 is already in use: stop what listens there or choose another port"
            )
        );
    }

    #[tokio::test]
    async fn a_foreign_address_is_named() {
        let text = "\"192.0.2.1\" is not an address of this machine: use one of its IP addresses, 127.0.0.1 or 0.0.0.0";
        assert_eq!(error("192.0.2.1", 0), text);
        assert!(
            error("not a name", 0).starts_with("\"not a name\" is not an address of this machine")
        );
    }

    #[tokio::test]
    async fn names_and_brackets_are_addresses_too() {
        assert!(listen("localhost", 0).unwrap().local_addr().unwrap().ip().is_loopback());
        assert_eq!(resolve("[::1]", 80).unwrap(), "[::1]:80".parse().unwrap());
    }

    #[tokio::test]
    async fn clients_are_asked_whether_they_are_there() {
        let listener = listen("127.0.0.1", 0).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _peer) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
    }

    #[tokio::test]
    async fn shared_listeners_have_one_port() {
        let all = listen_shared("127.0.0.1", 0, 3).unwrap();
        let ports: Vec<u16> = all.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        assert!(matches!(listen("127.0.0.1", ports[0]), Err(ListenError::InUse { .. })));
        assert!(matches!(listen_shared("127.0.0.1", ports[0], 2), Err(ListenError::InUse { .. })));
    }
}

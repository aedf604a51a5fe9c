//! A place where nobody listens, for tests of what is away.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// An address that refuses every connection: the socket keeps its port from everybody else, such as a test beside this one.
pub(crate) struct NoListener {
    pub(crate) address: SocketAddr,
    _socket: TcpSocket,
}

impl NoListener {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        Self { address, _socket: socket }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

//! A client that sends exactly the bytes it is told to.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::http::{Kind, Message, request};
use super::wait::{SOON, eventually};

/// One connection.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn connect(port: u16) -> Wire {
        Wire::try_connect(port).unwrap_or_else(|error| panic!("port {port}: {error}"))
    }

    pub(crate) fn try_connect(port: u16) -> io::Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(Wire { stream: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits until the peer, a program of this machine, has read everything that was sent: then nothing waits for it in the
    /// kernel any more.
    pub(crate) fn wait_until_read(&self) {
        let stream = self.stream.get_ref();
        let (own, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        // Of loopback, as the kernel writes it: the bytes of an address as a number of this machine, then the port.
        let shown = |address: SocketAddr| {
            format!("{:08X}:{:04X}", u32::from_ne_bytes([127, 0, 0, 1]), address.port())
        };
        // `sl local_address rem_address st tx_queue:rx_queue ..`
        let ends = format!("{} {} ", shown(peer), shown(own));
        eventually("the peer has read it", SOON, || {
            let connections = fs::read_to_string("/proc/net/tcp").unwrap();
            let line = connections.lines().find(|line| line.contains(&ends));
            let queues = line.and_then(|line| line.split_whitespace().nth(4));
            queues.is_some_and(|queues| queues.ends_with(":00000000"))
        });
    }

    /// No more bytes will come from here.
    pub(crate) fn finish(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Message {
        self.try_answer(Kind::Answer).unwrap_or_else(|error| panic!("answer: {error}"))
    }

    pub(crate) fn try_answer(&mut self, kind: Kind) -> io::Result<Message> {
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "closed instead of answered");
        let mut answer = Message::read_head(&mut self.stream)?.ok_or_else(ended)?;
        answer.read_body(&mut self.stream, kind)?;
        Ok(answer)
    }

    /// The next answer, if it begins to come within this time.
    pub(crate) fn answer_within(&mut self, time: Duration) -> Option<Message> {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let comes = self.stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.stream.get_ref().set_read_timeout(Some(SOON)).unwrap();
        comes.then(|| self.answer())
    }

    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Message {
        self.send(bytes);
        self.answer()
    }

    /// Exactly so many bytes, as they come.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("reading: {error}"));
        bytes
    }

    /// Everything until the end of the connection; what came before an error, when it breaks.
    pub(crate) fn read_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end, too.
        drop(self.stream.read_to_end(&mut bytes));
        bytes
    }

    /// Whether the peer has closed, perhaps with a reset, without another byte; waits for it.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn call(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Message {
    let kind = if method == "HEAD" { Kind::AnswerToHead } else { Kind::Answer };
    let mut wire = Wire::connect(port);
    wire.send(&request(method, target, headers, body));
    wire.try_answer(kind).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// A POST that must be answered as received.
pub(crate) fn post(port: u16, target: &str, body: &[u8]) {
    let answer = call(port, "POST", target, &[], body);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "Request received"), "{target}");
}

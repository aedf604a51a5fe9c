//! A small HTTP server for the tests' own ends of the wire: a thread a connection, every byte seen as it came.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::http::{Kind, Message};
use super::wait::SOON;
use super::wait::eventually_some;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Reply {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// The connection is closed without a word.
    HangUp,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Answer {
        Answer::Reply { status, headers: Vec::new(), body: b"an answer\n".to_vec() }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl ToString) -> Answer {
        if let Answer::Reply { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }

    pub(crate) fn with_body(mut self, text: impl Into<Vec<u8>>) -> Answer {
        if let Answer::Reply { body, .. } = &mut self {
            *body = text.into();
        }
        self
    }
}

type Handler = dyn Fn(&Message) -> Answer + Send + Sync;

/// Listens until it is dropped: then nobody listens on its port, and its connections are cut.
pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    connections: Mutex<Vec<TcpStream>>,
    answered: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Server {
    /// Listens on `port`; 0 takes any free one.
    pub(crate) fn start(
        port: u16,
        handler: impl Fn(&Message) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let bind = || TcpListener::bind(("127.0.0.1", port)).ok();
        let listener = eventually_some("the test's own port is free", SOON, bind);
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            connections: Mutex::default(),
            answered: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &serving));
        Server { port, shared, accepting: Some(accepting) }
    }

    /// How many requests have their whole answer.
    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when that fails it has gone already.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the accepting thread does not panic");
        }
        for connection in self.shared.connections.lock().drain(..) {
            // One that has ended already cannot be shut down.
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else { continue };
        shared.connections.lock().push(copy);
        let shared = Arc::clone(shared);
        // Ends with its connection. A client may break it off at any time.
        std::thread::spawn(move || drop(serve(stream, &shared)));
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = Message::read_head(&mut reader)? {
        request.read_body(&mut reader, Kind::Request)?;
        let answer = (shared.handler)(&request);
        if shared.is_stopped.load(Ordering::SeqCst) || !write(reader.get_mut(), &request, &answer)?
        {
            break;
        }
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
    reader.get_ref().shutdown(Shutdown::Both)
}

/// False when the connection ends with this answer.
fn write(stream: &mut TcpStream, request: &Message, answer: &Answer) -> io::Result<bool> {
    let Answer::Reply { status, headers, body } = answer else { return Ok(false) };
    let mut bytes = format!("HTTP/1.1 {status} As Told\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    let is_tunnel = request.method() == "CONNECT";
    if !is_tunnel {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend(b"\r\n");
    if !is_tunnel && request.method() != "HEAD" {
        bytes.extend(body);
    }
    stream.write_all(&bytes)?;
    Ok(!is_tunnel)
}

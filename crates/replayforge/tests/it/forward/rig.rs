//! A proxy that forwards to an upstream of the test's own, and sends its copies to a collector.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::http::{Kind, Message};
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually_some};
use crate::support::wire::Wire;

/// A server whose every connection is run by a closure, byte by byte.
pub(super) struct Upstream {
    pub(super) port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    is_stopped: AtomicBool,
    accepted: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
}

impl Upstream {
    pub(super) fn start(
        run: impl Fn(&mut BufReader<TcpStream>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            is_stopped: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let run = Arc::new(run);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                serving.accepted.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(SOON)).unwrap();
                stream.set_nodelay(true).unwrap();
                serving.connections.lock().push(stream.try_clone().unwrap());
                let run = Arc::clone(&run);
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    // The peer may break off at any time; what matters the tests look at.
                    drop(run(&mut stream));
                    drop(stream.get_ref().shutdown(Shutdown::Both));
                });
            }
        });
        Upstream { port, shared, accepting: Some(accepting) }
    }

    /// Answers each request by its message, on a connection that is kept.
    pub(super) fn answering(
        answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Upstream {
        Upstream::start(move |stream| {
            while let Some(request) = read_request(stream)? {
                stream.get_mut().write_all(&answer(&request))?;
            }
            Ok(())
        })
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
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

/// A whole request; `None` at the end of the connection.
pub(super) fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Message>> {
    let Some(mut request) = Message::read_head(stream)? else { return Ok(None) };
    request.read_body(stream, Kind::Request)?;
    Ok(Some(request))
}

/// Bytes up to and with `end`.
pub(super) fn read_until(stream: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

/// Sends a part of a body that the answer need not wait for. What comes after the answer is taken until the client pauses
/// for [`REST_PAUSE`]: where the machine has stood still for so long the connection may be reset, but not sooner. `since`
/// is a time before the request.
pub(super) fn send_rest(wire: &mut Wire, bytes: &[u8], since: Instant) {
    if let Err(error) = wire.try_send(bytes) {
        assert!(since.elapsed() >= REST_PAUSE, "{error} after {:?}", since.elapsed());
    }
}

/// As the server of `rf-net` has it.
const REST_PAUSE: Duration = Duration::from_secs(2);

/// An answer with a length.
pub(super) fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Proxy and collector.
pub(super) struct Rig {
    pub(super) proxy: Program,
    pub(super) port: u16,
    pub(super) collector: Target,
    folder: TempDir,
}

impl Rig {
    /// A proxy before the upstream, with more `params`.
    pub(super) fn start(upstream: u16, params: &Value) -> Rig {
        Rig::with(upstream, params, |_| ())
    }

    /// The same after `change` has seen the file.
    pub(super) fn with(upstream: u16, params: &Value, change: impl FnOnce(&mut Value)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let collector = Target::start();
        let port = free_port();
        let mut config = config(folder.path(), port, upstream, collector.port, params);
        change(&mut config);
        let proxy = Program::role(folder.path(), "proxy", &config);
        Rig { proxy, port, collector, folder }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn connect(&self) -> Wire {
        Wire::connect(self.port)
    }

    /// The copies so far, as the collector got them.
    pub(super) fn events(&self) -> Vec<Value> {
        let batches = self.collector.requests();
        let texts = batches
            .iter()
            .flat_map(|batch| serde_json::from_slice::<Vec<String>>(&batch.body).unwrap());
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    /// Waits for the copy of the request with this path.
    pub(super) fn event(&self, path: &str) -> Value {
        eventually_some(&format!("the copy of {path}"), SOON, || {
            self.events().into_iter().find(|event| event["path"] == path)
        })
    }
}

impl Drop for Rig {
    /// A stop waits for no connection of these tests: one that hung would be cut off when the drain of the server, 20 s, is over.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.proxy.is_running() {
            let status = self.proxy.stop();
            assert!(status.success(), "it stopped with {status}:\n{}", self.proxy.log());
        }
        let log = self.proxy.log();
        assert!(!log.contains("after the drain time are cut off"), "{log}");
    }
}

fn config(folder: &Path, port: u16, upstream: u16, collector: u16, params: &Value) -> Value {
    let mut all = json!({
        "listenPort": port,
        "listenAddress": "127.0.0.1",
        "forwardTo": format!("http://127.0.0.1:{upstream}"),
    });
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    json!({
        "dataDir": folder.join("proxy"),
        "sources": [{ "id": "in", "type": "http", "params": all, "targetSink": "out" }],
        "sinks": [{
            "id": "out",
            "type": "http",
            "url": format!("http://127.0.0.1:{collector}/"),
            "notRelay": true,
            "config": { "batchTimeoutSecs": "1ms" },
            "maxMessagesPerMinute": -1,
        }],
    })
}

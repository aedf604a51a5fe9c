//! The relay in one process over real sockets: bytes in, bytes out.

mod config;
mod embedded;
mod lease;
mod old_clients;
mod page;
mod pull;
mod record;
mod refused;
mod status;
mod tap;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;

use rf_core::trace::Journal;
use rf_net::listen::listen;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::config::RelayConfig;
use crate::run::{Listeners, run, run_with};
use crate::store::memory::Memory;

/// What the head of a request with the right token for the test's buckets needs.
const AUTH: &str = "Authorization: Bearer token";

/// A running relay with the buckets `a` and `b`.
struct TestRelay {
    api: SocketAddr,
    status: SocketAddr,
    stop: CancellationToken,
    /// The store, unless the test asked for the real one.
    memory: Memory,
}

/// Runs a relay over a store in memory while `script` runs; both must end well.
async fn with_relay(script: impl AsyncFnOnce(&TestRelay)) {
    with_config(|_| (), script).await;
}

/// As [`with_relay`], with a changed configuration.
async fn with_config(change: impl FnOnce(&mut RelayConfig), script: impl AsyncFnOnce(&TestRelay)) {
    let folder = TempDir::new().unwrap();
    let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
    change(&mut config);
    let (relay, listeners) = prepare();
    let journal = Arc::new(Journal::new(config.trace_steps));
    let store = Arc::new(relay.memory.clone());
    let running = run_with(store, journal, config, listeners, relay.stop.clone());
    join(running, &relay, script).await;
}

/// As [`with_config`], with buckets in a folder.
async fn with_embedded(config: RelayConfig, script: impl AsyncFnOnce(&TestRelay)) {
    let (relay, listeners) = prepare();
    join(run(config, listeners, relay.stop.clone()), &relay, script).await;
}

fn prepare() -> (TestRelay, Listeners) {
    let [api, status] = [(), ()].map(|()| listen("127.0.0.1", 0).unwrap());
    let relay = TestRelay {
        api: api.local_addr().unwrap(),
        status: status.local_addr().unwrap(),
        stop: CancellationToken::new(),
        memory: Memory::default(),
    };
    (relay, Listeners { api, status: Some(status) })
}

async fn join(
    running: impl Future<Output = anyhow::Result<()>>,
    relay: &TestRelay,
    script: impl AsyncFnOnce(&TestRelay),
) {
    let script = async {
        let _stop_at_the_end = relay.stop.clone().drop_guard();
        script(relay).await;
    };
    tokio::join!(running, script).0.unwrap();
}

impl TestRelay {
    /// Sends a request on a connection of its own and returns the answer, as [`exchange`] does.
    async fn ask(&self, head: &str, body: impl AsRef<[u8]>) -> String {
        exchange(self.api, head, body.as_ref()).await.text()
    }

    async fn ask_status(&self, head: &str) -> String {
        exchange(self.status, head, b"").await.text()
    }

    /// Records a batch into `a` and expects it to be taken.
    async fn record(&self, events: &str) {
        let answer = self.ask(&format!("POST /record-batch\nRF-BUCKETS: a\n{AUTH}"), events).await;
        assert!(answer.starts_with("200 OK\n"), "{answer}");
    }

    /// What a plain pull from a bucket gives.
    async fn pull(&self, bucket: &str) -> String {
        let answer = self.ask(&format!("GET /first-batch\nRF-BUCKET: {bucket}\n{AUTH}"), "").await;
        answer.split_once("\n\n").unwrap().1.to_owned()
    }
}

/// An answer with its status line and headers, but for those that every answer has, and for `connection: close`: one has it that
/// did not wait for all of its request, or that came after a stop.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(self) -> String {
        format!("{}\n\n{}", self.head, String::from_utf8(self.body).unwrap())
    }
}

/// Sends `head` (its lines without `\r`, without version and length) and `body`; a `Host` of its own wins.
async fn exchange(to: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let (target, headers) = head.split_once('\n').unwrap_or((head, "X: y"));
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    let headers = headers.replace('\n', "\r\n");
    let length = body.len();
    let head = format!("{target} HTTP/1.1\r\n{host}{headers}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    receive(&mut stream).await
}

/// Reads one answer.
async fn receive(stream: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let told = |line: &&str| {
        let left_out = ["date: ", "content-length: ", "connection: close"];
        !line.is_empty() && !left_out.iter().any(|start| line.starts_with(start))
    };
    let head: Vec<&str> = head.strip_prefix("HTTP/1.1 ").unwrap().lines().filter(told).collect();
    Answer { head: head.join("\n"), body }
}

//! `bare-server`: a hyper server that reads the body and answers 200, and nothing else: the floor of every HTTP figure,
//! and the target of the ways that end in one.
//!
//! It counts what arrives. `GET /NAME` answers a file that was read at the start, if there is one: what a server must at
//! least do that has much to say. `GET /_count` answers the counters; they cost a request three atomic additions and a look
//! at the clock.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fs::DirEntry;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{body, out};

/// Answers 200 to every request after reading its body, and counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port on loopback; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Folder of files that it answers with, by their names
    #[arg(long)]
    answers: Option<PathBuf>,
}

/// Serves until the process is ended.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))).await?;
    out::figures(&serde_json::json!({ "listening": listener.local_addr()?.to_string() }))?;
    let answers = args.answers.as_deref().map(read_folder).transpose()?.unwrap_or_default();
    serve(listener, Arc::new(Counters { answers, ..Counters::default() })).await
}

fn read_folder(folder: &Path) -> anyhow::Result<HashMap<String, Bytes>> {
    let files = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let read = |file: std::io::Result<DirEntry>| {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((format!("/{name}"), Bytes::from(std::fs::read(&path)?)))
    };
    files.map(read).collect()
}

/// What has arrived so far, and what is answered.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    answers: HashMap<String, Bytes>,
    requests: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
    last_at_ms: AtomicU64,
    keys: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Counters {
    fn record(&self, body_bytes: usize, events: u64, key: Option<&[u8]>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(body_bytes as u64, Ordering::Relaxed);
        self.last_at_ms.fetch_max(unix_ms(), Ordering::Relaxed);
        if events > 0 {
            self.events.fetch_add(events, Ordering::Relaxed);
        }
        if let Some(key) = key {
            // Hashes of 64 bits: two of ten million keys fall together once in 400,000 runs.
            self.keys.lock().insert(self.hasher.hash_one(key));
        }
    }

    fn to_json(&self) -> String {
        serde_json::json!({
            "requests": self.requests.load(Ordering::Relaxed),
            "events": self.events.load(Ordering::Relaxed),
            "keys": self.keys.lock().len(),
            "bytes": self.bytes.load(Ordering::Relaxed),
            "refused": self.refused.load(Ordering::Relaxed),
            "last_at_ms": self.last_at_ms.load(Ordering::Relaxed),
        })
        .to_string()
    }
}

/// Serves a listener until it fails or the task is dropped.
pub(crate) async fn serve(listener: TcpListener, counters: Arc<Counters>) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _peer) = listener.accept().await?;
        // Ended connections leave the set here, so it grows no larger than what is open.
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, Arc::clone(&counters)));
    }
}

async fn connection(stream: TcpStream, counters: Arc<Counters>) {
    let service = service_fn(|request| answer(request, &counters));
    // A client that goes away in mid-request ends its connection: nothing to report.
    drop(stream.set_nodelay(true));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    counters: &Counters,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/_count" {
        return Ok(Response::new(Full::from(counters.to_json())));
    }
    if let Some(known) = counters.answers.get(request.uri().path()) {
        return Ok(Response::new(Full::from(known.clone())));
    }
    let (head, incoming) = request.into_parts();
    let zstd = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "zstd");
    let counted = match body::read(incoming).await {
        Ok(body) => body::count_events(&body, zstd).map(|events| (body.len(), events)),
        Err(error) => Err(error),
    };
    let mut response = Response::new(Full::default());
    match counted {
        Ok((bytes, events)) => {
            counters.record(
                bytes,
                events,
                head.headers.get("idempotency-key").map(HeaderValue::as_bytes),
            );
        }
        Err(_unreadable) => {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
    }
    Ok(response)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use hyper::Method;

    #[tokio::test]
    async fn requests_events_and_distinct_keys_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::default()));

        let client = Client::new();
        let zstd = zstd::encode_all(br#"["c"]"#.as_slice(), 1).unwrap();
        let posts = [
            ("idempotency-key", "one", b"plain".as_slice(), 200),
            ("idempotency-key", "one", b"plain", 200),
            ("idempotency-key", "two", br#"["a","b"]"#, 200),
            ("content-encoding", "zstd", &zstd, 200),
            ("content-encoding", "zstd", b"not zstd", 400),
        ];
        for (header, value, body, expected) in posts {
            let body = Bytes::copy_from_slice(body);
            let answer = client
                .send(Method::POST, &format!("{url}/any"), &[(header, value)], body)
                .await
                .unwrap();
            assert_eq!(answer.status, expected);
        }
        let counts =
            client.send(Method::GET, &format!("{url}/_count"), &[], Bytes::new()).await.unwrap();
        let counts: serde_json::Value = serde_json::from_slice(&counts.body).unwrap();
        for (counter, expected) in [("requests", 4), ("events", 3), ("keys", 2), ("refused", 1)] {
            assert_eq!(counts[counter], expected, "{counter} of {counts}");
        }
        server.shutdown().await;
    }
}

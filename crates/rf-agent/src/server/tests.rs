//! The server over a real socket, with sinks that answer what they were asked.

mod access;
mod files;
mod sinks;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use rf_core::config::Secret;
use rf_core::lifecycle::Tasks;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientOptions};
use rf_net::own_host::OwnHosts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::files::StaticFolder;
use super::password::{Password, Verifier};
use super::relay::RelayStatus;
use super::{MAX_CONNECTIONS, ServedSink, Server, ServerPlan};
use crate::sink::{Shape, Sink, SinkBatch, SinkError, Writes};

const SOON: Duration = Duration::from_secs(20);

/// Answers with the URL that it was asked for.
struct Echo {
    shape: Shape,
    own_listener: bool,
}

impl Sink for Echo {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, _: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        let echo = async |request: Request| {
            let (head, body) = request.into_parts();
            let body = read_capped(body, 1024, SOON).await.unwrap();
            format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body))
        };
        Some(Router::new().fallback(echo))
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.own_listener.then(|| ("127.0.0.1".to_owned(), 0))
    }
}

fn echo(id: &str) -> ServedSink {
    let shape = Shape::of(Writes::Singles { concurrency: 1 });
    ServedSink {
        id: id.to_owned(),
        name: format!("name of {id}"),
        kind: "echo".to_owned(),
        metadata: None,
        sink: Arc::new(Echo { shape, own_listener: false }),
    }
}

/// An open server with one sink, `db`.
fn plan() -> ServerPlan {
    ServerPlan {
        address: Some(("127.0.0.1".to_owned(), 0)),
        sinks: vec![echo("db")],
        access: Access {
            login: None,
            tokens: Vec::new(),
            hosts: OwnHosts::new(["known.example"]),
            verifier: Verifier::new(),
        },
        folder: None,
        relay: None,
    }
}

fn password(text: &str) -> Password {
    Password::new(Secret::new(text)).unwrap()
}

fn client() -> Client {
    Client::new(&ClientOptions::default()).unwrap()
}

/// A server that runs; stops when the test ends.
struct Running {
    ports: Vec<u16>,
    _tasks: Tasks,
}

fn start(plan: ServerPlan) -> Running {
    let server = Server::bind(plan).unwrap();
    let ports = server.addresses().iter().map(std::net::SocketAddr::port).collect();
    let tasks = Tasks::new(CancellationToken::new());
    server.spawn(&tasks);
    Running { ports, _tasks: tasks }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Running {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let port = *self.ports.last().unwrap();
        ask(&format!("{method} http://127.0.0.1:{port}{path}"), headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }
}

/// `what` is a method and a URL.
async fn ask(what: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, url) = what.split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).unwrap();
    let (head, body) = client().send(request, SOON).await.unwrap().into_parts();
    let body = read_capped(body, 64 * 1024 * 1024, SOON).await.unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const PING: &[u8] = b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Reads one answer.
async fn answered(connection: &mut TcpStream) {
    let mut answer = Vec::new();
    let is_whole = |answer: &[u8]| {
        let text = String::from_utf8_lossy(answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.unwrap().parse() == Ok(body.len())
    };
    while !is_whole(&answer) {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_another_has_gone() {
    let running = start(plan());
    let connect = || TcpStream::connect(("127.0.0.1", *running.ports.last().unwrap()));
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS.get() {
        held.push(connect().await.unwrap());
    }
    let mut late = connect().await.unwrap();
    late.write_all(PING).await.unwrap();
    for connection in &mut held {
        connection.write_all(PING).await.unwrap();
        answered(connection).await;
    }
    let nothing = late.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    drop(held.pop());
    answered(&mut late).await;
}

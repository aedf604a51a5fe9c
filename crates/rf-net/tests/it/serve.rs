//! The server's limits and its drain, over streams in memory with paused time.

mod tcp;
mod timeouts;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use hyper::service::{Service, service_fn};
use rf_net::body::read_capped;
use rf_net::received::ReceivedBody;
use rf_net::serve::{Listener, ServeReport, ServerLimits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

/// What a stream in memory holds: less than the `/large` answer, so that its writer has to wait for a reader.
const STREAM_BYTES: usize = 4096;

/// Gives the streams, or the errors, that a test sends.
struct Streams(mpsc::Receiver<io::Result<DuplexStream>>);

impl Listener for Streams {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream?, ([192, 0, 2, 7], 4711).into())),
            None => std::future::pending().await,
        }
    }
}

/// Opens connections to the server under test, and stops it.
struct Server {
    streams: mpsc::Sender<io::Result<DuplexStream>>,
    stop: CancellationToken,
}

impl Server {
    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(STREAM_BYTES);
        self.streams.send(Ok(theirs)).await.unwrap();
        ours
    }
}

async fn answer(
    request: Request<ReceivedBody>,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.uri().path() {
        "/peer" => peer.to_string(),
        "/slow" => {
            tokio::time::sleep(HOUR).await;
            "slow".to_owned()
        }
        "/large" => "x".repeat(100_000),
        "/panic" => panic!("this panic is part of the test"),
        "/body" => match read_capped(request.into_body(), 100, HOUR).await {
            Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
            Err(error) => error.to_string(),
        },
        path => path.to_owned(),
    };
    Ok(Response::new(Full::from(text)))
}

/// Answers, and wants nothing of the body.
async fn refuse(_request: Request<ReceivedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("no")))
}

/// Runs a server beside `script`, stops it when the script has ended, and returns its report.
async fn with_server<F: Future<Output = ()>>(
    limits: ServerLimits,
    script: impl FnOnce(Server) -> F,
) -> ServeReport {
    let service_for = |peer| service_fn(move |request| answer(request, peer));
    with_service(service_for, limits, script).await
}

async fn with_service<S, B, F>(
    service_for: impl Fn(SocketAddr) -> S,
    limits: ServerLimits,
    script: impl FnOnce(Server) -> F,
) -> ServeReport
where
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    F: Future<Output = ()>,
{
    let (streams, receiver) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let server = Server { streams, stop: stop.clone() };
    let serving = serve(Streams(receiver), service_for, limits, stop.clone());
    let script = async {
        let _stop_also_if_the_script_panics = stop.clone().drop_guard();
        script(server).await;
    };
    tokio::join!(serving, script).0
}

async fn send(stream: &mut DuplexStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads one answer without a body coding and returns its body.
async fn receive(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await.expect("an answer"));
        let Some(head) = String::from_utf8_lossy(&text).strip_suffix("\r\n\r\n").map(str::to_owned)
        else {
            continue;
        };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        return String::from_utf8(body).unwrap();
    }
}

async fn get(stream: &mut DuplexStream, path: &str) -> String {
    send(stream, &format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    receive(stream).await
}

/// Reads until the server closes; returns what came and when.
async fn read_to_close(stream: &mut DuplexStream) -> (String, Duration) {
    let started = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    (String::from_utf8(rest).unwrap(), started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn keep_alive_and_pipelined_requests_are_answered_in_order() {
    let report = with_server(ServerLimits::default(), async |server| {
        let mut stream = server.connect().await;
        assert_eq!(get(&mut stream, "/one").await, "/one");
        send(
            &mut stream,
            "GET /two HTTP/1.1\r\nHost: t\r\n\r\nGET /peer HTTP/1.1\r\nHost: t\r\n\r\n",
        )
        .await;
        assert_eq!(receive(&mut stream).await, "/two");
        assert_eq!(receive(&mut stream).await, "192.0.2.7:4711");
    })
    .await;
    assert_eq!(report, ServeReport { accepted: 1, ..ServeReport::default() });
}

#[tokio::test(start_paused = true)]
async fn at_the_connection_limit_the_next_one_waits() {
    let limits = ServerLimits { max_connections: NonZeroUsize::MIN, ..ServerLimits::default() };
    with_server(limits, async |server| {
        let mut first = server.connect().await;
        assert_eq!(get(&mut first, "/one").await, "/one");
        let mut second = server.connect().await;
        let waiting = get(&mut second, "/two");
        let waiting = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        waiting.expect_err("there is no place yet");
        drop(first);
        assert_eq!(receive(&mut second).await, "/two");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn large_heads_are_refused() {
    let limits = ServerLimits { max_header_bytes: 1000, ..ServerLimits::default() };
    with_server(limits, async |server| {
        let mut stream = server.connect().await;
        send(&mut stream, &format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(1000)))
            .await;
        let (answer, _) = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
        // One that is still sending its head is listened to.
        let mut stream = server.connect().await;
        send(&mut stream, "GET / HTTP/1.1\r\nHost: t\r\n").await;
        for _ in 0..20 {
            send(&mut stream, &format!("X: {}\r\n", "x".repeat(1000))).await;
        }
        let (answer, _) = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_connection() {
    let report = with_server(ServerLimits::default(), async |server| {
        let mut stream = server.connect().await;
        send(&mut stream, "GET /panic HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert_eq!(read_to_close(&mut stream).await.0, "");
        assert_eq!(get(&mut server.connect().await, "/next").await, "/next");
    })
    .await;
    assert_eq!(report, ServeReport { accepted: 2, panics: 1, ..ServeReport::default() });
}

#[tokio::test(start_paused = true)]
async fn accept_errors_are_outlived() {
    let report = with_server(ServerLimits::default(), async |server| {
        for kind in [io::ErrorKind::Other, io::ErrorKind::ConnectionAborted] {
            server.streams.send(Err(kind.into())).await.unwrap();
        }
        assert_eq!(get(&mut server.connect().await, "/next").await, "/next");
    })
    .await;
    assert_eq!(report, ServeReport { accepted: 1, accept_errors: 2, ..ServeReport::default() });
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_what_idles_and_answers_what_is_in_flight() {
    let limits = ServerLimits { drain: HOUR * 2, ..ServerLimits::default() };
    let report = with_server(limits, async |server| {
        let mut fresh = server.connect().await;
        let mut idle = server.connect().await;
        get(&mut idle, "/one").await;
        let mut busy = server.connect().await;
        send(&mut busy, "GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").await;
        tokio::time::timeout(HOUR / 2, busy.read_u8()).await.expect_err("in flight");
        server.stop.cancel();
        assert_eq!(read_to_close(&mut fresh).await, (String::new(), Duration::ZERO));
        assert_eq!(read_to_close(&mut idle).await, (String::new(), Duration::ZERO));
        let (answer, after) = read_to_close(&mut busy).await;
        assert!(
            answer.ends_with("\r\n\r\nslow") && answer.contains("connection: close"),
            "{answer}"
        );
        assert_eq!(after, HOUR / 2);
    })
    .await;
    assert_eq!(report, ServeReport { accepted: 3, ..ServeReport::default() });
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_rest_of_a_head_on_a_kept_connection() {
    with_server(ServerLimits::default(), async |server| {
        let mut kept = server.connect().await;
        assert_eq!(get(&mut kept, "/one").await, "/one");
        send(&mut kept, "GET /tw").await;
        tokio::time::timeout(Duration::from_secs(1), kept.read_u8()).await.expect_err("still open");
        server.stop.cancel();
        assert_eq!(read_to_close(&mut kept).await, (String::new(), Duration::ZERO));
        kept.write_all(b"o").await.expect_err("nobody listens");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_cut_off_after_the_drain() {
    let limits = ServerLimits::default();
    let drain = limits.drain;
    let report = with_server(limits, async |server| {
        let mut busy = server.connect().await;
        send(&mut busy, "GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").await;
        tokio::time::timeout(Duration::from_secs(1), busy.read_u8()).await.expect_err("in flight");
        server.stop.cancel();
        assert_eq!(read_to_close(&mut busy).await, (String::new(), drain));
    })
    .await;
    assert_eq!(report, ServeReport { accepted: 1, cut: 1, ..ServeReport::default() });
}

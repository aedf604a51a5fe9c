//! The server's limits and its drain, over streams in memory with paused time; and over TCP, what a client's end means.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use rf_net::body::read_capped;
use rf_net::received::ReceivedBody;
use rf_net::serve::{Listener, ServeReport, ServerLimits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
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

/// Says each piece of a request again, as it comes.
async fn echo(request: Request<ReceivedBody>) -> Result<Response<ReceivedBody>, Infallible> {
    Ok(Response::new(request.into_body()))
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
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let limits = ServerLimits::default();
    let idle_timeout = limits.idle_timeout;
    with_server(limits, async |server| {
        let mut stream = server.connect().await;
        get(&mut stream, "/one").await;
        assert_eq!(read_to_close(&mut stream).await, (String::new(), idle_timeout));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut_off() {
    let limits = ServerLimits::default();
    let header_timeout = limits.header_timeout;
    with_server(limits, async |server| {
        let mut stream = server.connect().await;
        get(&mut stream, "/one").await;
        send(&mut stream, "GET /tw").await;
        let started = Instant::now();
        tokio::time::timeout(header_timeout / 2, stream.read_u8()).await.expect_err("still open");
        // A further byte does not wind the clock up again.
        send(&mut stream, "o").await;
        read_to_close(&mut stream).await;
        assert_eq!(started.elapsed(), header_timeout);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_and_a_slow_body_are_not_slow_heads() {
    with_server(ServerLimits::default(), async |server| {
        let mut stream = server.connect().await;
        assert_eq!(get(&mut stream, "/slow").await, "slow");
        send(&mut stream, "POST /body HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab").await;
        tokio::time::timeout(HOUR / 2, stream.read_u8()).await.expect_err("still reading the body");
        send(&mut stream, "cd").await;
        assert_eq!(receive(&mut stream).await, "abcd");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_on_beside_its_answer_is_no_slow_head_and_the_next_head_is_one() {
    let limits = ServerLimits::default();
    let header_timeout = limits.header_timeout;
    let script = async |server: Server| {
        let mut stream = server.connect().await;
        send(&mut stream, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        for _ in 0..5 {
            send(&mut stream, "2\r\nab\r\n").await;
            let mut piece = [0; 7];
            stream.read_exact(&mut piece).await.expect("the piece, said again");
            assert_eq!(&piece, b"2\r\nab\r\n");
            tokio::time::sleep(header_timeout / 2).await;
        }
        send(&mut stream, "0\r\n\r\n").await;
        let mut end = [0; 5];
        stream.read_exact(&mut end).await.unwrap();
        assert_eq!(&end, b"0\r\n\r\n");
        send(&mut stream, "GET /tw").await;
        assert_eq!(read_to_close(&mut stream).await, (String::new(), header_timeout));
    };
    with_service(|_peer| service_fn(echo), limits, script).await;
}

/// Answers, and wants nothing of the body.
async fn refuse(_request: Request<ReceivedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("no")))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_answered_while_it_sends_may_go_on_for_a_while() {
    let script = async |server: Server| {
        // It pauses for too long, or goes on for too long.
        for (pause, times) in [(1, 9), (3, 0)] {
            let mut stream = server.connect().await;
            let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n";
            send(&mut stream, head).await;
            assert_eq!(receive(&mut stream).await, "no");
            let mut sent = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                if stream.write_all(b"more of it").await.is_err() {
                    break;
                }
                sent += 1;
            }
            assert!((times..=times + 1).contains(&sent), "{sent} with pauses of {pause} s");
        }
    };
    with_service(|_peer| service_fn(refuse), ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_did_not_wait_for_a_body_says_that_the_connection_closes() {
    let script = async |server: Server| {
        for (request, closes) in [
            ("Content-Length: 2\r\n\r\n", true),
            ("Content-Length: 2\r\n\r\na", true),
            ("Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", true),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", true),
            // All of it is there.
            ("Content-Length: 2\r\n\r\nab", false),
            ("Content-Length: 0\r\n\r\n", false),
            ("\r\n", false),
        ] {
            let mut stream = server.connect().await;
            send(&mut stream, &format!("POST / HTTP/1.1\r\nHost: t\r\n{request}")).await;
            let (answer, after) = read_to_close(&mut stream).await;
            assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
            assert_eq!(answer.contains("\r\nconnection: close\r\n"), closes, "{request:?}");
            assert_eq!(after.is_zero(), closes, "{request:?} {after:?}");
        }
    };
    with_service(|_peer| service_fn(refuse), ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_an_upgrade_is_no_rest_of_its_request() {
    let (upgrades, mut upgraded) = mpsc::channel(1);
    let service_for = |_peer: SocketAddr| {
        let upgrades = upgrades.clone();
        service_fn(move |mut request: Request<ReceivedBody>| {
            let upgrades = upgrades.clone();
            async move {
                upgrades.send(hyper::upgrade::on(&mut request)).await.unwrap();
                let answer = Response::builder().status(101).header("connection", "upgrade");
                let answer = answer.header("upgrade", "other").body(Full::<Bytes>::default());
                Ok::<_, Infallible>(answer.unwrap())
            }
        })
    };
    let script = async |server: Server| {
        let mut stream = server.connect().await;
        // Nobody has read its body.
        let head = "POST / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 4\r\n\r\n";
        send(&mut stream, head).await;
        let upgrade = upgraded.recv().await.expect("the request is there");
        let mut tunnel = TokioIo::new(upgrade.await.unwrap());
        let started = Instant::now();
        tunnel.shutdown().await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO, "it is not listened to");
        send(&mut stream, "more").await;
        let mut more = [0; 4];
        tunnel.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
    };
    with_service(service_for, ServerLimits::default(), script).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_its_answer_is_cut_off() {
    let limits = ServerLimits { max_connections: NonZeroUsize::MIN, ..ServerLimits::default() };
    let write_timeout = limits.write_timeout;
    with_server(limits, async |server| {
        let mut deaf = server.connect().await;
        send(&mut deaf, "GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
        // There is one place: the next one is served as soon as the first is cut off.
        let started = Instant::now();
        let mut next = server.connect().await;
        assert_eq!(get(&mut next, "/next").await, "/next");
        assert_eq!(started.elapsed(), write_timeout);
    })
    .await;
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

/// How far the one request of a test has come.
#[derive(Default)]
struct Asked {
    is_under_way: Notify,
    may_be_answered: Notify,
    has_ended: CancellationToken,
}

async fn when_told(asked: Arc<Asked>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ended = asked.has_ended.clone().drop_guard();
    asked.is_under_way.notify_one();
    asked.may_be_answered.notified().await;
    Ok(Response::new(Full::from("here")))
}

/// Asks a server over TCP, and runs `script` with the connection when the request is under way.
async fn over_tcp<F: Future<Output = ()>>(
    half_closed_timeout: Duration,
    script: impl FnOnce(TcpStream, Arc<Asked>) -> F,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Asked::default());
    let service_for = |_peer: SocketAddr| {
        let asked = Arc::clone(&asked);
        service_fn(move |_request: Request<ReceivedBody>| when_told(Arc::clone(&asked)))
    };
    let limits = ServerLimits { half_closed_timeout, ..ServerLimits::default() };
    let stop = CancellationToken::new();
    let serving = serve(listener, service_for, limits, stop.clone());
    let script = async {
        let _stop_also_if_the_script_panics = stop.clone().drop_guard();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
        asked.is_under_way.notified().await;
        script(stream, Arc::clone(&asked)).await;
    };
    tokio::join!(serving, script);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_more_gets_its_answer_in_time() {
    over_tcp(HOUR, async |mut stream, asked| {
        stream.shutdown().await.unwrap();
        let ended = asked.has_ended.cancelled();
        tokio::time::timeout(HOUR / 2, ended).await.expect_err("the request goes on");
        asked.may_be_answered.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nhere"), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_more_and_gets_nothing_has_left_after_a_while() {
    for half_closed_timeout in [HOUR, Duration::ZERO] {
        over_tcp(half_closed_timeout, async |mut stream, asked| {
            let since = Instant::now();
            stream.shutdown().await.unwrap();
            let ended = asked.has_ended.cancelled();
            tokio::time::timeout(2 * HOUR, ended).await.expect("the request ends");
            assert_eq!(since.elapsed(), half_closed_timeout);
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_reads_only_after_it_has_sent_all_gets_an_early_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service_for = |_peer: SocketAddr| service_fn(refuse);
    let serving = serve(listener, service_for, ServerLimits::default(), stop.clone());
    let asking = async {
        let _stop_also_if_this_panics = stop.clone().drop_guard();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // More than the kernel takes for a server that does not read.
        let (piece, pieces) = (vec![b'x'; 64 * 1024], 512);
        let length = piece.len() * pieces;
        let head = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.readable().await.expect("it is answered before it sends a body");
        for _ in 0..pieces {
            stream.write_all(&piece).await.expect("it is listened to");
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
    };
    tokio::join!(serving, asking);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_its_connection_ends_its_request_at_once() {
    over_tcp(HOUR, async |stream, asked| {
        let since = Instant::now();
        stream.set_zero_linger().unwrap();
        drop(stream);
        asked.has_ended.cancelled().await;
        assert_eq!(since.elapsed(), Duration::ZERO);
    })
    .await;
}

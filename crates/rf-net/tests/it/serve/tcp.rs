//! Over TCP: what a client's end means.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

/// Does what the kernel takes part in while time stands still: paused time moves on as soon as nothing can be done, also when
/// only the kernel has something to do.
async fn without_time<F: Future>(work: F) -> F::Output {
    let awake = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        output = work => output,
        () = awake => unreachable!("it never ends"),
    }
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
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
            asked.is_under_way.notified().await;
            stream
        };
        script(without_time(asking).await, Arc::clone(&asked)).await;
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
            // Without a limit of its own, which paused time could reach before the kernel has told the server.
            asked.has_ended.cancelled().await;
            assert_eq!(since.elapsed(), half_closed_timeout);
        })
        .await;
    }
}

/// However long that takes a slow machine: time stands still.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_only_after_it_has_sent_all_gets_an_early_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service_for = |_peer: SocketAddr| service_fn(refuse);
    let serving = serve(listener, service_for, ServerLimits::default(), stop.clone());
    let asking = async {
        let _stop_also_if_this_panics = stop.clone().drop_guard();
        without_time(send_all_and_read(address)).await;
    };
    tokio::join!(serving, asking);
}

async fn send_all_and_read(address: SocketAddr) {
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

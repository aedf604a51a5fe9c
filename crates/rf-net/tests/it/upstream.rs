//! The client of a proxy against raw sockets.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::{Body, Frame};
use rf_net::client::ClientOptions;
use rf_net::listen::listen;
use rf_net::upstream::{Upstream, UpstreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// A body without an end. With it the sender is dropped.
struct Endless {
    _held: oneshot::Sender<()>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))))
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_and_the_body_with_it() {
    // The kernel connects, and takes some; nobody else does.
    let listener = listen("127.0.0.1", 0).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let upstream = Upstream::new(&ClientOptions::default(), Duration::from_millis(100)).unwrap();
    let (held, dropped) = oneshot::channel();
    let request = Request::post(url).body(Endless { _held: held }).unwrap();
    let error = upstream.send(request).await.expect_err("nobody reads");
    assert!(matches!(error, UpstreamError::Broken { is_timeout: true, .. }), "{error}");
    dropped.await.expect_err("nothing was sent, but the body is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_is_read_and_a_body_without_end_given_up() {
    let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    // Whether the connection looks first at what it can read, or at what it can write, is left to chance.
    for _ in 0..10 {
        let listener = listen("127.0.0.1", 0).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let upstream = Upstream::new(&ClientOptions::default(), Duration::from_secs(60)).unwrap();
        let (held, dropped) = oneshot::channel();
        let request = Request::post(url).body(Endless { _held: held }).unwrap();
        let refuse = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer).await.unwrap();
            // With what it has not read: its kernel sends a reset.
            drop(stream);
        };
        let ((), answered) = tokio::join!(refuse, upstream.send(request));
        assert_eq!(answered.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        dropped.await.expect_err("nothing was sent, but the body is gone");
    }
}

//! The client of a proxy against raw sockets.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::{Body, Frame};
use rf_net::client::ClientOptions;
use rf_net::listen::listen;
use rf_net::upstream::{Upstream, UpstreamError};
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

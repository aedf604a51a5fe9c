//! The body of a request, as a server's service gets it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::phase::UnderWay;

/// Tells its connection when it has come to its end. Dropped before, its rest is given up, unless all of it is there: then the
/// answer says that the connection closes, which listens to the client for a while before it does, so that the answer is not
/// lost with it.
#[derive(Debug)]
pub struct ReceivedBody {
    // Dropped before `inner`, whose end has the connection closed, perhaps on another thread: it has to know by then.
    under_way: Option<UnderWay>,
    inner: Incoming,
}

impl ReceivedBody {
    pub(crate) fn new(inner: Incoming, request: &UnderWay) -> ReceivedBody {
        let under_way = (!inner.is_end_stream()).then(|| request.body());
        ReceivedBody { under_way, inner }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let has_ended = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || this.inner.is_end_stream(),
            // What comes is no body any more, but something may come.
            Some(Err(_broken)) => {
                this.under_way = None;
                false
            }
            None => true,
        };
        if has_ended && let Some(under_way) = this.under_way.take() {
            under_way.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        if self.under_way.is_some() {
            // A small body has come with its head: nothing is left of it, and its connection can be kept.
            drop(Pin::new(self).poll_frame(&mut Context::from_waker(Waker::noop())));
        }
    }
}

//! Bodies on their way, piece by piece as they come, with a look at each piece for the copy.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rf_net::received::ReceivedBody;
use tokio::time::{Instant, Sleep};

use super::expect::Gate;
use super::recording::{Recording, Side};

type BoxError = Box<dyn Error + Send + Sync>;

/// How far a request has come; shared with the one who waits for its answer.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    last_ms: AtomicU64,
    is_client_awaited: AtomicBool,
    is_slow: AtomicBool,
    is_broken: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
            is_client_awaited: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        })
    }

    fn moved(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Since when the upstream is waited for: from the last piece of the body that it took, or from now as long as it is the
    /// client that does not go on, which has a time of its own.
    pub(super) fn upstream_since(&self) -> Instant {
        if self.is_client_awaited.load(Ordering::Relaxed) {
            return Instant::now();
        }
        self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// The client did not go on.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// The client left, or broke the protocol.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

/// The body of a request, on its way to the upstream.
pub(super) struct RequestBody {
    inner: ReceivedBody,
    copy: Option<Arc<Recording>>,
    gate: Option<Gate>,
    progress: Arc<Progress>,
    /// How long the client may pause.
    patience: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(
        inner: ReceivedBody,
        copy: Option<Arc<Recording>>,
        gate: Option<Gate>,
        progress: Arc<Progress>,
        patience: Duration,
    ) -> Self {
        if let Some(copy) = copy.as_ref().filter(|_| inner.is_end_stream()) {
            copy.complete(Side::Request);
        }
        Self { inner, copy, gate, progress, patience, pause: None }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let patience = self.patience;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(pause.as_mut().poll(cx));
        self.progress.is_slow.store(true, Ordering::Relaxed);
        Poll::Ready("the client sent no more of its request".into())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll_open(cx));
            this.gate = None;
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            this.progress.is_client_awaited.store(true, Ordering::Relaxed);
            return this.poll_patience(cx).map(|error| Some(Err(error)));
        };
        this.pause = None;
        this.progress.moved();
        this.progress.is_client_awaited.store(false, Ordering::Relaxed);
        if matches!(frame, Some(Err(_))) {
            this.progress.is_broken.store(true, Ordering::Relaxed);
        }
        note(this.copy.as_ref(), Side::Request, &this.inner, frame.as_ref());
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer, on its way to the client.
pub(super) enum AnswerBody {
    /// The upstream's.
    Upstream(Incoming, Option<Arc<Recording>>),
    /// Ours, where the upstream has none.
    Own(Full<Bytes>),
}

impl AnswerBody {
    pub(super) fn upstream(inner: Incoming, copy: Option<Arc<Recording>>) -> Self {
        if let Some(copy) = copy.as_ref().filter(|_| inner.is_end_stream()) {
            copy.complete(Side::Answer);
        }
        Self::Upstream(inner, copy)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Upstream(inner, copy) => {
                let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
                note(copy.as_ref(), Side::Answer, inner, frame.as_ref());
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(inner, _) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Upstream(inner, _) => inner.size_hint(),
        }
    }
}

/// Tells the copy of a piece. A body of known length has ended with its last piece; hyper does not ask for more.
fn note(
    copy: Option<&Arc<Recording>>,
    side: Side,
    inner: &impl Body,
    frame: Option<&Result<Frame<Bytes>, hyper::Error>>,
) {
    let Some(copy) = copy else { return };
    match frame {
        Some(Ok(frame)) => {
            if let Some(data) = frame.data_ref() {
                copy.data(side, data);
            }
            // hyper asks for nothing more behind trailers, either.
            if frame.is_trailers() || inner.is_end_stream() {
                copy.complete(side);
            }
        }
        None => copy.complete(side),
        Some(Err(_broken)) => {}
    }
}

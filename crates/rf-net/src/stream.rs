//! The clocks that cut off slow clients, as a wrapper around any stream.
//!
//! hyper's own header timeout runs from the end of one answer to the end of the next head, so it has to be as long as an
//! idle connection may live. Here a second, shorter clock starts with the first byte of a head; a third one runs while the
//! peer does not take what we write, for which hyper has none, and stops when the connection changes its protocol: then a
//! peer may be silent for as long as it likes. A fourth one bounds how long a client that was answered before it had sent
//! all of its request is listened to: closed at once, its connection would be reset, and the answer lost with it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::interim::Interim;
use crate::phase::Phase;
use crate::received::ReceivedBody;

/// What a client goes on sending after its answer is thrown away until it has paused for so long.
const REST_PAUSE: Duration = Duration::from_secs(2);
/// However much comes, then it is reset: it does not look for an answer.
const REST_AT_MOST: Duration = Duration::from_secs(10);
/// So much of it is taken at once.
const REST_BYTES: usize = 8 * 1024;

/// A stream that fails with [`io::ErrorKind::TimedOut`] when its peer is too slow.
pub(crate) struct Timed<T> {
    inner: T,
    phase: Phase,
    head_timeout: Duration,
    write_timeout: Duration,
    head_clock: Option<Pin<Box<Sleep>>>,
    write_clock: Option<Pin<Box<Sleep>>>,
    half_closed: Option<HalfClosed<T>>,
    interim: Option<Interim>,
    /// Of an interim answer, what has still to be written.
    interim_rest: Bytes,
    /// All that hyper had to write has been flushed: an interim answer may stand here.
    is_flushed: bool,
    /// Nothing more will be written, and what comes is thrown away.
    rest: Option<Rest>,
}

impl<T> Timed<T> {
    pub(crate) fn new(
        inner: T,
        phase: Phase,
        head_timeout: Duration,
        write_timeout: Duration,
    ) -> Timed<T> {
        Timed {
            inner,
            phase,
            head_timeout,
            write_timeout,
            head_clock: None,
            write_clock: None,
            half_closed: None,
            interim: None,
            interim_rest: Bytes::new(),
            is_flushed: true,
            rest: None,
        }
    }

    /// Lets a peer that sends no more wait for its answer; without it hyper decides.
    pub(crate) fn with_half_closed(mut self, poll_end: PollEnd<T>, patience: Duration) -> Timed<T> {
        self.half_closed =
            Some(HalfClosed { poll_end, patience, seen: Seen::Nothing, clock: None });
        self
    }

    /// Lets a service write interim answers.
    pub(crate) fn with_interim(mut self, interim: Option<Interim>) -> Timed<T> {
        self.interim = interim;
        self
    }

    fn timed_write<R>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() || self.phase.is_upgraded() {
            self.write_clock = None;
            return outcome;
        }
        let after = self.write_timeout;
        ran_out(&mut self.write_clock, after, cx).map(|()| {
            tracing::warn!(?after, "a client does not read its answer, closing its connection");
            Err(too_slow("reading the answer"))
        })
    }

    /// The peer has taken something.
    fn note_written(&mut self) {
        if let Some(half_closed) = &mut self.half_closed {
            half_closed.clock = None;
        }
    }

    /// Fails when the peer sends no more and has not taken anything for too long.
    fn check_half_closed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.half_closed {
            Some(half_closed) if !self.phase.is_upgraded() => half_closed.check(&self.inner, cx),
            _ => Ok(()),
        }
    }
}

/// Whether the peer sends no more; see [`crate::serve::Listener::poll_end`].
pub(crate) type PollEnd<T> = fn(&T, &mut Context<'_>) -> Poll<io::Result<bool>>;

/// A peer that sends no more may still read its answer, or have left: it is given some time.
///
/// hyper either takes it for one that has left at once, or does not look while an answer is awaited. It is made not to
/// look, and this looks instead, each time that hyper flushes; it does so each time that it is polled and has nothing to
/// write.
struct HalfClosed<T> {
    poll_end: PollEnd<T>,
    patience: Duration,
    seen: Seen,
    /// Runs from the end, or from what the peer took last.
    clock: Option<Pin<Box<Sleep>>>,
}

/// What a look at the peer's end has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// There are bytes: what is behind them cannot be seen before they are read.
    Bytes,
    End,
}

impl<T> HalfClosed<T> {
    fn check(&mut self, stream: &T, cx: &mut Context<'_>) -> io::Result<()> {
        if self.seen == Seen::Nothing
            && let Poll::Ready(is_end) = (self.poll_end)(stream, cx)?
        {
            self.seen = if is_end { Seen::End } else { Seen::Bytes };
        }
        if self.seen == Seen::End && ran_out(&mut self.clock, self.patience, cx).is_ready() {
            let text = "the peer neither sends nor receives anything";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }
}

/// The clocks of a rest that nobody wants.
struct Rest {
    pause: Pin<Box<Sleep>>,
    end: Pin<Box<Sleep>>,
}

impl Rest {
    fn begin() -> Rest {
        Rest { pause: Box::pin(sleep(REST_PAUSE)), end: Box::pin(sleep(REST_AT_MOST)) }
    }
}

fn ran_out(clock: &mut Option<Pin<Box<Sleep>>>, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
    clock.get_or_insert_with(|| Box::pin(sleep(after))).as_mut().poll(cx)
}

fn too_slow(doing: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the peer is too slow in {doing}"))
}

impl<T: AsyncWrite + Unpin> Timed<T> {
    /// Takes what the service wants to say before its answer, unless the answer to the request before is still on its
    /// way: then it cannot be told where the one ends, and an interim answer may be left out.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(interim) = &self.interim
            && let Some(bytes) = interim.take()
            && self.is_flushed
        {
            self.interim_rest = bytes;
        }
        while !self.interim_rest.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.interim_rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim_rest.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> Timed<T> {
    /// Takes what the peer still sends, until it has closed its side as well or has had its time.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Rest { pause, end } = self.rest.get_or_insert_with(Rest::begin);
        let mut room = [0; REST_BYTES];
        while end.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    pause.as_mut().reset(Instant::now() + REST_PAUSE);
                }
                // It has closed, or broken.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return pause.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                if let Some(half_closed) = &mut this.half_closed
                    && half_closed.seen == Seen::Bytes
                {
                    half_closed.seen = Seen::Nothing;
                }
                if buf.filled().len() > before && this.phase.note_read() {
                    this.head_clock = None;
                }
                Poll::Ready(outcome)
            }
            Poll::Pending if this.phase.is_in_head() => {
                ran_out(&mut this.head_clock, this.head_timeout, cx)
                    .map(|()| Err(too_slow("sending the head of a request")))
            }
            Poll::Pending => {
                this.head_clock = None;
                Poll::Pending
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = match self.poll_interim(cx) {
            Poll::Ready(Ok(())) => {
                self.is_flushed = false;
                self.phase.note_write();
                Pin::new(&mut self.inner).poll_write(cx, buf)
            }
            other => other.map_ok(|()| 0),
        };
        if outcome.is_ready() {
            self.note_written();
        }
        self.timed_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match self.poll_interim(cx) {
            Poll::Ready(Ok(())) => {
                self.is_flushed = false;
                self.phase.note_write();
                Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
            }
            other => other.map_ok(|()| 0),
        };
        if outcome.is_ready() {
            self.note_written();
        }
        self.timed_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all that it had.
        self.is_flushed = true;
        let outcome = match self.poll_interim(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.inner).poll_flush(cx),
            other => other,
        };
        if let Err(error) = self.check_half_closed(cx) {
            return Poll::Ready(Err(error));
        }
        self.timed_write(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
            ready!(self.timed_write(cx, outcome))?;
        }
        if self.phase.has_rest() {
            ready!(self.poll_rest(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// The same service, but it tells the stream when a request is under way, and the client when no other one may follow.
pub(crate) fn tracked<S, B>(
    service: S,
    phase: Phase,
    interim: Option<Interim>,
) -> impl Service<Request<Incoming>, Response = Response<B>, Error = S::Error, Future: Send> + Send
where
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send,
    B: Body,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    service_fn(move |request: Request<Incoming>| {
        let under_way = phase.begin_request();
        let mut request = request.map(|body| ReceivedBody::new(body, &under_way));
        // HTTP/1.0 knows no interim answers.
        if let Some(interim) = &interim
            && request.version() == Version::HTTP_11
        {
            request.extensions_mut().insert(interim.clone());
        }
        let answer = service.call(request);
        let phase = phase.clone();
        async move {
            let mut outcome = answer.await;
            if let Ok(response) = &mut outcome {
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    phase.upgrade();
                } else if phase.has_rest() {
                    // hyper closes, unless it happens to have all of the body: a further request would be thrown away.
                    response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            drop(under_way);
            outcome
        }
    })
}

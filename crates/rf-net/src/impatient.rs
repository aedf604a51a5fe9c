//! A clock for a peer that takes nothing of what waits for it; and patience with one that takes no more.
//!
//! hyper has none for writing. It sees that a request has been given up, but before it closes the connection it writes what
//! it has buffered: with a peer that does not read, the connection and the rest of the body would stay for as long as the
//! peer likes. Here a write fails instead, which ends the connection. The clock stops when the connection changes its
//! protocol: then a peer may be silent for as long as it likes.
//!
//! A peer may refuse a request before it has taken all of it, and close. hyper gives an answer up that it has not read when a
//! write fails: so here writes seem to succeed from then on, and what can be read, the answer or the end, says how it went.
//! After a reset, the end of what can be read is an error: the rest may have been lost with it, which a kernel tells once, here
//! to the write that failed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::{Instant, Sleep};
use tower::Service;

/// Before a flush seems to succeed, what there is to read comes first. Else a body that never pauses would be thrown away without
/// end, and a connection whose request was answered early would be used for the next one, which would be thrown away.
const READ_FIRST: Duration = Duration::from_millis(1);
/// So much is read at once of what came before a reset.
const LAST_BYTES: usize = 8 * 1024;

/// A stream that fails with [`io::ErrorKind::TimedOut`] when something waits to be written, and the peer neither takes nor
/// sends anything for too long.
///
/// Around TLS it sees progress only in steps of what TLS buffers, 64 KiB.
pub(crate) struct Impatient<T> {
    inner: T,
    /// None: the peer has all the time it likes.
    patience: Option<Duration>,
    /// Kept from one wait to the next; that it may wake the connection in between does no harm.
    clock: Option<Pin<Box<Sleep>>>,
    /// A write waits, and the clock has been set for it.
    is_waiting: bool,
    /// What a write, or a flush, has failed with since the peer had closed.
    takes_no_more: Option<io::ErrorKind>,
    /// Until a flush seems to succeed.
    pause: Option<Pin<Box<Sleep>>>,
    /// What came behind the head that changed the protocol: to be read before all else.
    early: Option<Bytes>,
}

impl<T> Impatient<T> {
    pub(crate) fn new(inner: T, patience: Duration) -> Impatient<T> {
        Impatient {
            inner,
            patience: Some(patience),
            clock: None,
            is_waiting: false,
            takes_no_more: None,
            pause: None,
            early: None,
        }
    }

    /// What a write or a flush came to, which is to be `success` where the peer takes no more; not after an upgrade, where the
    /// one direction says nothing of the other.
    fn written<R>(
        &mut self,
        cx: &mut Context<'_>,
        success: R,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if let Poll::Ready(Err(error)) = &outcome
            && self.patience.is_some()
            && matches!(error.kind(), BrokenPipe | ConnectionReset)
        {
            self.takes_no_more = Some(error.kind());
            return Poll::Ready(Ok(success));
        }
        self.timed(cx, outcome)
    }

    fn timed<R>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let Some(after) = self.patience.filter(|_| outcome.is_pending()) else {
            self.is_waiting = false;
            return outcome;
        };
        ready!(self.poll_clock(after, cx));
        tracing::debug!(?after, "an upstream takes nothing of a request, its connection is cut");
        let text = format!("it has taken nothing of the request for {after:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    fn poll_clock(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        if !self.is_waiting {
            clock.as_mut().reset(Instant::now() + after);
            self.is_waiting = true;
        }
        clock.as_mut().poll(cx)
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_FIRST)));
        ready!(pause.as_mut().poll(cx));
        self.pause = None;
        Poll::Ready(())
    }
}

impl<T: Read + Write + Unpin + 'static> Impatient<T> {
    /// The stream of a connection that has changed its protocol, without a clock.
    ///
    /// # Errors
    /// Gives back what is a stream of another kind.
    pub(crate) fn upgraded(upgraded: Upgraded) -> Result<Impatient<T>, Upgraded> {
        let Parts { io, read_buf, .. } = upgraded.downcast::<Impatient<T>>()?;
        Ok(Impatient {
            patience: None,
            clock: None,
            takes_no_more: None,
            pause: None,
            early: Some(read_buf),
            ..io
        })
    }
}

impl<T: Read + Unpin> Impatient<T> {
    fn poll_read_after_reset(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0; LAST_BYTES];
        let count = room.len().min(buf.remaining());
        let mut last = ReadBuf::new(&mut room[..count]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, last.unfilled()))?;
        if last.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(last.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Unpin> Read for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(mut early) = this.early.take().filter(|early| !early.is_empty()) {
            let count = early.len().min(buf.remaining());
            buf.put_slice(&early.split_to(count));
            this.early = Some(early);
            return Poll::Ready(Ok(()));
        }
        if this.takes_no_more == Some(io::ErrorKind::ConnectionReset) {
            return this.poll_read_after_reset(cx, buf);
        }
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if outcome.is_ready() {
            // A peer that answers at length before it reads is not stuck. A write that still waits sets the clock anew when it
            // is tried next, at the latest when the old time is over.
            this.is_waiting = false;
        }
        outcome
    }
}

impl<T: Write + Unpin> Write for Impatient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes_no_more.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written(cx, buf.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.takes_no_more.is_some() {
            return Poll::Ready(Ok(len));
        }
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.written(cx, len, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.takes_no_more.is_none() {
            // TLS writes here what it has buffered.
            let outcome = Pin::new(&mut self.inner).poll_flush(cx);
            let outcome = self.written(cx, (), outcome);
            if self.takes_no_more.is_none() {
                return outcome;
            }
        }
        self.poll_pause(cx).map(Ok)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.timed(cx, outcome)
    }
}

impl<T: Connection> Connection for Impatient<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

/// Dials like `C`; the streams are [`Impatient`].
#[derive(Debug, Clone)]
pub(crate) struct ImpatientConnector<C> {
    inner: C,
    patience: Duration,
}

impl<C> ImpatientConnector<C> {
    pub(crate) fn new(inner: C, patience: Duration) -> ImpatientConnector<C> {
        ImpatientConnector { inner, patience }
    }
}

impl<C> Service<Uri> for ImpatientConnector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = Impatient<C::Response>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Impatient<C::Response>, C::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (dialing, patience) = (self.inner.call(uri), self.patience);
        Box::pin(async move { dialing.await.map(|stream| Impatient::new(stream, patience)) })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a stream in memory holds, and what does not fit into it.
    const STREAM_BYTES: usize = 4096;
    const TOO_MUCH: [u8; STREAM_BYTES + 1] = [b'x'; STREAM_BYTES + 1];

    type Stream = Impatient<TokioIo<DuplexStream>>;

    fn connect() -> (Stream, DuplexStream) {
        let (ours, theirs) = duplex(STREAM_BYTES);
        (Impatient::new(TokioIo::new(ours), PATIENCE), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (stream, mut peer) = connect();
        let mut stream = TokioIo::new(stream);
        // A wait that ends in time is none for the next one.
        for _ in 0..3 {
            let taken = async {
                sleep(PATIENCE / 2).await;
                peer.read_exact(&mut [0; TOO_MUCH.len()]).await.unwrap();
            };
            let (written, ()) = tokio::join!(stream.write_all(&TOO_MUCH), taken);
            written.unwrap();
        }
        let started = Instant::now();
        let error = stream.write_all(&TOO_MUCH).await.expect_err("nobody reads");
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_has_time() {
        let (stream, mut peer) = connect();
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(stream));
        let started = Instant::now();
        let answering = async {
            for _ in 0..4 {
                sleep(PATIENCE * 2 / 3).await;
                peer.write_all(b"x").await.unwrap();
            }
        };
        let reading = async { reader.read_exact(&mut [0; 4]).await.unwrap() };
        let (written, (), _count) = tokio::join!(writer.write_all(&TOO_MUCH), answering, reading);
        let error = written.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The clock runs again from the last byte, or from when it then woke the write.
        let last = PATIENCE * 2 / 3 * 4;
        let waited = started.elapsed();
        assert!(waited >= last + PATIENCE && waited <= last + PATIENCE * 2, "{waited:?}");
    }

    #[tokio::test]
    async fn an_answer_is_read_although_its_peer_takes_no_more() {
        let (stream, mut peer) = connect();
        peer.write_all(b"413").await.unwrap();
        drop(peer);
        let mut stream = TokioIo::new(stream);
        for _ in 0..2 {
            stream.write_all(&TOO_MUCH).await.expect("it is thrown away");
            stream.flush().await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "413");
        // A stream that buffers, as TLS does, hears of it only when it is flushed.
        let (ours, mut peer) = duplex(STREAM_BYTES);
        peer.write_all(b"413").await.unwrap();
        drop(peer);
        let buffered = TokioIo::new(BufWriter::new(ours));
        let mut stream = TokioIo::new(Impatient::new(buffered, PATIENCE));
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.expect("it is thrown away");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "413");
        // In a tunnel the sender must hear of it.
        let (stream, peer) = connect();
        drop(peer);
        let mut stream = TokioIo::new(Stream { patience: None, ..stream });
        let error = stream.write_all(b"x").await.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// Takes nothing any more, for this reason, and has sent this before.
    struct Closed {
        reason: io::ErrorKind,
        last: &'static [u8],
    }

    impl Read for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            buf.put_slice(std::mem::take(&mut self.last));
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Closed {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.reason.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reset_has_left_of_an_answer_has_no_end() {
        for (reason, expected) in [
            (io::ErrorKind::BrokenPipe, None),
            (io::ErrorKind::ConnectionReset, Some(io::ErrorKind::ConnectionReset)),
        ] {
            let mut stream =
                TokioIo::new(Impatient::new(Closed { reason, last: b"half" }, PATIENCE));
            stream.write_all(b"x").await.expect("it is thrown away");
            let started = Instant::now();
            stream.flush().await.expect("it seems to succeed");
            assert_eq!(started.elapsed(), READ_FIRST);
            let mut answer = Vec::new();
            let error = stream.read_to_end(&mut answer).await.err();
            assert_eq!((&answer[..], error.map(|error| error.kind())), (&b"half"[..], expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgraded_peer_has_all_the_time_it_likes() {
        let (stream, mut peer) = connect();
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        let request = Request::get("/").header("connection", "upgrade").header("upgrade", "other");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let asking = async {
            let answer = sender.send_request(request).await.unwrap();
            hyper::upgrade::on(answer).await.unwrap()
        };
        let answering = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(peer.read_u8().await.unwrap());
            }
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
            peer.write_all(format!("{head}early").as_bytes()).await.unwrap();
        };
        let (upgraded, connection, ()) =
            tokio::join!(asking, connection.with_upgrades(), answering);
        connection.unwrap();
        let mut stream = TokioIo::new(Stream::upgraded(upgraded).unwrap());
        let mut early = [0; 5];
        for half in [0..2, 2..5] {
            stream.read_exact(&mut early[half]).await.unwrap();
        }
        assert_eq!(&early, b"early");
        let taken = async {
            sleep(PATIENCE * 10).await;
            peer.write_all(b"late").await.unwrap();
            peer.read_exact(&mut [0; TOO_MUCH.len()]).await.unwrap();
        };
        let (written, ()) = tokio::join!(stream.write_all(&TOO_MUCH), taken);
        written.unwrap();
        let mut late = [0; 4];
        stream.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
    }
}

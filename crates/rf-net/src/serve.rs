//! A listener and a service become a bounded HTTP/1.1 server.
//!
//! Promises:
//! - never more than [`ServerLimits::max_connections`] connections: at the limit the next ones wait in the kernel;
//! - a client that is too slow with a head, or in taking an answer, or that idles too long, is cut off (too slow with a
//!   body: [`crate::body::read_capped`], since only the service knows whether it wants the body);
//! - a client that has left ends its request; one that only sends no more gets its answer, where the limits say so, and so
//!   does one that is still sending what the answer did not wait for: that is thrown away, until the client pauses for 2 s,
//!   but for 10 s at most; an answer that was made without all of a body says that the connection closes;
//! - a panic of the service costs its connection and is counted, nothing else;
//! - no accept error ends the server: it pauses and tries again;
//! - when told to stop it accepts no more, answers what is in flight, closes what idles, cuts off what hangs after
//!   [`ServerLimits::drain`], and returns only when every connection has ended.

use std::error::Error;
use std::future::Future;
use std::io;
use std::iter::Sum;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::interim::Interim;
use crate::phase::Phase;
use crate::received::ReceivedBody;
use crate::stream::{PollEnd, Timed, tracked};

/// The pause after an accept error such as "too many open files": long enough to let connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// hyper refuses a smaller read buffer.
const MIN_READ_BUFFER_BYTES: usize = 8 * 1024;

/// More connections are of no use: the system gives a process no more files (`fs.nr_open`).
pub const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("it is not zero");

/// What one server takes from its clients at most.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimits {
    /// Connections at a time; at the limit, accepting pauses. Default 4096.
    pub max_connections: NonZeroUsize,
    /// Bytes of a request line and its headers; more is answered 431. Default 64 KiB.
    pub max_header_bytes: usize,
    /// Bytes that are read ahead for a connection. Default 256 KiB; at least 8 KiB.
    pub read_buffer_bytes: usize,
    /// From the first byte of a head to its last. Default 10 s.
    pub header_timeout: Duration,
    /// From the end of an answer to the next request. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a peer may take none of the bytes that wait for it; not of a connection that has changed its protocol.
    /// Default 30 s.
    pub write_timeout: Duration,
    /// A peer that closes its sending side after a request may wait for its answer, or have left: it is taken for one that
    /// has left when it has taken nothing for so long, or when writing to it fails. Default zero: at once.
    pub half_closed_timeout: Duration,
    /// How long requests in flight may take after the stop. Default 20 s.
    pub drain: Duration,
    /// Serve for a proxy: names of headers keep their spelling in the extensions of a request, which holds a
    /// [`crate::interim::Interim`] as well. Default false.
    pub is_proxy: bool,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            max_connections: NonZeroUsize::new(4096).expect("4096 is not zero"),
            max_header_bytes: 64 * 1024,
            read_buffer_bytes: 256 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            half_closed_timeout: Duration::ZERO,
            drain: Duration::from_secs(20),
            is_proxy: false,
        }
    }
}

/// What a server did, when it has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServeReport {
    /// Connections accepted.
    pub accepted: u64,
    /// Errors of accepting, as when the process ran out of file descriptors.
    pub accept_errors: u64,
    /// Connections lost to a panic of the service.
    pub panics: u64,
    /// Connections that were cut off because they still hung at the end of the drain.
    pub cut: u64,
}

impl Sum for ServeReport {
    /// What several servers did together.
    fn sum<I: Iterator<Item = ServeReport>>(reports: I) -> ServeReport {
        reports.fold(ServeReport::default(), |all, one| ServeReport {
            accepted: all.accepted + one.accepted,
            accept_errors: all.accept_errors + one.accept_errors,
            panics: all.panics + one.panics,
            cut: all.cut + one.cut,
        })
    }
}

/// Where connections come from.
pub trait Listener: Send {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection. Must be safe to drop at any time.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// Waits until the peer sends no more (true), or there are bytes to read (false), and takes none of them. For a stream
    /// that cannot tell it never ends.
    fn poll_end(_stream: &Self::Io, _cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        Poll::Pending
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Answers are small and written at once: waiting for more to send would only delay them.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    fn poll_end(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut byte = [0];
        stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map_ok(|count| count == 0)
    }
}

/// Serves until `stop`; `service_for(peer)` makes the service of one connection.
///
/// For several accept loops on one port, call this once for each listener of [`crate::listen::listen_shared`], each with
/// its share of the connections.
pub async fn serve<L, F, S, B>(
    mut listener: L,
    service_for: F,
    limits: ServerLimits,
    stop: CancellationToken,
) -> ServeReport
where
    L: Listener,
    F: Fn(SocketAddr) -> S,
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut report = ServeReport::default();
    let mut connections = JoinSet::new();
    loop {
        // Every arm can be dropped and asked again without loss.
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report.note_end(ended);
                continue;
            }
            accepted = listener.accept(), if connections.len() < limits.max_connections.get() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                report.accepted += 1;
                if connections.len() + 1 == limits.max_connections.get() {
                    tracing::warn!(
                        connections = limits.max_connections,
                        "connection limit reached, accepting pauses"
                    );
                }
                connections.spawn(connection(
                    stream,
                    L::poll_end,
                    service_for(peer),
                    limits.clone(),
                    stop.clone(),
                ));
            }
            Err(error) => {
                report.accept_errors += 1;
                pause_after(&error, &stop).await;
            }
        }
    }
    drop(listener);
    report.drain(connections, limits.drain).await;
    report
}

async fn connection<T, S, B>(
    stream: T,
    poll_end: PollEnd<T>,
    service: S,
    limits: ServerLimits,
    stop: CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let phase = Phase::default();
    let interim = limits.is_proxy.then(Interim::default);
    let mut stream = Timed::new(stream, phase.clone(), limits.header_timeout, limits.write_timeout)
        .with_interim(interim.clone());
    let waits_half_closed = !limits.half_closed_timeout.is_zero();
    if waits_half_closed {
        stream = stream.with_half_closed(poll_end, limits.half_closed_timeout);
    }
    // No `pipeline_flush`: it would hold a finished answer back while the next request of the pipeline is in work.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .half_close(waits_half_closed)
        .preserve_header_case(limits.is_proxy)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(
            limits.read_buffer_bytes.max(MIN_READ_BUFFER_BYTES).max(limits.max_header_bytes),
        )
        .serve_connection(TokioIo::new(stream), tracked(service, phase, interim))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Waits a little after an error that may pass, as when others have closed files; until `stop` at the most.
pub(crate) async fn pause_after(error: &io::Error, stop: &CancellationToken) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        // The client left before we took it: nothing to wait for.
        return;
    }
    tracing::warn!(%error, "cannot accept connections, trying again");
    tokio::select! {
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        () = stop.cancelled() => {}
    }
}

impl ServeReport {
    fn note_end(&mut self, ended: Result<(), JoinError>) {
        // The only other error is "cancelled", and that is counted where we cancel.
        if ended.is_err_and(|error| error.is_panic()) {
            self.panics += 1;
            tracing::error!("a request handler panicked, its connection is dropped");
        }
    }

    async fn drain(&mut self, mut connections: JoinSet<()>, grace: Duration) {
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                self.note_end(ended);
            }
        };
        if tokio::time::timeout(grace, all_ended).await.is_err() {
            self.cut = connections.len() as u64;
            tracing::warn!(
                connections = self.cut,
                "requests still in flight after the drain time are cut off"
            );
            connections.shutdown().await;
        }
    }
}

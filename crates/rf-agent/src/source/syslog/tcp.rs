//! Connections: each is read in turn with storing what it brought.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rf_core::lifecycle::Tasks;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::EventMaker;
use super::framing::{Frame, Framing};
use crate::pipeline::Output;
use crate::source::hand_over::HandOver;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Pause after a connection could not be accepted, as when there are no more files to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to store what they have in hand at the stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_connections: usize,
    pub(super) idle_timeout: Duration,
}

/// What all connections use.
pub(super) struct Shared {
    id: String,
    maker: EventMaker,
    out: Output,
}

impl Shared {
    pub(super) fn new(id: &str, maker: &EventMaker, out: &Output) -> Arc<Self> {
        Arc::new(Self { id: id.to_owned(), maker: maker.clone(), out: out.clone() })
    }
}

/// Accepts until `stop`, then lets connections store what they have.
pub(super) async fn serve(
    listener: TcpListener,
    limits: Limits,
    shared: Arc<Shared>,
    stop: &CancellationToken,
) {
    let connections = Tasks::new(stop.child_token());
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let accepting = async {
            // A place first: with none free the next connection waits in the kernel.
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepting => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(source = shared.id, %error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection { shared: Arc::clone(&shared), peer, stop: stop.child_token() };
        connections.spawn_contained("syslog connection", async move {
            connection.read(stream, limits.idle_timeout).await;
            drop(place);
        });
    }
    if let Err(error) = connections.join(STOP_WITHIN).await {
        tracing::warn!(source = shared.id, %error, "syslog connections did not stop in time");
    }
}

struct Connection {
    shared: Arc<Shared>,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn read(&self, mut stream: TcpStream, idle_timeout: Duration) {
        let (id, peer) = (&self.shared.id, self.peer);
        let mut framing = Framing::new(self.shared.maker.max_bytes);
        let hand_over = HandOver::new(id, &self.shared.out, &self.stop).losing("messages");
        loop {
            framing.buffer.reserve(READ_BYTES);
            let read = tokio::select! {
                read = timeout(idle_timeout, stream.read_buf(&mut framing.buffer)) => read,
                () = self.stop.cancelled() => break,
            };
            match read {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => break,
                Ok(Err(error)) => {
                    tracing::debug!(source = id, %peer, %error, "a syslog connection broke");
                    break;
                }
                Err(_elapsed) => {
                    tracing::debug!(source = id, %peer, "a silent syslog connection is closed");
                    break;
                }
            }
            if !self.store_all(&mut framing, &hand_over).await {
                return;
            }
        }
        // A message without its end is the last one of its connection.
        self.store(framing.finish().into_iter().collect(), &hand_over).await;
    }

    /// False when the connection cannot go on.
    async fn store_all(&self, framing: &mut Framing, hand_over: &HandOver<'_>) -> bool {
        loop {
            match framing.take() {
                Ok(frames) if frames.is_empty() => return true,
                Ok(frames) => self.store(frames, hand_over).await,
                Err(error) => {
                    let peer = self.peer;
                    tracing::warn!(source = self.shared.id, %peer, %error, "a syslog connection is closed");
                    return false;
                }
            }
        }
    }

    async fn store(&self, frames: Vec<Frame>, hand_over: &HandOver<'_>) {
        self.shared.out.meter().cut(frames.iter().filter(|frame| frame.is_cut).count());
        let filled = frames.iter().filter(|frame| !frame.bytes.is_empty());
        let events: Vec<_> =
            filled.map(|frame| self.shared.maker.event(self.peer, frame)).collect();
        if events.is_empty() {
            return;
        }
        // What is lost is told in the end.
        let _handed_over = hand_over.store(events).await;
    }
}

//! The wire of a session: the connection itself, and the notifications that have come over it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Connection, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::{SessionError, told};

/// Notifications that wait to be taken, and their bytes.
const MAX_INBOX: usize = 10_000;
const MAX_INBOX_BYTES: usize = 8 * 1024 * 1024;
/// Why a connection has ended without an error.
const ENDED: &str = "the connection ended";

type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection and what has come over it. Nothing happens on the wire but while it is polled.
pub(super) struct Link {
    /// `None` once it has ended: the socket is closed then.
    wire: Option<Box<Wire>>,
    /// Why it ended.
    end: SessionError,
    pub(super) inbox: Inbox,
}

/// Notifications that have come.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Notification>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// False when there is no room.
    fn take(&mut self, notification: Notification) -> bool {
        let bytes = size(&notification);
        if self.waiting.len() >= MAX_INBOX || self.bytes + bytes > MAX_INBOX_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(notification);
        true
    }

    /// Up to `bytes` of them, but at least one if there is one.
    pub(super) fn give(&mut self, bytes: usize) -> Vec<Notification> {
        let mut given = Vec::new();
        let mut left = bytes;
        while let Some(size) = self.waiting.front().map(size) {
            if !given.is_empty() && size > left {
                break;
            }
            left = left.saturating_sub(size);
            self.bytes -= size;
            given.extend(self.waiting.pop_front());
        }
        given
    }
}

impl Link {
    pub(super) fn new(wire: Wire) -> Self {
        let end = SessionError::Lost(ENDED.to_owned());
        Self { wire: Some(Box::new(wire)), end, inbox: Inbox::default() }
    }

    /// Does the work and keeps the connection going meanwhile.
    pub(super) async fn drive<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, SessionError> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let Poll::Ready(end) = self.poll(cx) else { return Poll::Pending };
            // The last words before the end (an administrator stops the server) are for the work.
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    /// Ready when the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionError> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(self.end.clone()) };
        let end = loop {
            match ready!(wire.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    // A listener that does not read would fill the server's own queue, and then every NOTIFY there fails.
                    if !self.inbox.take(notification) {
                        break format!(
                            "more than {MAX_INBOX} notifications, or {MAX_INBOX_BYTES} bytes of them, wait for room in the queues"
                        );
                    }
                }
                Some(Ok(_notice)) => {}
                Some(Err(error)) => break told(&error),
                None => break ENDED.to_owned(),
            }
        };
        self.end = SessionError::Lost(end);
        self.wire = None;
        Poll::Ready(self.end.clone())
    }
}

fn size(notification: &Notification) -> usize {
    notification.channel().len() + notification.payload().len()
}

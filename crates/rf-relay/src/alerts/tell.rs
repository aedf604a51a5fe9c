//! Alerts become notifications: one message for all that a look has found.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rf_core::backoff::Backoff;
use rf_core::clock::unix_ms;
use rf_notify::{Message, NotifyError, Sent, Target};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Change;

/// Messages that wait for one service; further ones are not sent, which the log says.
const MAX_WAITING: usize = 100;
/// A service that is away or refuses us for longer misses the message, which the log says.
const GIVE_UP_AFTER: usize = 30;
/// A service that refuses us is asked again after this. The message stays pending meanwhile: once somebody has mended the file,
/// the next run tells it.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// A message, by the number of services that are still to get it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending(Arc<AtomicUsize>);

impl Pending {
    fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them has it, or never will.
    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// The way to one service.
#[derive(Debug)]
pub(crate) struct Teller {
    target: String,
    messages: mpsc::Sender<(Message, Pending)>,
}

impl Teller {
    /// The way, and its other end for [`tell`].
    pub(crate) fn new(target: &str) -> (Self, mpsc::Receiver<(Message, Pending)>) {
        let (messages, receiver) = mpsc::channel(MAX_WAITING);
        (Self { target: target.to_owned(), messages }, receiver)
    }

    /// Has the changes told; never waits.
    pub(super) fn hand_on(&self, changes: &[Change], pending: &Pending) {
        let lines: Vec<String> = changes.iter().map(Change::line).collect();
        let subject = match lines.as_slice() {
            [one] => one.chars().take(100).collect(),
            many => format!("{} changes", many.len()),
        };
        let message =
            Message { subject: format!("ReplayForge: {subject}"), text: lines.join("\n") };
        pending.begin();
        if self.messages.try_send((message, pending.clone())).is_err() {
            pending.end();
            tracing::error!(
                target = self.target,
                "too many alerts are waiting for the service, one is dropped"
            );
        }
    }
}

/// Sends one message after the other until `stop`.
pub(crate) async fn tell(
    target: Target,
    mut messages: mpsc::Receiver<(Message, Pending)>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = stop.cancelled() => None,
        };
        let Some((message, pending)) = message else { return Ok(()) };
        tokio::select! {
            () = send(&target, &message) => pending.end(),
            // It stays pending, so that the next run tells it.
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn send(target: &Target, message: &Message) {
    let id = format!("replayforge-alert-{}", unix_ms());
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    for _ in 0..GIVE_UP_AFTER {
        let (reason, wait) = match target.send(message, &id).await {
            Ok(Sent { missed, .. }) => {
                if let Some(missed) = missed {
                    tracing::warn!(
                        target = target.name(),
                        missed,
                        "an alert did not reach all recipients: check the addresses"
                    );
                }
                return;
            }
            Err(NotifyError::Retry { reason, after }) => (reason, after),
            Err(NotifyError::Away(reason)) => (reason, None),
            Err(error @ NotifyError::Refused(_)) => (error.to_string(), Some(REFUSED_PAUSE)),
            Err(error @ NotifyError::Permanent(_)) => {
                tracing::error!(target = target.name(), %error, "an alert is dropped: the service rejects it");
                return;
            }
        };
        tracing::warn!(target = target.name(), reason, "an alert cannot be sent, trying again");
        let delay = backoff.next_delay();
        tokio::time::sleep(wait.unwrap_or(delay).min(Duration::from_secs(300))).await;
    }
    tracing::error!(
        target = target.name(),
        "an alert is dropped: the service was away, or refused it, for too long"
    );
}

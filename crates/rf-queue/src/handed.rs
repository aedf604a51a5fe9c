//! A lease on its way to whoever asked for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::mailbox::{Mailbox, Op};
use crate::types::{Leased, QueueId};

/// Dropped before it has arrived, as when the request that asked for it was broken off, the lease ends at once: nobody knows
/// of it, and its events would wait for its time to be over.
pub(crate) struct Handed {
    leased: Leased,
    queue: QueueId,
    mailbox: Arc<Mailbox>,
}

impl Handed {
    pub(crate) fn new(leased: Leased, queue: QueueId, mailbox: &Arc<Mailbox>) -> Self {
        Self { leased, queue, mailbox: Arc::clone(mailbox) }
    }

    /// It has arrived.
    pub(crate) fn take(mut self) -> Leased {
        std::mem::take(&mut self.leased)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if !self.leased.events.is_empty() {
            // By its token, and not by its events: they may be somebody else's by now.
            let (reply, _nobody) = oneshot::channel();
            let (queue, token, ttl) = (self.queue, self.leased.token, Duration::ZERO);
            self.mailbox.submit_unasked(Op::Extend { queue, token, ttl, reply });
        }
    }
}

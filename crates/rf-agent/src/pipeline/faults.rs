//! What a test does to the batches of an output: refusals that are hard to bring about, and kills at exact places.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Batch, Rejected};

/// What becomes of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing out of the ordinary.
    None,
    /// It is refused, and nothing of it stored.
    Refuse(Rejected),
    /// The agent is killed before the batch reaches the store.
    KillBefore,
    /// The agent is killed after the commit, before the source hears of it.
    KillAfter,
}

/// Decides by the number of the batch, from 0, and the batch.
pub(crate) type FaultPlan = Box<dyn Fn(u64, &Batch) -> Fault + Send + Sync>;

/// The faults of one output.
pub(crate) struct Faults {
    plan: FaultPlan,
    sent: AtomicU64,
    /// So many looks at checkpoints fail.
    failing_reads: AtomicU64,
    /// Told when a batch meets a kill: whoever holds the source's future drops it then.
    pub(crate) killed: Notify,
    /// Cancelled when nobody polls the source any more; threads that it may have are let go.
    pub(crate) dead: CancellationToken,
}

impl Faults {
    pub(crate) fn new(failing_reads: u64, plan: FaultPlan) -> Self {
        Self {
            plan,
            sent: AtomicU64::new(0),
            failing_reads: AtomicU64::new(failing_reads),
            killed: Notify::new(),
            dead: CancellationToken::new(),
        }
    }

    pub(super) fn next(&self, batch: &Batch) -> Fault {
        (self.plan)(self.sent.fetch_add(1, Ordering::SeqCst), batch)
    }

    /// The kill: the batch is not answered as long as the source lives.
    pub(super) async fn kill(&self) {
        self.killed.notify_one();
        self.dead.cancelled().await;
    }

    pub(super) fn read(&self) -> Result<(), Rejected> {
        let left = self
            .failing_reads
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() { Err(Rejected::Failed("a test".to_owned())) } else { Ok(()) }
    }
}

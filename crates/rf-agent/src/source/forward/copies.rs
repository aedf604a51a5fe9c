//! From the copy to the queue, without anybody waiting: connections offer their copies to one task, which makes events of
//! them and stores them, many in a commit. However that task ends, what it leaves is counted and told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rf_core::lifecycle::Tasks;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::busy::Busy;
use super::config::CaptureSettings;
use super::maker::{Maker, Pause};
use super::pile::{Pile, is_kept};
use super::recording::{Draft, Memory};
use crate::pipeline::{Batch, Output, Rejected};
use crate::redact::CUT_MARGIN_BYTES;
use crate::source::SourceError;
use crate::stats::{Counts, Loss, SourceMeter};

/// While so many copies are on their way to the queue no other one is begun, whatever their size.
const MAX_WAITING: usize = 16 * 1024;
/// After at least so many copies the task pauses, so that a commit takes many: nobody waits for it, and the processor is there
/// for the traffic. Where it was busy, longer (see [`super::maker`]).
const MANY: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// Lost copies are logged at the first loss, and then so often.
const REPORT_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes copies; clones share one task.
#[derive(Clone)]
pub(super) struct Copies(Arc<Shared>);

struct Shared {
    waiting: Arc<Waiting>,
    /// Tells the task that no other one comes.
    _open: DropGuard,
    settings: Arc<CaptureSettings>,
    memory: Arc<Memory>,
    meter: Arc<SourceMeter>,
    in_hand: Arc<InHand>,
    traffic: Arc<Busy>,
}

/// Copies that the task has not taken yet.
#[derive(Default)]
struct Waiting {
    pile: Mutex<Pile>,
    /// There is a first one.
    first: Notify,
}

/// Copies that were handed over, and are neither stored nor counted as lost; and whether the task has ended, which counts all
/// that there are by then. Both in one number: so each copy is counted once, whatever it meets.
#[derive(Default)]
struct InHand(AtomicUsize);

/// The task has ended.
const ENDED: usize = 1 << (usize::BITS - 1);

impl InHand {
    /// One is about to be handed over; false: the task has ended, and does not count it.
    fn begin(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) & ENDED == 0
    }

    /// Why no other one should be begun now.
    fn refusal(&self) -> Option<Loss> {
        match self.0.load(Ordering::Relaxed) {
            ENDED.. => Some(Loss::Stopping),
            MAX_WAITING.. => Some(Loss::Waiting),
            _ => None,
        }
    }

    /// They are stored, or counted as lost.
    fn settle(&self, copies: usize) {
        self.0.fetch_sub(copies, Ordering::Relaxed);
    }

    /// The task ends: how many it has to count.
    fn end(&self) -> usize {
        self.0.fetch_or(ENDED, Ordering::Relaxed)
    }
}

impl Copies {
    /// Starts the task, which gives way to so many threads that serve; it ends when every clone has gone and what waits is
    /// stored.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub(super) fn start(
        source: &str,
        settings: Arc<CaptureSettings>,
        out: Output,
        threads: usize,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let traffic = Arc::new(Busy::of(threads));
        let maker = Maker::start(Arc::clone(&settings), Arc::clone(&traffic))?;
        let (copies, store) = Self::sides(source, settings, out, traffic);
        tasks.spawn(format!("source {source} copies"), async move {
            store.run(&maker).await;
            Ok::<(), SourceError>(())
        });
        Ok(copies)
    }

    /// Both sides, without the task that connects them.
    fn sides(
        source: &str,
        settings: Arc<CaptureSettings>,
        out: Output,
        traffic: Arc<Busy>,
    ) -> (Self, Store) {
        let (memory, meter) = (Memory::new(settings.memory_bytes), Arc::clone(out.meter()));
        let (waiting, in_hand) = (Arc::<Waiting>::default(), Arc::<InHand>::default());
        let closed = CancellationToken::new();
        let store = Store {
            source: source.to_owned(),
            out,
            waiting: Arc::clone(&waiting),
            closed: closed.clone(),
            in_hand: Arc::clone(&in_hand),
            told: Mutex::default(),
        };
        let _open = closed.drop_guard();
        let shared = Shared { waiting, _open, settings, memory, meter, in_hand, traffic };
        (Self(Arc::new(shared)), store)
    }

    /// This thread is one of those to give way to. False: that is to be said again, since the system has no room now.
    pub(super) fn watch(&self) -> bool {
        match self.0.traffic.watch() {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    pub(super) fn settings(&self) -> &CaptureSettings {
        &self.0.settings
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    /// Why no other one should be begun now.
    pub(super) fn refusal(&self) -> Option<Loss> {
        self.0.in_hand.refusal()
    }

    /// Hands over a copy. Never waits: the lock is held for as long as it takes to lay one down, or to take all.
    pub(super) fn offer(&self, mut draft: Draft) {
        // Before the task can have stored it.
        if !self.0.in_hand.begin() {
            return self.lose(Loss::Stopping);
        }
        // What is kept takes no more than it counts for; not done below, where connections wait for each other.
        for part in draft.parts().filter(|part| is_kept(&part.body)) {
            part.body.shrink_to_fit();
        }
        let Waiting { pile, first } = &*self.0.waiting;
        let mut pile = pile.lock();
        let is_first = pile.is_empty();
        pile.lay(draft);
        drop(pile);
        if is_first {
            first.notify_one();
        }
    }

    pub(super) fn lose(&self, loss: Loss) {
        self.0.meter.losses.count(loss, 1);
    }
}

impl CaptureSettings {
    /// How far bodies are known behind the place where they are cut.
    pub(super) fn margin(&self) -> usize {
        if self.redactor.is_some() { CUT_MARGIN_BYTES } else { 0 }
    }
}

/// The task's side.
struct Store {
    source: String,
    out: Output,
    waiting: Arc<Waiting>,
    /// No other copy comes.
    closed: CancellationToken,
    in_hand: Arc<InHand>,
    /// The losses that are in the log.
    told: Mutex<Counts>,
}

impl Store {
    async fn run(self, maker: &Maker) {
        // Reports also while a commit hangs, so it is no part of the loop below.
        let storing = async {
            let mut copies = Pile::default();
            loop {
                if copies.is_empty() {
                    // Looked at first: what came before the end is there behind it.
                    let is_closed = self.closed.is_cancelled();
                    copies = std::mem::take(&mut *self.waiting.pile.lock());
                    if copies.is_empty() && is_closed {
                        break;
                    }
                }
                if copies.is_empty() {
                    tokio::select! {
                        () = self.waiting.first.notified() => {}
                        () = self.closed.cancelled() => {}
                    }
                } else {
                    let pause = self.store_some(maker, &mut copies).await;
                    // Behind the last connection there is no traffic to give way to.
                    tokio::select! {
                        () = maker.pause(pause) => {}
                        () = self.closed.cancelled() => {}
                    }
                }
            }
        };
        let reporting = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut quiet_for = REPORT_EVERY;
            loop {
                look.tick().await;
                quiet_for += LOOK_EVERY;
                if quiet_for >= REPORT_EVERY && self.report() {
                    quiet_for = Duration::ZERO;
                }
            }
        };
        // Both can be dropped at any point: what is left then is counted and told where this is dropped.
        tokio::select! {
            () = storing => {}
            () = reporting => {}
        }
    }

    /// True when there was something to tell.
    fn report(&self) -> bool {
        let counts = self.out.meter().losses.counts();
        let new = counts.since(std::mem::replace(&mut *self.told.lock(), counts));
        if new.total() > 0 {
            tracing::warn!(
                source = self.source,
                lost = new.total(),
                lost_since_start = counts.total(),
                reasons = %new,
                "copies of requests are lost; the requests themselves were forwarded"
            );
        }
        new.total() > 0
    }

    /// Stores as many copies as one commit takes; how long to pause before the next.
    async fn store_some(&self, maker: &Maker, copies: &mut Pile) -> Pause {
        let count = copies.len();
        let Some(made) = maker.make(std::mem::take(copies)).await else {
            self.fail(count);
            return Pause::default();
        };
        if made.failed > 0 {
            self.fail(made.failed);
        }
        *copies = made.rest;
        if !made.events.is_empty() {
            self.store(made.events).await;
        }
        let is_many = copies.is_empty() && count >= MANY;
        if is_many { made.pause.at_least(PAUSE) } else { made.pause }
    }

    /// Stores a batch, or drops it and counts it: nothing is tried again, the next copies are coming already.
    async fn store(&self, events: Vec<Bytes>) {
        let mut batches = vec![events];
        while let Some(mut batch) = batches.pop() {
            let count = batch.len();
            let loss = match self.out.offer(Batch::of(batch.clone())).await {
                Ok(()) => {
                    self.in_hand.settle(count);
                    continue;
                }
                // One event may be what is too large, or all of them together.
                Err(Rejected::TooLarge { .. }) if count > 1 => {
                    let second = batch.split_off(count / 2);
                    batches.extend([second, batch]);
                    continue;
                }
                // The output has counted it.
                Err(Rejected::TooLarge { .. }) => {
                    self.in_hand.settle(count);
                    continue;
                }
                Err(Rejected::Full { .. }) => Loss::Full,
                Err(Rejected::Closed) => Loss::Stopping,
                Err(Rejected::Failed(reason)) => {
                    tracing::warn!(
                        source = self.source,
                        error = reason,
                        "copies of requests are not stored"
                    );
                    Loss::Refused
                }
            };
            self.lose(loss, count);
        }
    }

    fn fail(&self, copies: usize) {
        self.lose(Loss::Failed, copies);
        tracing::error!(
            source = self.source,
            copies,
            "copies of requests could not be converted to events"
        );
    }

    fn lose(&self, loss: Loss, copies: usize) {
        self.out.meter().losses.count(loss, copies);
        self.in_hand.settle(copies);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A commit that is under way may still store what it has: nobody is there to learn of it.
        self.out.meter().losses.count(Loss::Stopping, self.in_hand.end());
        drop(std::mem::take(&mut *self.waiting.pile.lock()));
        self.report();
    }
}

#[cfg(test)]
pub(super) mod tests;

//! Single events, several at a time; with a concurrency of one in strict order.
//!
//! Reading ahead, writing and removing overlap: while requests are under way, what is finished is removed in one commit,
//! and the next commit gathers what finishes meanwhile.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rf_queue::{Budget, StoredEvent};
use tokio::sync::watch;
use tokio::time::Instant;

use super::deliver::{DeliveryOutcome, deliver};
use super::done::Done;
use super::rate::Rate;
use super::{FlushTimer, Interrupted, STORE_PAUSE, Worker};
use crate::sink::SinkBatch;

/// Bytes read ahead of the writes.
const READ_AHEAD_BYTES: usize = 4 * 1024 * 1024;
/// Events read ahead, for each write at a time.
const READ_AHEAD_PER_WRITE: usize = 16;
const MIN_READ_AHEAD: usize = 64;
/// Events that may be delivered and wait for the commit that is under way, which may have as many: while the queue's
/// database refuses, and then the process is killed, so many are delivered again.
const MAX_UNCOMMITTED: usize = 4096;

pub(super) async fn run(worker: &Worker, concurrency: usize) -> Result<(), Interrupted> {
    let mut sender = Sender {
        worker,
        concurrency,
        available: worker.store.watch(worker.queue),
        rate: Rate::new(&worker.sink.shape().rate),
        flush: FlushTimer::new(&worker.stop),
        cursor: 0,
        ahead: VecDeque::new(),
        writing: FuturesUnordered::new(),
        done: Done::default(),
        committing: None,
        retry_at: None,
        stopping: false,
    };
    let outcome = sender.run().await;
    let rest = sender.finish().await;
    outcome.and(rest)
}

type Written = (StoredEvent, DeliveryOutcome);

struct Sender<'a> {
    worker: &'a Worker,
    /// Writes at a time.
    concurrency: usize,
    available: watch::Receiver<u64>,
    rate: Rate,
    flush: FlushTimer,
    /// The last id that was read.
    cursor: u64,
    ahead: VecDeque<StoredEvent>,
    writing: FuturesUnordered<BoxFuture<'a, Written>>,
    /// What the next commit removes and buries.
    done: Done,
    committing: Option<BoxFuture<'a, Result<(), Interrupted>>>,
    /// The queue could not be read the last time, and is not asked again before this.
    retry_at: Option<Instant>,
    /// No new write is begun.
    stopping: bool,
}

impl<'a> Sender<'a> {
    async fn run(&mut self) -> Result<(), Interrupted> {
        loop {
            self.stopping |= self.flush.is_over();
            let pause = self.begin_writes().await?;
            self.begin_commit();
            let idle = self.writing.is_empty() && self.committing.is_none();
            if idle && (self.stopping || (self.worker.stop.is_cancelled() && self.ahead.is_empty()))
            {
                return Ok(());
            }
            let is_stopped = self.worker.stop.is_cancelled();
            let flush_end = is_stopped.then(|| self.flush.end());
            tokio::select! {
                Some((event, outcome)) = self.writing.next() => self.note(event, outcome),
                Some(committed) = maybe(&mut self.committing) => {
                    self.committing = None;
                    committed?;
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                changed = self.available.changed(), if self.wants_more() => if changed.is_err() { return Err(Interrupted::Closed) },
                () = self.worker.stop.cancelled(), if idle && !is_stopped => {}
                Some(()) = maybe_until(flush_end), if idle => {}
            }
        }
    }

    fn wants_more(&self) -> bool {
        !self.stopping && self.ahead.is_empty()
    }

    /// Fills the free places; a pause when the rate forbids the next write, or the queue cannot be read.
    async fn begin_writes(&mut self) -> Result<Option<std::time::Duration>, Interrupted> {
        while !self.stopping
            && self.writing.len() < self.concurrency
            && self.done.events() < MAX_UNCOMMITTED
        {
            if self.ahead.is_empty() {
                // Not waited for here, since writes are under way.
                let now = Instant::now();
                if let Some(at) = self.retry_at.filter(|at| *at > now) {
                    return Ok(Some(at - now));
                }
                match self.read_ahead().await {
                    Err(Interrupted::Store(reason)) => {
                        self.worker.refused(&reason, self.retry_at.is_none().then_some("down"));
                        self.retry_at = Some(now + STORE_PAUSE);
                        return Ok(Some(STORE_PAUSE));
                    }
                    read => read?,
                }
                if self.retry_at.take().is_some() {
                    self.worker.accepted();
                }
            }
            if self.ahead.is_empty() {
                break;
            }
            let pause = self.rate.pause();
            if !pause.is_zero() {
                return Ok(Some(pause));
            }
            if let Some(event) = self.ahead.pop_front() {
                self.rate.spend(std::slice::from_ref(&event));
                self.writing.push(Box::pin(write(self.worker, event)));
            }
        }
        Ok(None)
    }

    async fn read_ahead(&mut self) -> Result<(), Interrupted> {
        // Registered before looking, so that an append in between is not missed.
        self.available.mark_unchanged();
        let events = (self.concurrency * READ_AHEAD_PER_WRITE).max(MIN_READ_AHEAD);
        let budget = Budget { events, bytes: READ_AHEAD_BYTES };
        let read = self.worker.store.read(self.worker.queue, self.cursor, budget).await?;
        if let Some(last) = read.last() {
            self.cursor = last.id;
        }
        self.ahead.extend(read);
        Ok(())
    }

    fn note(&mut self, event: StoredEvent, outcome: DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Delivered => {
                if let Some(observer) = &self.worker.observer {
                    observer(&self.worker.id, &event);
                }
                self.done.remove(self.worker, std::iter::once(event.id));
            }
            DeliveryOutcome::Dropped => self.done.remove(self.worker, std::iter::once(event.id)),
            DeliveryOutcome::Dead(reason, attempts) => {
                self.done.give_up(self.worker, &event, reason, attempts);
            }
            DeliveryOutcome::Kept => self.stopping = true,
        }
    }

    fn begin_commit(&mut self) {
        if self.committing.is_none() && !self.done.is_empty() {
            self.committing = Some(Box::pin(std::mem::take(&mut self.done).store(self.worker)));
        }
    }

    /// Whatever happened, what was delivered is removed before the worker ends.
    async fn finish(&mut self) -> Result<(), Interrupted> {
        while let Some((event, outcome)) = self.writing.next().await {
            self.note(event, outcome);
        }
        loop {
            if let Some(committing) = self.committing.take() {
                committing.await?;
            }
            self.begin_commit();
            if self.committing.is_none() {
                return Ok(());
            }
        }
    }
}

async fn write(worker: &Worker, event: StoredEvent) -> Written {
    let batch = SinkBatch::new(event.id.to_string(), [event.clone()]);
    let outcome = deliver(worker, &batch).await;
    (event, outcome)
}

/// Waits for the moment if there is one; without one the branch of `select!` is off.
async fn maybe_until(moment: Option<Instant>) -> Option<()> {
    tokio::time::sleep_until(moment?).await;
    Some(())
}

/// Waits for the future if there is one; without one the branch of `select!` is off.
async fn maybe<T>(future: &mut Option<BoxFuture<'_, T>>) -> Option<T> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

//! One batch after the other, each repeated exactly as it was.
//!
//! Before a batch is sent, its id and the range of its events are stored as the checkpoint `ship:SINK`, in the transaction
//! that removes the batch before it. So a cycle costs one commit, and a restart finds either no batch in flight or the very
//! one that the target may already have, and repeats it under the same id.
//!
//! Where another whole batch waits, and the sink allows it ([`Overlap::Ahead`]), that cycle is taken out of the way: while a
//! batch is with the target, the next one is read, and one commit removes the batch before and stores both. The next then
//! leaves the moment the target has answered. A restart finds up to two batches and repeats them in their order: the target
//! may have both, the first, or none. Never is a third sent before the removal of the first is stored, but for a sink that
//! knows by itself how far it is and asks for less ([`Overlap::RemovedTogether`], see [`beside`]): that one waits for a commit
//! only where no other batch is ready, or the queue has no room.
//!
//! A batch that is refused for good goes on as its halves. They are stored in its place before the first of them is sent: so
//! a restart repeats the halves that the target may have, and never the whole, which it might take now. Their events come
//! from the same range of ids, which only ever loses events. So a half that is repeated brings nothing that it had not the
//! first time.

mod beside;

use std::collections::VecDeque;

use rf_queue::{Budget, Checkpoint, StoredEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use self::beside::Beside;
use super::deliver::age_of;
use super::delivery::{Delivery, End, halves};
use super::done::Done;
use super::rate::Rate;
use super::{FlushTimer, Interrupted, Worker};
use crate::sink::{Batching, EventLimit, Overlap, RateLimits, SinkBatch, checkpoint};

/// The stored word on a batch in flight; the checkpoint is a list of them, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InFlight {
    id: String,
    first: u64,
    last: u64,
}

pub(super) async fn run(worker: &Worker, batching: &Batching) -> Result<(), Interrupted> {
    let mut shipper = Shipper {
        worker,
        batching,
        available: worker.store.watch(worker.queue),
        rate: Rate::new(&worker.sink.shape().rate),
        flush: FlushTimer::new(&worker.stop),
        cursor: 0,
        ahead: VecDeque::new(),
        done: Done::default(),
        beside: match batching.overlap {
            Overlap::RemovedTogether(most) => Some(Beside::new(worker, batching, most)),
            Overlap::None | Overlap::Ahead => None,
        },
    };
    shipper.resume().await?;
    while let Some(batch) = shipper.next_batch().await? {
        if !shipper.ship(batch).await? {
            break;
        }
    }
    shipper.settle().await
}

struct Shipper<'a> {
    worker: &'a Worker,
    batching: &'a Batching,
    available: watch::Receiver<u64>,
    rate: Rate,
    flush: FlushTimer,
    /// The last id that is delivered or buried.
    cursor: u64,
    /// Batches that are sent next, in order, and were not sent by this run. They are stored as in flight, but for that of a sink
    /// whose batches leave the queue together.
    ahead: VecDeque<SinkBatch>,
    /// What the next commit removes and buries.
    done: Done,
    /// Of a sink whose batches leave the queue together.
    beside: Option<Beside<'a>>,
}

impl Shipper<'_> {
    /// The batches that were in flight when the process ended.
    async fn resume(&mut self) -> Result<(), Interrupted> {
        let (worker, key) = (self.worker, key(self.worker));
        let stored = worker.retry_until_answered(|| worker.store.checkpoint(&key)).await?;
        let Some(stored) = stored else { return Ok(()) };
        let consequence = "batches that were in flight may be delivered twice";
        let flights: Option<Vec<InFlight>> =
            checkpoint::decode(&worker.id, &key, &stored, consequence);
        for InFlight { id, first, last } in flights.into_iter().flatten() {
            let events = read_range(worker, self.batching, first, last).await?;
            if !events.is_empty() {
                self.ahead.push_back(SinkBatch::new(id, events));
            }
        }
        Ok(())
    }

    /// The batch that is ready, or else waits for events and stores them as the batch in flight; `None` when the agent stops.
    async fn next_batch(&mut self) -> Result<Option<SinkBatch>, Interrupted> {
        loop {
            if self.flush.is_over() || !self.wait_for_rate().await? {
                return Ok(None);
            }
            if let Some(batch) = self.ahead.pop_front() {
                return Ok(Some(batch));
            }
            self.linger().await?;
            // Registered before looking, so that an append in between is not missed.
            self.available.mark_unchanged();
            let events = self.read().await?;
            if let Some(batch) = self.begin(events).await? {
                return Ok(Some(batch));
            }
            if self.worker.stop.is_cancelled() {
                return Ok(None);
            }
            tokio::select! {
                () = self.worker.stop.cancelled() => {}
                changed = self.available.changed() => if changed.is_err() { return Err(Interrupted::Closed) },
            }
        }
    }

    /// Waits until a whole batch is there, or the first event has waited for as long as the sink wants it to.
    async fn linger(&mut self) -> Result<(), Interrupted> {
        let (worker, batching) = (self.worker, self.batching);
        if batching.linger.is_zero() {
            return Ok(());
        }
        self.settle().await?;
        // Since when events were seen to wait here: their own time may be one to come, where a clock was set back.
        let mut since: Option<Instant> = None;
        while !worker.stop.is_cancelled() {
            self.available.mark_unchanged();
            let usage = worker.store.usage(worker.queue);
            since = usage.oldest_at_ms.and(since.or_else(|| Some(Instant::now())));
            let waited =
                usage.oldest_at_ms.zip(since).map(|(at, seen)| age_of(at).max(seen.elapsed()));
            // What comes to an empty queue between this look and the read would not wait: so it is looked at again.
            let rest = waited.map(|waited| batching.linger.saturating_sub(waited));
            let is_whole = usage.events >= batching.max_events as u64
                || usage.bytes >= batching.goal_bytes as u64;
            if is_whole || rest.is_some_and(|rest| rest.is_zero()) {
                return Ok(());
            }
            tokio::select! {
                () = worker.stop.cancelled() => {}
                () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
                changed = self.available.changed() => if changed.is_err() { return Err(Interrupted::Closed) },
            }
        }
        Ok(())
    }

    /// The head of the queue behind what is already done; what is too large to be sent is buried on the way. Nothing when the
    /// time of a stop is over before something else is found.
    async fn read(&mut self) -> Result<Vec<StoredEvent>, Interrupted> {
        while !self.flush.is_over() {
            let mut events = read(self.worker, self.cursor, budget(self.batching)).await?;
            let Some((at, limit)) = first_too_large(self.batching, &events) else {
                return Ok(events);
            };
            if at > 0 {
                events.truncate(at);
                return Ok(events);
            }
            for large in events.iter().take_while(|event| event.content.len() > limit.bytes) {
                let (bytes, EventLimit { bytes: most, name }) = (large.content.len(), limit);
                let reason = format!("{bytes} bytes are more than {name} ({most})");
                self.cursor = self.cursor.max(large.id);
                self.done.give_up(self.worker, large, reason, 0);
            }
            // No event stays in memory while it is buried.
            drop(events);
            self.settle().await?;
        }
        Ok(Vec::new())
    }

    async fn begin(&mut self, events: Vec<StoredEvent>) -> Result<Option<SinkBatch>, Interrupted> {
        if events.is_empty() {
            self.settle().await?;
            return Ok(None);
        }
        let batch = SinkBatch::new(Uuid::now_v7().to_string(), events);
        // A sink that knows by itself how far it is repeats nothing, whatever a restart takes for the next batch.
        if self.beside.is_none() {
            let done = in_flight(self.worker, std::mem::take(&mut self.done), [&batch])?;
            done.store(self.worker).await?;
        }
        Ok(Some(batch))
    }

    /// Sends one batch, and meanwhile removes what is done and prepares the next; false when the agent stops before its end. One
    /// that is refused as a whole is not at its end: its halves are the next ones.
    async fn ship(&mut self, batch: SinkBatch) -> Result<bool, Interrupted> {
        let end = match &mut self.beside {
            // Otherwise what is written and stays in the queue would take the place of what comes.
            Some(beside) if beside.has_room() => {
                let mut delivery = Delivery::new(self.worker, &mut self.rate, self.cursor);
                let writing = delivery.run(&batch);
                let end = beside.during(writing, &batch, &mut self.ahead, &mut self.done).await?;
                let (cursor, written) = delivery.end();
                self.cursor = cursor;
                self.done.extend(written);
                if self.ahead.is_empty() {
                    beside.finish(&mut self.ahead).await?;
                }
                end
            }
            _ => self.ship_and_remove(&batch).await?,
        };
        if matches!(end, End::Refused) {
            self.halve(batch).await?;
        }
        Ok(!matches!(end, End::Stopped))
    }

    /// Sends it; what was done before has left the queue then.
    async fn ship_and_remove(&mut self, batch: &SinkBatch) -> Result<End, Interrupted> {
        self.finish_beside().await?;
        let (worker, batching) = (self.worker, self.batching);
        let mut before = std::mem::take(&mut self.done);
        if batching.overlap == Overlap::None && !before.is_empty() {
            // Halves, or batches that are left by another kind of sink of this name. This one relies on the order.
            let batches = [batch].into_iter().chain(&self.ahead);
            in_flight(worker, std::mem::take(&mut before), batches)?.store(worker).await?;
        }
        let ahead = &self.ahead;
        let mut delivery = Delivery::new(worker, &mut self.rate, self.cursor);
        let beside = async {
            let next = match batch.events.last() {
                Some(last) if ahead.is_empty() && batching.overlap != Overlap::None => {
                    match Behind::of(worker, batching, before.events() + batch.events.len()) {
                        Some(behind) => behind.read(worker, batching, last.id).await?,
                        None => None,
                    }
                }
                _ => None,
            };
            if let Some(next) = &next {
                worker.sink.prepare(next);
            }
            if next.is_some() || !before.is_empty() {
                let batches = [batch].into_iter().chain(ahead).chain(&next);
                in_flight(worker, before, batches)?.store(worker).await?;
            }
            Ok::<_, Interrupted>(next)
        };
        // The queue is asked first: it reads while the sink makes its write ready.
        let (next, end) = tokio::join!(beside, delivery.run(batch));
        (self.cursor, self.done) = delivery.end();
        self.ahead.extend(next?);
        Ok(end)
    }

    /// Puts the halves of a batch into its place.
    async fn halve(&mut self, batch: SinkBatch) -> Result<(), Interrupted> {
        for half in halves(&batch).into_iter().rev() {
            self.ahead.push_front(half);
        }
        self.finish_beside().await?;
        let done = in_flight(self.worker, std::mem::take(&mut self.done), &self.ahead)?;
        done.store(self.worker).await
    }

    /// Commits what is done without beginning a batch.
    async fn settle(&mut self) -> Result<(), Interrupted> {
        self.finish_beside().await?;
        if !self.done.is_empty() {
            std::mem::take(&mut self.done).store(self.worker).await?;
        }
        Ok(())
    }

    async fn finish_beside(&mut self) -> Result<(), Interrupted> {
        match &mut self.beside {
            Some(beside) => beside.finish(&mut self.ahead).await,
            None => Ok(()),
        }
    }

    /// Waits until the rate allows the next batch; false when the agent stops before.
    async fn wait_for_rate(&mut self) -> Result<bool, Interrupted> {
        loop {
            let pause = self.rate.pause();
            if pause.is_zero() {
                return Ok(true);
            }
            // Nothing waits behind a commit that is due while the rate forbids the next batch.
            self.settle().await?;
            if self.worker.pause(pause).await {
                return Ok(false);
            }
        }
    }
}

fn key(worker: &Worker) -> String {
    format!("ship:{}", worker.id)
}

fn budget(batching: &Batching) -> Budget {
    Budget { events: batching.max_events, bytes: batching.goal_bytes }
}

async fn read(
    worker: &Worker,
    after: u64,
    budget: Budget,
) -> Result<Vec<StoredEvent>, Interrupted> {
    worker.retry_until_answered(|| worker.store.read(worker.queue, after, budget)).await
}

/// The events from `first` to `last` that are still there. A stop may have removed them all and left the range stored, so this
/// never reads more than one batch behind it.
async fn read_range(
    worker: &Worker,
    batching: &Batching,
    first: u64,
    last: u64,
) -> Result<Vec<StoredEvent>, Interrupted> {
    let mut events = Vec::new();
    let mut after = first.saturating_sub(1);
    while after < last {
        let part = read(worker, after, budget(batching)).await?;
        let Some(end) = part.last().map(|event| event.id) else { break };
        events.extend(part.into_iter().filter(|event| event.id <= last));
        after = end;
    }
    Ok(events)
}

/// The place of the first event above the limit, and the limit.
fn first_too_large(batching: &Batching, events: &[StoredEvent]) -> Option<(usize, EventLimit)> {
    let limit = batching.event_limit?;
    let place = events.iter().position(|event| event.content.len() > limit.bytes)?;
    Some((place, limit))
}

/// What is done, to be stored with the batches that are in flight from then on.
fn in_flight<'a>(
    worker: &Worker,
    mut done: Done,
    batches: impl IntoIterator<Item = &'a SinkBatch>,
) -> Result<Done, Interrupted> {
    let flight = |batch: &SinkBatch| {
        let (first, last) = (batch.events.first()?.id, batch.events.last()?.id);
        Some(InFlight { id: batch.id.clone(), first, last })
    };
    let flights: Vec<InFlight> = batches.into_iter().filter_map(flight).collect();
    let value =
        serde_json::to_vec(&flights).map_err(|error| Interrupted::Store(error.to_string()))?;
    done.checkpoint(Checkpoint { key: key(worker), value: Some(value) });
    Ok(done)
}

/// What waits behind the batches that are known. Only a whole batch is read of it: what comes meanwhile shall travel together.
struct Behind {
    events: u64,
}

impl Behind {
    /// `known`: events that the queue still holds and that are written, or read. `None`: too little waits.
    fn of(worker: &Worker, batching: &Batching, known: usize) -> Option<Self> {
        // A rate decides when the next one leaves, and until then more may come.
        if worker.sink.shape().rate != RateLimits::default() || worker.stop.is_cancelled() {
            return None;
        }
        let usage = worker.store.usage(worker.queue);
        let events = usage.events.saturating_sub(known as u64);
        // As large as events are on the average.
        let bytes = usage.bytes / usage.events.max(1) * events;
        let is_much = bytes >= batching.goal_bytes as u64 || events >= batching.max_events as u64;
        is_much.then_some(Self { events })
    }

    async fn read(
        self,
        worker: &Worker,
        batching: &Batching,
        after: u64,
    ) -> Result<Option<SinkBatch>, Interrupted> {
        let events = read(worker, after, budget(batching)).await?;
        let is_whole = self.events > events.len() as u64;
        if !is_whole || events.is_empty() || first_too_large(batching, &events).is_some() {
            return Ok(None);
        }
        Ok(Some(SinkBatch::new(Uuid::now_v7().to_string(), events)))
    }
}

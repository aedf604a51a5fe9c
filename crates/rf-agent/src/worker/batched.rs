//! One batch after the other, each repeated exactly as it was.
//!
//! Before a batch is sent, its id and the range of its events are stored as the checkpoint `ship:SINK`, in the transaction
//! that removes the batch before it. So a cycle costs one commit, and a restart finds either no batch in flight or the very
//! one that the target may already have, and repeats it under the same id.

use rf_queue::{Budget, Checkpoint, Commit, Remove, StoredEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::deliver::{Fate, deliver};
use super::rate::Rate;
use super::{FlushTimer, Interrupted, Worker};
use crate::sink::SinkBatch;

/// The stored word on the batch in flight.
#[derive(Debug, Serialize, Deserialize)]
struct InFlight {
    id: String,
    first: u64,
    last: u64,
}

pub(super) async fn run(worker: &Worker) -> Result<(), Interrupted> {
    let mut shipper = Shipper {
        worker,
        available: worker.store.watch(worker.queue),
        rate: Rate::new(&worker.sink.shape().rate),
        flush: FlushTimer::new(&worker.stop),
        cursor: 0,
        done: Commit::default(),
    };
    let mut next = shipper.resume().await?;
    loop {
        let batch = match next.take() {
            Some(batch) => batch,
            None => match shipper.next_batch().await? {
                Some(batch) => batch,
                None => return shipper.settle().await,
            },
        };
        if !shipper.ship(batch).await? {
            return shipper.settle().await;
        }
    }
}

struct Shipper<'a> {
    worker: &'a Worker,
    available: watch::Receiver<u64>,
    rate: Rate,
    flush: FlushTimer,
    /// The last id that is delivered or buried.
    cursor: u64,
    /// What the next commit removes and buries.
    done: Commit,
}

impl Shipper<'_> {
    fn key(&self) -> String {
        format!("ship:{}", self.worker.id)
    }

    /// The batch that was in flight when the process ended.
    async fn resume(&mut self) -> Result<Option<SinkBatch>, Interrupted> {
        let Some(stored) = self.worker.store.checkpoint(&self.key()).await? else {
            return Ok(None);
        };
        let Ok(flight) = serde_json::from_slice::<InFlight>(&stored) else { return Ok(None) };
        let count = usize::try_from(flight.last - flight.first + 1).unwrap_or(usize::MAX);
        let budget = Budget { events: count, bytes: usize::MAX };
        let mut events = self
            .worker
            .store
            .read(self.worker.queue, flight.first.saturating_sub(1), budget)
            .await?;
        events.retain(|event| event.id <= flight.last);
        Ok((!events.is_empty()).then_some(SinkBatch { id: flight.id, events }))
    }

    /// Waits for events, and stores them as the batch in flight; `None` when the agent stops.
    async fn next_batch(&mut self) -> Result<Option<SinkBatch>, Interrupted> {
        loop {
            if self.flush.is_over() || !self.wait_for_rate().await {
                return Ok(None);
            }
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

    /// The head of the queue behind what is already done; what is too large to be sent is buried on the way.
    async fn read(&mut self) -> Result<Vec<StoredEvent>, Interrupted> {
        let shape = self.worker.sink.shape();
        let budget = Budget { events: shape.max_events, bytes: shape.goal_bytes };
        let mut events = self.worker.store.read(self.worker.queue, self.cursor, budget).await?;
        if let Some(at) =
            events.iter().position(|event| event.content.len() > shape.max_event_bytes)
        {
            if at > 0 {
                events.truncate(at);
            } else {
                let large = events.swap_remove(0);
                let reason = format!(
                    "{} bytes are more than config.maxPayloadBytes ({})",
                    large.content.len(),
                    shape.max_event_bytes
                );
                self.bury(&large, reason, 0);
                self.settle().await?;
                return Box::pin(self.read()).await;
            }
        }
        Ok(events)
    }

    async fn begin(&mut self, events: Vec<StoredEvent>) -> Result<Option<SinkBatch>, Interrupted> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            self.settle().await?;
            return Ok(None);
        };
        let id = Uuid::now_v7().to_string();
        let flight = InFlight { id: id.clone(), first: first.id, last: last.id };
        let value =
            serde_json::to_vec(&flight).map_err(|error| Interrupted::Store(error.to_string()))?;
        self.done.checkpoints.push(Checkpoint { key: self.key(), value: Some(value) });
        self.worker.store.commit(std::mem::take(&mut self.done)).await?;
        Ok(Some(SinkBatch { id, events }))
    }

    /// Sends one batch, halving it where a part of it is refused for good; false when the agent stops before its end.
    async fn ship(&mut self, batch: SinkBatch) -> Result<bool, Interrupted> {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let bytes = part.events.iter().map(|event| event.content.len()).sum();
            self.rate.spend(part.events.len(), bytes);
            match deliver(self.worker, &part).await {
                Fate::Delivered => self.remove(&part),
                Fate::Kept => return Ok(false),
                Fate::Dead(reason, attempts) if part.events.len() == 1 => {
                    self.bury(&part.events[0], reason, attempts);
                }
                // The halves have ids of their own, the same ones at every repeat.
                Fate::Dead(..) => {
                    let mut front = part;
                    let back = front.events.split_off(front.events.len() / 2);
                    parts.push(SinkBatch { id: format!("{}.1", front.id), events: back });
                    parts.push(SinkBatch { id: format!("{}.0", front.id), events: front.events });
                }
            }
        }
        Ok(true)
    }

    fn remove(&mut self, part: &SinkBatch) {
        self.cursor = part.events.last().map_or(self.cursor, |event| event.id);
        let ids = part.events.iter().map(|event| event.id).collect();
        self.done.removes.push(Remove { queue: self.worker.queue, ids });
        if let Some(progress) = self.worker.sink.progress() {
            self.done.checkpoints.retain(|stored| stored.key != progress.key);
            self.done.checkpoints.push(progress);
        }
        if let Some(observer) = &self.worker.observer {
            part.events.iter().for_each(|event| observer(&self.worker.id, event));
        }
    }

    fn bury(&mut self, event: &StoredEvent, reason: String, attempts: u32) {
        self.cursor = self.cursor.max(event.id);
        self.done.dead.push(self.worker.give_up(event, reason, attempts));
    }

    /// Commits what is done without beginning a batch.
    async fn settle(&mut self) -> Result<(), Interrupted> {
        if !self.done.removes.is_empty() || !self.done.dead.is_empty() {
            self.worker.store.commit(std::mem::take(&mut self.done)).await?;
        }
        Ok(())
    }

    async fn wait_for_rate(&mut self) -> bool {
        loop {
            let pause = self.rate.pause();
            if pause.is_zero() {
                return true;
            }
            // Nothing waits behind a commit that is due while the rate forbids the next batch.
            if self.settle().await.is_err() || self.worker.pause(pause).await {
                return false;
            }
        }
    }
}

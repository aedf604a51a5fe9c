//! One batch of [`batched`](super::batched), or a half of one, and what the queue has to forget of it.

use super::Worker;
use super::deliver::{DeliveryOutcome, deliver};
use super::done::Done;
use super::rate::Rate;
use crate::sink::SinkBatch;

/// How a batch ended.
pub(super) enum End {
    /// Nothing of it is to be sent any more.
    Over,
    /// It was refused as a whole: its halves may fare better.
    Refused,
    /// The agent stops before.
    Stopped,
}

/// A batch on its way.
pub(super) struct Delivery<'a> {
    worker: &'a Worker,
    rate: &'a mut Rate,
    /// The last id that is delivered, dropped or buried.
    cursor: u64,
    /// What the next commit removes and buries.
    done: Done,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(worker: &'a Worker, rate: &'a mut Rate, cursor: u64) -> Self {
        Self { worker, rate, cursor, done: Done::default() }
    }

    /// The last id that is delivered, dropped or buried, and what the next commit removes and buries.
    pub(super) fn end(self) -> (u64, Done) {
        (self.cursor, self.done)
    }

    /// Sends it until it has an end.
    pub(super) async fn run(&mut self, batch: &SinkBatch) -> End {
        self.rate.spend(&batch.events);
        match deliver(self.worker, batch).await {
            DeliveryOutcome::Delivered => {
                self.remove(batch);
                if let Some(observer) = &self.worker.observer {
                    batch.events.iter().for_each(|event| observer(&self.worker.id, event));
                }
            }
            DeliveryOutcome::Dropped => self.remove(batch),
            DeliveryOutcome::Kept => return End::Stopped,
            DeliveryOutcome::Dead(reason, attempts) => {
                let [event] = &batch.events[..] else { return End::Refused };
                self.cursor = self.cursor.max(event.id);
                self.done.give_up(self.worker, event, reason, attempts);
            }
        }
        End::Over
    }

    fn remove(&mut self, batch: &SinkBatch) {
        self.cursor = batch.events.last().map_or(self.cursor, |event| event.id);
        self.done.remove(self.worker, batch.events.iter().map(|event| event.id));
        if let Some(progress) = self.worker.sink.progress() {
            self.done.progress(progress);
        }
    }
}

/// The halves of a batch, or of a half. Each has the id of the whole batch with the ids of its first and last event behind it,
/// so that no other events ever have its id.
pub(super) fn halves(batch: &SinkBatch) -> [SinkBatch; 2] {
    let (id, events) = (&batch.id, &batch.events);
    let (front, back) = events.split_at(events.len() / 2);
    let whole = id.split_once('.').map_or(&**id, |(whole, _)| whole);
    [front, back].map(|events| {
        let ends = [events.first(), events.last()];
        let [first, last] = ends.map(|event| event.map_or(0, |event| event.id));
        SinkBatch::new(format!("{whole}.{first}-{last}"), events)
    })
}

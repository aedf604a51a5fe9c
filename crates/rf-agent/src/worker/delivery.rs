//! One batch of [`batched`](super::batched), with its halves, and what the queue has to forget of it.

use std::borrow::Cow;

use super::Worker;
use super::deliver::{Fate, deliver};
use super::done::Done;
use super::rate::Rate;
use crate::sink::SinkBatch;

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

    /// Sends it, halving it where a part of it is refused for good; false when the agent stops before its end.
    pub(super) async fn run(&mut self, batch: &SinkBatch) -> bool {
        let mut parts = vec![Cow::Borrowed(batch)];
        while let Some(part) = parts.pop() {
            let bytes = part.events.iter().map(|event| event.content.len()).sum();
            self.rate.spend(part.events.len(), bytes);
            match deliver(self.worker, &part).await {
                Fate::Delivered => {
                    self.remove(&part);
                    if let Some(observer) = &self.worker.observer {
                        part.events.iter().for_each(|event| observer(&self.worker.id, event));
                    }
                }
                Fate::Dropped => self.remove(&part),
                Fate::Kept => return false,
                Fate::Dead(reason, attempts) if part.events.len() == 1 => {
                    let event = &part.events[0];
                    self.cursor = self.cursor.max(event.id);
                    self.done.give_up(self.worker, event, reason, attempts);
                }
                // The halves have ids of their own, the same ones at every repeat.
                Fate::Dead(..) => {
                    let mut front = part.into_owned();
                    let back = front.events.split_off(front.events.len() / 2);
                    for (half, events) in [(1, back), (0, front.events)] {
                        let id = format!("{}.{half}", front.id);
                        parts.push(Cow::Owned(SinkBatch { id, events }));
                    }
                }
            }
        }
        true
    }

    fn remove(&mut self, part: &SinkBatch) {
        self.cursor = part.events.last().map_or(self.cursor, |event| event.id);
        self.done.remove(self.worker, part.events.iter().map(|event| event.id));
        if let Some(progress) = self.worker.sink.progress() {
            self.done.checkpoint(progress);
        }
    }
}

//! What the queue does beside the writes of a sink that knows by itself how far it is
//! ([`RemovedTogether`](crate::sink::Overlap::RemovedTogether)): it reads what comes next, and removes what is written. One of
//! both is under way at a time, and goes on from one write to the next: neither holds up a batch that is ready.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{Behind, in_flight};
use crate::sink::{Batching, READY_TOGETHER, SinkBatch};
use crate::worker::done::Done;
use crate::worker::{Interrupted, Worker};

/// The removal of a batch that is written begins within this time, however long the next one takes; where the queue refuses a
/// read, once that has been answered.
const REMOVED_WITHIN: Duration = Duration::from_secs(1);

/// The work, and when there is some.
pub(super) struct Beside<'a> {
    worker: &'a Worker,
    batching: &'a Batching,
    /// How many batches leave the queue in one commit.
    together: usize,
    under_way: Option<Work<'a>>,
}

enum Work<'a> {
    Read(BoxFuture<'a, Result<Option<SinkBatch>, Interrupted>>),
    Commit(BoxFuture<'a, Result<(), Interrupted>>),
}

enum Worked {
    /// The next batch, if there is a whole one.
    Read(Option<SinkBatch>),
    Removed,
}

impl<'a> Beside<'a> {
    pub(super) fn new(worker: &'a Worker, batching: &'a Batching, together: usize) -> Self {
        Self { worker, batching, together, under_way: None }
    }

    /// Works while `writing` writes `batch`, and returns its end. What was read stands in `ahead` then; what leaves the queue is
    /// no longer `done`.
    pub(super) async fn during<T>(
        &mut self,
        writing: impl Future<Output = T>,
        batch: &SinkBatch,
        ahead: &mut VecDeque<SinkBatch>,
        done: &mut Done,
    ) -> Result<T, Interrupted> {
        let mut writing = pin!(writing);
        let mut is_more = true;
        loop {
            // The queue is asked first: it reads while the sink makes its write ready.
            if self.under_way.is_none() {
                self.begin(batch, ahead, done, is_more)?;
            }
            let is_idle = self.under_way.is_none();
            let removal = done.since().filter(|_| is_idle).map(|since| since + REMOVED_WITHIN);
            tokio::select! {
                biased;
                worked = worked(&mut self.under_way) => match worked {
                    Ok(worked) => is_more &= self.take(worked, ahead),
                    Err(interrupted) => {
                        // The target may be taking it just now.
                        writing.await;
                        return Err(interrupted);
                    }
                },
                end = &mut writing => return Ok(end),
                () = sleep_until(removal.unwrap_or_else(Instant::now)), if removal.is_some() => {}
            }
        }
    }

    /// Waits for what is under way.
    pub(super) async fn finish(
        &mut self,
        ahead: &mut VecDeque<SinkBatch>,
    ) -> Result<(), Interrupted> {
        if self.under_way.is_some() {
            let worked = worked(&mut self.under_way).await?;
            self.take(worked, ahead);
        }
        Ok(())
    }

    /// Begins what is to be done now, if anything is.
    fn begin(
        &mut self,
        batch: &SinkBatch,
        ahead: &VecDeque<SinkBatch>,
        done: &mut Done,
        is_more: bool,
    ) -> Result<(), Interrupted> {
        let (worker, batching) = (self.worker, self.batching);
        let last = ahead.back().unwrap_or(batch);
        let known = ahead.iter().chain([batch]).map(|batch| batch.events.len()).sum::<usize>();
        // Such a batch is one event.
        let is_large = |batch: &SinkBatch| {
            batch.events.first().is_some_and(|event| event.content.len() > batching.goal_bytes)
        };
        let most = if ahead.iter().any(is_large) { 1 } else { READY_TOGETHER };
        let behind = if is_more && ahead.len() < most {
            Behind::of(worker, batching, done.events() + known)
        } else {
            None
        };
        if self.is_removal_due(done, ahead.len(), behind.is_some()) {
            let batches = [batch].into_iter().chain(ahead);
            let done = in_flight(worker, std::mem::take(done), batches)?;
            self.under_way = Some(Work::Commit(Box::pin(done.store(worker))));
        } else if let (Some(behind), Some(last)) = (behind, last.events.last()) {
            self.under_way = Some(Work::Read(Box::pin(behind.read(worker, batching, last.id))));
        }
        Ok(())
    }

    /// Removals wait for each other only while more comes, and come behind reads until many wait.
    fn is_removal_due(&self, done: &Done, ready: usize, is_more: bool) -> bool {
        if done.is_empty() {
            return false;
        }
        let is_late = done.since().is_some_and(|since| since.elapsed() >= REMOVED_WITHIN);
        let is_last = ready == 0 && !is_more;
        let most = if is_more { 2 * self.together } else { self.together };
        is_late || is_last || done.batches() >= most || done.gives_up() || !self.has_room()
    }

    /// The queue can hold what is written for a while.
    pub(super) fn has_room(&self) -> bool {
        self.worker.store.is_half_empty(self.worker.queue)
    }

    /// False when nothing more can be read now.
    fn take(&self, worked: Worked, ahead: &mut VecDeque<SinkBatch>) -> bool {
        let Worked::Read(read) = worked else { return true };
        let Some(next) = read else { return false };
        self.worker.sink.prepare(&next);
        ahead.push_back(next);
        true
    }
}

/// What came of the work under way; never, if there is none. A read that is refused, which is the end of it once the agent
/// stops, has found nothing: what is written can still be removed.
async fn worked(under_way: &mut Option<Work<'_>>) -> Result<Worked, Interrupted> {
    let worked = match under_way {
        Some(Work::Read(read)) => match read.await {
            Err(Interrupted::Store(_)) => Ok(Worked::Read(None)),
            read => read.map(Worked::Read),
        },
        Some(Work::Commit(stored)) => stored.await.map(|()| Worked::Removed),
        None => std::future::pending().await,
    };
    *under_way = None;
    worked
}

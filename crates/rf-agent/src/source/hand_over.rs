//! How sources that cannot refuse anybody hand their events over: they wait while a queue is full.
//!
//! After the stop they wait for a moment only, all batches of a source together, so that the agent's grace is left for
//! others. What nobody else has, and no queue took by then, is counted and told once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rf_core::backoff::Backoff;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::lines::Line;
use crate::pipeline::{Batch, Kept, Output, Rejected};
use crate::stats::Loss;

/// Pauses between tries while a queue has no room.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long after the stop a queue with `whenFull: block` is waited for. A batch that it did not take then is the last one.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(2);

/// What all batches of a source may take after the stop, where a queue takes them slowly.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// What the log says of an event that can never fit.
pub(super) const BURIED: &str = "event moved to the dead letters: it can never fit into the queue; raise the sink's buffer.maxBytes or lower the source's limits";

/// What became of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum HandedOver {
    /// They are durable: in the queues, but for those that can never fit, which are dead letters.
    Stored {
        /// The places of those in the list, in order. Logged; who can keep an event elsewhere must be told.
        refused: Vec<usize>,
    },
    /// The agent stops, and nobody knows of these that they have been stored; how many.
    Stopped(usize),
}

/// Hands the events of one source over, batch by batch.
pub(crate) struct HandOver<'a> {
    pub(crate) id: &'a str,
    pub(crate) out: &'a Output,
    pub(crate) stop: &'a CancellationToken,
    /// What the log calls the events, where nobody else has them.
    loses: Option<&'static str>,
    /// Events that were handed over and are in no queue, as far as is known.
    unstored: AtomicUsize,
    /// What is left of [`AFTER_STOP`].
    left: Mutex<Duration>,
}

impl<'a> HandOver<'a> {
    /// For events that somebody else has, too: what is not stored is no loss.
    pub(crate) fn new(id: &'a str, out: &'a Output, stop: &'a CancellationToken) -> Self {
        let (unstored, left) = (AtomicUsize::new(0), Mutex::new(AFTER_STOP));
        Self { id, out, stop, loses: None, unstored, left }
    }

    /// For events that nobody else has: what is not stored when this is dropped is lost. It is counted and told then, also
    /// where the source was cut off in the middle.
    pub(crate) fn losing(mut self, what: &'static str) -> Self {
        self.loses = Some(what);
        self
    }

    /// Stores the events in order, and waits for that as long as it takes; once the agent stops, it tries once more, unless
    /// a batch before was given up.
    ///
    /// An event that can never fit becomes a dead letter, so that it does not hold back the others for ever.
    pub(crate) async fn store(&self, events: Vec<Bytes>) -> HandedOver {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut refused = Vec::new();
        self.unstored.fetch_add(events.len(), Ordering::Relaxed);
        // Parts of the list, each with its place; the first one last.
        let mut parts = vec![(0, events)];
        while let Some((place, events)) = parts.pop() {
            let is_last_try = self.stop.is_cancelled();
            let waiting: usize = parts.iter().map(|(_, events)| events.len()).sum();
            let stopped = HandedOver::Stopped(events.len() + waiting);
            let Some(sent) = self.send(events.clone()).await else { return stopped };
            let rejected = match sent {
                Ok(kept) => {
                    backoff.reset();
                    self.unstored.fetch_sub(events.len(), Ordering::Relaxed);
                    if kept == Kept::Buried {
                        tracing::error!(source = self.id, bytes = events[0].len(), "{BURIED}");
                        refused.push(place);
                    }
                    continue;
                }
                Err(Rejected::TooLarge { .. }) if events.len() > 1 => {
                    split(place, events, &mut parts);
                    continue;
                }
                Err(rejected) => rejected,
            };
            if is_last_try || rejected == Rejected::Closed {
                return stopped;
            }
            tracing::warn!(source = self.id, error = %rejected, "the source waits");
            parts.push((place, events));
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(backoff.next_delay()) => {}
            }
        }
        HandedOver::Stored { refused }
    }

    /// One try. `None`: the agent stops, and this has been waited for long enough.
    async fn send(&self, events: Vec<Bytes>) -> Option<Result<Kept, Rejected>> {
        let (stops, left, began) = (self.stop.is_cancelled(), *self.left(), Instant::now());
        if stops && left.is_zero() {
            return None;
        }
        tokio::select! {
            sent = self.out.send_or_bury(Batch::of(events)) => {
                if stops {
                    *self.left() = left.saturating_sub(began.elapsed());
                }
                Some(sent)
            }
            () = after(self.stop, left.min(LAST_WAIT)) => {
                *self.left() = Duration::ZERO;
                None
            }
        }
    }

    /// Counts the lines that were cut, and says that there are such.
    pub(crate) fn note_cut(&self, lines: &[Line]) {
        let cut = lines.iter().filter(|line| line.is_cut).count();
        if cut > 0 {
            self.out.meter().cut(cut);
            tracing::warn!(
                source = self.id,
                lines = cut,
                "lines longer than maxLineBytes were cut"
            );
        }
    }

    /// Held for an instruction or two.
    fn left(&self) -> MutexGuard<'_, Duration> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        let events = *self.unstored.get_mut();
        if let Some(what) = self.loses
            && events > 0
        {
            self.out.meter().losses.count(Loss::Stopping, events);
            tracing::error!(
                source = self.id,
                events,
                "{what} are lost: no queue took them before the stop"
            );
        }
    }
}

async fn after(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    sleep(time).await;
}

fn split(place: usize, mut events: Vec<Bytes>, parts: &mut Vec<(usize, Vec<Bytes>)>) {
    let half = events.len() / 2;
    let second = events.split_off(half);
    parts.extend([(place + half, second), (place, events)]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::pin::pin;

    use futures_util::poll;
    use rf_queue::{Budget, DeadLetters, OpenError, QueueOptions, Store, StoreOptions, WhenFull};

    use super::*;

    struct Rig {
        folder: tempfile::TempDir,
        store: Store,
        out: Output,
    }

    async fn rig() -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, out) = open(folder.path(), WhenFull::Reject).await;
        Rig { folder, store, out }
    }

    /// The writer of a store that was closed may still be ending.
    async fn open(folder: &Path, when_full: WhenFull) -> (Store, Output) {
        let mut queue = QueueOptions::new("out");
        queue.max_bytes = Some(1 << 20);
        queue.when_full = when_full;
        let options = StoreOptions::new(folder.join("s.sqlite3"), 2 << 20, vec![queue]);
        let store = loop {
            match Store::open(options.clone()) {
                Ok(opened) => break opened.store,
                Err(OpenError::InUse { .. }) => sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let out = Output::new(store.clone(), vec![store.queue("out").expect("a queue")]);
        (store, out)
    }

    async fn stored(rig: &Rig) -> Vec<usize> {
        let queue = rig.store.queue("out").expect("a queue");
        let budget = Budget { events: 1000, bytes: usize::MAX };
        let events = rig.store.read(queue, 0, budget).await.expect("reads");
        events.iter().map(|event| event.content.len()).collect()
    }

    #[tokio::test]
    async fn an_event_that_can_never_fit_is_buried_and_the_order_of_the_others_stays() {
        let rig = rig().await;
        let sizes = [1, 2, 50_000_000, 3, 4];
        let events = sizes.map(|size| Bytes::from(vec![b'x'; size])).to_vec();
        let stop = CancellationToken::new();
        let done = HandOver::new("s", &rig.out, &stop).store(events).await;
        let refused = vec![2];
        assert_eq!((done, stored(&rig).await), (HandedOver::Stored { refused }, vec![1, 2, 3, 4]));
        let letters = DeadLetters::open(&rig.folder.path().join("s.sqlite3")).expect("opens");
        let letter = letters.list(Some("out"), 0, 10).expect("reads").remove(0);
        assert!(letter.content.iter().all(|byte| *byte == b'x') && !letter.content.is_empty());
        let told = format!(
            "{} (cut: the first {} of 50000000 bytes)",
            "raise the sink's buffer.maxBytes",
            letter.content.len()
        );
        assert!(letter.reason.ends_with(&told), "{}", letter.reason);
        let meter = rig.out.meter();
        let counts = (meter.dead_lettered.load(Ordering::Relaxed), meter.losses.counts().total());
        assert_eq!(counts, (1, 0), "it is counted once, and as kept");
    }

    #[tokio::test]
    async fn lines_that_were_cut_are_counted() {
        let rig = rig().await;
        let line = |is_cut| Line { bytes: "x".into(), is_cut };
        let stop = CancellationToken::new();
        let hand_over = HandOver::new("s", &rig.out, &stop);
        hand_over.note_cut(&[line(true), line(false), line(true)]);
        hand_over.note_cut(&[line(false)]);
        assert_eq!(rig.out.meter().cut_lines.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_until_the_stop_and_tried_once_more() {
        let rig = rig().await;
        let piece = Bytes::from(vec![b'x'; 100_000]);
        while rig.out.send(Batch::of(vec![piece.clone()])).await.is_ok() {}
        let stop = CancellationToken::new();
        let hand_over = HandOver::new("s", &rig.out, &stop);
        let waiting = hand_over.store(vec![piece.clone(), piece.clone()]);
        let (done, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            stop.cancel();
        });
        assert_eq!(done, HandedOver::Stopped(2));
    }

    #[tokio::test]
    async fn a_source_that_waits_for_room_is_paused_until_there_is_some() {
        for when_full in [WhenFull::Reject, WhenFull::Block] {
            let folder = tempfile::tempdir().expect("a folder");
            let piece = Bytes::from(vec![b'x'; 100_000]);
            {
                let (store, out) = open(folder.path(), WhenFull::Reject).await;
                while out.offer(Batch::of(vec![piece.clone()])).await.is_ok() {}
                assert_eq!(out.meter().fortune.paused(), None, "who refuses is not paused");
                store.close().await;
            }
            let (store, out) = open(folder.path(), when_full).await;
            let stop = CancellationToken::new();
            let making_room = async {
                let paused = async {
                    loop {
                        if let Some(reason) = out.meter().fortune.paused() {
                            break reason;
                        }
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                let reason = tokio::time::timeout(Duration::from_secs(60), paused).await;
                let reason = reason.expect("the pause is told");
                assert!(reason.starts_with("queue full: "), "{reason}");
                empty(&store).await;
            };
            let hand_over = HandOver::new("s", &out, &stop);
            let waiting = hand_over.store(vec![piece.clone()]);
            let (done, ()) = tokio::join!(waiting, making_room);
            assert_eq!(done, HandedOver::Stored { refused: Vec::new() });
            assert_eq!(out.meter().fortune.paused(), None, "there is room again");
            store.close().await;
        }
    }

    /// A queue that is full of such pieces, and blocks.
    async fn full(folder: &Path, piece: &Bytes) -> (Store, Output) {
        let (store, out) = open(folder, WhenFull::Reject).await;
        while out.send(Batch::of(vec![piece.clone()])).await.is_ok() {}
        store.close().await;
        drop((store, out));
        open(folder, WhenFull::Block).await
    }

    async fn empty(store: &Store) {
        let queue = store.queue("out").expect("a queue");
        let budget = Budget { events: 1000, bytes: usize::MAX };
        let events = store.read(queue, 0, budget).await.expect("reads");
        let ids = events.iter().map(|event| event.id).collect();
        store.ack(queue, ids).await.expect("removes");
    }

    fn lost(out: &Output) -> BTreeMap<String, u64> {
        out.meter().losses.counts().by_reason()
    }

    fn stopping(events: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("stopping".to_owned(), events)])
    }

    #[tokio::test]
    async fn a_queue_that_blocks_is_waited_for_once_after_the_stop_and_the_loss_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let (store, out) = full(folder.path(), &piece).await;
        let stop = CancellationToken::new();
        let hand_over = HandOver::new("s", &out, &stop).losing("lines");
        stop.cancel();
        assert_eq!(hand_over.store(vec![piece.clone(); 3]).await, HandedOver::Stopped(3));
        // There would be room by now; but nobody waits to find that out.
        empty(&store).await;
        assert_eq!(hand_over.store(vec![piece.clone()]).await, HandedOver::Stopped(1));
        assert_eq!(lost(&out), BTreeMap::new(), "it is told at the end");
        drop(hand_over);
        assert_eq!(lost(&out), stopping(4));
        store.close().await;
    }

    #[tokio::test]
    async fn what_is_in_hand_when_a_source_is_cut_off_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let piece = Bytes::from(vec![b'x'; 100_000]);
        let (store, out) = full(folder.path(), &piece).await;
        let stop = CancellationToken::new();
        {
            let hand_over = HandOver::new("s", &out, &stop).losing("lines");
            let mut storing = pin!(hand_over.store(vec![piece.clone(); 2]));
            assert!(poll!(storing.as_mut()).is_pending());
        }
        assert_eq!(lost(&out), stopping(2));
        store.close().await;
    }

    #[tokio::test]
    async fn a_queue_that_takes_them_is_given_every_batch_after_the_stop_while_there_is_time() {
        let rig = rig().await;
        let stop = CancellationToken::new();
        stop.cancel();
        let hand_over = HandOver::new("s", &rig.out, &stop).losing("lines");
        for size in 1..=20 {
            let done = hand_over.store(vec![Bytes::from(vec![b'x'; size])]).await;
            assert_eq!(done, HandedOver::Stored { refused: Vec::new() });
        }
        assert_eq!(stored(&rig).await, (1..=20).collect::<Vec<_>>());
        assert!(*hand_over.left() < AFTER_STOP, "all of them use up the same time");
        *hand_over.left() = Duration::ZERO;
        assert_eq!(hand_over.store(vec!["late".into()]).await, HandedOver::Stopped(1));
        drop(hand_over);
        assert_eq!(lost(&rig.out), stopping(1));
    }
}

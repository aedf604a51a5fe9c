//! How sources that cannot refuse anybody hand their events over: they wait while a queue is full.

use std::time::Duration;

use bytes::Bytes;
use rf_core::backoff::Backoff;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::lines::Line;
use crate::pipeline::{Batch, Kept, Output, Rejected};

/// Pauses between tries while a queue has no room.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long after the stop a queue with `whenFull: block` is waited for.
const LAST_WAIT: Duration = Duration::from_secs(2);

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

/// Stores the events in order, and waits for that as long as it takes; once `stop` is cancelled, it tries once more.
///
/// An event that can never fit becomes a dead letter, so that it does not hold back the others for ever.
pub(crate) async fn hand_over(
    id: &str,
    out: &Output,
    stop: &CancellationToken,
    events: Vec<Bytes>,
) -> HandedOver {
    let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
    let mut refused = Vec::new();
    // Parts of the list, each with its place; the first one last.
    let mut parts = vec![(0, events)];
    while let Some((place, events)) = parts.pop() {
        let is_last_try = stop.is_cancelled();
        let waiting: usize = parts.iter().map(|(_, events)| events.len()).sum();
        let sent = tokio::select! {
            sent = out.send_or_bury(Batch::of(events.clone())) => sent,
            () = after(stop, LAST_WAIT) => return HandedOver::Stopped(events.len() + waiting),
        };
        let rejected = match sent {
            Ok(kept) => {
                backoff.reset();
                if kept == Kept::Buried {
                    tracing::error!(source = id, bytes = events[0].len(), "{BURIED}");
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
            return HandedOver::Stopped(events.len() + waiting);
        }
        tracing::warn!(source = id, error = %rejected, "the source waits");
        parts.push((place, events));
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(backoff.next_delay()) => {}
        }
    }
    HandedOver::Stored { refused }
}

/// Counts the lines that were cut, and says that there are such.
pub(crate) fn note_cut(id: &str, out: &Output, lines: &[Line]) {
    let cut = lines.iter().filter(|line| line.is_cut).count();
    if cut > 0 {
        out.meter().cut(cut);
        tracing::warn!(source = id, lines = cut, "lines longer than maxLineBytes were cut");
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
    use std::path::Path;
    use std::sync::atomic::Ordering;

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
        let done = hand_over("s", &rig.out, &CancellationToken::new(), events).await;
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
        note_cut("s", &rig.out, &[line(true), line(false), line(true)]);
        note_cut("s", &rig.out, &[line(false)]);
        assert_eq!(rig.out.meter().cut_lines.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_until_the_stop_and_tried_once_more() {
        let rig = rig().await;
        let piece = Bytes::from(vec![b'x'; 100_000]);
        while rig.out.send(Batch::of(vec![piece.clone()])).await.is_ok() {}
        let stop = CancellationToken::new();
        let waiting = hand_over("s", &rig.out, &stop, vec![piece.clone(), piece.clone()]);
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
            let queue = store.queue("out").expect("a queue");
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
                let budget = Budget { events: 1000, bytes: usize::MAX };
                let events = store.read(queue, 0, budget).await.expect("reads");
                let ids = events.iter().map(|event| event.id).collect();
                store.ack(queue, ids).await.expect("removes");
            };
            let waiting = hand_over("s", &out, &stop, vec![piece.clone()]);
            let (done, ()) = tokio::join!(waiting, making_room);
            assert_eq!(done, HandedOver::Stored { refused: Vec::new() });
            assert_eq!(out.meter().fortune.paused(), None, "there is room again");
            store.close().await;
        }
    }

    #[tokio::test]
    async fn a_queue_that_blocks_does_not_hold_up_the_stop() {
        let folder = tempfile::tempdir().expect("a folder");
        let piece = Bytes::from(vec![b'x'; 100_000]);
        {
            let (store, out) = open(folder.path(), WhenFull::Reject).await;
            while out.send(Batch::of(vec![piece.clone()])).await.is_ok() {}
            store.close().await;
        }
        let (store, out) = open(folder.path(), WhenFull::Block).await;
        let stop = CancellationToken::new();
        stop.cancel();
        let done = hand_over("s", &out, &stop, vec![piece]).await;
        assert_eq!(done, HandedOver::Stopped(1));
        store.close().await;
    }
}

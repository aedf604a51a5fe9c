//! What is handed over, what waits, and what is lost at a stop.

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
            assert_eq!(out.meter().health.paused(), None, "who refuses is not paused");
            store.close().await;
        }
        let (store, out) = open(folder.path(), when_full).await;
        let stop = CancellationToken::new();
        let making_room = async {
            let paused = async {
                loop {
                    if let Some(reason) = out.meter().health.paused() {
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
        assert_eq!(out.meter().health.paused(), None, "there is room again");
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

#[tokio::test]
async fn who_leaves_while_a_queue_blocks_leaves_no_pause_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let piece = Bytes::from(vec![b'x'; 100_000]);
    let (store, out) = full(folder.path(), &piece).await;
    let paused = async {
        while out.meter().health.paused().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        offered = out.offer(Batch::of(vec![piece.clone()])) => panic!("there is no room: {offered:?}"),
        told = tokio::time::timeout(Duration::from_secs(60), paused) => told.expect("the pause is told"),
    }
    assert_eq!(out.meter().health.paused(), None);
    store.close().await;
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
    let mut hand_over = HandOver::new("s", &rig.out, &stop).losing("lines");
    // Time for 20 commits on a disk of any speed.
    let time = Duration::from_secs(60);
    (hand_over.left, hand_over.last_wait) = (Mutex::new(time), time);
    for size in 1..=20 {
        let done = hand_over.store(vec![Bytes::from(vec![b'x'; size])]).await;
        assert_eq!(done, HandedOver::Stored { refused: Vec::new() });
    }
    assert_eq!(stored(&rig).await, (1..=20).collect::<Vec<_>>());
    assert!(*hand_over.left.lock() < time, "all of them use up the same time");
    *hand_over.left.lock() = Duration::ZERO;
    assert_eq!(hand_over.store(vec!["late".into()]).await, HandedOver::Stopped(1));
    drop(hand_over);
    assert_eq!(lost(&rig.out), stopping(1));
}

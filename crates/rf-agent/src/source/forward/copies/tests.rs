//! The way of copies to the queue, with the task at hand.

use std::net::SocketAddr;
use std::path::Path;

use http::{HeaderMap, Method};
use rf_core::config::{Problems, parse};
use rf_queue::{OpenError, QueueOptions, StoreOptions, WhenFull};

use super::super::config::check_capture;
use super::super::recording::{Head, Recording};
use super::*;

pub(in super::super) fn settings() -> CaptureSettings {
    let mut problems = Problems::new();
    let text = r#"{ "forwardTo": "http://127.0.0.1:1", "listenPort": 0 }"#;
    let document = parse("test", text, &|_| None, &mut problems).unwrap();
    let params = document.root();
    check_capture(&params.decode(&mut problems).unwrap(), &params, &mut problems).unwrap()
}

fn begin(copies: &Copies) -> Option<Arc<Recording>> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    Recording::begin(&Head { peer, method, target: "/", headers }, copies)
}

/// Both sides of the copies, without the task that connects them.
async fn apart(folder: &Path) -> (rf_queue::Store, Copies, Store) {
    let (queues, out) = open(folder, WhenFull::Block).await;
    let (copies, store) = Copies::sides("s", Arc::new(settings()), out, Arc::new(Busy::of(1)));
    (queues, copies, store)
}

#[tokio::test]
async fn while_many_wait_no_copy_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, copies, store) = apart(folder.path()).await;
    let meter = Arc::clone(&copies.0.meter);
    (1..MAX_WAITING).for_each(|_| assert!(copies.0.in_hand.begin()));
    let late = begin(&copies).expect("there is room for one");
    drop(begin(&copies).expect("that one has not come yet"));
    assert!(begin(&copies).is_none());
    assert_eq!(meter.losses.counts().to_string(), "1 waiting");
    drop(late);
    assert_eq!(store.waiting.pile.lock().len(), 2, "what was begun is taken");
    copies.0.in_hand.settle(2);
    assert!(begin(&copies).is_some());
    drop((copies, store));
    queues.close().await;
}

/// A queue of 1 MiB in a store that has room for more.
pub(in super::super) async fn open(
    folder: &Path,
    when_full: WhenFull,
) -> (rf_queue::Store, Output) {
    let mut queue = QueueOptions::new("q");
    (queue.max_bytes, queue.when_full) = (Some(1 << 20), when_full);
    let options = StoreOptions::new(folder.join("q.sqlite3"), 4 << 20, vec![queue]);
    let store = loop {
        match rf_queue::Store::open(options.clone()) {
            Ok(opened) => break opened.store,
            // The writer of the one before may still be ending.
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let out = Output::new(store.clone(), vec![store.queue("q").unwrap()]);
    (store, out)
}

/// Hands over three copies, and ends the task after `grace` at the latest; what is lost of them.
async fn lost(store: rf_queue::Store, out: Output, grace: Duration) -> String {
    let meter = Arc::clone(out.meter());
    let tasks = Tasks::new(CancellationToken::new());
    let copies = Copies::start("s", Arc::new(settings()), out, 1, &tasks).unwrap();
    for _ in 0..3 {
        drop(begin(&copies).expect("there is room"));
    }
    drop(copies);
    tasks.stop_token().cancel();
    let is_stuck = tasks.join(grace).await.is_err();
    let lost = meter.losses.counts();
    assert_eq!(is_stuck, lost.total() > 0, "{lost}");
    store.close().await;
    lost.to_string()
}

#[tokio::test]
async fn what_no_queue_has_taken_at_the_end_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, out) = open(folder.path(), WhenFull::Reject).await;
    for size in [64 * 1024, 4096, 256, 16] {
        let piece = Batch::of(vec![Bytes::from(vec![b'x'; size])]);
        while out.send(piece.clone()).await.is_ok() {}
    }
    store.close().await;
    drop((store, out));
    let (store, out) = open(folder.path(), WhenFull::Block).await;
    assert_eq!(lost(store, out, Duration::from_millis(200)).await, "3 stopping");
}

#[tokio::test]
async fn a_copy_that_meets_the_end_of_the_task_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, copies, store) = apart(folder.path()).await;
    let meter = Arc::clone(&copies.0.meter);
    drop(begin(&copies).expect("there is room"));
    let late = begin(&copies).expect("there is room");
    assert!(copies.0.in_hand.begin(), "another is being handed over");
    drop(store);
    assert_eq!(meter.losses.counts().to_string(), "2 stopping");
    assert!(copies.0.waiting.pile.lock().is_empty(), "nobody would take it");
    // The next come when all is counted.
    drop(late);
    assert!(begin(&copies).is_none());
    assert_eq!(meter.losses.counts().to_string(), "4 stopping");
    queues.close().await;
}

#[tokio::test]
async fn copies_that_fail_are_counted_and_no_longer_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let (queues, copies, store) = apart(folder.path()).await;
    let meter = Arc::clone(&copies.0.meter);
    (0..3).for_each(|_| assert!(copies.0.in_hand.begin()));
    store.fail(2);
    assert_eq!(meter.losses.counts().to_string(), "2 failed");
    drop((copies, store));
    assert_eq!(meter.losses.counts().to_string(), "1 stopping, 2 failed");
    queues.close().await;
}

#[tokio::test]
async fn what_is_stored_at_the_end_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (store, out) = open(folder.path(), WhenFull::Block).await;
    assert_eq!(lost(store, out, Duration::from_secs(20)).await, "");
}

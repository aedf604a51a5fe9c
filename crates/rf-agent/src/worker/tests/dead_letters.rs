//! Events that are given up: each becomes a dead letter, and its neighbours go on.

use rf_queue::DeadLetters;

use super::*;

#[tokio::test]
async fn the_one_bad_event_of_a_batch_is_found_and_buried() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..10)).await;
    let sink = Recorder::new(batches(), |batch| {
        if texts(batch).contains(&"event 6".to_owned()) {
            Err(SinkError::Permanent("bad".to_owned()))
        } else {
            Ok(())
        }
    });
    bench.run(&sink, async { drop(sink.wait_delivered(9).await) }).await;
    let expected: Vec<String> = names(0..10).into_iter().filter(|name| name != "event 6").collect();
    assert_eq!(sink.wait_delivered(9).await, expected);
    assert_eq!(bench.left(), 0);
    let dead =
        DeadLetters::open(&folder.path().join("q.sqlite3")).unwrap().list(None, 0, 10).unwrap();
    assert_eq!(
        dead.iter().map(|letter| (&letter.content[..], letter.reason.as_str())).collect::<Vec<_>>(),
        [(&b"event 6"[..], "bad")]
    );
}

#[tokio::test]
async fn an_event_too_large_to_be_sent_is_buried_and_its_neighbours_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(["a".to_owned(), "x".repeat(1_001), "b".to_owned()]).await;
    let sink = Recorder::new(batches(), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(2).await) }).await;
    assert_eq!(sink.wait_delivered(2).await, ["a", "b"]);
    assert_eq!(bench.left(), 0);
    let dead =
        DeadLetters::open(&folder.path().join("q.sqlite3")).unwrap().list(None, 0, 10).unwrap();
    let reasons: Vec<&str> = dead.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["1001 bytes are more than the limit (1000)"]);
}

/// One call within the other for each of them would be the end of the stack, and of the memory.
#[tokio::test]
async fn any_number_of_events_may_be_too_large_to_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    let large = (0..10_000).map(|n| format!("large {n:06}"));
    bench.append(large.chain(["b".to_owned()])).await;
    let event_limit = Some(EventLimit { bytes: 11, name: "the limit" });
    let shape = batches_of(Batching { max_events: 100, event_limit, ..batching() });
    let sink = Recorder::new(shape, |_| Ok(()));
    bench.run(&sink, bench.wait_empty()).await;
    assert_eq!(sink.wait_delivered(1).await, ["b"]);
    assert_eq!(bench.meter.dead_lettered.load(Ordering::SeqCst), 10_000);
}

#[tokio::test]
async fn after_max_attempts_an_event_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..3)).await;
    let sink = Recorder::new(Shape { max_attempts: Some(4), ..singles(1) }, |batch| {
        if texts(batch) == ["event 1"] { retry("away") } else { Ok(()) }
    });
    bench.run(&sink, async { drop(sink.wait_delivered(2).await) }).await;
    assert_eq!(sink.wait_delivered(2).await, ["event 0", "event 2"]);
    let dead =
        DeadLetters::open(&folder.path().join("q.sqlite3")).unwrap().list(None, 0, 10).unwrap();
    assert_eq!(
        (dead.len(), dead[0].attempts, dead[0].reason.as_str()),
        (1, 4, "given up after 4 attempts: away")
    );
    assert_eq!(bench.left(), 0);
}

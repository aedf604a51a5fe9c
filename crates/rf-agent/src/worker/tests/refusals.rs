//! A queue that refuses, and what is given up meanwhile: nothing is delivered twice, and no dead letter is lost.

use super::*;
use crate::sink::RateLimits;

/// Also while a rate forbids the next batch: then the queue is written before the wait for it.
#[tokio::test]
async fn a_queue_that_refuses_is_asked_again_and_nothing_is_delivered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let rate = RateLimits { events_per_second: Some(9.0), ..RateLimits::default() };
    let slow = Shape { rate, ..batches() };
    let shapes = [("batches", batches()), ("slow", slow), ("singles", singles(1))];
    for (name, shape) in shapes {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..25)).await;
        bench.refuse(true);
        let sink = Recorder::new(shape, |_| Ok(()));
        let mended = async {
            bench.wait_refused().await;
            bench.refuse(false);
            bench.wait_empty().await;
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), mended);
        bench.run(&sink, async { in_time.await.expect("it goes on") }).await;
        let written = sink.writes().into_iter().flat_map(|(_, events)| events);
        assert_eq!(written.collect::<Vec<_>>(), names(0..25), "{name}");
        assert_eq!(bench.meter.health.paused(), None, "{name}");
    }
}

#[tokio::test]
async fn while_the_queue_refuses_other_writes_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..40)).await;
    bench.refuse(true);
    let hour = Duration::from_secs(3600);
    let patient = Shape { backoff: (hour, hour), ..singles(2) };
    let sink =
        Recorder::new(
            patient,
            |batch| {
                if texts(batch) == ["event 0"] { retry("away") } else { Ok(()) }
            },
        );
    let all_others = async {
        bench.wait_refused().await;
        sink.wait_delivered(39).await;
        bench.refuse(false);
        while bench.left() > 1 {
            tokio::task::yield_now().await;
        }
    };
    bench.run(&sink, all_others).await;
    assert_eq!(sink.writes().len(), 40);
}

#[tokio::test]
async fn what_is_given_up_is_counted_once_it_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..3)).await;
    bench.refuse(true);
    let sink = Recorder::new(singles(1), |_| Err(SinkError::Permanent("bad".to_owned())));
    let counted = || bench.meter.dead_lettered.load(Ordering::SeqCst);
    let mended = async {
        bench.wait_refused().await;
        assert_eq!((counted(), bench.left()), (0, 3));
        bench.refuse(false);
        bench.wait_empty().await;
    };
    bench.run(&sink, mended).await;
    assert_eq!((counted(), bench.store.disk().dead_letters), (3, 3));
}

/// A limit below which no event is: a batch of such events is given up in one go.
const AT_ONCE: Option<EventLimit> = Some(EventLimit { bytes: 1, name: "the limit" });

/// In one transaction most of them would find no room in the WAL.
#[tokio::test]
async fn each_of_many_that_are_given_up_at_once_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let at_once =
        Batching { max_events: 1000, goal_bytes: 1 << 20, event_limit: AT_ONCE, ..batching() };
    for (name, shape) in [("batches", batches_of(at_once)), ("singles", singles(1))] {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..1000)).await;
        let sink = Recorder::new(shape, |_| Err(SinkError::Permanent("bad".to_owned())));
        bench.run(&sink, bench.wait_empty()).await;
        let disk = bench.store.disk();
        assert_eq!((disk.dead_letters, disk.dropped_dead), (1000, 0), "{name}");
        assert_eq!(bench.meter.dead_lettered.load(Ordering::SeqCst), 1000);
    }
}

/// Many dead letters are stored in several transactions; the first one has the place of the others.
#[tokio::test]
async fn a_stop_between_dead_letters_loses_none_of_them_and_tries_none_again() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Batching { max_events: 200, ..batching() };
    let at_once = batches_of(Batching { event_limit: AT_ONCE, ..whole.clone() });
    for (name, given_up, taken) in
        [("batches", at_once, batches_of(whole)), ("singles", singles(200), singles(200))]
    {
        let path = subfolder(folder.path(), name);
        {
            let bench = Bench::open(&path);
            bench.append(names(0..100)).await;
            let conn = rusqlite::Connection::open(&bench.path).unwrap();
            let full = "CREATE TRIGGER full BEFORE INSERT ON dead_letters WHEN (SELECT count(*) FROM dead_letters) >= 40
                        BEGIN SELECT RAISE(ABORT, 'as the test wants'); END";
            conn.execute_batch(full).unwrap();
            let sink = Recorder::new(given_up, |_| Err(SinkError::Permanent("bad".to_owned())));
            bench.run(&sink, bench.wait_refused()).await;
            assert!((60..100).contains(&bench.left()), "{name}: {}", bench.left());
            bench.store.close().await;
            conn.execute_batch("DROP TRIGGER full").unwrap();
        }
        let bench = Bench::open(&path);
        let sink = Recorder::new(taken, |_| Ok(()));
        bench.run(&sink, bench.wait_empty()).await;
        let dead = bench.store.disk().dead_letters;
        let again = sink.writes().iter().map(|(_, events)| events.len()).sum::<usize>();
        assert_eq!(dead + again as u64, 100, "{name}");
        // Of single events that are given up as they come some may not have been told to the queue at all.
        assert!(again == 0 || name == "singles", "{again} were tried again");
    }
}

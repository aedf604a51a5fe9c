//! A queue that refuses, and what is given up meanwhile: nothing is delivered twice, and no dead letter is lost.

use super::*;

/// Also while a rate forbids the next batch: then the queue is written before the wait for it.
#[tokio::test]
async fn a_queue_that_refuses_is_asked_again_and_nothing_is_delivered_twice() {
    let folder = tempfile::tempdir().unwrap();
    let slow = RateLimits { events_per_second: Some(9.0), ..RateLimits::default() };
    let shapes = [(true, RateLimits::default()), (true, slow), (false, RateLimits::default())];
    for (at, (stable, rate)) in shapes.into_iter().enumerate() {
        let bench = Bench::open(&subfolder(&folder.path().join(at.to_string()), stable));
        bench.append(names(0..25)).await;
        bench.refuse(true);
        let sink = Recorder::new(Shape { rate, ..shape(stable) }, |_| Ok(()));
        let mended = async {
            bench.wait_refused().await;
            bench.refuse(false);
            bench.wait_empty().await;
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), mended);
        bench.run(&sink, async { in_time.await.expect("it goes on") }).await;
        let written = sink.writes().into_iter().flat_map(|(_, events)| events);
        assert_eq!(written.collect::<Vec<_>>(), names(0..25), "shape {at}");
        assert_eq!(bench.meter.health.paused(), None, "shape {at}");
    }
}

#[tokio::test]
async fn while_the_queue_refuses_other_writes_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..40)).await;
    bench.refuse(true);
    let hour = Duration::from_secs(3600);
    let patient = Shape { concurrency: 2, backoff: (hour, hour), ..shape(false) };
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
    let sink = Recorder::new(shape(false), |_| Err(SinkError::Permanent("bad".to_owned())));
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
fn given_up_at_once(stable: bool) -> Option<EventLimit> {
    stable.then_some(EventLimit { bytes: 1, name: "the limit" })
}

/// In one transaction most of them would find no room in the WAL.
#[tokio::test]
async fn each_of_many_that_are_given_up_at_once_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    for stable in [true, false] {
        let bench = Bench::open(&subfolder(folder.path(), stable));
        bench.append(names(0..1000)).await;
        let whole = Shape { max_events: if stable { 1000 } else { 1 }, ..shape(stable) };
        let event_limit = given_up_at_once(stable);
        let sink = Recorder::new(Shape { goal_bytes: 1 << 20, event_limit, ..whole }, |_| {
            Err(SinkError::Permanent("bad".to_owned()))
        });
        bench.run(&sink, bench.wait_empty()).await;
        let disk = bench.store.disk();
        assert_eq!((disk.dead_letters, disk.dropped_dead), (1000, 0), "stable {stable}");
        assert_eq!(bench.meter.dead_lettered.load(Ordering::SeqCst), 1000);
    }
}

/// Many dead letters are stored in several transactions; the first one has the place of the others.
#[tokio::test]
async fn a_stop_between_dead_letters_loses_none_of_them_and_tries_none_again() {
    let folder = tempfile::tempdir().unwrap();
    for stable in [true, false] {
        let path = subfolder(folder.path(), stable);
        let whole = Shape {
            max_events: if stable { 200 } else { 1 },
            concurrency: if stable { 1 } else { 200 },
            ..shape(stable)
        };
        {
            let bench = Bench::open(&path);
            bench.append(names(0..100)).await;
            let conn = rusqlite::Connection::open(&bench.path).unwrap();
            let full = "CREATE TRIGGER full BEFORE INSERT ON dead_letters WHEN (SELECT count(*) FROM dead_letters) >= 40
                        BEGIN SELECT RAISE(ABORT, 'as the test wants'); END";
            conn.execute_batch(full).unwrap();
            let event_limit = given_up_at_once(stable);
            let sink = Recorder::new(Shape { event_limit, ..whole.clone() }, |_| {
                Err(SinkError::Permanent("bad".to_owned()))
            });
            bench.run(&sink, bench.wait_refused()).await;
            assert!((60..100).contains(&bench.left()), "stable {stable}: {}", bench.left());
            bench.store.close().await;
            conn.execute_batch("DROP TRIGGER full").unwrap();
        }
        let bench = Bench::open(&path);
        let sink = Recorder::new(whole, |_| Ok(()));
        bench.run(&sink, bench.wait_empty()).await;
        let dead = bench.store.disk().dead_letters;
        let again = sink.writes().iter().map(|(_, events)| events.len()).sum::<usize>();
        assert_eq!(dead + again as u64, 100, "stable {stable}");
        // Of single events that are given up as they come some may not have been told to the queue at all.
        assert!(again == 0 || !stable, "{again} were tried again");
    }
}

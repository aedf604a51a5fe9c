//! A batch that is refused as a whole goes on as its halves, and each event arrives once, whatever happens meanwhile.

use std::collections::BTreeSet;

use rf_queue::DeadLetters;

use super::*;
use crate::sink::RateLimits;

/// As a bucket of a relay: what it stores has an id, and it stores no id twice.
#[derive(Default)]
struct Bucket {
    ids: BTreeSet<String>,
    events: Vec<String>,
}

/// A sink into the bucket; `answer` decides before it.
fn sink_into(
    bucket: &Arc<Mutex<Bucket>>,
    answer: impl Fn(&SinkBatch) -> Result<(), SinkError> + Send + Sync + 'static,
) -> Arc<Recorder> {
    let bucket = Arc::clone(bucket);
    Recorder::new(batches(), move |batch| {
        answer(batch)?;
        let mut bucket = bucket.lock();
        if bucket.ids.insert(batch.id.clone()) {
            bucket.events.extend(texts(batch));
        }
        Ok(())
    })
}

fn has(batch: &SinkBatch, event: &str) -> bool {
    texts(batch).iter().any(|text| text == event)
}

fn refused() -> Result<(), SinkError> {
    Err(SinkError::Permanent("bad".to_owned()))
}

/// So many events are in the bucket or dead letters, each once.
fn check_each_once(bucket: &Arc<Mutex<Bucket>>, bench: &Bench, count: usize) {
    let letters = DeadLetters::open(&bench.path).unwrap().list(None, 0, 100).unwrap();
    let letters = letters.iter().map(|letter| String::from_utf8(letter.content.to_vec()).unwrap());
    let mut found = bucket.lock().events.clone();
    found.extend(letters);
    found.sort();
    let mut expected = names(0..count);
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_stop_between_the_halves_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Arc::<Mutex<Bucket>>::default();
    {
        let bench = Bench::open(folder.path());
        bench.append(names(0..10)).await;
        let sink = sink_into(&bucket, |batch| match batch.events.len() {
            10 => refused(),
            _ if has(batch, "event 5") => retry("away"),
            _ => Ok(()),
        });
        let second_is_tried = async {
            while sink.writes().len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        bench.run(&sink, second_is_tried).await;
        assert_eq!(bench.left(), 5);
        bench.store.close().await;
    }
    let bench = Bench::open(folder.path());
    let sink = sink_into(&bucket, |batch| if has(batch, "event 9") { refused() } else { Ok(()) });
    bench.run(&sink, bench.wait_empty()).await;
    check_each_once(&bucket, &bench, 10);
    assert_eq!(bench.store.disk().dead_letters, 1);
}

/// What had been refused is taken after the kill: whole, it would bring what the bucket has of its halves.
#[tokio::test]
async fn killed_between_any_two_writes_nothing_is_lost_or_doubled() {
    for writes in 0..9 {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Arc::<Mutex<Bucket>>::default();
        {
            let bench = Bench::open(folder.path());
            bench.append(names(0..25)).await;
            let held =
                sink_into(&bucket, |batch| if has(batch, "event 6") { refused() } else { Ok(()) });
            held.gate.forget_permits(1_000_000);
            held.gate.add_permits(writes);
            let next_hangs = async {
                while held.writes().len() <= writes {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = bench.worker(&held) => panic!("the worker must hang in its write"),
                () = next_hangs => {}
            }
            bench.store.close().await;
        }
        let bench = Bench::open(folder.path());
        let sink = sink_into(&bucket, |_| Ok(()));
        bench.run(&sink, bench.wait_empty()).await;
        check_each_once(&bucket, &bench, 25);
    }
}

#[tokio::test]
async fn a_half_that_is_delivered_and_still_in_the_queue_comes_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Arc::<Mutex<Bucket>>::default();
    {
        let bench = Bench::open(folder.path());
        bench.append(names(0..10)).await;
        bench.refuse(true);
        let sink =
            sink_into(&bucket, |batch| if batch.events.len() == 10 { refused() } else { Ok(()) });
        tokio::select! {
            () = bench.worker(&sink) => panic!("nobody has stopped it"),
            () = bench.wait_refused() => {}
        }
        assert_eq!(bench.left(), 10);
        bench.refuse(false);
        bench.store.close().await;
    }
    let bench = Bench::open(folder.path());
    let sink = sink_into(&bucket, |_| Ok(()));
    bench.run(&sink, bench.wait_empty()).await;
    check_each_once(&bucket, &bench, 10);
}

#[tokio::test]
async fn what_is_too_large_for_the_way_is_halved_and_alone_it_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..10)).await;
    let sink = Recorder::new(batches(), |batch| {
        if batch.events.len() > 2 || has(batch, "event 3") {
            Err(SinkError::TooLarge("413".to_owned()))
        } else {
            Ok(())
        }
    });
    let paused = async {
        while bench.meter.health.paused().is_none() {
            tokio::task::yield_now().await;
        }
    };
    bench.run(&sink, paused).await;
    assert_eq!(sink.wait_delivered(3).await, names(0..3));
    assert_eq!((bench.left(), bench.store.disk().dead_letters), (7, 0));
}

#[tokio::test]
async fn halves_keep_to_the_rate() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..10)).await;
    let rate = RateLimits { writes_per_minute: Some(1.0), ..RateLimits::default() };
    let sink =
        Recorder::new(Shape { rate, ..batches() }, |_| Err(SinkError::Permanent("bad".to_owned())));
    let whole_is_sent = async {
        while sink.writes().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    bench.run(&sink, whole_is_sent).await;
    assert_eq!((sink.writes().len(), bench.left()), (1, 10));
}

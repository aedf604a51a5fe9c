//! Batches that were stored before a restart: they come again as they were, with the same ids.

use super::*;

#[tokio::test]
async fn a_batch_in_flight_is_repeated_as_it_was_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let held = Recorder::new(batches(), |_| Ok(()));
    held.gate.forget_permits(1_000_000);
    {
        let bench = Bench::open(folder.path());
        bench.append(names(0..3)).await;
        let worker = bench.worker(&held);
        let begun = async {
            while held.writes().is_empty() {
                tokio::task::yield_now().await;
            }
            // More events come while the first batch is under way: the repeat must not take them along.
            bench.append(names(3..6)).await;
        };
        tokio::select! {
            () = worker => panic!("the worker must hang in its write"),
            () = begun => {}
        }
        bench.store.close().await;
    }
    let bench = Bench::open(folder.path());
    let sink = Recorder::new(batches(), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(6).await) }).await;
    assert_eq!(sink.writes()[0], held.writes()[0], "same id, same events");
    assert_ne!(sink.writes()[1].0, held.writes()[0].0);
    assert_eq!(sink.wait_delivered(6).await, names(0..6));
}

#[tokio::test]
async fn the_next_batch_is_stored_while_one_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let held = Recorder::new(batches(), |_| Ok(()));
    held.gate.forget_permits(1_000_000);
    {
        let bench = Bench::open(folder.path());
        bench.append(names(0..25)).await;
        let both_are_stored = async {
            let stored = async || bench.store.checkpoint("ship:sink").await.unwrap();
            while stored().await.is_none_or(|value| {
                !value.starts_with(b"[{") || value.iter().filter(|byte| **byte == b'{').count() < 2
            }) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = bench.worker(&held) => panic!("the worker must hang in its write"),
            () = both_are_stored => {}
        }
        bench.store.close().await;
    }
    assert_eq!(held.writes().len(), 1, "the second is not sent before the first is answered");
    assert_eq!(*held.prepared.lock(), [names(10..20)]);
    let bench = Bench::open(folder.path());
    // Such that another batch would be made of what is left, were the second one not known.
    let sink = Recorder::new(batches_of(Batching { max_events: 3, ..batching() }), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(25).await) }).await;
    let sizes: Vec<usize> = sink.writes().iter().map(|(_, events)| events.len()).collect();
    assert_eq!(sizes, [10, 10, 3, 2]);
    assert_eq!(sink.writes()[0], held.writes()[0]);
    assert_eq!(sink.wait_delivered(25).await, names(0..25));
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn killed_at_any_moment_at_the_most_two_batches_come_again_as_they_were() {
    for moment in 0..120 {
        let folder = tempfile::tempdir().unwrap();
        let first = Recorder::new(batches(), |_| Ok(()));
        {
            let bench = Bench::open(folder.path());
            bench.append(names(0..95)).await;
            let later = async {
                for _ in 0..moment * 3 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = bench.worker(&first) => panic!("nobody has stopped it"),
                () = later => {}
            }
            bench.store.close().await;
        }
        let bench = Bench::open(folder.path());
        let second = Recorder::new(batches(), |_| Ok(()));
        let left = usize::try_from(bench.left()).unwrap();
        bench.run(&second, async { drop(second.wait_delivered(left).await) }).await;
        let (before, after) = (first.writes(), second.writes());
        let again = after.iter().filter(|batch| before.contains(batch)).count();
        assert!(again <= 2, "moment {moment}: {again} batches came again");
        assert_eq!(before[before.len() - again..], after[..again], "moment {moment}");
        let all = before.iter().chain(&after[again..]).flat_map(|(_, events)| events.clone());
        assert_eq!(all.collect::<Vec<_>>(), names(0..95), "moment {moment}");
    }
}

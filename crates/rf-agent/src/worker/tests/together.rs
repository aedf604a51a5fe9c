//! Batches that one commit takes out of the queue.

use super::*;

const TOGETHER: usize = 3;

fn together() -> Shape {
    Shape { removed_together: TOGETHER, ..shape(true) }
}

#[tokio::test]
async fn batches_of_a_sink_that_knows_how_far_it_is_leave_together() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..95)).await;
    let counter = rusqlite::Connection::open(&bench.path).unwrap();
    let count = "CREATE TABLE counted (n); CREATE TRIGGER counts AFTER UPDATE ON queues
                 WHEN NEW.events < OLD.events BEGIN INSERT INTO counted VALUES (1); END";
    counter.execute_batch(count).unwrap();
    let sink = Recorder::new(together(), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(95).await) }).await;
    assert_eq!(sink.wait_delivered(95).await, names(0..95));
    assert_eq!(bench.left(), 0);
    let commits: usize =
        counter.query_row("SELECT count(*) FROM counted", [], |row| row.get(0)).unwrap();
    assert!((1..8).contains(&commits), "{commits} commits removed 10 batches");
}

#[tokio::test]
async fn what_is_written_leaves_the_queue_however_long_the_next_batch_takes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..95)).await;
    let held = Recorder::new(together(), |_| Ok(()));
    held.gate.forget_permits(1_000_000);
    held.gate.add_permits(2);
    let two_have_left = async {
        while bench.left() > 75 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = bench.worker(&held) => panic!("the worker must hang in its write"),
        () = two_have_left => {}
    }
    assert_eq!(held.writes().len(), 3);
}

#[tokio::test]
async fn a_store_that_is_half_full_is_emptied_batch_by_batch() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    // Too large for each other: every event is a batch of its own.
    let large = |n: usize| format!("{n:0>9000}");
    let mut count = 0;
    while bench.store.disk().used_bytes < bench.store.disk().events_max_bytes * 3 / 4 {
        bench.append((count..count + 10).map(large)).await;
        count += 10;
    }
    let shape = Shape { event_limit: None, ..together() };
    let held = Recorder::new(shape, |_| Ok(()));
    held.gate.forget_permits(1_000_000);
    held.gate.add_permits(1);
    let first_has_left = async {
        while bench.left() > count as u64 - 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = bench.worker(&held) => panic!("the worker must hang in its write"),
        () = first_has_left => {}
    }
    assert_eq!(held.writes().len(), 2);
}

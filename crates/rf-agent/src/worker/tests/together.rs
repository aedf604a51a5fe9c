//! Batches that one commit takes out of the queue.

use rf_queue::Checkpoint;

use super::*;
use crate::sink::READY_TOGETHER;

const TOGETHER: usize = 3;

fn batching_together() -> Batching {
    Batching { overlap: Overlap::RemovedTogether(TOGETHER), ..batching() }
}

fn together() -> Shape {
    batches_of(batching_together())
}

/// Has every commit counted that takes events out of the queue.
fn count_removals(bench: &Bench) -> rusqlite::Connection {
    let counter = rusqlite::Connection::open(&bench.path).unwrap();
    let count = "CREATE TABLE counted (n); CREATE TRIGGER counts AFTER UPDATE ON queues
                 WHEN NEW.events < OLD.events BEGIN INSERT INTO counted VALUES (1); END";
    counter.execute_batch(count).unwrap();
    counter
}

fn removals(counter: &rusqlite::Connection) -> usize {
    counter.query_row("SELECT count(*) FROM counted", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn batches_of_a_sink_that_knows_how_far_it_is_leave_together() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..95)).await;
    let counter = count_removals(&bench);
    let sink = Recorder::new(together(), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(95).await) }).await;
    assert_eq!(sink.wait_delivered(95).await, names(0..95));
    assert_eq!(bench.left(), 0);
    let commits = removals(&counter);
    assert!((1..8).contains(&commits), "{commits} commits removed 10 batches");
}

/// Has `writes` batches written, and drops the worker in the next write once only `left` events are in the queue.
async fn hold_behind(bench: &Bench, held: &Arc<Recorder>, writes: usize, left: u64) {
    held.gate.forget_permits(1_000_000);
    held.gate.add_permits(writes);
    let they_have_left = async {
        while bench.left() > left {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = bench.worker(held) => panic!("the worker must hang in its write"),
        () = they_have_left => {}
    }
}

#[tokio::test]
async fn what_is_written_leaves_the_queue_however_long_the_next_batch_takes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..95)).await;
    let held = Recorder::new(together(), |_| Ok(()));
    hold_behind(&bench, &held, 2, 75).await;
    assert_eq!(held.writes().len(), 3);
}

#[tokio::test]
async fn batches_that_are_ready_are_written_while_the_queue_commits() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..200)).await;
    let sink = Recorder::new(together(), |_| Ok(()));
    sink.gate.forget_permits(1_000_000);
    let all_written = async {
        while sink.prepared.lock().len() < READY_TOGETHER {
            tokio::task::yield_now().await;
        }
        bench.refuse(true);
        sink.gate.add_permits(TOGETHER);
        bench.wait_refused().await;
        // The one that is being written, and those behind it.
        sink.gate.add_permits(1 + READY_TOGETHER);
        sink.wait_delivered(10 * (TOGETHER + 1 + READY_TOGETHER)).await;
        assert_eq!(bench.left(), 200);
        bench.refuse(false);
        sink.gate.add_permits(1_000_000);
        bench.wait_empty().await;
    };
    bench.run(&sink, all_written).await;
    assert_eq!(sink.wait_delivered(200).await, names(0..200));
}

#[tokio::test]
async fn a_batch_alone_is_removed_by_the_one_commit_that_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..5)).await;
    let sink = Recorder::new(together(), |_| Ok(()));
    bench.run(&sink, bench.wait_empty()).await;
    assert_eq!(sink.writes().len(), 1);
    assert_eq!(bench.store.checkpoint("ship:sink").await.unwrap(), None);
}

/// A wait that does not wait lets no time pass, and no other task run.
#[tokio::test(start_paused = true)]
async fn beside_a_long_write_the_worker_sleeps_whatever_was_removed_before() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..25)).await;
    // The second batch goes on as halves, which are stored with what the first has left.
    let sink = Recorder::new(together(), |batch| match batch.events.len() {
        10 if texts(batch).contains(&"event 10".to_owned()) => {
            Err(SinkError::Permanent("bad".to_owned()))
        }
        _ => Ok(()),
    });
    sink.gate.forget_permits(1_000_000);
    sink.gate.add_permits(2);
    let halves_hang = async {
        while sink.writes().len() < 3 {
            tokio::task::yield_now().await;
        }
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
        sink.gate.add_permits(1_000_000);
        bench.wait_empty().await;
    };
    bench.run(&sink, halves_hang).await;
    assert_eq!(sink.wait_delivered(25).await, names(0..25));
}

#[tokio::test]
async fn of_large_events_one_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    // Each is above the goal of a batch.
    bench.append((0..30).map(|n| format!("{n:0>11000}"))).await;
    let shape = batches_of(Batching { event_limit: None, ..batching_together() });
    let held = Recorder::new(shape, |_| Ok(()));
    hold_behind(&bench, &held, 5, 25).await;
    assert!(held.prepared.lock().len() <= 6, "{}", held.prepared.lock().len());
}

/// Fills the queue until it `is_full`, and has some batches written.
async fn check_emptied_batch_by_batch(bench: &Bench, is_full: impl Fn(&Bench) -> bool) {
    const WRITTEN: usize = 9;
    // Too large for each other: every event is a batch of its own.
    let large = |n: usize| format!("{n:0>9000}");
    let mut count = 0;
    while !is_full(bench) {
        bench.append((count..count + 10).map(large)).await;
        count += 10;
    }
    let counter = count_removals(bench);
    let shape = batches_of(Batching { event_limit: None, ..batching_together() });
    let held = Recorder::new(shape, |_| Ok(()));
    hold_behind(bench, &held, WRITTEN, (count - WRITTEN) as u64).await;
    assert_eq!(removals(&counter), WRITTEN);
    // All but the first, and the one behind that which is being written.
    assert_eq!(held.prepared.lock().len(), WRITTEN + 1);
}

#[tokio::test]
async fn a_store_that_is_half_full_is_emptied_batch_by_batch() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    // By what the events themselves take: the WAL counts too, and may be cut at any time.
    let is_full = |bench: &Bench| {
        bench.store.usage(bench.queue).bytes >= bench.store.disk().events_max_bytes / 2
    };
    check_emptied_batch_by_batch(&bench, is_full).await;
}

#[tokio::test]
async fn a_queue_that_is_half_full_by_its_own_limit_is_emptied_batch_by_batch() {
    let folder = tempfile::tempdir().unwrap();
    let queue = QueueOptions { max_bytes: Some(500_000), ..QueueOptions::new("sink") };
    let bench = Bench::open_with(folder.path(), queue);
    let usage = |bench: &Bench| bench.store.usage(bench.queue);
    check_emptied_batch_by_batch(&bench, |bench| usage(bench).bytes >= 360_000).await;
    assert!(bench.store.disk().used_bytes < bench.store.disk().events_max_bytes / 2);
}

/// What a file would have, and up to which event.
#[derive(Default)]
struct Log {
    through: u64,
    lines: Vec<String>,
}

/// Writes each event once, and refuses event 6 for good.
struct Exact {
    shape: Shape,
    log: Arc<Mutex<Log>>,
    tries: AtomicUsize,
    /// Writes wait for this.
    gate: tokio::sync::Semaphore,
}

impl Exact {
    /// As a start does it: what the log has beyond the stored progress is cut.
    async fn open(bench: &Bench, log: &Arc<Mutex<Log>>, writes: usize) -> Arc<Self> {
        let stored = bench.store.checkpoint("exact").await.unwrap();
        let stored = String::from_utf8(stored.unwrap_or_else(|| b"0 0".to_vec())).unwrap();
        let (through, lines) = stored.split_once(' ').unwrap();
        let (through, lines) = (through.parse().unwrap(), lines.parse().unwrap());
        {
            let mut log = log.lock();
            log.through = through;
            log.lines.truncate(lines);
        }
        let gate = tokio::sync::Semaphore::new(writes);
        Arc::new(Self { shape: together(), log: Arc::clone(log), tries: 0.into(), gate })
    }
}

impl Sink for Exact {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.tries.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            let mut log = self.log.lock();
            let known = batch.events.iter().filter(|event| event.id <= log.through).count();
            let fresh = &texts(batch)[known..];
            if fresh.iter().any(|text| text == "event 6") {
                return Err(SinkError::Permanent("bad".to_owned()));
            }
            log.through = batch.events.last().unwrap().id.max(log.through);
            log.lines.extend_from_slice(fresh);
            Ok(())
        })
    }

    fn progress(&self) -> Option<Checkpoint> {
        let log = self.log.lock();
        let value = format!("{} {}", log.through, log.lines.len());
        Some(Checkpoint { key: "exact".to_owned(), value: Some(value.into_bytes()) })
    }
}

/// The first batch goes on as halves, the others leave together: eleven writes.
#[tokio::test]
async fn killed_among_halves_and_batches_that_leave_together_every_event_is_there_once() {
    for writes in 0..11 {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::<Mutex<Log>>::default();
        {
            let bench = Bench::open(folder.path());
            bench.append(names(0..45)).await;
            let held = Exact::open(&bench, &log, writes).await;
            let next_hangs = async {
                while held.tries.load(Ordering::SeqCst) <= writes {
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
        let sink = Exact::open(&bench, &log, 1000).await;
        bench.run(&sink, bench.wait_empty()).await;
        let expected = [names(0..6), names(7..45)].concat();
        assert_eq!(log.lock().lines, expected, "after {writes} writes");
        assert_eq!(bench.store.disk().dead_letters, 1, "after {writes} writes");
    }
}

#[tokio::test]
async fn killed_while_a_removal_waits_and_others_are_written_every_event_is_there_once() {
    for more in 0..READY_TOGETHER {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::<Mutex<Log>>::default();
        {
            let bench = Bench::open(folder.path());
            bench.append(names(10..210)).await;
            bench.refuse(true);
            let held = Exact::open(&bench, &log, TOGETHER).await;
            let more_are_written = async {
                bench.wait_refused().await;
                held.gate.add_permits(more);
                while held.tries.load(Ordering::SeqCst) <= TOGETHER + more {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = bench.worker(&held) => panic!("the worker must hang in its write"),
                () = more_are_written => {}
            }
            assert_eq!((bench.left(), log.lock().lines.len()), (200, 10 * (TOGETHER + more)));
            bench.refuse(false);
            bench.store.close().await;
        }
        let bench = Bench::open(folder.path());
        let sink = Exact::open(&bench, &log, 1000).await;
        bench.run(&sink, bench.wait_empty()).await;
        assert_eq!(log.lock().lines, names(10..210), "{more} more");
    }
}

/// Otherwise the commit under way would bring the whole batch back into the record, and a restart would write it anew.
#[tokio::test]
async fn halves_are_stored_behind_the_removal_that_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..200)).await;
    bench.refuse(true);
    let sink = Recorder::new(together(), |batch| match &texts(batch)[..] {
        [first, _, ..] if first == &format!("event {}", 10 * TOGETHER) => {
            Err(SinkError::Permanent("bad".to_owned()))
        }
        _ => Ok(()),
    });
    sink.gate.forget_permits(1_000_000);
    sink.gate.add_permits(TOGETHER);
    let all_written = async {
        bench.wait_refused().await;
        sink.gate.add_permits(1_000_000);
        while sink.writes().len() <= TOGETHER {
            tokio::task::yield_now().await;
        }
        // The queue answers in order: by the third answer halves would have been stored, and one be on its way.
        for value in [b"1", b"2", b"3"] {
            let value = Some(value.to_vec());
            let checkpoints = vec![Checkpoint { key: "test".to_owned(), value }];
            bench.store.commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(sink.writes().len(), TOGETHER + 1, "no half");
        bench.refuse(false);
        bench.wait_empty().await;
    };
    bench.run(&sink, all_written).await;
    assert_eq!(sink.wait_delivered(200).await, names(0..200));
}

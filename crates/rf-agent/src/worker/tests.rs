//! The contract of the workers, with a sink that does as the test says.

mod halves;
mod linger;
mod refusals;
mod together;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_queue::{Commit, DeadLetters, QueueId, QueueOptions, Store, StoreOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{FLUSH, Worker};
use crate::sink::{
    Batching, EventLimit, Overlap, RateLimits, Shape, Sink, SinkBatch, SinkError, Writes,
};
use crate::stats::SinkMeter;

type Answer = Box<dyn Fn(&SinkBatch) -> Result<(), SinkError> + Send + Sync>;

/// Records every write, answers by a list first and then by a rule.
struct Recorder {
    shape: Shape,
    first: Mutex<VecDeque<Result<(), SinkError>>>,
    then: Answer,
    writes: Mutex<Vec<(String, Vec<String>)>>,
    prepared: Mutex<Vec<Vec<String>>>,
    delivered: watch::Sender<Vec<String>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    /// Writes wait for this; closed in tests that hold a batch.
    gate: tokio::sync::Semaphore,
}

impl Recorder {
    fn new(
        shape: Shape,
        then: impl Fn(&SinkBatch) -> Result<(), SinkError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            shape,
            first: Mutex::default(),
            then: Box::new(then),
            writes: Mutex::default(),
            prepared: Mutex::default(),
            delivered: watch::Sender::new(Vec::new()),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            gate: tokio::sync::Semaphore::new(1_000_000),
        })
    }

    async fn wait_delivered(&self, count: usize) -> Vec<String> {
        let mut delivered = self.delivered.subscribe();
        let reached = delivered.wait_for(|events| events.len() >= count);
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.expect("delivered in time").expect("sender lives").clone()
    }

    fn writes(&self) -> Vec<(String, Vec<String>)> {
        self.writes.lock().clone()
    }
}

fn texts(batch: &SinkBatch) -> Vec<String> {
    batch.events.iter().map(|event| String::from_utf8(event.content.to_vec()).unwrap()).collect()
}

impl Sink for Recorder {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            self.writes.lock().push((batch.id.clone(), texts(batch)));
            self.gate.acquire().await.unwrap().forget();
            tokio::task::yield_now().await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let first = self.first.lock().pop_front();
            let answer = first.unwrap_or_else(|| (self.then)(batch));
            if answer.is_ok() {
                self.delivered.send_modify(|delivered| delivered.extend(texts(batch)));
            }
            answer
        })
    }

    fn prepare(&self, batch: &SinkBatch) {
        self.prepared.lock().push(texts(batch));
    }
}

fn shape(writes: Writes) -> Shape {
    let backoff = (Duration::from_millis(1), Duration::from_millis(5));
    Shape { backoff, ..Shape::of(writes) }
}

fn singles(concurrency: usize) -> Shape {
    shape(Writes::Singles { concurrency })
}

fn batches() -> Shape {
    batches_of(batching())
}

fn batches_of(batching: Batching) -> Shape {
    shape(Writes::Batches(batching))
}

fn batching() -> Batching {
    Batching {
        max_events: 10,
        goal_bytes: 10_000,
        event_limit: Some(EventLimit { bytes: 1_000, name: "the limit" }),
        linger: Duration::ZERO,
        overlap: Overlap::Ahead,
    }
}

/// What holds for both loops is tested with each, in a folder of this name.
fn both() -> [(&'static str, Shape); 2] {
    [("batches", batches()), ("singles", singles(1))]
}

struct Bench {
    path: PathBuf,
    store: Store,
    meter: Arc<SinkMeter>,
    queue: QueueId,
    stop: CancellationToken,
    reached: Arc<Notify>,
}

impl Bench {
    fn open(folder: &Path) -> Self {
        Self::open_with(folder, QueueOptions::new("sink"))
    }

    fn open_with(folder: &Path, queue: QueueOptions) -> Self {
        let path = folder.join("q.sqlite3");
        let options = StoreOptions::new(path.clone(), 4 << 20, vec![queue]);
        let store = Store::open(options).unwrap().store;
        let queue = store.queue("sink").unwrap();
        let (stop, meter, reached) = (CancellationToken::new(), Arc::default(), Arc::default());
        Self { path, store, meter, queue, stop, reached }
    }

    async fn append(&self, events: impl IntoIterator<Item = String>) {
        let events = events.into_iter().map(Bytes::from).collect();
        self.store.commit(Commit::append(self.queue, events)).await.unwrap();
    }

    fn worker<S: Sink + 'static>(&self, sink: &Arc<S>) -> impl Future<Output = ()> + use<S> {
        let sink: Arc<dyn Sink> = sink.clone();
        let (store, queue, stop) = (self.store.clone(), self.queue, self.stop.clone());
        let (id, meter) = ("sink".to_owned(), Arc::clone(&self.meter));
        let (trace, observer, reached) = (<_>::default(), None, Arc::clone(&self.reached));
        Worker { id, sink, store, queue, stop, meter, reached, trace, observer }.run()
    }

    /// Runs the worker until `until` is done, then stops it and waits for its end.
    async fn run<S: Sink + 'static>(&self, sink: &Arc<S>, until: impl Future<Output = ()>) {
        let worker = self.worker(sink);
        let stopping = async {
            until.await;
            self.stop.cancel();
        };
        tokio::join!(worker, stopping);
    }

    /// Has the queue refuse each commit that takes an event out, or no longer.
    fn refuse(&self, refuses: bool) {
        let sql = if refuses {
            "CREATE TRIGGER refuse BEFORE UPDATE ON queues BEGIN SELECT RAISE(ABORT, 'as the test wants'); END"
        } else {
            "DROP TRIGGER refuse"
        };
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }

    async fn wait_refused(&self) {
        while self.meter.health.paused().is_none() {
            tokio::task::yield_now().await;
        }
    }

    async fn wait_empty(&self) {
        while self.left() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn left(&self) -> u64 {
        self.store.usage(self.queue).events
    }
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("event {n}")).collect()
}

fn subfolder(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn retry(reason: &str) -> Result<(), SinkError> {
    Err(SinkError::Retry { reason: reason.to_owned(), after: None })
}

#[tokio::test]
async fn batches_arrive_in_order_and_leave_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..25)).await;
    let sink = Recorder::new(batches(), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(25).await) }).await;
    assert_eq!(sink.wait_delivered(25).await, names(0..25));
    assert_eq!(
        sink.writes().iter().map(|(_, events)| events.len()).collect::<Vec<_>>(),
        [10, 10, 5]
    );
    assert_eq!(bench.left(), 0);
}

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
async fn with_a_concurrency_of_one_failures_do_not_change_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..20)).await;
    let sink = Recorder::new(singles(1), |_| Ok(()));
    sink.first.lock().extend([retry("a"), retry("b"), Ok(()), retry("c"), Ok(()), retry("d")]);
    bench.run(&sink, async { drop(sink.wait_delivered(20).await) }).await;
    assert_eq!(sink.wait_delivered(20).await, names(0..20));
    assert_eq!(sink.writes().len(), 24);
    assert_eq!(sink.most_under_way.load(Ordering::SeqCst), 1);
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn an_answer_to_somebody_else_ends_the_wait_for_a_target_that_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    let hour = Duration::from_secs(3600);
    let patient = Shape { backoff: (hour, hour), ..batches() };
    let sink = Recorder::new(patient, |_| Ok(()));
    let away = Err(SinkError::Away("connection refused".to_owned()));
    let gateway = Err(SinkError::Retry { reason: "502".to_owned(), after: None });
    sink.first.lock().extend([away, gateway]);
    bench.append(names(0..3)).await;
    let answers = async {
        for tries in 1..=2 {
            while sink.writes().len() < tries {
                tokio::task::yield_now().await;
            }
            bench.reached.notify_waiters();
        }
        drop(sink.wait_delivered(3).await);
    };
    let in_time = async {
        tokio::time::timeout(Duration::from_secs(20), answers).await.expect("it does not wait");
    };
    bench.run(&sink, in_time).await;
    assert_eq!(sink.wait_delivered(3).await, names(0..3));
}

#[tokio::test]
async fn concurrency_is_used_and_not_exceeded() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..300)).await;
    let sink = Recorder::new(singles(8), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(300).await) }).await;
    assert_eq!(sink.most_under_way.load(Ordering::SeqCst), 8);
    let mut delivered = sink.wait_delivered(300).await;
    delivered.sort();
    let mut expected = names(0..300);
    expected.sort();
    assert_eq!(delivered, expected);
    assert_eq!(bench.left(), 0);
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

#[tokio::test]
async fn a_stop_flushes_what_can_be_delivered() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in both() {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..100)).await;
        let sink = Recorder::new(shape, |_| Ok(()));
        bench.run(&sink, async {}).await;
        assert_eq!(bench.left(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_target_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in both() {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..100)).await;
        let away =
            Shape { backoff: (Duration::from_secs(3600), Duration::from_secs(3600)), ..shape };
        let sink = Recorder::new(away, |_| retry("away"));
        let stopped = tokio::time::timeout(Duration::from_secs(20), bench.run(&sink, async {}));
        stopped.await.expect("the stop must not wait for the backoff");
        assert_eq!(bench.left(), 100, "{name}");
    }
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

/// Time stands still but for what is slept: a loop that does not sleep would not come to the end of its flush.
#[tokio::test]
async fn a_stop_with_a_rate_waits_and_does_not_spin() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..3)).await;
    let rate = RateLimits { events_per_second: Some(0.001), ..RateLimits::default() };
    let sink = Recorder::new(Shape { rate, ..singles(1) }, |_| Ok(()));
    let first = async {
        sink.wait_delivered(1).await;
        while bench.left() > 2 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
    };
    let begun = tokio::time::Instant::now();
    bench.run(&sink, first).await;
    assert!(begun.elapsed() >= FLUSH, "{:?}", begun.elapsed());
    assert_eq!(bench.left(), 2);
}

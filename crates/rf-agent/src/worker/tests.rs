//! The contract of the workers, with a sink that does as the test says.

mod dead_letters;
mod halves;
mod linger;
mod refusals;
mod repeats;
mod stop;
mod together;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_queue::{Commit, QueueId, QueueOptions, Store, StoreOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::sink::{Batching, EventLimit, Overlap, Shape, Sink, SinkBatch, SinkError, Writes};
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
        let (trace, notes, observer) = (<_>::default(), <_>::default(), None);
        let reached = Arc::clone(&self.reached);
        Worker { id, sink, store, queue, stop, meter, reached, trace, notes, observer }.run()
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

/// The only thread for what takes long is busy: nothing can be counted away from the async threads.
#[test]
fn what_has_left_the_queue_was_counted() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::open(folder.path());
        bench.append((0..900).map(|_| "{\"capturedAtUs\":1}".to_owned())).await;
        let many = Batching { max_events: 300, goal_bytes: 100_000, ..batching() };
        let sink = Recorder::new(batches_of(many), |_| Ok(()));
        let (go, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let counted = async {
            drop(sink.wait_delivered(300).await);
            let left = tokio::time::timeout(Duration::from_millis(100), async {
                while bench.left() == 900 {
                    tokio::task::yield_now().await;
                }
            });
            assert!(left.await.is_err(), "{} are left", bench.left());
            go.send(()).unwrap();
            bench.wait_empty().await;
            let latency = bench.meter.latency().unwrap();
            assert_eq!(latency.counts.iter().sum::<u64>(), 900);
        };
        bench.run(&sink, counted).await;
        busy.await.unwrap().unwrap();
    });
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

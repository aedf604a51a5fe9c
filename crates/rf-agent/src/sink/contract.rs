//! The tests that every sink runs: see [`check_sink_contract`].
//!
//! A sink's author implements [`Subject`] beside the sink's own tests: how the sink is built, what it takes, and what its
//! target has in the end. A kill is played by dropping the sink's worker in the middle of a write, after a number of
//! steps that differs from one kill to the next, and by building the sink anew over what is on disk. Which kinds run these
//! tests is listed in [`kinds`], and a kind that is missing there fails a test.

mod kinds;

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_queue::{
    Checkpoint, Commit, DeadLetter, DeadLetters, QueueId, QueueOptions, Store, StoreOptions,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Shape, Sink, SinkBatch, SinkError, SinkHost, Writes};
use crate::worker::Worker;

/// How long something may take that usually takes milliseconds, on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);
/// Steps of a write after which it is cut: none, handed over, answered but not heard.
const STEPS: std::ops::Range<usize> = 0..4;
/// Kills in a row while one backlog is delivered.
const KILLS: usize = 25;
/// Events of a batch where a backlog is to have many of them, so that the next one is made ready while one is written.
const FEW: usize = 5;

/// How often an event may reach the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Once, whatever happens.
    ExactlyOnce,
    /// A repeat after a kill or a lost answer is allowed.
    AtLeastOnce,
}

/// A kind of sink with a target to look at.
pub(crate) trait Subject: Sync {
    /// What the sink promises.
    fn promise(&self) -> Promise;

    /// The sink over the same files or the same target as before: what a start of the program builds.
    fn build(&self) -> Arc<dyn Sink>;

    /// Content number `number`, which the sink takes.
    fn event(&self, number: usize) -> String;

    /// Content that the sink will never take, if there is any.
    fn refused(&self) -> Option<String>;

    /// Numbers of the events that the target has, in its order, repeats as repeats.
    fn stored(&self) -> BoxFuture<'_, Vec<usize>>;
}

/// Holds a sink to the contract: everything that its queue held reaches the target, in order where the sink writes one
/// batch at a time; an event that can never be written becomes a dead letter and its neighbours go on; a lost answer
/// and a kill at any point lose nothing, and double nothing where that is promised.
pub(crate) async fn check_sink_contract(subject: &dyn Subject) {
    check_delivery(subject, 0..50).await;
    check_lost_answers(subject, 100..120).await;
    check_refusals(subject, 200..210).await;
    for steps in STEPS {
        let first = 300 + steps * 10;
        check_kill(subject, first..first + 10, steps).await;
    }
    check_many_kills(subject, 1000..1400).await;
    check_kills_in_a_backlog(subject, 2000..2500).await;
}

async fn check_delivery(subject: &dyn Subject, numbers: std::ops::Range<usize>) {
    let bench = Bench::open();
    bench.append(numbers.clone().map(|number| subject.event(number))).await;
    bench.run_to_the_end(subject.build()).await;
    assert_stored(subject, numbers, "delivery").await;
}

async fn check_lost_answers(subject: &dyn Subject, numbers: std::ops::Range<usize>) {
    let bench = Bench::open();
    bench.append(numbers.clone().map(|number| subject.event(number))).await;
    bench.run_to_the_end(Arc::new(Deaf { inner: subject.build(), left: 3.into() })).await;
    assert_stored(subject, numbers, "answers that were lost").await;
}

async fn check_refusals(subject: &dyn Subject, numbers: std::ops::Range<usize>) {
    let Some(refused) = subject.refused() else { return };
    let bench = Bench::open();
    let mut events: Vec<String> = numbers.clone().map(|number| subject.event(number)).collect();
    events.insert(4, refused.clone());
    events.push(refused.clone());
    bench.append(events).await;
    bench.run_to_the_end(subject.build()).await;
    assert_stored(subject, numbers, "neighbours of a refused event").await;
    let letters = bench.dead_letters();
    let contents: Vec<&[u8]> = letters.iter().map(|letter| &letter.content[..]).collect();
    assert_eq!(contents, [refused.as_bytes(), refused.as_bytes()], "what can never be written");
    assert!(letters.iter().all(|letter| !letter.reason.is_empty()), "a dead letter says why");
}

async fn check_kill(subject: &dyn Subject, numbers: std::ops::Range<usize>, steps: usize) {
    let mut bench = Bench::open();
    bench.append(numbers.clone().map(|number| subject.event(number))).await;
    bench.run_until_killed(subject.build(), steps, usize::MAX).await;
    bench = bench.restart().await;
    bench.run_to_the_end(subject.build()).await;
    assert_stored(subject, numbers, &format!("a kill after {steps} steps")).await;
}

async fn check_many_kills(subject: &dyn Subject, numbers: std::ops::Range<usize>) {
    let mut bench = Bench::open();
    let mut numbers_left = numbers.clone();
    for kill in 0..KILLS {
        bench.append(numbers_left.by_ref().take(16).map(|number| subject.event(number))).await;
        // Spread without chance, so that a failure can be repeated.
        bench.run_until_killed(subject.build(), kill * 7 % 11, usize::MAX).await;
        bench = bench.restart().await;
    }
    bench.append(numbers_left.map(|number| subject.event(number))).await;
    bench.run_to_the_end(subject.build()).await;
    assert_stored(subject, numbers, "many kills").await;
}

async fn check_kills_in_a_backlog(subject: &dyn Subject, numbers: std::ops::Range<usize>) {
    let mut bench = Bench::open();
    bench.append(numbers.clone().map(|number| subject.event(number))).await;
    for kill in 0..KILLS {
        bench.run_until_killed(subject.build(), kill * 7 % 31, FEW).await;
        bench = bench.restart().await;
    }
    bench.run_to_the_end(subject.build()).await;
    assert_stored(subject, numbers, "kills in a backlog").await;
}

async fn assert_stored(subject: &dyn Subject, numbers: std::ops::Range<usize>, after: &str) {
    let mut stored = subject.stored().await;
    stored.retain(|number| numbers.contains(number));
    if matches!(subject.build().shape().writes, Writes::Singles { concurrency } if concurrency > 1)
    {
        stored.sort_unstable();
    }
    if subject.promise() == Promise::AtLeastOnce {
        let mut seen = std::collections::HashSet::new();
        stored.retain(|number| seen.insert(*number));
    }
    assert_eq!(stored, numbers.collect::<Vec<_>>(), "after {after}");
}

/// A queue on disk.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    queue: QueueId,
}

impl Bench {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, queue) = Self::open_store(folder.path());
        Self { folder, store, queue }
    }

    fn open_store(folder: &Path) -> (Store, QueueId) {
        let queues = vec![QueueOptions::new("subject")];
        let options = StoreOptions::new(folder.join("queue.sqlite3"), 8 << 20, queues);
        let store = Store::open(options).unwrap().store;
        let queue = store.queue("subject").unwrap();
        (store, queue)
    }

    async fn restart(self) -> Self {
        let Self { folder, store, .. } = self;
        store.close().await;
        // Its lock on the file goes with it.
        drop(store);
        let (store, queue) = Self::open_store(folder.path());
        Self { folder, store, queue }
    }

    async fn append(&self, events: impl IntoIterator<Item = String>) {
        let events: Vec<Bytes> = events.into_iter().map(Bytes::from).collect();
        if !events.is_empty() {
            self.store.commit(Commit::append(self.queue, events)).await.unwrap();
        }
    }

    /// The sink's worker and its maintenance, started as an agent starts them.
    async fn run(&self, sink: Arc<dyn Sink>, stop: CancellationToken) {
        sink.start(&SinkHost { store: self.store.clone() }).await.unwrap();
        let maintenance = Arc::clone(&sink).run(stop.clone());
        let worker = Worker {
            id: "subject".to_owned(),
            sink,
            store: self.store.clone(),
            queue: self.queue,
            stop,
            meter: Arc::default(),
            reached: Arc::default(),
            trace: <_>::default(),
            notes: <_>::default(),
            observer: None,
        };
        tokio::join!(worker.run(), maintenance);
    }

    /// Runs until the queue is empty, and stops.
    async fn run_to_the_end(&self, sink: Arc<dyn Sink>) {
        let stop = CancellationToken::new();
        let emptied = async {
            while self.store.usage(self.queue).events > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(self.run(sink, stop.clone()), emptied) };
        tokio::time::timeout(SOON, both).await.expect("delivered in time");
    }

    /// Runs, with batches of at most so many events, until writes have gone `steps` steps, or everything is delivered, and
    /// drops it all there.
    async fn run_until_killed(&self, sink: Arc<dyn Sink>, steps: usize, most: usize) {
        let killed = Arc::new(Notify::new());
        let mut shape = sink.shape().clone();
        if let Writes::Batches(batching) = &mut shape.writes {
            batching.max_events = batching.max_events.min(most);
        }
        let mortal = Mortal { inner: sink, shape, left: steps.into(), killed: Arc::clone(&killed) };
        let emptied = async {
            while self.store.usage(self.queue).events > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let ended = async {
            tokio::select! {
                () = self.run(Arc::new(mortal), CancellationToken::new()) => {}
                () = killed.notified() => {}
                () = emptied => {}
            }
        };
        tokio::time::timeout(SOON, ended).await.expect("killed in time");
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        DeadLetters::open(&self.folder.path().join("queue.sqlite3"))
            .unwrap()
            .list(None, 0, 10)
            .unwrap()
    }
}

/// Does not hear the first answers: what was written is written again.
struct Deaf {
    inner: Arc<dyn Sink>,
    left: AtomicUsize,
}

impl Sink for Deaf {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.inner.write(batch).await?;
            let take_one = |left: usize| left.checked_sub(1);
            match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one) {
                Ok(_) => Err(SinkError::Retry { reason: "answer lost".to_owned(), after: None }),
                Err(_none_left) => Ok(()),
            }
        })
    }

    fn prepare(&self, batch: &SinkBatch) {
        self.inner.prepare(batch);
    }

    fn progress(&self) -> Option<Checkpoint> {
        self.inner.progress()
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), super::SinkStartError>> {
        self.inner.start(host)
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Arc::clone(&self.inner).run(stop)
    }
}

/// Lets writes go on for so many steps, then says that it is killed and does nothing any more.
struct Mortal {
    inner: Arc<dyn Sink>,
    shape: Shape,
    left: AtomicUsize,
    killed: Arc<Notify>,
}

impl Sink for Mortal {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        let mut write = self.inner.write(batch);
        Box::pin(poll_fn(move |context| {
            let take_one = |left: usize| left.checked_sub(1);
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one).is_err() {
                self.killed.notify_one();
                return Poll::Pending;
            }
            let step = write.as_mut().poll(context);
            if self.left.load(Ordering::SeqCst) == 0 {
                self.killed.notify_one();
                return Poll::Pending;
            }
            step
        }))
    }

    fn prepare(&self, batch: &SinkBatch) {
        self.inner.prepare(batch);
    }

    fn progress(&self) -> Option<Checkpoint> {
        self.inner.progress()
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), super::SinkStartError>> {
        self.inner.start(host)
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Arc::clone(&self.inner).run(stop)
    }
}

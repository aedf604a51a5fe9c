//! Scripts between a batch and the queues, over a real store.

mod loading;
mod redo;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rf_core::lifecycle::TaskFailure;
use rf_queue::{
    Budget, Checkpoint, Commit, DeadLetters, PendingCommit, QueueOptions, Store, StoreOptions,
    WhenFull,
};
use rf_script::{OnError, ScriptOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handle::ScriptHandle;
use super::{ScriptPlan, letters_queue};
use crate::pipeline::{Batch, Output, Rejected};

const PATIENCE: Duration = Duration::from_secs(45);

/// A source `web` with a script, and sinks `a` and `b`.
struct Rig {
    folder: tempfile::TempDir,
    store: Store,
    script: Arc<ScriptHandle>,
    out: Output,
}

struct Made {
    when_full: WhenFull,
    on_error: OnError,
    timer: Duration,
}

const USUAL: Made = Made {
    when_full: WhenFull::Reject,
    on_error: OnError::DeadLetter,
    timer: Duration::from_millis(5),
};

impl Rig {
    async fn new(script: &str) -> Self {
        Self::made(script, USUAL).await
    }

    async fn made(script: &str, made: Made) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("web.lua"), script).unwrap();
        Self::open(folder, made).await
    }

    async fn open(folder: tempfile::TempDir, made: Made) -> Self {
        let queue = |name: &str| QueueOptions {
            max_bytes: Some(512 * 1024),
            when_full: made.when_full,
            ..QueueOptions::new(name)
        };
        let letters = QueueOptions::new(letters_queue("web"));
        let options = StoreOptions::new(
            folder.path().join("store.sqlite3"),
            4 << 20,
            vec![queue("a"), queue("b"), letters],
        );
        let store = Store::open(options).unwrap().store;
        let mut options =
            ScriptOptions::new(folder.path().join("web.lua"), vec!["a".to_owned(), "b".to_owned()]);
        options.on_error = made.on_error;
        let plan = ScriptPlan { options: Arc::new(options), timer: made.timer };
        let routes = [store.queue("a").unwrap()];
        let script =
            ScriptHandle::start("web", plan, &routes, store.clone(), <_>::default()).await.unwrap();
        let out = Output::new(store.clone(), routes.to_vec()).through(Some(Arc::clone(&script)));
        Self { folder, store, script, out }
    }

    async fn restart(self) -> Self {
        let Self { folder, store, script, out } = self;
        drop(out);
        script.close().await;
        drop(script);
        store.close().await;
        drop(store);
        Self::open(folder, USUAL).await
    }

    async fn send(&self, events: &[&str]) -> Result<(), Rejected> {
        self.out.send(batch(events)).await
    }

    async fn queued(&self, queue: &str) -> Vec<String> {
        let queue = self.store.queue(queue).unwrap();
        let budget = Budget { events: 10_000, bytes: usize::MAX };
        let events = self.store.read(queue, 0, budget).await.unwrap();
        events.iter().map(|event| String::from_utf8_lossy(&event.content).into_owned()).collect()
    }

    async fn empty(&self, queue: &str) {
        self.remove(queue, 10_000).await;
    }

    /// The oldest ones.
    async fn remove(&self, queue: &str, events: usize) {
        let queue = self.store.queue(queue).unwrap();
        let budget = Budget { events, bytes: usize::MAX };
        let events = self.store.read(queue, 0, budget).await.unwrap();
        self.store.ack(queue, events.iter().map(|event| event.id).collect()).await.unwrap();
    }

    /// Fills a queue, whatever it does when it is full.
    async fn fill(&self, queue: &str) {
        let queue = self.store.queue(queue).unwrap();
        loop {
            let (reply, mut pending) = PendingCommit::new();
            self.store.submit(Commit::append(queue, vec!["x".repeat(50_000).into()]), reply);
            if pending.outcome().await.is_err() {
                return;
            }
        }
    }

    async fn wait_queued(&self, queue: &str, count: usize) -> Vec<String> {
        let mut available = self.store.watch(self.store.queue(queue).unwrap());
        let waiting = async {
            loop {
                available.mark_unchanged();
                let queued = self.queued(queue).await;
                if queued.len() >= count {
                    return queued;
                }
                available.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("queued in time")
    }

    /// Content and reason.
    fn letters(&self) -> Vec<(String, String)> {
        let letters = DeadLetters::open(&self.folder.path().join("store.sqlite3")).unwrap();
        let mut found = letters.list(None, 0, 100).unwrap();
        found.sort_by_key(|letter| letter.id);
        let told = found.into_iter().map(|letter| {
            let content = letters.get(letter.id).unwrap().unwrap().content;
            (String::from_utf8_lossy(&content).into_owned(), letter.reason)
        });
        told.collect()
    }

    /// Dead letters, and events that `onError` has dropped.
    fn counted(&self) -> (u64, u64) {
        let counters = self.script.counters();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&counters.dead_lettered), count(&counters.dropped_on_error))
    }

    fn write(&self, name: &str, text: &str) {
        // As editors do: the name has a whole file at any time.
        let (whole, part) = (self.folder.path().join(name), self.folder.path().join("part"));
        std::fs::write(&part, text).unwrap();
        std::fs::rename(&part, &whole).unwrap();
    }
}

fn batch(events: &[&str]) -> Batch {
    Batch::of(events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes())).collect())
}

const UPPER_TO_BOTH: &str = "function Process(content, emit)
    emit('a', content:upper())
    if content ~= 'only a' then emit('b', content) end
end";

#[tokio::test]
async fn what_is_emitted_lies_in_the_queues_with_the_checkpoint() {
    let rig = Rig::new(UPPER_TO_BOTH).await;
    let checkpoint = Checkpoint { key: "at".to_owned(), value: Some(b"7".to_vec()) };
    let sent = Batch { checkpoints: vec![checkpoint], ..batch(&["x", "only a"]) };
    rig.out.send(sent).await.unwrap();
    assert_eq!(rig.queued("a").await, ["X", "ONLY A"]);
    assert_eq!(rig.queued("b").await, ["x"]);
    assert_eq!(rig.out.checkpoint("at").await.unwrap(), Some(b"7".to_vec()));
    let counters = rig.script.counters();
    assert_eq!(counters.emitted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn equal_events_that_a_script_makes_of_one_are_told_apart() {
    let rig =
        Rig::new("function Process(content, emit) for i = 1, 3 do emit('a', content) end end")
            .await;
    let id = "0198c0de-0000-7000-8000-000000000001";
    let event = format!(r#"{{"body":"x","eventId":"{id}"}}"#);
    rig.send(&[&event]).await.unwrap();
    let queued = rig.queued("a").await;
    assert_eq!((queued.len(), &queued[0]), (3, &event));
    let ids: std::collections::BTreeSet<_> =
        queued.iter().map(|event| rf_core::event::event_id(event.as_bytes())).collect();
    assert_eq!(ids.len(), 3, "{queued:?}");
}

#[tokio::test]
async fn a_failing_event_becomes_a_dead_letter_and_its_neighbours_go_on() {
    let rig = Rig::new(
        "local count = 0
        function Process(content, emit)
            count = count + 1
            emit('a', count .. content .. (kv_get('last') or ''))
            kv_set('last', content)
            if content == 'bad' then local nothing = nil; nothing.x = 1 end
        end",
    )
    .await;
    rig.send(&["p", "bad", "q"]).await.unwrap();
    // The variables go on; what the failed call remembered is undone.
    assert_eq!(rig.queued("a").await, ["1p", "3qp"]);
    let letters = rig.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].0, "bad");
    assert!(letters[0].1.starts_with("web.lua:6: "), "{letters:?}");
}

#[tokio::test]
async fn an_endless_loop_costs_its_event_alone() {
    let rig = Rig::new(
        "local count = 0
        function Process(content, emit)
            count = count + 1
            while content == 'loop' do end
            emit('a', count .. content)
        end",
    )
    .await;
    let sent = rig.send(&["before", "loop", "behind"]);
    tokio::time::timeout(PATIENCE, sent).await.expect("in time").unwrap();
    // The variables of a VM that was stopped are gone.
    assert_eq!(rig.queued("a").await, ["1before", "1behind"]);
    let letters = rig.letters();
    assert_eq!(letters[0].0, "loop");
    assert!(letters[0].1.contains("longer than its limit"), "{letters:?}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_busy_script_when_its_time_is_over() {
    let rig = Rig::new("function Process() while true do end end").await;
    let mut sending = Box::pin(rig.send(&["loop"; 20]));
    // Polled once, the events are with the script's thread.
    std::future::poll_fn(|cx| {
        drop(sending.as_mut().poll(cx));
        std::task::Poll::Ready(())
    })
    .await;
    let scripts = vec![Arc::clone(&rig.script)];
    let closed = ScriptHandle::close_all(scripts, Duration::ZERO, Instant::now()).await;
    let Err(TaskFailure::Stuck { tasks, .. }) = closed else { panic!("{closed:?}") };
    assert_eq!(tasks, ["script of source web"]);
}

#[tokio::test]
async fn drop_and_dead_are_verdicts_about_one_event() {
    let rig = Rig::new(
        "function Process(content, emit)
            emit('a', content)
            if content == 'dropped' then drop('health check') end
            if content == 'dead' then dead('not JSON') end
        end",
    )
    .await;
    rig.send(&["kept", "dropped", "dead", "dropped"]).await.unwrap();
    assert_eq!(rig.queued("a").await, ["kept"]);
    assert_eq!(rig.letters(), [("dead".to_owned(), "not JSON".to_owned())]);
    assert_eq!(rig.script.counters().dropped(), [("health check".to_owned(), 2)].into());
    assert_eq!(rig.counted(), (1, 0));
}

#[tokio::test]
async fn what_becomes_of_a_failed_event_is_what_is_counted() {
    for (on_error, queued, dead_lettered, dropped) in [
        (OnError::DeadLetter, vec![], 1, 0),
        (OnError::Pass, vec!["x"], 0, 0),
        (OnError::Drop, vec![], 0, 1),
    ] {
        let script = "function Process() lua_error('no') end";
        let rig = Rig::made(script, Made { on_error, ..USUAL }).await;
        rig.send(&["x"]).await.unwrap();
        assert_eq!(rig.queued("a").await, queued);
        assert_eq!(rig.letters().len(), dead_lettered, "{on_error:?}");
        assert_eq!(rig.counted(), (dead_lettered as u64, dropped), "{on_error:?}");
    }
}

#[tokio::test]
async fn a_timer_that_fails_costs_no_event() {
    let rig = Rig::new(
        "local tick = 0
        function Process() end
        function TimerHandler(emit)
            tick = tick + 1
            if tick == 1 then lua_error('no') end
            emit('a', 'tick')
        end",
    )
    .await;
    let stop = CancellationToken::new();
    let (script, token) = (Arc::clone(&rig.script), stop.clone());
    let second = async {
        rig.wait_queued("a", 1).await;
        stop.cancel();
    };
    tokio::join!(second, script.tick(token));
    assert_eq!(rig.counted(), (0, 0));
}

#[tokio::test]
async fn a_queue_that_blocks_makes_the_commit_wait_and_not_the_script_run_again() {
    let made = Made { when_full: WhenFull::Block, ..USUAL };
    let script = "local calls = 0
        function Process(content, emit)
            calls = calls + 1
            emit(content == 'small' and 'b' or 'a', calls .. content)
        end";
    let rig = Rig::made(script, made).await;
    rig.fill("a").await;
    let large = "x".repeat(50_000);
    let events = [large.as_str()];
    let room = async {
        // When the first of them is stored, the large one has been refused, and has been tried again with the second.
        for _ in 0..2 {
            rig.send(&["small"]).await.unwrap();
        }
        rig.empty("a").await;
    };
    let both = async { tokio::join!(biased; rig.send(&events), room) };
    let (waited, ()) = tokio::time::timeout(PATIENCE, both).await.expect("room was made");
    waited.unwrap();
    let queued = rig.queued("a").await;
    assert_eq!(queued.len(), 1);
    assert!(queued[0].starts_with("1x"), "{}", queued[0].split_at(10).0);
    assert_eq!(rig.queued("b").await, ["2small", "3small"]);
}

#[tokio::test]
async fn what_can_never_fit_becomes_a_dead_letter() {
    let rig = Rig::new("function Process(content, emit) emit('a', content:rep(3000000)) end").await;
    rig.send(&["ab"]).await.unwrap();
    let letters = rig.letters();
    assert_eq!(letters[0].0, "ab");
    assert!(letters[0].1.contains("the script made 600"), "{letters:?}");
    let meter = rig.out.meter();
    let counts = (meter.dead_lettered.load(Ordering::Relaxed), meter.stored.all());
    assert_eq!(counts, (1, 0), "it is counted once, and as kept");
}

#[tokio::test]
async fn a_timer_emits_and_waits_while_the_queue_is_full() {
    let rig = Rig::new(
        "local tick = 0
        function Process(content, emit) emit('a', content) end
        function TimerHandler(emit)
            tick = tick + 1
            if tick <= 2 then emit('a', 'tick ' .. tick .. (' '):rep(50000)) end
        end",
    )
    .await;
    let large = "x".repeat(50_000);
    while rig.send(&[&large]).await.is_ok() {}
    let stop = CancellationToken::new();
    let (script, token) = (Arc::clone(&rig.script), stop.clone());
    let emptied = async {
        rig.empty("a").await;
        let queued = rig.wait_queued("a", 2).await;
        stop.cancel();
        queued
    };
    let (queued, ()) = tokio::join!(emptied, script.tick(token));
    assert_eq!(queued.iter().map(|event| event.trim()).collect::<Vec<_>>(), ["tick 1", "tick 2"]);
}

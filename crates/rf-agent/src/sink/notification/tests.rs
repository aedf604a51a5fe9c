//! The sink with its queue and worker, against services that a test plays.

use axum::Router;
use axum::http::StatusCode;
use parking_lot::Mutex;
use rf_core::config::parse;
use rf_core::lifecycle::Tasks;
use rf_queue::{Budget, Commit, DeadLetters, QueueId, QueueOptions, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::no_listener::NoListener;
use crate::worker::Worker;

/// A service that answers each text by a rule, and keeps what it took.
pub(super) struct Service {
    pub(super) url: String,
    taken: Arc<Mutex<Vec<String>>>,
    changed: watch::Receiver<usize>,
    _tasks: Tasks,
}

impl Service {
    pub(super) async fn start(rule: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let (changes, changed) = watch::channel(0);
        let (kept, rule, changes) = (Arc::clone(&taken), Arc::new(rule), Arc::new(changes));
        let app = Router::new().fallback(move |text: String| {
            let (kept, rule, changes) =
                (Arc::clone(&kept), Arc::clone(&rule), Arc::clone(&changes));
            async move {
                let status = rule(&text);
                if status < 300 {
                    kept.lock().push(text);
                }
                changes.send_modify(|count| *count += 1);
                StatusCode::from_u16(status).unwrap()
            }
        });
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("service", async move { axum::serve(listener, app).await });
        Self { url, taken, changed, _tasks: tasks }
    }

    pub(super) fn taken(&self) -> Vec<String> {
        self.taken.lock().clone()
    }

    /// Waits for so many requests, refused or not.
    async fn requests(&self, count: usize) {
        let mut changed = self.changed.clone();
        let reached = changed.wait_for(|seen| *seen >= count);
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").unwrap();
    }
}

/// A store with the sink's queue.
struct Bench {
    folder: TempDir,
    store: Store,
    queue: QueueId,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, queue) = open(&folder);
        Self { folder, store, queue }
    }

    async fn reopen(self) -> Self {
        let Self { folder, store, .. } = self;
        store.close().await;
        drop(store);
        let (store, queue) = open(&folder);
        Self { folder, store, queue }
    }

    async fn append(&self, bodies: &[&str]) {
        let event =
            |body: &&str| json!({ "method": "POST", "path": "/", "body": body }).to_string();
        let events = bodies.iter().map(event).map(Bytes::from).collect();
        self.store.commit(Commit::append(self.queue, events)).await.unwrap();
    }

    async fn sink(&self, params: &Value) -> Arc<dyn Sink> {
        let sink = build_sink(params).unwrap_or_else(|problems| panic!("{problems}"));
        sink.start(&SinkHost { store: self.store.clone() }).await.unwrap();
        sink
    }

    /// Runs the sink until `until` is done; what can be delivered is delivered.
    async fn run(&self, sink: Arc<dyn Sink>, until: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let maintenance = Arc::clone(&sink).run(stop.clone());
        let (store, queue) = (self.store.clone(), self.queue);
        let worker = Worker {
            id: "alerts".to_owned(),
            sink,
            store,
            queue,
            stop: stop.clone(),
            meter: Arc::default(),
            reached: Arc::default(),
            trace: <_>::default(),
            notes: <_>::default(),
            observer: None,
        };
        tokio::join!(worker.run(), maintenance, async {
            until.await;
            stop.cancel();
        });
    }

    /// Waits until there is one event in the queue.
    async fn holds_one(&self) {
        let mut available = self.store.watch(self.queue);
        while self.left() != 1 {
            available.changed().await.unwrap();
        }
    }

    /// Waits until there is none.
    async fn emptied(&self) {
        while self.left() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn left(&self) -> u64 {
        self.store.usage(self.queue).events
    }

    fn dead(&self) -> Vec<String> {
        let letters = DeadLetters::open(&self.folder.path().join("q.sqlite3")).unwrap();
        letters.list(None, 0, 10).unwrap().into_iter().map(|letter| letter.reason).collect()
    }
}

fn open(folder: &TempDir) -> (Store, QueueId) {
    let queues = vec![QueueOptions::new("alerts")];
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let queue = store.queue("alerts").unwrap();
    (store, queue)
}

fn build_sink(params: &Value) -> Result<Arc<dyn Sink>, String> {
    build_named("alerts", params)
}

pub(super) fn build_named(name: &str, params: &Value) -> Result<Arc<dyn Sink>, String> {
    let mut problems = Problems::new();
    let document = parse("player.json", &params.to_string(), &|_| None, &mut problems).unwrap();
    let folder = std::path::Path::new(".");
    let context = SinkContext { name, data_dir: folder, sinks: &[name] };
    build(&context, &document.root(), &mut problems).ok_or_else(|| problems.to_string())
}

fn webhook(service: &Service, group_max: usize) -> Value {
    json!({ "url": service.url, "groupMax": group_max })
}

#[tokio::test]
async fn a_burst_is_one_message_and_each_event_one_where_a_program_listens() {
    let (people, program) = (Service::start(|_| 200).await, Service::start(|_| 200).await);
    let bench = Bench::new();
    let bodies: Vec<String> = (0..27).map(|n| format!("event {n}")).collect();
    bench.append(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let params =
        json!({ "webhooks": { "people": webhook(&people, 100), "program": webhook(&program, 1) } });
    bench.run(bench.sink(&params).await, program.requests(27)).await;
    assert_eq!(program.taken(), bodies);
    assert_eq!(people.taken().len(), 1);
    assert!(people.taken()[0].ends_with("- event 9\nand 17 more"), "{:?}", people.taken());
    assert_eq!((bench.left(), bench.dead()), (0, Vec::new()));
}

#[tokio::test]
async fn a_service_that_is_away_does_not_make_another_hear_twice_also_after_a_restart() {
    let up = Service::start(|_| 200).await;
    let away = Service::start(|_| 503).await;
    let bench = Bench::new();
    bench.append(&["a", "b"]).await;
    let both = |second: &Service| json!({ "webhooks": { "up": webhook(&up, 1), "second": webhook(second, 1) } });
    bench.run(bench.sink(&both(&away)).await, away.requests(2)).await;
    assert_eq!((up.taken().len(), bench.left()), (2, 2));
    let bench = bench.reopen().await;
    let back = Service::start(|_| 200).await;
    bench.append(&["c"]).await;
    bench.run(bench.sink(&both(&back)).await, back.requests(3)).await;
    assert_eq!(up.taken(), ["a", "b", "c"]);
    assert_eq!(back.taken(), ["a", "b", "c"]);
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn one_bad_notification_is_a_dead_letter_and_its_neighbours_go_on() {
    let picky = Service::start(|text| if text.contains("bad") { 400 } else { 200 }).await;
    let other = Service::start(|_| 200).await;
    let bench = Bench::new();
    bench.append(&["one", "", "two", "bad", "three"]).await;
    let params =
        json!({ "webhooks": { "picky": webhook(&picky, 1), "other": webhook(&other, 1) } });
    bench.run(bench.sink(&params).await, bench.emptied()).await;
    assert_eq!(picky.taken(), ["one", "two", "three"]);
    assert_eq!(other.taken(), ["one", "two", "bad", "three"]);
    let dead = bench.dead();
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead.iter().any(|reason| reason.contains("no message")), "{dead:?}");
    assert!(dead.contains(&"webhook `picky`: answered 400 Bad Request".to_owned()), "{dead:?}");
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn a_notification_that_is_too_large_is_a_dead_letter_that_names_its_limit() {
    let service = Service::start(|_| 200).await;
    let bench = Bench::new();
    let large = "x".repeat(MAX_EVENT_BYTES);
    bench.append(&[large.as_str(), "small"]).await;
    let params = json!({ "webhooks": { "x": webhook(&service, 1) } });
    bench.run(bench.sink(&params).await, bench.emptied()).await;
    let dead = bench.dead();
    assert_eq!((dead.len(), bench.left()), (1, 0));
    assert!(dead[0].contains(" bytes are more than a notification may have (1048576)"), "{dead:?}");
    assert_eq!(service.taken(), ["small"]);
}

#[tokio::test]
async fn a_duplicate_is_counted_and_the_count_is_told_at_the_end_of_the_window() {
    let service = Service::start(|_| 200).await;
    let bench = Bench::new();
    let params = json!({ "webhooks": { "x": webhook(&service, 1) }, "dedupWindow": "500ms" });
    bench.append(&["down", "down", "down", "other"]).await;
    bench.run(bench.sink(&params).await, service.requests(3)).await;
    assert_eq!(service.taken(), ["down", "other", "down\ncame 2 more times within 500ms"]);
    assert_eq!(bench.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_count_that_waits_for_its_service_is_one_reminder_and_a_lost_one_is_repeated() {
    let bench = Bench::new();
    let message = Message { subject: String::new(), text: "down".to_owned() };
    let arrived = [1, 2].map(|id| Arrived { id, at_ms: id, message: Some(message.clone()) });
    let (counted, _) = Progress::default().judge(&arrived, Duration::from_secs(1));
    let value = serde_json::to_vec(&counted).unwrap();
    let checkpoints = vec![Checkpoint { key: "notify:alerts".to_owned(), value: Some(value) }];
    bench.store.commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
    let webhook = json!({ "url": "http://127.0.0.1:9", "groupMax": 1 });
    let sink = bench.sink(&json!({ "webhooks": { "x": webhook }, "dedupWindow": "1s" })).await;
    let stop = CancellationToken::new();
    let script = async {
        // Nobody takes it, as while the service is away.
        bench.holds_one().await;
        for _ in 0..20 {
            tokio::time::advance(REMIND_PAUSE).await;
            // Answered after all that was sent before.
            bench.store.checkpoint("none").await.unwrap();
        }
        let budget = Budget { events: 100, bytes: 1 << 20 };
        let waiting = bench.store.read(bench.queue, 0, budget).await.unwrap();
        assert_eq!(
            waiting.iter().map(|event| &event.content[..]).collect::<Vec<_>>(),
            [WINDOW_OVER]
        );
        bench.store.ack(bench.queue, vec![waiting[0].id]).await.unwrap();
        bench.holds_one().await;
        stop.cancel();
    };
    tokio::join!(sink.run(stop.clone()), script);
}

#[tokio::test]
async fn what_no_service_takes_for_too_long_is_a_dead_letter() {
    let sick = Service::start(|_| 503).await;
    let away = NoListener::new();
    for url in [&sick.url, &away.url()] {
        let bench = Bench::new();
        bench.append(&["one", "two"]).await;
        let webhook = json!({ "url": url, "groupMax": 1 });
        let params = json!({ "webhooks": { "x": webhook }, "maxAge": "300ms" });
        let run = bench.run(bench.sink(&params).await, bench.emptied());
        tokio::time::timeout(Duration::from_secs(60), run).await.expect("given up in time");
        let dead = bench.dead();
        assert_eq!(dead.len(), 2, "{dead:?}");
        let says_why = |reason: &String| {
            reason.starts_with("given up ") && reason.contains("the limit is 300ms: webhook `x`: ")
        };
        assert!(dead.iter().all(says_why), "{dead:?}");
    }
}

/// As where the player's own disk does not let its queue be opened now.
#[tokio::test]
async fn a_queue_that_cannot_be_read_keeps_no_player_from_starting() {
    let service = Service::start(|_| 200).await;
    let bench = Bench::new();
    bench.store.close().await;
    let sink = bench.sink(&json!({ "webhooks": { "x": webhook(&service, 1) } })).await;
    let content = Bytes::from_static(br#"{"method":"POST","path":"/","body":"x"}"#);
    let event = StoredEvent { id: 1, at_ms: 0, attempts: 0, content };
    let refused = sink.write(&SinkBatch::new("b", [event])).await;
    assert!(matches!(refused, Err(SinkError::Retry { .. })), "{refused:?}");
    assert_eq!(service.taken(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_post_is_passed_over() {
    let service = Service::start(|_| 200).await;
    let bench = Bench::new();
    let get = Bytes::from_static(br#"{"method":"GET","path":"/","body":"x"}"#);
    bench.store.commit(Commit::append(bench.queue, vec![get])).await.unwrap();
    let params = json!({ "webhooks": { "x": webhook(&service, 1) } });
    bench.run(bench.sink(&params).await, bench.emptied()).await;
    assert_eq!((service.taken().len(), bench.left(), bench.dead().len()), (0, 0, 0));
}

#[test]
fn people_are_told_so_often_a_minute_and_programs_at_once() {
    let check = |params: Value, expected: Option<f64>| {
        let sink = build_sink(&params).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(sink.shape().rate.writes_per_minute, expected, "{params}");
    };
    let people = json!({ "kind": "slack", "url": "http://127.0.0.1:9" });
    let program = json!({ "url": "http://127.0.0.1:9" });
    check(json!({ "webhooks": { "a": people } }), Some(20.0));
    check(json!({ "webhooks": { "a": program } }), None);
    check(json!({ "webhooks": { "a": program, "b": people } }), Some(20.0));
    check(json!({ "webhooks": { "a": program }, "maxMessagesPerMinute": 5 }), Some(5.0));
    check(json!({ "webhooks": { "a": people }, "maxMessagesPerMinute": 0 }), None);
}

#[test]
fn a_wrong_file_is_told_where() {
    let check = |params: Value, expected: &str| {
        let problems = build_sink(&params).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    };
    check(json!({ "webhooks": {} }), "error: webhooks: expected 1 to 32 services");
    check(json!({}), "webhooks");
    check(
        json!({ "webhooks": { "a": { "kind": "slack" } } }),
        "webhooks.a: kind `slack` needs url",
    );
}

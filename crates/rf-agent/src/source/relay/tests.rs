//! Acknowledgements that the relay does not get, or answers in other words: nothing is stored twice, and nothing stands still.

use std::collections::VecDeque;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use parking_lot::Mutex;
use rf_core::config::Secret;
use rf_core::lifecycle::Tasks;
use rf_core::protocol::{ACKNOWLEDGED, NONE_IS_THERE, RF_LEASE};
use rf_net::client::{Client, ClientOptions};
use rf_queue::{Budget, QueueOptions, Store, StoreOptions};

use super::*;
use crate::pipeline::faults::{Fault, Faults};

const SOON: Duration = Duration::from_secs(20);

/// A relay with one bucket, behind something that may answer in its place.
struct Relay {
    url: String,
    bucket: Arc<Mutex<Bucket>>,
    _tasks: Tasks,
}

#[derive(Default)]
struct Bucket {
    last_id: u64,
    events: Vec<(u64, &'static str)>,
    /// Acknowledgements that came this far.
    acknowledged: usize,
    /// What the next acknowledgements are answered with, before the relay gets them.
    in_between: VecDeque<(StatusCode, &'static str)>,
    /// It says what it does in words of its own.
    is_original: bool,
    /// It hands events out under a lease, and any number of them.
    knows_leases: bool,
    /// It answers no acknowledgement.
    is_stuck: bool,
}

impl Relay {
    async fn start(bucket: Bucket) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let bucket = Arc::new(Mutex::new(bucket));
        let (pulled, acknowledged) = (Arc::clone(&bucket), Arc::clone(&bucket));
        let pull = move |uri: Uri| std::future::ready(pulled.lock().pull(&uri));
        let acknowledge = move |ids: Bytes| {
            let answer = acknowledged.lock().acknowledge(&ids);
            async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        };
        let app = Router::new()
            .route("/first-batch", get(pull))
            .route("/acknowledge-batch", delete(acknowledge));
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("relay", async move { axum::serve(listener, app).await });
        Self { url, bucket, _tasks: tasks }
    }

    fn put(&self, events: &[&'static str]) {
        self.bucket.lock().put(events);
    }

    async fn wait_empty(&self) {
        while !self.bucket.lock().events.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn source(&self) -> RelaySource {
        let base = self.url.parse().unwrap();
        let client = Client::new(&ClientOptions::default()).unwrap();
        RelaySource {
            id: "b".to_owned(),
            bucket: BucketKey { name: "b".to_owned(), token: Secret::new("token") },
            client: Arc::new(RelayClient::new(base, client, "", "").unwrap()),
            poll: Duration::from_millis(5),
        }
    }

    /// One life of a player over this store, until `until`.
    async fn run(&self, store: &Store, until: impl Future<Output = ()>) {
        self.run_into(output(store), until).await;
    }

    async fn run_into(&self, out: Output, until: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let running = Box::new(self.source()).run(out, stop.clone());
        let stopping = async {
            until.await;
            stop.cancel();
        };
        let both = async { tokio::join!(running, stopping) };
        let (ended, ()) = tokio::time::timeout(SOON, both).await.expect("in time");
        assert!(ended.is_ok());
    }
}

impl Bucket {
    fn with(events: &[&'static str]) -> Self {
        let mut bucket = Self::default();
        bucket.put(events);
        bucket
    }

    fn put(&mut self, events: &[&'static str]) {
        for &event in events {
            self.last_id += 1;
            self.events.push((self.last_id, event));
        }
    }

    fn pull(&self, uri: &Uri) -> Response {
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let limit = pairs.find_map(|pair| pair.strip_prefix("limit=")).unwrap();
        if !self.knows_leases && limit.parse::<usize>().unwrap() > PULL_EVENTS_ORIGINAL {
            return (StatusCode::BAD_REQUEST, "Invalid limit").into_response();
        }
        let item =
            |(id, content): &(u64, &str)| serde_json::json!({ "id": id, "content": content });
        let items: Vec<serde_json::Value> = self.events.iter().map(item).collect();
        let status = if items.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let mut response = (status, serde_json::json!(items).to_string()).into_response();
        if self.knows_leases {
            response.headers_mut().insert(RF_LEASE, HeaderValue::from_static("lease"));
        }
        response
    }

    fn acknowledge(&mut self, ids: &[u8]) -> Option<Response> {
        if let Some(answer) = self.in_between.pop_front() {
            return Some(answer.into_response());
        }
        self.acknowledged += 1;
        if self.is_stuck {
            return None;
        }
        let ids = parse_ids(ids, 1000).unwrap();
        let before = self.events.len();
        self.events.retain(|(id, _)| !ids.contains(id));
        let gone = before - self.events.len();
        let (status, words) = match (gone, self.is_original) {
            (0, true) => (StatusCode::NOT_FOUND, "Not found".to_owned()),
            (0, false) => {
                (StatusCode::NOT_FOUND, serde_json::json!({ "error": NONE_IS_THERE }).to_string())
            }
            (_, true) => (StatusCode::OK, "Done".to_owned()),
            (_, false) => (StatusCode::OK, format!("{gone} events {ACKNOWLEDGED}")),
        };
        Some((status, words).into_response())
    }
}

fn open(folder: &std::path::Path) -> Store {
    let queues = vec![QueueOptions::new("q")];
    Store::open(StoreOptions::new(folder.join("q.sqlite3"), 4 << 20, queues)).unwrap().store
}

fn output(store: &Store) -> Output {
    Output::new(store.clone(), vec![store.queue("q").unwrap()])
}

async fn stored(store: &Store) -> Vec<String> {
    let all = Budget { events: 100, bytes: usize::MAX };
    let events = store.read(store.queue("q").unwrap(), 0, all).await.unwrap();
    events.iter().map(|event| String::from_utf8(event.content.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn what_somebody_else_answers_to_an_acknowledgement_stores_nothing_twice() {
    let page = (StatusCode::NOT_FOUND, "<html><title>404 Not Found</title></html>");
    let no_path = (StatusCode::NOT_FOUND, r#"{"error":"no such path"}"#);
    let ok = (StatusCode::OK, "ok");
    for in_between in [vec![page], vec![no_path], vec![ok], vec![page, ok, page]] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let told = format!("{in_between:?}");
        let bucket = Bucket::with(&["one", "two", "three"]);
        let relay = Relay::start(Bucket { in_between: in_between.into(), ..bucket }).await;
        relay.run(&store, relay.wait_empty()).await;
        assert_eq!(stored(&store).await, ["one", "two", "three"], "{told}");
    }
}

#[tokio::test]
async fn what_was_stored_by_a_run_before_is_not_stored_again_either() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let relay = Relay::start(Bucket::with(&["one", "two"])).await;
    let (status, words) = (StatusCode::BAD_GATEWAY, "");
    relay.bucket.lock().in_between = vec![(status, words); 1000].into();
    let both_are_stored = async {
        while stored(&store).await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    relay.run(&store, both_are_stored).await;
    let page = (StatusCode::NOT_FOUND, "<html><title>404 Not Found</title></html>");
    relay.bucket.lock().in_between = vec![page].into();
    relay.put(&["three"]);
    relay.run(&store, relay.wait_empty()).await;
    assert_eq!(stored(&store).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_is_being_stored_when_the_player_stops_is_acknowledged_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let relay = Relay::start(Bucket::with(&["one", "two"])).await;
    let stop = CancellationToken::new();
    let stop_now = stop.clone();
    let plan = move |_number: u64, batch: &Batch| {
        if !batch.events.is_empty() {
            stop_now.cancel();
        }
        Fault::None
    };
    let out = output(&store).with_faults(Arc::new(Faults::new(0, Box::new(plan))));
    let running = Box::new(relay.source()).run(out, stop);
    assert!(tokio::time::timeout(SOON, running).await.expect("in time").is_ok());
    assert_eq!(stored(&store).await, ["one", "two"]);
    assert!(relay.bucket.lock().events.is_empty());
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_at_once_is_stored_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let relay = Relay::start(Bucket::with(&["one", "two", "three"])).await;
    let plan = |_number: u64, batch: &Batch| match batch.events.len() {
        0 | 1 => Fault::None,
        _ => Fault::Refuse(Rejected::Full { sink: "q".to_owned(), reason: FullReason::Disk }),
    };
    let out = output(&store).with_faults(Arc::new(Faults::new(0, Box::new(plan))));
    relay.run_into(out, relay.wait_empty()).await;
    assert_eq!(stored(&store).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn parts_grow_again_once_the_disk_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let events = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let relay = Relay::start(Bucket::with(&events)).await;
    let tries = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&tries);
    let plan = move |_number: u64, batch: &Batch| {
        if batch.events.is_empty() {
            return Fault::None;
        }
        let mut tries = noted.lock();
        tries.push(batch.events.len());
        match tries.len() {
            1..=3 => {
                Fault::Refuse(Rejected::Full { sink: "q".to_owned(), reason: FullReason::Disk })
            }
            _ => Fault::None,
        }
    };
    let out = output(&store).with_faults(Arc::new(Faults::new(0, Box::new(plan))));
    relay.run_into(out, relay.wait_empty()).await;
    assert_eq!(*tries.lock(), [8, 4, 2, 1, 2, 4, 1]);
    assert_eq!(stored(&store).await, events);
}

#[tokio::test]
async fn a_relay_that_does_not_answer_holds_up_the_stop_for_a_moment_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bucket = Bucket::with(&["one"]);
    let relay = Relay::start(Bucket { is_stuck: true, ..bucket }).await;
    let it_is_asked = async {
        while relay.bucket.lock().acknowledged == 0 {
            tokio::task::yield_now().await;
        }
        // From here on time passes at once.
        tokio::time::pause();
    };
    relay.run(&store, it_is_asked).await;
}

#[tokio::test]
async fn a_relay_of_the_original_says_it_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bucket = Bucket::with(&["one", "two"]);
    let relay = Relay::start(Bucket { is_original: true, ..bucket }).await;
    let two_batches = async {
        relay.wait_empty().await;
        relay.put(&["three"]);
        relay.wait_empty().await;
    };
    relay.run(&store, two_batches).await;
    // The ids of the last batch are there to be acknowledged once more, and its events are not.
    let one_more = async {
        relay.put(&["four"]);
        relay.wait_empty().await;
    };
    relay.run(&store, one_more).await;
    assert_eq!(stored(&store).await, ["one", "two", "three", "four"]);
    let acknowledged = relay.bucket.lock().acknowledged;
    assert_eq!(acknowledged, 4, "three batches, and one of them again after the start");
}

#[tokio::test]
async fn a_relay_of_the_original_may_take_the_place_of_one_that_knows_leases() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bucket = Bucket::with(&["one"]);
    let relay = Relay::start(Bucket { knows_leases: true, ..bucket }).await;
    let both_batches = async {
        relay.wait_empty().await;
        {
            let mut bucket = relay.bucket.lock();
            (bucket.knows_leases, bucket.is_original) = (false, true);
            bucket.put(&["two"]);
        }
        relay.wait_empty().await;
    };
    relay.run(&store, both_batches).await;
    assert_eq!(stored(&store).await, ["one", "two"]);
}

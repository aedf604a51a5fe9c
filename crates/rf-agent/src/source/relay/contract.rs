//! The contract of sources: what a relay holds is stored once, however often the player is killed. The relay here has a few
//! lines; with leases, or as the original answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{StatusCode, Uri};
use parking_lot::Mutex;
use rf_core::config::Secret;
use rf_core::lifecycle::Tasks;
use rf_core::protocol::{
    ACKNOWLEDGED, NONE_IS_THERE, PulledEvent, RF_LEASE, encode_pulled, parse_ids,
};
use rf_net::client::{Client, ClientOptions};
use rf_net::listen::listen;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{BucketKey, RelayClient, RelaySource};
use crate::source::Source;
use crate::source::contract::{Origin, check_source_contract};

/// Events stay until they are acknowledged. Nobody but the one player asks, and its next pull ends its lease, so a leased
/// event is never held back.
struct Bucket {
    knows_leases: bool,
    events: Mutex<Vec<PulledEvent>>,
    written: Notify,
}

impl Bucket {
    /// The first events, as soon as there are any.
    async fn first(&self, limit: usize) -> Vec<PulledEvent> {
        loop {
            let written = self.written.notified();
            let events = self.now(limit);
            if !events.is_empty() {
                return events;
            }
            written.await;
        }
    }

    fn now(&self, limit: usize) -> Vec<PulledEvent> {
        self.events.lock().iter().take(limit).cloned().collect()
    }

    /// How many of them were there.
    fn remove(&self, ids: &[u64]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|event| !ids.contains(&event.id));
        before - events.len()
    }
}

/// What a pull asks for.
#[derive(Debug, Deserialize)]
struct Asked {
    limit: usize,
    wait: String,
}

async fn first_batch(State(bucket): State<Arc<Bucket>>, Query(asked): Query<Asked>) -> Response {
    let events = if bucket.knows_leases {
        let wait = asked.wait.trim_end_matches('s').parse().unwrap();
        let first = bucket.first(asked.limit);
        timeout(Duration::from_secs(wait), first).await.unwrap_or_default()
    } else {
        bucket.now(asked.limit)
    };
    let status = if events.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let body = encode_pulled(&events);
    if bucket.knows_leases {
        (status, [(RF_LEASE, "a-lease")], body).into_response()
    } else {
        (status, body).into_response()
    }
}

async fn acknowledge(State(bucket): State<Arc<Bucket>>, body: Bytes) -> (StatusCode, String) {
    let gone = bucket.remove(&parse_ids(&body, 1000).unwrap());
    match (gone, bucket.knows_leases) {
        (0, true) => (StatusCode::NOT_FOUND, json!({ "error": NONE_IS_THERE }).to_string()),
        (_, true) => (StatusCode::OK, format!("{gone} events {ACKNOWLEDGED}")),
        (0, false) => (StatusCode::NOT_FOUND, "Not found".to_owned()),
        (_, false) => (StatusCode::OK, "Done".to_owned()),
    }
}

async fn nothing_to_do() -> StatusCode {
    StatusCode::OK
}

/// A relay with one bucket.
struct Relay {
    url: Uri,
    bucket: Arc<Bucket>,
    _tasks: Tasks,
}

impl Relay {
    fn start(knows_leases: bool) -> Self {
        let listener = listen("127.0.0.1", 0).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (events, written) = (Mutex::default(), Notify::new());
        let bucket = Arc::new(Bucket { knows_leases, events, written });
        let app = Router::new()
            .route("/first-batch", get(first_batch))
            .route("/acknowledge-batch", delete(acknowledge))
            .route("/extend-lease", post(nothing_to_do))
            .route("/release-batch", post(nothing_to_do))
            .with_state(Arc::clone(&bucket));
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("relay", async move { axum::serve(listener, app).await });
        Self { url, bucket, _tasks: tasks }
    }
}

impl Origin for Relay {
    fn source(&self) -> Box<dyn Source> {
        let client = Client::new(&ClientOptions::default()).unwrap();
        let client = RelayClient::new(self.url.clone(), client, "", "h").unwrap();
        Box::new(RelaySource {
            id: "s".to_owned(),
            bucket: BucketKey { name: "b".to_owned(), token: Secret::new("token") },
            client: Arc::new(client),
            poll: Duration::from_millis(5),
        })
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        let content = Bytes::from(number.to_string());
        let event = PulledEvent { id: number + 1, content, attempts: 0 };
        self.bucket.events.lock().push(event);
        self.bucket.written.notify_waiters();
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        std::str::from_utf8(event).ok()?.parse().ok()
    }
}

#[tokio::test]
pub(crate) async fn a_relay_with_leases_keeps_the_contract() {
    check_source_contract(|| Relay::start(true)).await;
}

#[tokio::test]
pub(crate) async fn a_relay_of_the_original_keeps_the_contract() {
    check_source_contract(|| Relay::start(false)).await;
}

//! The sink's contract: every event reaches its host, with one key however often it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_core::lifecycle::Tasks;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tests::sink;
use super::{IDEMPOTENCY_KEY, Sink};
use crate::sink::contract::{Promise, Subject, check_sink_contract};

/// A host that writes down which numbers came, and under which key.
struct Numbers {
    url: String,
    got: Arc<Mutex<Vec<(usize, String)>>>,
    concurrency: usize,
    _tasks: Tasks,
}

impl Numbers {
    async fn start(concurrency: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&got);
        let app = Router::new().fallback(move |request: Request| {
            let number = request.uri().path().trim_start_matches('/').parse().unwrap();
            let key = request.headers()[IDEMPOTENCY_KEY].to_str().unwrap().to_owned();
            kept.lock().push((number, key));
            std::future::ready("thanks")
        });
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("host", async move { axum::serve(listener, app).await });
        Self { url, got, concurrency, _tasks: tasks }
    }
}

impl Subject for Numbers {
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(&json!({ "targetHost": self.url, "concurrency": self.concurrency })).unwrap()
    }

    fn event(&self, number: usize) -> String {
        let id = Uuid::from_u128(number as u128).to_string();
        json!({ "method": "POST", "path": format!("/{number}"), "eventId": id }).to_string()
    }

    fn refused(&self) -> Option<String> {
        Some("no request".to_owned())
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let got = self.got.lock().clone();
        let mut keys: HashMap<usize, String> = HashMap::new();
        for (number, key) in &got {
            let first = keys.entry(*number).or_insert_with(|| key.clone());
            assert_eq!(first, key, "a repeat of {number} has another key");
        }
        let distinct: std::collections::HashSet<&String> = keys.values().collect();
        assert_eq!(distinct.len(), keys.len(), "two events have one key");
        Box::pin(std::future::ready(got.into_iter().map(|(number, _)| number).collect()))
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_host_gets_everything_in_order() {
    check_sink_contract(&Numbers::start(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_host_gets_everything_of_many_at_a_time() {
    check_sink_contract(&Numbers::start(16).await).await;
}

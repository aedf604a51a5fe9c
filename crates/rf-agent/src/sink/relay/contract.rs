//! The sink's contract: a relay knows each batch by its id, so it has every event once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use rf_core::lifecycle::Tasks;
use rf_core::protocol::{RF_BATCH_ID, parse_batch};
use rf_net::listen::listen;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::tests::sink;
use crate::sink::contract::{Promise, Subject, check_sink_contract};

/// A batch with this event is refused.
const REFUSED: &str = "no number";

/// What a relay stores of the batches that it is sent.
#[derive(Default)]
struct Bucket {
    /// In order.
    events: Vec<usize>,
    batches: HashMap<String, Vec<usize>>,
    /// Ids that came again with other events.
    changed: Vec<String>,
}

impl Bucket {
    fn record(&mut self, headers: &HeaderMap, body: &Bytes) -> (StatusCode, &'static str) {
        let numbers = parse_batch(body, 1000).unwrap();
        let numbers: Option<Vec<usize>> = numbers
            .iter()
            .map(|content| std::str::from_utf8(content).ok()?.parse::<usize>().ok())
            .collect();
        // In the words of a relay: others blame no event.
        let refused = (StatusCode::BAD_REQUEST, r#"{"error":"an event is not a number"}"#);
        let Some(numbers) = numbers else { return refused };
        match self.batches.entry(headers[RF_BATCH_ID].to_str().unwrap().to_owned()) {
            Entry::Vacant(new) => {
                self.events.extend(&numbers);
                new.insert(numbers);
            }
            Entry::Occupied(known) if *known.get() == numbers => {}
            Entry::Occupied(known) => self.changed.push(known.key().clone()),
        }
        (StatusCode::OK, "stored")
    }
}

/// A relay with one bucket.
struct Relay {
    url: String,
    bucket: Arc<Mutex<Bucket>>,
    _tasks: Tasks,
}

impl Relay {
    fn start() -> Self {
        let listener = listen("127.0.0.1", 0).unwrap();
        let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
        let bucket: Arc<Mutex<Bucket>> = Arc::default();
        let stored = Arc::clone(&bucket);
        let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let (status, words) = stored.lock().record(&headers, &body);
            std::future::ready((status, [(ACCEPT_ENCODING, "zstd")], words))
        });
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("relay", async move { axum::serve(listener, app).await });
        Self { url, bucket, _tasks: tasks }
    }
}

impl Subject for Relay {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        let mut sink = sink(&self.url, true);
        // Answers get lost here, and are soon asked for again.
        sink.shape.backoff = (Duration::from_millis(1), Duration::from_millis(10));
        Arc::new(sink)
    }

    fn event(&self, number: usize) -> String {
        number.to_string()
    }

    fn refused(&self) -> Option<String> {
        Some(REFUSED.to_owned())
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let bucket = self.bucket.lock();
        assert!(bucket.changed.is_empty(), "repeated with other events: {:?}", bucket.changed);
        Box::pin(std::future::ready(bucket.events.clone()))
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_bucket_gets_everything_once() {
    check_sink_contract(&Relay::start()).await;
}

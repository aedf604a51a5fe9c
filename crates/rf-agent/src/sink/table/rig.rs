//! What the tests of the sinks with tables share.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use rf_core::config::{Node, Problems, parse};
use rf_net::body::read_capped;
use rf_queue::{QueueOptions, Store, StoreOptions, StoredEvent};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::sink::{Sink, SinkBatch, SinkContext, SinkError, SinkHost};

/// What makes a sink of its `params`.
pub(crate) type Build = fn(&SinkContext<'_>, &Node<'_>, &mut Problems) -> Option<Arc<dyn Sink>>;

/// The sink that a file with these `params` makes, over the files in `folder`.
pub(crate) fn sink(build: Build, folder: &Path, params: &str) -> Arc<dyn Sink> {
    let context = SinkContext { name: "subject", data_dir: folder, sinks: &["subject", "mail"] };
    let mut problems = Problems::default();
    let document = parse("player.json", params, &|_| None, &mut problems).expect("params");
    let built = build(&context, &document.root(), &mut problems);
    assert!(!problems.has_errors(), "{problems:?}");
    built.expect("a sink")
}

/// A sink that has started, with its files and the queues of an agent.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) sink: Arc<dyn Sink>,
    next_id: u64,
    build: Build,
    params: String,
}

impl Rig {
    pub(crate) async fn start(build: Build, params: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), build, params).await
    }

    /// Over files that are there already.
    pub(crate) async fn start_in(folder: TempDir, build: Build, params: &str) -> Self {
        Self::start_beside(QueueOptions::new("mail"), folder, build, params).await
    }

    /// With this queue of another sink.
    pub(crate) async fn start_beside(
        other: QueueOptions,
        folder: TempDir,
        build: Build,
        params: &str,
    ) -> Self {
        let queues = vec![QueueOptions::new("subject"), other];
        let options = StoreOptions::new(folder.path().join("queues.sqlite3"), 8 << 20, queues);
        let store = Store::open(options).unwrap().store;
        let sink = sink(build, folder.path(), params);
        sink.start(&SinkHost { store: store.clone() }).await.unwrap();
        Self { folder, store, sink, next_id: 1, build, params: params.to_owned() }
    }

    /// Builds the sink anew over its files.
    pub(crate) async fn restart(&mut self) {
        self.sink = sink(self.build, self.folder.path(), &self.params);
        self.sink.start(&SinkHost { store: self.store.clone() }).await.unwrap();
    }

    /// The same, with other settings.
    pub(crate) async fn restart_with(&mut self, params: &str) {
        self.params = params.to_owned();
        self.restart().await;
    }

    /// A batch of new events.
    pub(crate) fn batch(&mut self, contents: &[String]) -> SinkBatch {
        let events: Vec<StoredEvent> = contents
            .iter()
            .map(|content| {
                self.next_id += 1;
                StoredEvent {
                    id: self.next_id,
                    at_ms: 0,
                    attempts: 0,
                    content: Bytes::from(content.clone()),
                }
            })
            .collect();
        SinkBatch::new(format!("batch-{}", self.next_id), events)
    }

    pub(crate) async fn try_write(&mut self, contents: &[String]) -> Result<(), SinkError> {
        let batch = self.batch(contents);
        self.sink.write(&batch).await
    }

    pub(crate) async fn write(&mut self, contents: &[String]) {
        self.try_write(contents).await.expect("written");
    }

    /// Writes a batch as a worker does, in halves where it is refused for good; what was refused in the end, and why. Any
    /// other error would have it tried again for ever.
    pub(crate) async fn deliver(&mut self, contents: &[String]) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        let mut parts = vec![self.batch(contents)];
        while let Some(part) = parts.pop() {
            let Err(error) = self.sink.write(&part).await else { continue };
            let SinkError::Permanent(reason) = error else { panic!("{part:?}: {error}") };
            if let [event] = &part.events[..] {
                refused.push((String::from_utf8(event.content.to_vec()).unwrap(), reason));
                continue;
            }
            let (front, back) = part.events.split_at(part.events.len() / 2);
            for (half, events) in [(1, back), (0, front)] {
                parts.push(SinkBatch::new(format!("{}.{half}", part.id), events));
            }
        }
        refused
    }

    /// One POST of this body.
    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        self.write(&[event("POST", path, body)]).await;
    }

    /// What the API answers.
    pub(crate) async fn get(&self, uri: &str) -> (StatusCode, String) {
        get(Arc::clone(&self.sink).api().expect("an API"), uri).await
    }

    /// What the API answers well, as JSON.
    pub(crate) async fn json(&self, uri: &str) -> Value {
        let (status, text) = self.get(uri).await;
        assert_eq!(status, StatusCode::OK, "{uri}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The refusal of the API.
    pub(crate) async fn refusal(&self, uri: &str) -> (u16, String) {
        let (status, text) = self.get(uri).await;
        let body: Value = serde_json::from_str(&text).expect("JSON");
        (status.as_u16(), body["error"].as_str().expect("an error").to_owned())
    }
}

/// An event's content, without an id.
pub(crate) fn event(method: &str, path: &str, body: &str) -> String {
    serde_json::json!({ "method": method, "path": path, "body": body }).to_string()
}

/// An event's content with an id.
pub(crate) fn event_with_id(id: u128, path: &str, body: &str) -> String {
    let id = uuid::Uuid::from_u128(id).to_string();
    serde_json::json!({ "method": "POST", "path": path, "body": body, "eventId": id }).to_string()
}

/// What a router answers to a GET.
pub(crate) async fn get(router: Router, uri: &str) -> (StatusCode, String) {
    let request = Request::get(uri).body(Body::empty()).expect("a URI");
    send(router, request).await
}

/// What a router answers.
pub(crate) async fn send(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.oneshot(request).await.expect("routers do not fail");
    let status = response.status();
    let time = std::time::Duration::from_secs(60);
    let body = read_capped(response.into_body(), 256 << 20, time).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

//! A service that a test plays, and a target made of a file's text.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use rf_core::config::{Problems, parse};
use rf_core::lifecycle::Tasks;
use rf_notify::{Message, Target, TargetConfig};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What a service was sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Null where the text is no JSON.
    pub(crate) json: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

type Rules = dyn Fn(&Received) -> (u16, String) + Send + Sync;

/// A service on a port of its own until it is dropped.
pub(crate) struct Service {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    _tasks: Tasks,
}

impl Service {
    /// A service that answers by these rules.
    pub(crate) async fn start(
        rules: impl Fn(&Received) -> (u16, String) + Send + Sync + 'static,
    ) -> Service {
        Service::with_headers(&[], rules).await
    }

    /// The same, with these headers in each answer.
    pub(crate) async fn with_headers(
        headers: &'static [(&'static str, &'static str)],
        rules: impl Fn(&Received) -> (u16, String) + Send + Sync + 'static,
    ) -> Service {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (kept, rules): (_, Arc<Rules>) = (Arc::clone(&received), Arc::new(rules));
        let app = Router::new().fallback(move |method, uri: Uri, head, body: Bytes| {
            let (kept, rules) = (Arc::clone(&kept), Arc::clone(&rules));
            async move {
                let mut answer = answer(&kept, &*rules, take(method, &uri, head, &body));
                for (name, value) in headers {
                    answer.headers_mut().insert(*name, HeaderValue::from_static(value));
                }
                answer
            }
        });
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("service", async move { axum::serve(listener, app).await });
        Service { url, received, _tasks: tasks }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// The one request so far.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

fn take(method: Method, uri: &Uri, headers: HeaderMap, body: &Bytes) -> Received {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    Received { method, path, headers, text, json }
}

fn answer(kept: &Mutex<Vec<Received>>, rules: &Rules, received: Received) -> Response {
    let (status, body) = rules(&received);
    kept.lock().push(received);
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

/// The target that a file with this text means; the problems otherwise.
pub(crate) fn build(config: &Value) -> Result<Target, String> {
    let (target, problems) = check(config);
    target.filter(|_| !problems.has_errors()).ok_or_else(|| problems.to_string())
}

/// The target, if there is one, and all problems, warnings as well.
pub(crate) fn check(config: &Value) -> (Option<Target>, Problems) {
    let mut problems = Problems::new();
    let text = config.to_string();
    let document = parse("file.json", &text, &|_| None, &mut problems).expect("it is JSON");
    let root = document.root();
    let config: Option<TargetConfig> = root.decode(&mut problems);
    let target = config.and_then(|config| Target::build("it", &config, &root, &mut problems));
    (target, problems)
}

pub(crate) fn target(config: &Value) -> Target {
    build(config).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) fn message(subject: &str, text: &str) -> Message {
    Message { subject: subject.to_owned(), text: text.to_owned() }
}

/// A message that tries to call everybody and to break out of every format.
pub(crate) fn hostile() -> Message {
    message(
        "disk \"full\" @everyone",
        "@here <!channel> <@U024BE7LH> <at>all</at> @admin\n\"},{\"x\":1}\\ \u{0}\u{202e}{{subject}}",
    )
}

//! What a file changes of a request, and to which host it goes.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode as Status;
use parking_lot::Mutex;
use rf_core::config::parse;
use rf_core::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::no_listener::NoListener;

/// A host that answers with one status, and keeps what it got: method, target, headers.
struct Host {
    url: String,
    got: Arc<Mutex<Vec<(String, String, http::HeaderMap)>>>,
    _tasks: Tasks,
}

impl Host {
    async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&got);
        let app = Router::new().fallback(move |request: Request| {
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            kept.lock().push((method, target, request.headers().clone()));
            std::future::ready(Status::from_u16(status).unwrap())
        });
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("host", async move { axum::serve(listener, app).await });
        Self { url, got, _tasks: tasks }
    }

    fn got(&self) -> Vec<(String, String, http::HeaderMap)> {
        self.got.lock().clone()
    }
}

pub(super) fn sink(params: &Value) -> Result<Arc<dyn Sink>, String> {
    let mut problems = Problems::new();
    let document = parse("player.json", &params.to_string(), &|_| None, &mut problems).unwrap();
    let folder = std::path::Path::new(".");
    let context = SinkContext { name: "http", data_dir: folder, sinks: &["http"] };
    let sink = build(&context, &document.root(), &mut problems);
    sink.filter(|_| !problems.has_errors()).ok_or_else(|| problems.to_string())
}

async fn send(sink: &Arc<dyn Sink>, event: &Value) -> Result<(), SinkError> {
    let content = event.to_string().into();
    let event = StoredEvent { id: 1, at_ms: 0, content, attempts: 0 };
    sink.write(&SinkBatch::new("1", [event])).await
}

/// The one request of this event with these `params` besides the host.
async fn sent(mut params: Value, event: &Value) -> (String, String, http::HeaderMap) {
    let host = Host::start(200).await;
    params["targetHost"] = host.url.clone().into();
    send(&sink(&params).unwrap(), event).await.unwrap();
    let got = host.got();
    assert_eq!(got.len(), 1);
    got[0].clone()
}

fn event() -> Value {
    json!({
        "method": "GET", "path": "/api/users/7", "params": { "q": ["1"] },
        "headers": { "X-Tenant": ["shop"], "Authorization": ["Bearer captured"], "Host": ["a.example"] },
        "body": "{\"kind\":\"order\"}",
    })
}

#[tokio::test]
async fn headers_are_set_filled_in_and_taken_away() {
    let params = json!({ "headers": {
        "X-Static": "100%20", "X-From": "{header.x-tenant}/{body.kind}", "x-tenant": "", "Host": "{param.q}.example"
    } });
    let (_, _, headers) = sent(params, &event()).await;
    assert_eq!(headers["x-static"], "100%20");
    assert_eq!(headers["x-from"], "shop/order");
    assert_eq!(headers["host"], "1.example");
    assert_eq!(headers.get("x-tenant"), None);
    assert_eq!(headers["authorization"], "Bearer captured");
}

#[tokio::test]
async fn half_of_a_surrogate_pair_keeps_no_event_from_filling_headers_in() {
    let host = Host::start(200).await;
    let params = json!({ "targetHost": host.url, "headers": { "X-Kind": "{body.kind}" } });
    let content = r#"{"path":"/","body":{"kind":"order"},"note":"\ud83d"}"#.into();
    let event = StoredEvent { id: 1, at_ms: 0, content, attempts: 0 };
    let batch = SinkBatch::new("1", [event]);
    sink(&params).unwrap().write(&batch).await.unwrap();
    assert_eq!(host.got()[0].2["x-kind"], "order");
}

#[tokio::test]
async fn a_value_that_no_header_can_hold_is_a_dead_letter() {
    let host = Host::start(200).await;
    let filled_in = json!({ "targetHost": host.url, "headers": { "X-A": "{body.kind}" } });
    let captured = json!({ "targetHost": host.url });
    let cause = "it has a line break or another control character, which no header can hold";
    for (params, evil) in [
        (filled_in, json!({ "body": "{\"kind\":\"a\\r\\nX-Evil: 1\"}" })),
        (captured, json!({ "headers": { "x-a": ["a\u{7f}"] } })),
    ] {
        let refused = send(&sink(&params).unwrap(), &evil).await.unwrap_err();
        let expected = format!("value of header `x-a`: {cause}");
        assert_eq!(refused, SinkError::Permanent(expected), "{evil}");
    }
    assert!(host.got().is_empty());
}

#[tokio::test]
async fn more_headers_than_a_request_can_hold_are_a_dead_letter() {
    let host = Host::start(200).await;
    let sink = sink(&json!({ "targetHost": host.url })).unwrap();
    let headers: serde_json::Map<String, Value> =
        (0..40_000).map(|number| (format!("x-{number}"), json!([""]))).collect();
    let refused = send(&sink, &json!({ "headers": headers })).await.unwrap_err();
    let expected = "the event has more than 10000 headers";
    assert_eq!(refused, SinkError::Permanent(expected.to_owned()));
    assert!(host.got().is_empty());
}

#[tokio::test]
async fn method_and_path_are_changed_and_the_query_stays() {
    let rewrites = json!([
        { "from": "^/other", "to": "/x" },
        { "from": "^/api/([a-z]+)/", "to": "/v2/$1?id=" },
        { "from": "users", "to": "never" },
    ]);
    let (method, target, _) =
        sent(json!({ "method": "put", "rewritePath": rewrites }), &event()).await;
    assert_eq!((method.as_str(), target.as_str()), ("PUT", "/v2/users?id=7&q=1"));
    let (_, target, _) =
        sent(json!({ "rewritePath": [{ "from": ".*", "to": "" }] }), &event()).await;
    assert_eq!(target, "/?q=1");
}

#[tokio::test]
async fn our_authorization_takes_the_place_of_the_captured_one() {
    let basic = json!({ "basicAuth": { "username": "me", "password": "secret" } });
    assert_eq!(sent(basic, &event()).await.2["authorization"], "Basic bWU6c2VjcmV0");
    let bearer = json!({ "bearerToken": "t" });
    assert_eq!(sent(bearer, &event()).await.2["authorization"], "Bearer t");
}

/// As Go's client does.
#[tokio::test]
async fn name_and_password_of_a_host_are_sent_where_nothing_else_says_who_asks() {
    let host = Host::start(200).await;
    let url = host.url.replace("http://", "http://m%65:secret@");
    let anonymous = json!({ "method": "GET", "path": "/" });
    for (event, params, expected) in [
        (anonymous.clone(), json!({}), "Basic bWU6c2VjcmV0"),
        (json!({ "headers": { "Authorization": ["Bearer own"] } }), json!({}), "Bearer own"),
        (anonymous, json!({ "bearerToken": "t" }), "Bearer t"),
    ] {
        let mut params = params;
        params["targetHost"] = json!(url);
        send(&sink(&params).unwrap(), &event).await.unwrap();
        let (_, _, headers) = host.got().pop().unwrap();
        assert_eq!(headers["authorization"], expected);
        assert!(!headers["host"].to_str().unwrap().contains('@'));
    }
}

#[tokio::test]
async fn a_host_that_is_away_hands_over_to_the_next_at_once_and_rests() {
    let (away, second, third) = (NoListener::new(), Host::start(200).await, Host::start(200).await);
    let sink = sink(&json!({ "targetHosts": [away.url(), second.url, third.url] })).unwrap();
    for _ in 0..3 {
        send(&sink, &event()).await.unwrap();
    }
    assert_eq!((second.got().len(), third.got().len()), (3, 0));
}

#[tokio::test]
async fn a_host_that_cannot_serve_is_not_the_next_one_to_be_asked() {
    let (sick, well) = (Host::start(503).await, Host::start(200).await);
    let sink = sink(&json!({ "targetHosts": [sick.url, well.url] })).unwrap();
    let refused = send(&sink, &event()).await.unwrap_err();
    assert!(matches!(refused, SinkError::Retry { .. }), "{refused}");
    send(&sink, &event()).await.unwrap();
    assert_eq!((sick.got().len(), well.got().len()), (1, 1));
}

#[tokio::test]
async fn with_all_hosts_away_the_event_waits() {
    let hosts = [NoListener::new(), NoListener::new()];
    let params = json!({ "targetHosts": hosts.each_ref().map(NoListener::url) });
    let refused = send(&sink(&params).unwrap(), &event()).await.unwrap_err();
    assert!(matches!(refused, SinkError::Away(_)), "{refused}");
}

#[test]
fn a_wrong_file_is_told_where() {
    let check = |params: Value, expected: &str| {
        let problems = sink(&params).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
        assert!(!problems.contains("secret"), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    };
    let with = |key: &str, value: Value| json!({ "targetHost": "http://h", key: value });
    check(json!({}), "targetHost is missing");
    check(with("targetHosts", json!(["http://a"])), "targetHost: expected either");
    check(json!({ "targetHosts": ["http://a", "b"] }), "targetHosts[1]: expected a scheme");
    check(with("method", json!("A B")), "method: expected a method");
    check(with("headers", json!({ "Content-Length": "1" })), "belongs to the connection");
    check(with("headers", json!({ "X-A": "{nothing}" })), "headers.X-A: no field `nothing`");
    check(
        with("rewritePath", json!([{ "from": "(", "to": "" }])),
        "rewritePath[0].from: not a regular expression: unclosed group",
    );
    check(with("headers", json!({ "X-A": "a\nb" })), "headers.X-A: it has a line break");
    for (url, part) in [
        ("http://h?key=secret", "a query: each request has its own"),
        ("http://h/below#secret", "`#`: what follows it is never sent"),
    ] {
        check(json!({ "targetHost": url }), &format!("targetHost: expected a URL without {part}"));
        let expected = format!("targetHosts[1]: expected a URL without {part}");
        check(json!({ "targetHosts": ["http://a", url] }), &expected);
    }
    check(with("bearerToken", json!("secret\n")), "bearerToken: expected a token without");
    let mut both = with("bearerToken", json!("secret"));
    both["basicAuth"] = json!({ "username": "a", "password": "secret" });
    check(both, "bearerToken: expected either");
}

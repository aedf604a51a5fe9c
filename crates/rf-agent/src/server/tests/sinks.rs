use axum::http::HeaderMap as Headers;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::no_listener::NoListener;

#[tokio::test]
async fn sinks_are_listed_and_found() {
    let mut plan = plan();
    plan.sinks[0].metadata = Some(json!({ "team": "<b>" }));
    plan.sinks.push(echo("second"));
    let server = start(plan);
    let first = json!({ "id": "db", "name": "name of db", "type": "echo", "metadata": { "team": "<b>" }, "api": true });
    let list: serde_json::Value =
        serde_json::from_str(&server.get("/sink/list").await.text()).unwrap();
    assert_eq!(list[0], first);
    assert_eq!(list[1]["metadata"], json!({}));
    let found = server.get("/sink/find/db").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&found.text()).unwrap(), first);
    let missing = server.get("/sink/find/nope").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.text(), r#"{"error":"no sink has the id `nope`; known: db, second"}"#);
}

#[tokio::test]
async fn what_is_refused_is_told_in_json() {
    let server = start(plan());
    for (method, path, status) in [
        ("GET", "/sink/find/%ff", 400),
        ("GET", "/-/%ff", 400),
        ("POST", "/sink/list", 405),
        ("DELETE", "/ping", 405),
        ("POST", "/-/", 405),
        ("GET", "/%ff/list", 404),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let body: serde_json::Value = serde_json::from_str(&answer.text()).expect(path);
        assert!(body["error"].is_string(), "{method} {path}: {}", answer.text());
        if status == 405 {
            assert!(answer.header("allow").contains("GET"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_sink_sees_the_path_below_its_id() {
    let mut plan = plan();
    plan.sinks.push(echo("ä b"));
    let server = start(plan);
    for (path, expected) in [
        ("/db", "GET / "),
        ("/db/", "GET / "),
        ("/db/list?x=%2F&y", "GET /list?x=%2F&y "),
        ("/db/find/t/%2e%2e%2Fid", "GET /find/t/%2e%2e%2Fid "),
        ("/db//x", "GET //x "),
        ("/%C3%A4%20b/list", "GET /list "),
        ("/db?a", "GET /?a "),
    ] {
        assert_eq!(server.get(path).await.text(), expected, "{path}");
    }
    let other = server.get("/dbx/list").await;
    assert_eq!(other.status, 404);
    assert_eq!(
        other.text(),
        r#"{"error":"nothing is at /dbx/list: see /sink/list for the sinks"}"#
    );
}

#[tokio::test]
async fn the_relays_status_is_handed_on_without_the_askers_credentials_and_without_scripts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let relay = {
        let seen = Arc::clone(&seen);
        let answer = move |headers: Headers, uri: http::Uri| async move {
            seen.lock().push((uri.to_string(), headers));
            let sent = [("content-type", "text/html"), ("set-cookie", "a=b"), ("etag", "\"1\"")];
            (StatusCode::ACCEPTED, sent, "<script>")
        };
        let mut plan = plan();
        let shape = plan.sinks[0].sink.shape().clone();
        plan.sinks = vec![ServedSink {
            sink: Arc::new(Fixed {
                shape,
                router: Router::new().fallback(answer),
                own_listener: false,
            }),
            ..echo("r")
        }];
        start(plan)
    };
    let mut plan = plan();
    let url = format!("http://127.0.0.1:{}/r/", relay.ports[0]);
    plan.relay = RelayStatus::new(
        &url,
        Some(http::HeaderValue::from_static("Bearer of-the-relay")),
        client(),
    );
    let server = start(plan);

    let headers = [("authorization", "Bearer x"), ("cookie", "c"), ("if-none-match", "\"1\"")];
    let answer = server.ask("GET", "/relay-proxy/statusz?bucket=b", &headers, "").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (202, "<script>"));
    assert_eq!(answer.header("etag"), "\"1\"");
    assert_eq!(answer.header("set-cookie"), "");
    assert!(answer.header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    let (uri, got) = seen.lock()[0].clone();
    assert_eq!(uri, "/statusz?bucket=b");
    assert_eq!(got.get("if-none-match").unwrap(), "\"1\"");
    assert_eq!(got.get("authorization").unwrap(), "Bearer of-the-relay");
    assert!(got.get("cookie").is_none());

    assert_eq!(server.ask("POST", "/relay-proxy/x", &[], "").await.status, 405);
    for path in ["/relay-proxy/%2e%2e/sink/list", "/relay-proxy/a/..%2f..%2fx"] {
        assert_eq!(server.get(path).await.status, 400, "{path}");
    }
    assert_eq!(seen.lock().len(), 1, "nothing else reached the relay");
}

/// Answers with a router of the test.
struct Fixed {
    shape: Shape,
    router: Router,
    own_listener: bool,
}

impl Sink for Fixed {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, _: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        Some(self.router.clone())
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.own_listener.then(|| ("127.0.0.1".to_owned(), 0))
    }
}

/// A sink with two endpoints and a listener of its own.
fn with_own_listener(id: &str, kind: &str) -> ServedSink {
    let plain = echo(id);
    let name = id.to_owned();
    let router = Router::new()
        .route("/list", get(move || async move { format!("tables of {name}") }))
        .route("/query-table/{table}", get(rows))
        .fallback(async || (StatusCode::NOT_FOUND, "no such path"));
    let shape = plain.sink.shape().clone();
    let sink = Arc::new(Fixed { shape, router, own_listener: true });
    ServedSink { kind: kind.to_owned(), sink, ..plain }
}

async fn rows(axum::extract::Path(table): axum::extract::Path<String>) -> String {
    format!("rows of {table}")
}

#[tokio::test]
async fn a_listener_of_a_sinks_own_takes_its_paths_bare_and_below_its_id() {
    let mut plan = plan();
    plan.sinks = vec![
        with_own_listener("orders", "db"),
        with_own_listener("query-table", "db"),
        with_own_listener("stats", "time_series"),
    ];
    let server = start(plan);
    let [orders, endpoint, stats, whole] = server.ports[..] else { panic!("four listeners") };
    for (port, path, expected) in [
        (orders, "/list", "tables of orders"),
        (orders, "/orders/list", "tables of orders"),
        (orders, "/%6Frders/list", "tables of orders"),
        (orders, "/query-table/orders", "rows of orders"),
        (orders, "/orders/query-table/orders?limit=1", "rows of orders"),
        (orders, "/orders", "no such path"),
        (orders, "/orders/orders/list", "no such path"),
        (orders, "/others/list", "no such path"),
        (orders, "/timeseries/list", "no such path"),
        (endpoint, "/query-table/list", "rows of list"),
        (endpoint, "/query-table/query-table/list", "rows of list"),
        (stats, "/stats/list", "tables of stats"),
        (stats, "/timeseries/list", "tables of stats"),
        (stats, "/timeseries/query-table/ts_gauge_a_60s", "rows of ts_gauge_a_60s"),
        (whole, "/stats/list", "tables of stats"),
        (whole, "/timeseries/list", "tables of stats"),
    ] {
        let answer = ask(&format!("GET http://127.0.0.1:{port}{path}"), &[], "").await;
        let status = if expected == "no such path" { 404 } else { 200 };
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, expected), "{path}");
    }
}

#[tokio::test]
async fn an_id_comes_before_the_originals_name_of_time_series() {
    let mut plan = plan();
    plan.sinks =
        vec![with_own_listener("stats", "time_series"), with_own_listener("timeseries", "db")];
    let server = start(plan);
    assert_eq!(server.get("/timeseries/list").await.text(), "tables of timeseries");
    assert_eq!(server.get("/stats/list").await.text(), "tables of stats");
}

#[tokio::test]
async fn a_relay_that_is_away_is_named() {
    let mut plan = plan();
    let away = NoListener::new();
    plan.relay = RelayStatus::new(&away.url(), None, client());
    let answer = start(plan).get("/relay-proxy/statusz").await;
    assert_eq!(answer.status, 502);
    let expected = format!("cannot connect to {}", away.address);
    assert!(answer.text().contains(&expected), "{}", answer.text());

    let answer = start(super::plan()).get("/relay-proxy/statusz").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (404, r#"{"error":"relayUrlStatusz is not configured"}"#)
    );
}

#[tokio::test]
async fn the_files_of_the_page_are_sent_once() {
    let server = start(plan());
    let first = server.get("/-/main.js").await;
    assert_eq!(
        (first.status.as_u16(), first.header("content-type")),
        (200, "text/javascript; charset=utf-8")
    );
    let again =
        server.ask("GET", "/-/main.js", &[("if-none-match", first.header("etag"))], "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(server.get("/-/nothing.js").await.status, 404);
}

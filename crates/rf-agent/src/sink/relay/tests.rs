//! Where batches go, how that is shown, and what is counted on the way.

use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::Request as Asked;
use parking_lot::Mutex;
use rf_core::lifecycle::Tasks;
use rf_net::client::ClientOptions;
use rf_queue::{Commit, QueueOptions, Store, StoreOptions, StoredEvent};
use rf_script::{OnError, ScriptOptions};

use super::*;
use crate::no_listener::NoListener;
use crate::sink::{Batching, Overlap, Writes};
use crate::stats::SinkMeter;
use crate::worker::Worker;

const SOON: Duration = Duration::from_secs(20);

pub(super) fn sink(url: &str, is_relay: bool) -> RelaySink {
    sink_with(url, is_relay, "token")
}

fn sink_with(url: &str, is_relay: bool, token: &str) -> RelaySink {
    let writes = Writes::Batches(Batching {
        max_events: 10,
        goal_bytes: 10_000,
        event_limit: None,
        linger: Duration::ZERO,
        overlap: Overlap::Ahead,
    });
    let shape = Shape { backoff: (SOON, SOON), ..Shape::of(writes) };
    let target = RelayTarget {
        uri: url.parse().unwrap(),
        is_relay,
        token: &Secret::new(token),
        buckets: &["b".to_owned()],
        env_name: "",
        host_name: "h",
        timeout: SOON,
    };
    RelaySink::new(&target, shape, Client::new(&ClientOptions::default()).unwrap()).unwrap()
}

#[test]
fn a_script_s_path_goes_behind_the_url_with_one_slash() {
    for (url, path, expected) in [
        ("http://h/", "/v1/logs", "http://h/v1/logs"),
        ("http://h/", "v1/logs", "http://h/v1/logs"),
        ("http://h/in", "/v1", "http://h/in/v1"),
        ("http://h/in/", "v1?a=b", "http://h/in/v1?a=b"),
        ("http://h/in", "?a=b", "http://h/in?a=b"),
        ("http://h/record-batch", "/v1", "http://h/record-batch/v1"),
    ] {
        assert_eq!(sink(url, false).steered(path), expected);
    }
    for (url, path, expected) in [
        ("http://h/record-batch", "record-batch", "http://h/record-batch"),
        ("http://h/record-batch", "/record-batch", "http://h/record-batch"),
        ("http://h/relay/record-batch", "/api/v2/logs", "http://h/relay/api/v2/logs"),
        ("http://h/record-batch", "?a=b", "http://h/record-batch?a=b"),
    ] {
        assert_eq!(sink(url, true).steered(path), expected);
    }
}

#[test]
fn the_url_is_shown_as_configured_but_for_what_is_secret() {
    for (uri, is_relay, expected) in [
        ("http://h:8081/record-batch", true, "http://h:8081/"),
        ("https://u:secret@h/relay/record-batch", true, "https://***@h/relay/"),
        ("http://h:1/v1/record-batch", false, "http://h:1/v1/record-batch"),
        ("https://secret@h/in?api-key=secret&tag", false, "https://***@h/in?api-key=***&***"),
        ("http://h", false, "http://h/"),
    ] {
        assert_eq!(sink(uri, is_relay).url(), expected);
    }
}

/// What a host got of one batch after the other, in bytes; it takes zstd, and answers each time with the number.
async fn host() -> (String, Arc<Mutex<Vec<usize>>>, Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<usize>>> = Arc::default();
    let kept = Arc::clone(&got);
    let app = Router::new().fallback(move |body: Bytes| {
        kept.lock().push(body.len());
        std::future::ready(([(ACCEPT_ENCODING, "zstd")], body.len().to_string()))
    });
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("host", async move { axum::serve(listener, app).await });
    (url, got, tasks)
}

fn batch(content: &str) -> SinkBatch {
    let content = Bytes::copy_from_slice(content.as_bytes());
    let event = StoredEvent { id: 1, at_ms: 0, content, attempts: 0 };
    SinkBatch::new("1", [event])
}

#[tokio::test]
async fn bodies_are_counted_as_they_are_sent_and_answered() {
    let (url, got, _tasks) = host().await;
    let sink = sink(&url, true);
    let content = "x".repeat(5000);
    for _ in 0..2 {
        sink.write(&batch(&content)).await.unwrap();
    }
    let got = got.lock().clone();
    assert!(got[0] > 5000 && got[1] < 1000, "the second one is compressed: {got:?}");
    let traffic = sink.traffic().unwrap();
    assert_eq!(traffic.sent.load(Ordering::Relaxed), (got[0] + got[1]) as u64);
    let answers = got[0].to_string().len() + got[1].to_string().len();
    assert_eq!(traffic.received.load(Ordering::Relaxed), answers as u64);
}

#[tokio::test]
async fn what_a_gateway_answers_does_not_say_what_the_relay_reads() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<usize>>> = Arc::default();
    let kept = Arc::clone(&got);
    let app = Router::new().fallback(move |body: Bytes| {
        let mut sizes = kept.lock();
        sizes.push(body.len());
        let (status, codings) = match sizes.len() {
            2 => (StatusCode::GATEWAY_TIMEOUT, ""),
            // A relay of the original has taken its place.
            4 => (StatusCode::BAD_REQUEST, ""),
            _ => (StatusCode::OK, "zstd"),
        };
        std::future::ready((status, [(ACCEPT_ENCODING, codings)], ""))
    });
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("host", async move { axum::serve(listener, app).await });
    let sink = sink(&url, true);
    let content = "x".repeat(5000);
    for _ in 0..5 {
        drop(sink.write(&batch(&content)).await);
    }
    let compressed: Vec<bool> = got.lock().iter().map(|size| *size < 1000).collect();
    assert_eq!(compressed, [false, true, true, true, false]);
}

/// The ids of what is posted where a script gives the only event of a batch twice.
async fn ids_of_two_copies(is_relay: bool) -> Vec<Option<uuid::Uuid>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&got);
    let app = Router::new().fallback(move |body: Bytes| {
        *kept.lock() = serde_json::from_slice(&body).unwrap();
        std::future::ready(())
    });
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("host", async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.lua");
    std::fs::write(&path, "function TransformBatch(m) return { m[1], m[1] } end").unwrap();
    let queues = vec![QueueOptions::new("sink")];
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let script = BatchScript::new("sink", Arc::new(ScriptOptions::new(path, Vec::new())));
    let sink = sink(&url, is_relay).with_script(Some(script));
    sink.start(&SinkHost { store }).await.unwrap();
    let event = r#"{"body":"x","eventId":"0198c0de-0000-7000-8000-000000000001"}"#;
    sink.write(&batch(event)).await.unwrap();
    let got = got.lock();
    got.iter().map(|event| rf_core::event::event_id(event.as_bytes())).collect()
}

#[tokio::test]
async fn copies_are_told_apart_for_a_relay_and_an_api_gets_what_the_script_has_made() {
    let ids = ids_of_two_copies(true).await;
    assert!(ids.len() == 2 && ids[0].is_some() && ids[1].is_some() && ids[0] != ids[1], "{ids:?}");
    let ids = ids_of_two_copies(false).await;
    assert!(ids.len() == 2 && ids[0].is_some() && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn what_a_batch_has_remembered_is_newer_than_what_init_has() {
    let (url, _got, _tasks) = host().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.lua");
    let script = "function init() kv_set('by', 'init') end
        function TransformBatch(messages) kv_set('by', 'batch') return messages end";
    std::fs::write(&path, script).unwrap();
    let queues = vec![QueueOptions::new("sink")];
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let script = BatchScript::new("sink", Arc::new(ScriptOptions::new(path, Vec::new())));
    let sink = sink(&url, true).with_script(Some(script));
    sink.start(&SinkHost { store: store.clone() }).await.unwrap();
    sink.write(&batch("x")).await.unwrap();
    let stored = store.checkpoint("kv-sink:4:sink:by").await.unwrap().unwrap();
    assert!(stored.ends_with(b"batch"), "{stored:?}");
}

#[tokio::test]
async fn what_a_batch_has_remembered_is_stored_with_a_later_one_where_the_store_refused_it() {
    let (url, got, _tasks) = host().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.lua");
    let script = "function TransformBatch(messages)
        if not kv_get('first') then kv_set('first', messages[1]) end
        return messages
    end";
    std::fs::write(&path, script).unwrap();
    let queues = vec![QueueOptions::new("sink")];
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let script = BatchScript::new("sink", Arc::new(ScriptOptions::new(path, Vec::new())));
    let sink = sink(&url, true).with_script(Some(script));
    sink.start(&SinkHost { store: store.clone() }).await.unwrap();
    let database = rusqlite::Connection::open(folder.path().join("q.sqlite3")).unwrap();
    let rename = |from: &str, to: &str| {
        database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    rename("checkpoints", "away");
    let refused = sink.write(&batch("x")).await;
    assert!(matches!(refused, Err(SinkError::Retry { .. })), "nothing is sent before");
    assert_eq!(got.lock().len(), 0);
    rename("away", "checkpoints");
    sink.write(&batch("x")).await.unwrap();
    let stored = store.checkpoint("kv-sink:4:sink:first").await.unwrap();
    assert_eq!(stored.as_deref(), Some(&b"sx"[..]));
}

/// What the sink counts of three events that this script gets: delivered, dropped on purpose and for a failure, dead letters.
async fn counted(url: &str, script: &str, on_error: OnError) -> [u64; 4] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.lua");
    std::fs::write(&path, script).unwrap();
    let queues = vec![QueueOptions::new("sink")];
    let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
    let store = Store::open(options).unwrap().store;
    let queue = store.queue("sink").unwrap();
    let events = ["a", "b", "c"].map(Bytes::from).to_vec();
    store.commit(Commit::append(queue, events)).await.unwrap();
    let mut options = ScriptOptions::new(path, Vec::new());
    options.on_error = on_error;
    let script = BatchScript::new("sink", Arc::new(options));
    let sink: Arc<dyn Sink> = Arc::new(sink(url, true).with_script(Some(script)));
    sink.start(&SinkHost { store: store.clone() }).await.unwrap();
    let (stop, meter) = (CancellationToken::new(), Arc::<SinkMeter>::default());
    let (id, counts, reached) = ("sink".to_owned(), Arc::clone(&meter), Arc::default());
    let (trace, notes, observer) = (<_>::default(), <_>::default(), None);
    let own = store.clone();
    let emptied = async {
        while store.usage(queue).events > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let stop = stop.clone();
    let worker = Worker {
        id,
        sink,
        store: own,
        queue,
        stop,
        meter: counts,
        reached,
        trace,
        notes,
        observer,
    };
    let both = async { tokio::join!(worker.run(), emptied) };
    tokio::time::timeout(SOON, both).await.expect("all leave the queue");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let dropped = [&meter.dropped_by_script, &meter.dropped_on_error].map(count);
    [meter.delivered.all(), dropped[0], dropped[1], count(&meter.dead_lettered)]
}

#[tokio::test]
async fn what_a_script_lets_go_is_dropped_and_not_delivered() {
    let (url, got, _tasks) = host().await;
    let (empties, fails) = (
        "function TransformBatch() return {} end",
        "function TransformBatch() lua_error('no') end",
    );
    for (script, on_error, expected, posts) in [
        (empties, OnError::DeadLetter, [0, 3, 0, 0], 0),
        (fails, OnError::Drop, [0, 0, 3, 0], 0),
        (fails, OnError::DeadLetter, [0, 0, 0, 3], 0),
        (fails, OnError::Pass, [3, 0, 0, 0], 1),
    ] {
        assert_eq!(counted(&url, script, on_error).await, expected, "{script} {on_error:?}");
        assert_eq!(got.lock().len(), posts, "{script} {on_error:?}");
    }
}

/// A script may copy all headers of an event. By one of them the other end could read less than the batch, and accept it.
#[tokio::test]
async fn what_belongs_to_the_connection_is_not_sent_for_a_script() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>> = Arc::default();
    let kept = Arc::clone(&got);
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        kept.lock().push((headers, body));
        std::future::ready("")
    });
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("host", async move { axum::serve(listener, app).await });
    let names = [
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "TE",
        "Expect",
        "Host",
        "Content-Encoding",
    ];
    let sent = ["Proxy-Authorization", "X-Own"];
    let headers = names.iter().chain(&sent).map(|name| ((*name).to_owned(), "1".to_owned()));
    let steer = Steer { headers: headers.collect(), ..Steer::default() };
    for is_relay in [true, false] {
        sink(&url, is_relay).post("1", Bytes::from_static(b"[]"), &steer).await.unwrap();
        let (headers, body) = got.lock().pop().unwrap();
        assert_eq!(body, "[]");
        assert!(sent.iter().all(|name| headers[*name] == "1"), "{headers:?}");
        let values = names.iter().filter_map(|name| headers.get(*name));
        assert!(values.into_iter().all(|value| value != "1"), "{headers:?}");
    }
}

#[tokio::test]
async fn what_reached_nobody_is_not_counted() {
    let away = NoListener::new();
    let sink = sink(&format!("{}/record-batch", away.url()), true);
    assert!(matches!(sink.write(&batch("x")).await, Err(SinkError::Away(_))));
    assert_eq!(sink.traffic().unwrap().sent.load(Ordering::Relaxed), 0);
}

/// What it means for a batch that it is refused with this status, this `Accept-Encoding` and this body.
async fn meaning(is_relay: bool, answer: (u16, &'static str, &'static str)) -> SinkError {
    outcome(is_relay, answer).await.unwrap_err()
}

/// What becomes of a batch that is answered so.
async fn outcome(
    is_relay: bool,
    answer: (u16, &'static str, &'static str),
) -> Result<(), SinkError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/record-batch", listener.local_addr().unwrap());
    let (status, codings, body) = answer;
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new()
        .fallback(move || std::future::ready((status, [(ACCEPT_ENCODING, codings)], body)));
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("host", async move { axum::serve(listener, app).await });
    sink(&url, is_relay).write(&batch("x")).await
}

#[tokio::test]
async fn what_somebody_else_answers_with_yes_is_not_shipped() {
    // The relay, also one that says more in a later version; one of the original; an API.
    for (is_relay, codings, body) in
        [(true, "zstd, gzip", ""), (true, "zstd, gzip", "ok"), (true, "", ""), (false, "", "ok")]
    {
        let answer = outcome(is_relay, (200, codings, body)).await;
        assert!(answer.is_ok(), "{is_relay} {codings} {body}: {answer:?}");
    }
    // The status port of an original relay, a web server.
    for body in ["ok", "<html><title>Welcome</title></html>"] {
        let refused = meaning(true, (200, "", body)).await;
        assert!(matches!(refused, SinkError::Paused(_)), "{refused}");
        assert!(refused.to_string().contains("not in the form of a relay"), "{refused}");
    }
}

#[tokio::test]
async fn only_a_relay_in_its_own_words_blames_an_event() {
    let ours = r#"{"error":"not the JSON expected here"}"#;
    let gateway = r#"{"error":"Bad Request","path":"/record-batch"}"#;
    let page = "<html>\r\n<head><title>400 Bad Request</title></head>\r\n";
    for status in [400, 422] {
        let own = meaning(true, (status, "zstd, gzip", ours)).await;
        assert!(matches!(own, SinkError::Permanent(_)), "{status}: {own}");
        for (codings, body) in [
            ("", ours),
            ("gzip", ours),
            ("zstd, gzip", gateway),
            ("zstd, gzip", page),
            // As a relay of the original has it.
            ("", "bad JSON\n"),
            ("", ""),
        ] {
            let other = meaning(true, (status, codings, body)).await;
            assert!(matches!(other, SinkError::Paused(_)), "{status} {codings} {body}: {other}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_for_something_before_the_relay_may_pass_in_parts() {
    let ours = r#"{"error":"bucket b: too large"}"#;
    let own = meaning(true, (413, "zstd, gzip", ours)).await;
    assert!(matches!(own, SinkError::Permanent(_)), "{own}");
    let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n";
    let other = meaning(true, (413, "", page)).await;
    assert!(matches!(other, SinkError::TooLarge(_)), "{other}");
    assert!(other.to_string().contains("not in the form of a relay"), "{other}");
}

#[tokio::test]
async fn where_tls_is_missing_no_event_is_to_blame() {
    for body in [
        "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
        "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>",
        "Client sent an HTTP request to an HTTPS server.\n",
    ] {
        for is_relay in [true, false] {
            let refused = meaning(is_relay, (400, "", body)).await;
            assert!(matches!(refused, SinkError::Paused(_)), "{refused}");
            assert!(refused.to_string().contains("is it https://"), "{refused}");
        }
    }
    // An API that quotes what it was sent.
    let quoted = "bad event: Client sent an HTTP request to an HTTPS server.";
    let refused = meaning(false, (400, "", quoted)).await;
    assert!(matches!(refused, SinkError::Permanent(_)), "{refused}");
}

/// Refuses with all that it was sent.
fn repeated(asked: &Asked) -> (StatusCode, String) {
    let values = asked.headers().values().map(|value| value.to_str().unwrap());
    let values = values.collect::<Vec<_>>().join("; ");
    (StatusCode::BAD_REQUEST, format!("{} {values}", asked.uri()))
}

#[tokio::test]
async fn a_refusal_that_repeats_the_request_shows_no_secret() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let app = Router::new().fallback(|asked: Asked| std::future::ready(repeated(&asked)));
    let tasks = Tasks::new(CancellationToken::new());
    tasks.spawn("api", async move { axum::serve(listener, app).await });
    let url = format!("http://usr:pw-1@{host}/hook?api_key=key-2");
    let sink = sink_with(&url, false, "token-3");
    let of_script = vec![("x-key".to_owned(), "key-4".to_owned())];
    for steer in [Steer::default(), Steer { headers: of_script, ..Steer::default() }] {
        let refused = sink.post("1", Bytes::from_static(b"[]"), &steer).await.unwrap_err();
        assert!(matches!(refused, SinkError::Permanent(_)), "{refused}");
        let reason = refused.to_string();
        let start = format!("http://***@{host}/hook?api_key=***");
        assert!(reason.starts_with(&start), "{reason}");
        assert!(reason.contains("answered 400 Bad Request: /hook?api_key=***"), "{reason}");
        assert!(reason.contains("Bearer ***"), "{reason}");
        for secret in ["pw-1", "key-2", "token-3", "key-4"] {
            assert!(!reason.contains(secret), "{reason}");
        }
    }
}

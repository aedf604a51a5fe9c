//! The `alert` sink: what is told, when, and that it is told once.

mod hostile;
mod params;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::Request;
use rf_queue::{
    Budget, Commit, CommitError, PendingCommit, QueueId, QueueOptions, Store, WhenFull,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Batch;
use crate::sink::contract::{Promise, Subject, check_sink_contract};
use crate::sink::table::rig::{Rig, event, send, sink};
use crate::sink::{Sink, SinkError, SinkHost};

const PARAMS: &str = r#"{ "database": "alert.sqlite3", "notification_sink": "mail" }"#;
const SOON: Duration = Duration::from_secs(20);

struct AlertSubject(TempDir);

impl Subject for AlertSubject {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(super::build, self.0.path(), r#"{ "database": "alert.sqlite3" }"#)
    }

    fn event(&self, number: usize) -> String {
        event("POST", "/checks", &format!(r#"{{"number":{number},"status":"down"}}"#))
    }

    fn refused(&self) -> Option<String> {
        Some(event("POST", "/checks", "no JSON"))
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        Box::pin(async {
            let conn = Connection::open(self.0.path().join("alert.sqlite3")).unwrap();
            let mut numbers = conn.prepare("SELECT number FROM checks ORDER BY _rpf_id").unwrap();
            let numbers = numbers.query_map([], |row| row.get::<_, u64>(0)).unwrap();
            numbers.map(|number| usize::try_from(number.unwrap()).unwrap()).collect()
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn alert_keeps_the_contract_of_sinks() {
    check_sink_contract(&AlertSubject(tempfile::tempdir().unwrap())).await;
}

/// Looks until `done`.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs the maintenance of the sink until `done`.
async fn run_until(rig: &Rig, what: &str, done: impl FnMut() -> bool) {
    run_sink_until(&rig.sink, what, done).await;
}

async fn run_sink_until(sink: &Arc<dyn Sink>, what: &str, done: impl FnMut() -> bool) {
    let stop = CancellationToken::new();
    let looking = async {
        until(done).await;
        stop.cancel();
    };
    let both = async { tokio::join!(Arc::clone(sink).run(stop.clone()), looking) };
    tokio::time::timeout(SOON, both).await.expect(what);
}

fn waiting(rig: &Rig) -> u64 {
    let conn = Connection::open(rig.folder.path().join("alert.sqlite3")).unwrap();
    conn.query_row("SELECT count(*) FROM _rpf_outbox", [], |row| row.get(0)).unwrap()
}

/// Subjects in the notification sink's queue.
async fn subjects(rig: &Rig) -> Vec<String> {
    subjects_in(rig, "mail").await
}

async fn subjects_in(rig: &Rig, queue: &str) -> Vec<String> {
    let queue = rig.store.queue(queue).unwrap();
    let budget = Budget { events: 100, bytes: 1 << 20 };
    let events = rig.store.read(queue, 0, budget).await.unwrap();
    let subject = |content: &[u8]| {
        let event: Value = serde_json::from_slice(content).unwrap();
        assert_eq!(event["method"], "POST");
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
        body["subject"].as_str().unwrap().to_owned()
    };
    events.iter().map(|event| subject(&event.content)).collect()
}

async fn statuses(rig: &mut Rig, statuses: &[&str]) {
    for status in statuses {
        rig.post("/web", &json!({ "status": status }).to_string()).await;
    }
}

async fn check_told(rig: &Rig, expected: &[&str]) {
    run_until(rig, "handed over", || waiting(rig) == 0).await;
    assert_eq!(subjects(rig).await, expected);
}

#[tokio::test]
async fn three_bad_events_are_told_once_over_a_restart_and_the_end_too() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    statuses(&mut rig, &["ok", "down", "down"]).await;
    check_told(&rig, &[]).await;
    rig.restart().await;
    statuses(&mut rig, &["down", "down"]).await;
    check_told(&rig, &["web: down"]).await;
    rig.restart().await;
    statuses(&mut rig, &["down", "OK", "ok"]).await;
    check_told(&rig, &["web: down", "web: recovered"]).await;
    statuses(&mut rig, &["x", "y", "z"]).await;
    check_told(&rig, &["web: down", "web: recovered", "web: z"]).await;
    let status = rig.json("/status").await;
    assert_eq!(
        json!([
            status[0]["table"],
            status[0]["state"],
            status[0]["status"],
            status[0]["bad_events"]
        ]),
        json!(["web", "bad", "z", 3])
    );
    let rows = rig.json("/rpf-db/web?status_ne=ok").await;
    assert_eq!(rows.as_array().unwrap().len(), 9, "rows as in db, among them an OK that is not ok");
}

/// As their rows are in tables of their own.
#[tokio::test]
async fn tables_that_only_a_letter_beyond_ascii_tells_apart_are_watched_by_themselves() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    for path in ["/ÄA", "/Äa", "/äa"] {
        rig.post(path, r#"{"status":"down"}"#).await;
    }
    let status = rig.json("/status").await;
    let shown =
        status.as_array().unwrap().iter().map(|one| json!([one["table"], one["bad_events"]]));
    assert_eq!(Value::Array(shown.collect()), json!([["Äa", 2], ["äa", 1]]));
    check_told(&rig, &[]).await;
}

#[tokio::test]
async fn a_notice_that_was_handed_over_before_a_kill_is_not_told_again() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    statuses(&mut rig, &["down", "down", "down"]).await;
    let conn = Connection::open(rig.folder.path().join("alert.sqlite3")).unwrap();
    let (id, content): (String, Vec<u8>) = conn
        .query_row("SELECT id, content FROM _rpf_outbox", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let id = id.strip_prefix("subject\u{1f}").unwrap();
    // As by a process that was killed before it could remove the notice.
    let output = SinkHost { store: rig.store.clone() }.output("mail").unwrap();
    output.send_once(format!("alert:subject:{id}"), Batch::of(vec![content.into()])).await.unwrap();
    rig.restart().await;
    check_told(&rig, &["web: down"]).await;
}

#[tokio::test]
async fn no_event_is_to_blame_for_notices_that_cannot_be_stored() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    let open = |rig: &Rig| Connection::open(rig.folder.path().join("alert.sqlite3")).unwrap();
    open(&rig).execute_batch("DROP TABLE _rpf_outbox").unwrap();
    let bad: Vec<String> = (0..3).map(|_| event("POST", "/web", r#"{"status":"down"}"#)).collect();
    let failed = rig.try_write(&bad).await;
    assert!(matches!(failed, Err(SinkError::Retry { .. })), "{failed:?}");
    open(&rig).execute_batch(super::outbox::TABLES).unwrap();
    rig.write(&bad).await;
    check_told(&rig, &["web: down"]).await;
}

#[tokio::test]
async fn a_row_has_the_status_that_was_watched() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    let body = r#"{"Status":"a","status":"down","STATUS":"b","status!":"c"}"#;
    rig.post("/web", body).await;
    assert_eq!(rig.json("/distinct-values/web/status").await, json!(["down"]));
    assert_eq!(rig.json("/status").await[0]["status"], "down");
    rig.post("/web", r#"{"Status":"slow","status":null}"#).await;
    assert_eq!(rig.json("/distinct-values/web/status").await, json!(["down", "slow"]));
    let status = rig.json("/status").await;
    assert_eq!(json!([status[0]["status"], status[0]["bad_events"]]), json!(["slow", 2]));
}

#[tokio::test]
async fn a_script_says_what_is_bad_and_fails_for_its_event_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = "calls = 0
        function extractStatus(json)
          calls = calls + 1
          local check = json_decode(json)
          if check.code < 400 then return '' end
          if check.code == 599 then return 'call ' .. calls end
          return 'HTTP ' .. check.code
        end";
    std::fs::write(folder.path().join("web.lua"), script).unwrap();
    let params = r#"{ "database": "alert.sqlite3", "notification_sink": "mail",
        "scripts": { "web": { "scriptPath": "web.lua", "consecutiveBad": 2, "outOf": 3 } } }"#;
    let mut rig = Rig::start_in(folder, super::build, params).await;
    for code in [200, 500, 200, 503] {
        rig.post("/web", &format!(r#"{{"code":{code}}}"#)).await;
    }
    let refused = rig.try_write(&[event("POST", "/web", "{}")]).await;
    assert!(
        matches!(&refused, Err(SinkError::Permanent(reason)) if reason.contains("web.lua:5: attempt to compare")),
        "{refused:?}"
    );
    for code in [599, 204, 204] {
        rig.post("/web", &format!(r#"{{"code":{code}}}"#)).await;
    }
    check_told(&rig, &["web: HTTP 503", "web: recovered"]).await;
    // The call that failed was the fifth.
    assert_eq!(
        rig.json("/distinct-values/web/status").await,
        json!(["HTTP 500", "HTTP 503", "call 6", "ok"])
    );
}

#[tokio::test]
async fn scripts_are_loaded_anew_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let script = |status: &str| format!("function extractStatus(json) return '{status}' end");
    let path = folder.path().join("web.lua");
    std::fs::write(&path, script("one")).unwrap();
    let params =
        r#"{ "database": "alert.sqlite3", "scripts": { "web": { "scriptPath": "web.lua" } } }"#;
    let mut rig = Rig::start_in(folder, super::build, params).await;
    let (ask, asked) = tokio::sync::watch::channel(0);
    rig.sink.reload_on(asked);
    let stop = CancellationToken::new();
    let running = Arc::clone(&rig.sink).run(stop.clone());
    let edit = async {
        rig.post("/web", "{}").await;
        for (count, text) in [(1, script("two")), (2, "function extractStatus(".to_owned())] {
            std::fs::write(&path, text).unwrap();
            ask.send(count).unwrap();
            // The scripts are loaded anew between two writes, when the thread gets to it.
            let until = tokio::time::Instant::now() + SOON;
            loop {
                rig.post("/web", "{}").await;
                let rows = rig.json("/distinct-values/web/status").await;
                if rows == json!(["one", "two"]) {
                    break;
                }
                assert!(tokio::time::Instant::now() < until, "{rows}");
            }
        }
        stop.cancel();
    };
    tokio::join!(running, edit);
}

#[tokio::test]
async fn missing_events_are_told_and_their_return_too() {
    let params = r#"{ "database": "alert.sqlite3", "notification_sink": "mail",
        "scripts": { "web": { "heartbeatInterval": "100ms", "heartbeatGrace": "100ms" } } }"#;
    let mut rig = Rig::start(super::build, params).await;
    assert_eq!(rig.json("/status").await[0]["state"], "waiting");
    let queue = rig.store.queue("mail").unwrap();
    let store = rig.store.clone();
    run_until(&rig, "told", || store.usage(queue).events == 1).await;
    assert_eq!(rig.json("/status").await[0]["state"], "missing");
    statuses(&mut rig, &["ok"]).await;
    run_until(&rig, "told again", || store.usage(queue).events >= 2).await;
    // By then they may be missing once more: the machine decides how soon that is.
    let told = subjects(&rig).await;
    assert_eq!(told[..2], ["web: no events", "web: events again"]);
}

async fn api(rig: &Rig, method: &str, uri: &str, body: &str) -> (u16, String) {
    let request =
        Request::builder().method(method).uri(uri).body(Body::from(body.to_owned())).unwrap();
    let (status, text) = send(Arc::clone(&rig.sink).api().unwrap(), request).await;
    (status.as_u16(), text)
}

#[tokio::test]
async fn a_silence_ends_and_what_is_still_bad_is_told_then() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    statuses(&mut rig, &["ok"]).await;
    let body = r#"{"table":"Web","for":"1h","reason":"deployment"}"#;
    assert_eq!(api(&rig, "POST", "/silences", body).await.0, 204);
    rig.restart().await;
    let silences = rig.json("/silences").await;
    assert_eq!(json!([silences[0]["table"], silences[0]["reason"]]), json!(["web", "deployment"]));
    statuses(&mut rig, &["down", "down", "down"]).await;
    check_told(&rig, &[]).await;
    assert!(rig.json("/status").await[0]["silenced_until"].is_i64());
    assert_eq!(api(&rig, "DELETE", "/silences/web", "").await.0, 204);
    assert_eq!(api(&rig, "DELETE", "/silences/web", "").await.0, 404);
    let queue = rig.store.queue("mail").unwrap();
    let store = rig.store.clone();
    run_until(&rig, "told", || store.usage(queue).events == 1).await;
    assert_eq!(subjects(&rig).await, ["web: down"]);
}

/// Puts events into the queue until it has no room for the smallest; their ids.
async fn fill(store: &Store, queue: QueueId) -> Vec<u64> {
    for size in [1000, 1] {
        loop {
            // `Store::commit` would wait for room.
            let (reply, mut answer) = PendingCommit::new();
            store.submit(Commit::append(queue, vec!["x".repeat(size).into()]), reply);
            match answer.outcome().await {
                Ok(_) => {}
                Err(CommitError::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let budget = Budget { events: 1000, bytes: 1 << 20 };
    let events = store.read(queue, 0, budget).await.unwrap();
    events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn a_notification_sink_whose_full_queue_blocks_holds_back_neither_alarms_nor_the_stop() {
    let when_full = WhenFull::Block;
    let mail = QueueOptions { max_bytes: Some(4000), when_full, ..QueueOptions::new("mail") };
    let params = r#"{ "database": "alert.sqlite3", "notification_sink": "mail",
        "scripts": { "db": { "heartbeatInterval": "100ms", "heartbeatGrace": "100ms" } } }"#;
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start_beside(mail, folder, super::build, params).await;
    let queue = rig.store.queue("mail").unwrap();
    let in_the_way = fill(&rig.store, queue).await;
    statuses(&mut rig, &["ok"]).await;
    assert_eq!(api(&rig, "POST", "/silences", r#"{"table":"web","for":"1h"}"#).await.0, 204);
    statuses(&mut rig, &["down", "down", "down"]).await;
    let stop = CancellationToken::new();
    let looking = async {
        // Once there is a notice it is handed over at once, and the queue has no room.
        until(|| waiting(&rig) == 1).await;
        assert_eq!(api(&rig, "DELETE", "/silences/web", "").await.0, 204);
        until(|| waiting(&rig) == 2).await;
        stop.cancel();
    };
    let both = async { tokio::join!(Arc::clone(&rig.sink).run(stop.clone()), looking) };
    tokio::time::timeout(SOON, both).await.expect("noted, and stopped");
    rig.store.ack(queue, in_the_way).await.unwrap();
    check_told(&rig, &["db: no events", "web: down"]).await;
}

#[tokio::test]
async fn silences_that_make_no_sense_are_refused() {
    let rig = Rig::start(super::build, PARAMS).await;
    for body in [
        "",
        "{}",
        r#"{"table":"x"}"#,
        r#"{"table":"x","for":"soon"}"#,
        r#"{"table":"x","for":"1h","until":5}"#,
        r#"{"table":"x","until":5}"#,
        r#"{"table":"a b","for":"1h"}"#,
        r#"{"table":"x","for":"1h","more":1}"#,
        r#"["x","1h",null,"r"]"#,
        "[]",
        "7",
    ] {
        let (status, text) = api(&rig, "POST", "/silences", body).await;
        assert_eq!(status, 400, "{body}: {text}");
        assert!(!text.contains("Asked") && !text.contains("elements"), "{body}: {text}");
    }
    for (value, bound) in [
        (r#""for":"99999999h""#, "at most 2562047h"),
        (r#""until":"9999-12-31T23:59:59Z""#, "at most 9999-"),
    ] {
        let (_, text) =
            api(&rig, "POST", "/silences", &format!(r#"{{"table":"x",{value}}}"#)).await;
        assert!(text.contains(bound), "{value}: {text}");
    }
    assert_eq!(api(&rig, "POST", "/silences", &"x".repeat(100_000)).await.0, 400);
    assert_eq!(api(&rig, "POST", "/silences", r#"{"table":"*","for":"1m"}"#).await.0, 204);
    assert_eq!(rig.json("/silences").await[0]["table"], "*");
}

#[tokio::test]
async fn the_status_says_what_was_bad_and_who_can_end_a_silence() {
    let params = r#"{ "database": "alert.sqlite3", "scripts": { "web": {
        "consecutiveBad": 2, "outOf": 3, "silencedUntil": "2100-01-01T00:00:00Z" } } }"#;
    let mut rig = Rig::start(super::build, params).await;
    statuses(&mut rig, &["down", "down", "ok"]).await;
    rig.post("/mail", "{}").await;
    assert_eq!(api(&rig, "POST", "/silences", r#"{"table":"mail","for":"1h"}"#).await.0, 204);
    let tables = rig.json("/status").await;
    let told = |table: &Value| {
        ["table", "state", "status", "bad_status", "silenced_by"].map(|key| table[key].clone())
    };
    assert_eq!(told(&tables[0]), ["mail", "ok", "", "", "api"].map(Value::from));
    assert_eq!(told(&tables[1]), ["web", "bad", "ok", "down", "file"].map(Value::from));
    // The longer one is told, and the other one ends nothing.
    let longer = r#"{"table":"*","until":"2101-01-01T00:00:00Z"}"#;
    assert_eq!(api(&rig, "POST", "/silences", longer).await.0, 204);
    assert_eq!(rig.json("/status").await[1]["silenced_by"], "api");
    assert_eq!(api(&rig, "DELETE", "/silences/*", "").await.0, 204);
    let web = &rig.json("/status").await[1];
    assert_eq!(
        (&web["silenced_by"], &web["silenced_until"]),
        (&json!("file"), &json!(4_102_444_800_u64))
    );
}

#[tokio::test]
async fn old_rows_are_removed_and_the_alarm_stays() {
    let params = r#"{ "database": "alert.sqlite3", "row_ttl_sec": 3600 }"#;
    let mut rig = Rig::start(super::build, params).await;
    statuses(&mut rig, &["down", "down", "down"]).await;
    let conn = Connection::open(rig.folder.path().join("alert.sqlite3")).unwrap();
    let sql = "UPDATE web SET _rpf_last_updated_idx = _rpf_last_updated_idx - 3700 WHERE id <> '3'";
    assert_eq!(conn.execute(sql, []).unwrap(), 2);
    let rows =
        || -> u64 { conn.query_row("SELECT count(*) FROM web", [], |row| row.get(0)).unwrap() };
    run_until(&rig, "removed", || rows() == 1).await;
    assert_eq!(rig.json("/status").await[0]["state"], "bad");
}

#[tokio::test]
async fn a_silence_may_come_before_the_table() {
    let mut rig = Rig::start(super::build, PARAMS).await;
    let body = json!({ "table": "WEB", "for": "1h" }).to_string();
    assert_eq!(api(&rig, "POST", "/silences", &body).await.0, 204);
    rig.restart().await;
    statuses(&mut rig, &["bad", "bad", "bad"]).await;
    let web = &rig.json("/status").await[0];
    assert_eq!((&web["table"], &web["state"]), (&json!("web"), &json!("bad")));
    assert!(web["silenced_until"].is_number(), "{web}");
}

#[tokio::test]
async fn every_refusal_is_json() {
    let rig = Rig::start(super::build, PARAMS).await;
    for (method, path, status) in [
        ("DELETE", "/silences", 405),
        ("DELETE", "/silences/%ff", 400),
        ("POST", "/list", 405),
        ("POST", "/status", 405),
        ("GET", "/nothing", 404),
    ] {
        let (found, text) = api(&rig, method, path, "").await;
        assert_eq!(found, status, "{method} {path}: {text}");
        let body: Value = serde_json::from_str(&text).expect(path);
        assert!(body["error"].is_string(), "{method} {path}: {text}");
    }
}

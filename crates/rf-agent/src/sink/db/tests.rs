//! The `db` sink: what becomes of events, and what its API answers.

mod api;
mod hostile;
mod names;
mod plans;
mod values;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::sink::contract::{Promise, Subject, check_sink_contract};
use crate::sink::table::rig::{Rig, event, event_with_id, sink};
use crate::sink::table::{applied, rows, timestamp};
use crate::sink::{Sink, SinkBatch, SinkError};

const PARAMS: &str = r#"{ "database": "db.sqlite3" }"#;

async fn rig() -> Rig {
    Rig::start(super::build, PARAMS).await
}

fn open(rig: &Rig) -> Connection {
    Connection::open(rig.folder.path().join("db.sqlite3")).unwrap()
}

struct DbSubject(TempDir);

impl Subject for DbSubject {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(super::build, self.0.path(), PARAMS)
    }

    /// Without an id of their own, so that a repeat would be a second row.
    fn event(&self, number: usize) -> String {
        event("POST", "/rpf-db/numbers", &format!(r#"{{"number":{number}}}"#))
    }

    fn refused(&self) -> Option<String> {
        Some(event("POST", "/rpf-db/numbers", "no JSON"))
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        Box::pin(async {
            let conn = Connection::open(self.0.path().join("db.sqlite3")).unwrap();
            let mut numbers = conn.prepare("SELECT number FROM numbers ORDER BY _rpf_id").unwrap();
            let numbers = numbers.query_map([], |row| row.get::<_, u64>(0)).unwrap();
            numbers.map(|number| usize::try_from(number.unwrap()).unwrap()).collect()
        })
    }
}

/// What is in the table `numbers`.
fn numbers(rig: &Rig) -> Vec<u64> {
    let conn = open(rig);
    let mut numbers = conn.prepare("SELECT number FROM numbers ORDER BY _rpf_id").unwrap();
    let numbers = numbers.query_map([], |row| row.get(0)).unwrap();
    numbers.map(Result::unwrap).collect()
}

#[test]
fn a_batch_that_was_read_beforehand_is_not_read_again() {
    // One thread for what blocks: it has done one thing when the next is done.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let mut rig = rig().await;
        let prepare = async |rig: &Rig, batch: &SinkBatch| {
            rig.sink.prepare(batch);
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        };
        let one = |number: u64| event("POST", "/numbers", &format!(r#"{{"number":{number}}}"#));
        let (first, second) = (rig.batch(&[one(1), one(2)]), rig.batch(&[one(3)]));
        prepare(&rig, &first).await;
        // Only here do two batches have one id: it shows which reading is written.
        let mut other = rig.batch(&[one(8), one(9)]);
        other.id.clone_from(&first.id);
        rig.sink.write(&other).await.unwrap();
        assert_eq!(numbers(&rig), [1, 2]);
        // The batch before it comes once more: what was read is kept for its own batch.
        prepare(&rig, &second).await;
        rig.sink.write(&first).await.unwrap();
        let mut other = rig.batch(&[one(7)]);
        other.id.clone_from(&second.id);
        rig.sink.write(&other).await.unwrap();
        assert_eq!(numbers(&rig), [1, 2, 3]);
    });
}

#[tokio::test]
async fn a_batch_that_was_found_bad_beforehand_is_refused_and_its_halves_are_read_anew() {
    let mut rig = rig().await;
    let good = event("POST", "/numbers", r#"{"number":7}"#);
    let batch = rig.batch(&[good, event("POST", "/numbers", "no JSON")]);
    rig.sink.prepare(&batch);
    let refused = rig.sink.write(&batch).await;
    assert!(matches!(&refused, Err(SinkError::Permanent(reason)) if reason.contains("JSON")));
    let half =
        |part: usize| SinkBatch::new(format!("{}.{part}", batch.id), [batch.events[part].clone()]);
    rig.sink.prepare(&batch);
    rig.sink.write(&half(0)).await.unwrap();
    assert!(rig.sink.write(&half(1)).await.is_err());
    assert_eq!(numbers(&rig), [7]);
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn db_keeps_the_contract_of_sinks() {
    check_sink_contract(&DbSubject(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn a_row_is_answered_as_it_was_sent() {
    let mut rig = rig().await;
    let body = r#"{"id":"a","userName":"Ünal","age":41,"big":9007199254740993,"price":1.5,"active":true,"off":false,"nested":{"b":[1,null]},"none":null,"timestamp":"2006-01-02T15:04:05Z"}"#;
    rig.post("/rpf-db/people", body).await;
    let mut row = rig.json("/find/people/a").await;
    let updated = row["_rpf_last_updated_idx"].take();
    assert!(updated.as_i64().is_some_and(|at| at > 1_700_000_000), "{updated}");
    assert_eq!(
        row,
        json!({
            "id": "a", "_rpf_id": 1, "_rpf_last_updated_idx": null, "timestamp": 1_136_214_245,
            "user_name": "Ünal", "age": 41, "big": 9_007_199_254_740_993_i64, "price": 1.5,
            "active": true, "off": false, "nested": r#"{"b":[1,null]}"#,
        })
    );
}

#[tokio::test]
async fn a_row_without_a_time_is_of_now() {
    let mut rig = rig().await;
    let before = timestamp::now_seconds();
    rig.write(&["{}", r#"{"timestamp":""}"#].map(|body| event("POST", "/t", body))).await;
    let rows = rig.json("/query-table/t").await;
    for row in [0_usize, 1] {
        let time = rows[row]["timestamp"].as_i64().unwrap();
        assert!((before..=timestamp::now_seconds()).contains(&time), "{row}: {time}");
    }
}

#[tokio::test]
async fn a_table_grows_and_a_row_is_replaced_and_removed() {
    let mut rig = rig().await;
    rig.post("/orders", r#"{"id":7,"state":"new"}"#).await;
    rig.write(&[event("PUT", "/rpf-db/orders/", r#"{"id":"7","total":12,"state":"paid"}"#)]).await;
    rig.post("/orders", r#"{"state":"anonymous"}"#).await;
    let rows = rig.json("/rpf-db/orders").await;
    let shown: Vec<Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["id"], row["state"], row["total"]]))
        .collect();
    assert_eq!(shown, [json!(["7", "paid", 12]), json!(["3", "anonymous", null])]);
    rig.write(&[event("DELETE", "/orders", r#"{"id":7}"#)]).await;
    rig.write(&[event("DELETE", "/orders", r#"{"id":"not there"}"#)]).await;
    rig.write(&[event("DELETE", "/no_such_table", r#"{"id":1}"#)]).await;
    let left = rig.json("/query-table/orders").await;
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(rig.json("/list").await, json!(["orders"]));
}

#[tokio::test]
async fn running_numbers_are_never_given_twice() {
    let mut rig = rig().await;
    for _ in 0..3 {
        rig.post("/t", r#"{"a":1}"#).await;
    }
    rig.write(&[event("DELETE", "/t", r#"{"id":"3"}"#)]).await;
    rig.restart().await;
    rig.post("/t", r#"{"a":1}"#).await;
    assert_eq!(rig.json("/distinct-values/t/id").await, json!(["1", "2", "4"]));
}

#[tokio::test]
async fn a_row_without_an_id_takes_no_other_row_s() {
    let mut rig = rig().await;
    for body in [r#"{"id":"2","n":1}"#, r#"{"n":2}"#, r#"{"id":4,"n":3}"#, r#"{"n":4}"#] {
        rig.post("/t", body).await;
    }
    let rows = rig.json("/query-table/t").await;
    let shown = rows.as_array().unwrap().iter().map(|row| json!([row["id"], row["_rpf_id"]]));
    let expected = json!([["2", 1], ["3", 3], ["4", 4], ["5", 5]]);
    assert_eq!(Value::Array(shown.collect()), expected);
}

#[tokio::test]
async fn a_row_is_removed_by_any_id_that_it_was_sent_with() {
    let mut rig = rig().await;
    for id in ["7", "\"a\"", "true", "1.5"] {
        let body = format!(r#"{{"id":{id}}}"#);
        rig.post("/t", &body).await;
        rig.write(&[event("DELETE", "/t", &body)]).await;
        assert_eq!(rig.json("/query-table/t").await, json!([]), "{id}");
    }
}

#[tokio::test]
async fn what_comes_after_the_file_was_removed_is_not_written_to_it() {
    let mut rig = rig().await;
    rig.post("/numbers", r#"{"number":1}"#).await;
    let path = rig.folder.path().join("db.sqlite3");
    let aside = rig.folder.path().join("aside.sqlite3");
    std::fs::rename(&path, &aside).unwrap();
    let other = [event("POST", "/numbers", r#"{"number":2}"#)];
    let check_refused = |refused: Result<(), SinkError>| {
        let Err(SinkError::Paused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("db.sqlite3: the file was removed"), "{reason}");
    };
    check_refused(rig.try_write(&other).await);
    std::fs::write(&path, "another one").unwrap();
    check_refused(rig.try_write(&other).await);
    std::fs::rename(&aside, &path).unwrap();
    rig.write(&other).await;
    assert_eq!(numbers(&rig), [1, 2]);
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(rig.folder.path().join(format!("db.sqlite3{ending}"))).unwrap();
    }
    check_refused(rig.try_write(&other).await);
    rig.restart().await;
    rig.write(&other).await;
    assert_eq!(numbers(&rig), [2], "a start goes on with what is there");
}

#[tokio::test]
async fn an_event_that_a_sender_delivers_twice_counts_once() {
    let mut rig = rig().await;
    let first = event_with_id(1, "/t", r#"{"id":"x","v":1}"#);
    let second = event_with_id(2, "/t", r#"{"id":"x","v":2}"#);
    rig.write(&[first.clone(), second]).await;
    rig.restart().await;
    rig.write(&[first]).await;
    assert_eq!(rig.json("/find/t/x").await["v"], json!(2), "a late repeat changes nothing");
    // A script that makes two rows of one event has made two.
    rig.write(&[event_with_id(3, "/t", r#"{"v":3}"#), event_with_id(3, "/t", r#"{"v":4}"#)]).await;
    assert_eq!(rig.json("/query-table/t?v_gte=3").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_can_never_be_written_is_refused_for_good() {
    let mut rig = rig().await;
    for (content, why) in [
        (event("POST", "/a/b", "{}"), "cannot name a table"),
        (event("POST", "/", "{}"), "cannot name a table"),
        (event("POST", "/sqlite_master", "{}"), "cannot name a table"),
        (event("POST", "/_rpf_progress", "{}"), "cannot name a table"),
        (event("POST", "/x;drop table t", "{}"), "cannot name a table"),
        (event("POST", "/t", "[1]"), "not a JSON object"),
        (event("POST", "/t", ""), "not a JSON object"),
        (event("DELETE", "/t", "{}"), "body with an id"),
        (event("POST", "/t", r#"{"timestamp":"yesterday"}"#), "timestamp is not a time"),
        ("no event".to_owned(), "not a JSON object"),
    ] {
        let Err(SinkError::Permanent(reason)) = rig.try_write(std::slice::from_ref(&content)).await
        else {
            panic!("not refused for good: {content}");
        };
        assert!(reason.contains(why), "{content}: {reason}");
    }
    rig.write(&[event("GET", "/t", ""), event("HEAD", "/t", "")]).await;
    assert_eq!(rig.json("/list").await, json!([]));
}

/// Else every event would be given up, one by one, for a table that a person has removed.
#[tokio::test]
async fn no_event_is_to_blame_for_a_table_of_the_sinks_own_that_is_missing() {
    let mut rig = rig().await;
    for (id, table, made) in [
        (1, "_rpf_tables", rows::TABLES),
        (2, "_rpf_progress", applied::TABLES),
        (3, "_rpf_events_0", applied::TABLES),
    ] {
        let content = [event_with_id(id, "/t", r#"{"a":1}"#)];
        open(&rig).execute_batch(&format!("DROP TABLE {table}")).unwrap();
        let failed = rig.try_write(&content).await;
        assert!(matches!(failed, Err(SinkError::Retry { .. })), "{table}: {failed:?}");
        open(&rig).execute_batch(made).unwrap();
        rig.write(&content).await;
    }
    assert_eq!(rig.json("/distinct-values/t/id").await, json!(["1", "2", "3"]));
}

#[tokio::test]
async fn a_table_has_so_many_columns_and_no_more() {
    let mut rig = rig().await;
    let wide = |range: std::ops::Range<usize>| {
        let keys: Vec<String> = range.map(|n| format!("\"c{n}\":1")).collect();
        event("POST", "/wide", &format!("{{{}}}", keys.join(",")))
    };
    rig.write(&[wide(0..490)]).await;
    let refused = rig.try_write(&[wide(490..500)]).await;
    assert!(
        matches!(refused, Err(SinkError::Permanent(reason)) if reason.contains("no room for column"))
    );
    rig.write(&[wide(490..495)]).await;
    assert_eq!(rig.json("/columns/wide").await.as_array().unwrap().len(), 499);
}

/// As the original made it: every number REAL, plain indexes, no marks of ours.
#[tokio::test]
async fn a_database_of_the_original_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("db.sqlite3")).unwrap();
    conn.execute_batch(
        "CREATE TABLE visits (id TEXT PRIMARY KEY, _rpf_id REAL, _rpf_last_updated_idx REAL, timestamp REAL, hits REAL, ok BOOLEAN, note TEXT);
         CREATE INDEX idx_visits_timestamp ON visits (timestamp);
         INSERT INTO visits VALUES ('a', 41, 1700000000, 1700000000, 5, 1, 'old');",
    )
    .unwrap();
    drop(conn);
    let mut rig = Rig::start_in(folder, super::build, PARAMS).await;
    let old = json!({ "id": "a", "_rpf_id": 41, "_rpf_last_updated_idx": 1_700_000_000, "timestamp": 1_700_000_000, "hits": 5, "ok": true, "note": "old" });
    assert_eq!(rig.json("/rpf-db/visits").await, json!([old]));
    rig.post("/rpf-db/visits", r#"{"hits":6,"ok":false,"newColumn":"x"}"#).await;
    let new = rig.json("/rpf-db/visits?after=41").await;
    assert_eq!(
        json!([
            new[0]["id"],
            new[0]["_rpf_id"],
            new[0]["hits"],
            new[0]["ok"],
            new[0]["new_column"]
        ]),
        json!(["42", 42, 6, false, "x"])
    );
}

#[tokio::test]
async fn old_rows_are_removed_in_steps() {
    let params = r#"{ "database": "db.sqlite3", "row_ttl_sec": 3600 }"#;
    let mut rig = Rig::start(super::build, params).await;
    let many: Vec<String> =
        (0..1200).map(|n| event("POST", "/t", &format!("{{\"n\":{n}}}"))).collect();
    rig.write(&many).await;
    rig.post("/other", r#"{"a":1}"#).await;
    open(&rig)
        .execute_batch(
            "UPDATE t SET _rpf_last_updated_idx = _rpf_last_updated_idx - 3700 WHERE n < 1150",
        )
        .unwrap();
    let stop = CancellationToken::new();
    let emptied = async {
        while rig.json("/query-table/t").await.as_array().unwrap().len() > 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(Arc::clone(&rig.sink).run(stop.clone()), emptied) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("removed in time");
    assert_eq!(rig.json("/query-table/t").await[0]["n"], json!(1150));
    assert_eq!(rig.json("/query-table/other").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_that_may_not_grow_pauses_and_goes_on() {
    let params = r#"{ "database": "db.sqlite3", "max_bytes": "1MiB" }"#;
    let mut rig = Rig::start(super::build, params).await;
    let large = event("POST", "/t", &format!("{{\"text\":\"{}\"}}", "x".repeat(300_000)));
    let mut paused = None;
    for _ in 0..5 {
        paused = paused.or(rig.try_write(std::slice::from_ref(&large)).await.err());
    }
    assert!(
        matches!(&paused, Some(SinkError::Paused(reason)) if reason.contains("max_bytes")),
        "{paused:?}"
    );
    rig.write(&[event("DELETE", "/t", r#"{"id":"1"}"#)]).await;
    rig.write(&[large]).await;
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_written_as_far_as_it_does() {
    let params = r#"{ "database": "db.sqlite3", "max_bytes": "1MB" }"#;
    let mut rig = Rig::start(super::build, params).await;
    let text = "x".repeat(2000);
    let one = |number: u64| {
        event("POST", "/numbers", &format!(r#"{{"number":{number},"text":"{text}"}}"#))
    };
    let batch = rig.batch(&(0..1000).map(one).collect::<Vec<_>>());
    let check_paused = async |rig: &Rig| {
        let paused = rig.sink.write(&batch).await;
        assert!(
            matches!(&paused, Err(SinkError::Paused(reason)) if reason.contains("max_bytes")),
            "{paused:?}"
        );
        let pragma = |name: &str| -> u64 {
            open(rig).pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        let bytes = pragma("page_count") * pragma("page_size");
        assert!((900_000..=1_000_000).contains(&bytes), "{bytes}");
        let stored = numbers(rig);
        assert!((100..1000).contains(&stored.len()), "{stored:?}");
        assert!(stored.iter().copied().eq(0..stored.len() as u64), "{stored:?}");
    };
    check_paused(&rig).await;
    check_paused(&rig).await;
    rig.restart().await;
    check_paused(&rig).await;
    rig.restart_with(PARAMS).await;
    rig.sink.write(&batch).await.unwrap();
    assert_eq!(numbers(&rig), (0..1000).collect::<Vec<u64>>());
}

/// As a worker sends it again that was killed between two of the parts.
#[tokio::test]
async fn a_batch_with_a_bad_event_that_comes_again_in_parts_counts_once() {
    let mut rig = rig().await;
    let mut events: Vec<String> = (0..8)
        .map(|number| event("POST", "/numbers", &format!(r#"{{"number":{number}}}"#)))
        .collect();
    events[6] = event("POST", "/numbers", "no JSON");
    let batch = rig.batch(&events);
    let part = |id: &str, range: std::ops::Range<usize>| {
        SinkBatch::new(format!("{}{id}", batch.id), &batch.events[range])
    };
    for _ in 0..2 {
        assert!(rig.sink.write(&batch).await.is_err());
        rig.sink.write(&part(".0", 0..4)).await.unwrap();
        assert!(rig.sink.write(&part(".1", 4..8)).await.is_err());
        rig.sink.write(&part(".1.0", 4..6)).await.unwrap();
    }
    rig.sink.write(&part(".1.1.1", 7..8)).await.unwrap();
    assert_eq!(numbers(&rig), [0, 1, 2, 3, 4, 5, 7]);
}

#[tokio::test]
async fn a_damaged_database_is_named_and_pauses_its_sink_until_it_is_replaced() {
    let one = |number: u64| [event("POST", "/numbers", &format!(r#"{{"number":{number}}}"#))];
    let mut rig = rig().await;
    for number in 0..50 {
        rig.write(&one(number)).await;
    }
    let path = rig.folder.path().join("db.sqlite3");
    // Restarted elsewhere, the sink has closed the file.
    let elsewhere = r#"{ "database": "elsewhere.sqlite3" }"#;
    rig.restart_with(elsewhere).await;
    let healthy = std::fs::read(&path).unwrap();
    let mut no_header = healthy.clone();
    no_header[..100].fill(0);
    let text = b"this is no database at all".repeat(100);
    for damaged in [&text[..], &no_header[..], &healthy[..healthy.len() / 2]] {
        std::fs::write(&path, damaged).unwrap();
        rig.restart_with(PARAMS).await;
        for _ in 0..2 {
            let refused = rig.try_write(&one(50)).await;
            let Err(SinkError::Paused(reason)) = refused else { panic!("{refused:?}") };
            assert!(reason.contains("db.sqlite3") && reason.contains("move it away"), "{reason}");
        }
        // A backup is put in its place.
        std::fs::write(&path, &healthy).unwrap();
        rig.write(&one(50)).await;
        assert_eq!(numbers(&rig).len(), 51);
        rig.restart_with(elsewhere).await;
    }
}

#[test]
fn empty_keys_of_a_listener_are_as_if_they_were_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let listener = |keys: &str| {
        let params = format!(r#"{{ "database": "db.sqlite3", {keys} }}"#);
        sink(super::build, folder.path(), &params).own_listener()
    };
    assert_eq!(listener(r#""listen_port": "", "listen_host": "", "static_dir": """#), None);
    assert_eq!(listener(r#""listen_port": 0"#), None);
    let expected = Some(("localhost".to_owned(), 8090));
    assert_eq!(listener(r#""listen_port": "8090", "listen_host": """#), expected);
}

//! Two alert sinks with one database.

use std::sync::Arc;

use rf_core::config::{Problems, parse};
use rusqlite::Connection;
use serde_json::Value;

use super::{PARAMS, api, check_told, run_sink_until, statuses, subjects_in, waiting};
use crate::sink::alert::build;
use crate::sink::table::rig::{Rig, event, get};
use crate::sink::{Sink, SinkContext, SinkHost};

/// Another sink with the same database, whose notices go to the queue of the first one.
async fn other_sink(rig: &Rig) -> Arc<dyn Sink> {
    let data_dir = rig.folder.path();
    let context = SinkContext { name: "other", data_dir, sinks: &["other", "subject"] };
    let params = r#"{ "database": "alert.sqlite3", "notification_sink": "subject" }"#;
    let mut problems = Problems::default();
    let document = parse("player.json", params, &|_| None, &mut problems).expect("JSON");
    let sink = build(&context, &document.root(), &mut problems).unwrap();
    sink.start(&SinkHost { store: rig.store.clone() }).await.unwrap();
    sink
}

#[tokio::test]
async fn sinks_that_share_a_database_tell_and_silence_their_own() {
    let mut rig = Rig::start(build, PARAMS).await;
    let other = other_sink(&rig).await;
    let bad: Vec<String> = (0..3).map(|_| event("POST", "/db", r#"{"status":"down"}"#)).collect();
    statuses(&mut rig, &["down", "down", "down"]).await;
    other.write(&rig.batch(&bad)).await.unwrap();
    run_sink_until(&other, "its own notice", || waiting(&rig) == 1).await;
    assert_eq!(subjects_in(&rig, "subject").await, ["db: down"]);
    check_told(&rig, &["web: down"]).await;
    assert_eq!(api(&rig, "POST", "/silences", r#"{"table":"*","for":"1h"}"#).await.0, 204);
    drop(other);
    let other = other_sink(&rig).await;
    for (path, expected) in [("/status", "db"), ("/silences", "")] {
        let (_, answer) = get(Arc::clone(&other).api().unwrap(), path).await;
        let answer: Vec<Value> = serde_json::from_str(&answer).unwrap();
        let tables: Vec<&str> = answer.iter().filter_map(|entry| entry["table"].as_str()).collect();
        assert_eq!(tables.join(","), expected, "{path}");
    }
}

#[tokio::test]
async fn what_an_earlier_version_kept_without_a_sink_s_name_goes_on() {
    let mut rig = Rig::start(build, PARAMS).await;
    statuses(&mut rig, &["down", "down", "down"]).await;
    assert_eq!(api(&rig, "POST", "/silences", r#"{"table":"db","for":"1h"}"#).await.0, 204);
    let conn = Connection::open(rig.folder.path().join("alert.sqlite3")).unwrap();
    for (table, column) in
        [("_rpf_watches", "name"), ("_rpf_silences", "name"), ("_rpf_outbox", "id")]
    {
        let sql = format!("UPDATE {table} SET {column} = replace({column}, 'subject\u{1f}', '')");
        assert_eq!(conn.execute(&sql, []).unwrap(), 1, "{table}");
    }
    rig.restart().await;
    assert_eq!(rig.json("/silences").await[0]["table"], "db");
    statuses(&mut rig, &["down", "ok"]).await;
    check_told(&rig, &["web: down", "web: recovered"]).await;
}

//! The `time_series` sink: what becomes of points, and what its API answers.

mod api;
mod hostile;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::prelude::ProptestConfig;
use proptest::proptest;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::sink::contract::{Promise, Subject, check_sink_contract};
use crate::sink::table::rig::{Rig, event, event_with_id, sink};
use crate::sink::{Sink, SinkError};

const PARAMS: &str = r#"{ "database": "ts.sqlite3" }"#;

async fn rig() -> Rig {
    Rig::start(super::build, PARAMS).await
}

struct CounterSubject(TempDir);

impl Subject for CounterSubject {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(super::build, self.0.path(), PARAMS)
    }

    fn event(&self, number: usize) -> String {
        let body = format!(r#"{{"serieName":"{number}","timestamp":60,"value":1}}"#);
        event("POST", "/ts_counter_numbers_60s", &body)
    }

    fn refused(&self) -> Option<String> {
        Some(event("POST", "/ts_gauge_numbers_60s", r#"{"value":"no number"}"#))
    }

    /// A point that counted twice is there twice.
    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        Box::pin(async {
            let conn = Connection::open(self.0.path().join("ts.sqlite3")).unwrap();
            let sql = "SELECT serie_name, count FROM ts_counter_numbers_60s ORDER BY rowid";
            let mut statement = conn.prepare(sql).unwrap();
            let rows = statement
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?)))
                .unwrap();
            let mut numbers = Vec::new();
            for (name, count) in rows.map(Result::unwrap) {
                let mut left = count;
                while left > 0.0 {
                    numbers.push(name.parse().unwrap());
                    left -= 1.0;
                }
            }
            numbers
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn time_series_keeps_the_contract_of_sinks() {
    check_sink_contract(&CounterSubject(tempfile::tempdir().unwrap())).await;
}

/// Posts bodies to a table and shows its rows without the columns named `_rpf_*`.
async fn check(table: &str, bodies: &[&str], expected: Value) {
    let mut rig = rig().await;
    let events: Vec<String> = bodies.iter().map(|body| event("POST", table, body)).collect();
    rig.write(&events).await;
    let mut rows = rig.json(&format!("/query-table{table}")).await;
    for row in rows.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().retain(|key, _| !key.starts_with("_rpf_"));
    }
    assert_eq!(rows, expected, "{table}");
}

#[tokio::test]
async fn points_of_an_interval_become_one_row() {
    check(
        "/ts_gauge_cpu_60s",
        &[
            r#"{"timestamp":65,"value":1,"envName":"prod","host":"a"}"#,
            r#"{"timestamp":119,"value":3,"envName":"prod"}"#,
            r#"{"timestamp":70,"value":2,"envName":"prod"}"#,
            r#"{"timestamp":120,"value":4,"envName":"prod","serieName":"x"}"#,
        ],
        json!([
            { "timestamp": 60, "serie_name": "default", "env_name": "prod", "value": 3, "metadata": "{\"host\":\"a\"}" },
            { "timestamp": 120, "serie_name": "x", "env_name": "prod", "value": 4, "metadata": null },
        ]),
    )
    .await;
    check(
        "/counter_hits_1m",
        &[r#"{"timestamp":61,"value":5}"#, r#"{"timestamp":60,"value":2.5}"#, r#"{"timestamp":62}"#],
        json!([{ "timestamp": 60, "serie_name": "default", "env_name": "", "count": 8.5, "increment": 1, "metadata": null }]),
    )
    .await;
    check(
        "/ts_rollup_ms_1h",
        &[r#"{"timestamp":1,"value":5}"#, r#"{"timestamp":2,"value":-1}"#, r#"{"timestamp":3,"value":2}"#],
        json!([{ "timestamp": 0, "serie_name": "default", "env_name": "", "min": -1, "max": 5, "avg": 2, "count": 3, "metadata": null }]),
    )
    .await;
    check(
        "/ts_snapshot_state_60s",
        &[r#"{"timestamp":1,"value":"up"}"#, r#"{"timestamp":2,"value":"down"}"#, r#"{"timestamp":3,"value":"up"}"#, r#"{"timestamp":3,"value":7}"#],
        json!([
            { "timestamp": 0, "serie_name": "default", "env_name": "", "value": "up", "count": 2, "metadata": null },
            { "timestamp": 0, "serie_name": "default", "env_name": "", "value": "down", "count": 1, "metadata": null },
            { "timestamp": 0, "serie_name": "default", "env_name": "", "value": 7, "count": 1, "metadata": null },
        ]),
    )
    .await;
    check(
        "/ts_delta_bytes_60s",
        &[
            r#"{"timestamp":10,"value":100}"#,
            r#"{"timestamp":20,"value":130}"#,
            r#"{"timestamp":190,"value":200}"#,
            r#"{"timestamp":70,"value":150}"#,
        ],
        json!([
            { "timestamp": 0, "serie_name": "default", "env_name": "", "previous_value": 100, "current_value": 130, "delta": 30, "metadata": null },
            { "timestamp": 180, "serie_name": "default", "env_name": "", "previous_value": 150, "current_value": 200, "delta": 50, "metadata": null },
            { "timestamp": 60, "serie_name": "default", "env_name": "", "previous_value": 130, "current_value": 150, "delta": 20, "metadata": null },
        ]),
    )
    .await;
}

#[tokio::test]
async fn a_point_of_system_stats_works_as_it_comes() {
    let mut rig = rig().await;
    let body = r#"{"timestamp":1700000042,"envName":"prod","hostName":"web-1","serieName":"cpu_percent","value":12.5,"id":"cpu_percent1700000042"}"#;
    rig.write(&[event("POST", "ts_gauge_systemstats_60s", body)]).await;
    let rows = rig.json("/query-table/v_ts_gauge_systemstats_60s_latest").await;
    assert_eq!(
        json!([rows[0]["timestamp"], rows[0]["serie_name"], rows[0]["env_name"], rows[0]["value"]]),
        json!([1_700_000_040, "cpu_percent", "prod", 12.5])
    );
}

#[tokio::test]
async fn the_same_event_never_counts_twice() {
    let mut rig = rig().await;
    let point = |id: u128, at: i64| {
        event_with_id(id, "/ts_counter_x_60s", &format!(r#"{{"timestamp":{at},"value":1}}"#))
    };
    rig.write(&[point(1, 60), point(2, 61), point(1, 60)]).await;
    rig.write(&[point(3, 200), point(2, 61)]).await;
    rig.restart().await;
    rig.write(&[point(1, 60), point(4, 62), point(3, 200)]).await;
    let rows = rig.json("/query-table/ts_counter_x_60s").await;
    assert_eq!(json!([rows[0]["count"], rows[1]["count"]]), json!([3, 1]));
}

#[tokio::test]
async fn what_is_no_point_is_refused_for_good() {
    let mut rig = rig().await;
    for (method, path, body, why) in [
        ("POST", "/orders", r#"{"value":1}"#, "is not a table of a time series"),
        ("POST", "/ts_gauge_x_fast", r#"{"value":1}"#, "is not a table of a time series"),
        ("POST", "/ts_gauge_x_60s", r#"{"value":"high"}"#, "no number"),
        ("POST", "/ts_gauge_x_60s", "{}", "value is missing"),
        ("POST", "/ts_gauge_x_60s", "[]", "not a JSON object"),
        ("POST", "/ts_gauge_x_60s", r#"{"value":1,"timestamp":"soon"}"#, "timestamp is not a time"),
        ("DELETE", "/ts_gauge_x_60s", r#"{"id":1}"#, "cannot be removed"),
    ] {
        let refused = rig.try_write(&[event(method, path, body)]).await;
        let Err(SinkError::Permanent(reason)) = refused else { panic!("{path} {body}") };
        assert!(reason.contains(why), "{path} {body}: {reason}");
    }
    assert_eq!(rig.json("/list").await, json!([]));
}

#[tokio::test]
async fn a_database_of_the_original_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("ts.sqlite3")).unwrap();
    conn.execute_batch(
        "CREATE TABLE ts_gauge_load_60s (timestamp INTEGER, serie_name TEXT, env_name TEXT, value REAL, metadata TEXT, PRIMARY KEY (timestamp, serie_name, env_name));
         CREATE VIEW v_ts_gauge_load_60s_latest AS SELECT serie_name, max(timestamp) AS timestamp, value FROM ts_gauge_load_60s GROUP BY serie_name;
         CREATE TABLE \"ts_counter_a-b_60s\" (timestamp INTEGER, serie_name TEXT, env_name TEXT, count REAL, increment REAL, metadata TEXT, PRIMARY KEY (timestamp, serie_name, env_name));
         INSERT INTO ts_gauge_load_60s VALUES (60, 'default', '', 1.5, NULL);
         INSERT INTO \"ts_counter_a-b_60s\" VALUES (60, 'default', '', 4, 4, NULL);",
    )
    .unwrap();
    drop(conn);
    let mut rig = Rig::start_in(folder, super::build, PARAMS).await;
    rig.post("/ts_gauge_load_60s", r#"{"timestamp":70,"value":2}"#).await;
    rig.post("/ts_counter_a-b_60s", r#"{"timestamp":70,"value":2}"#).await;
    assert_eq!(rig.json("/query-table/ts_gauge_load_60s").await[0]["value"], json!(2));
    assert_eq!(rig.json("/query-table/ts_counter_a-b_60s").await[0]["count"], json!(6));
    let latest = json!([{ "serie_name": "default", "timestamp": 60, "value": 2 }]);
    assert_eq!(rig.json("/query-table/v_ts_gauge_load_60s_latest").await, latest);
    let tables = [
        "ts_counter_a-b_60s",
        "ts_gauge_load_60s",
        "v_ts_counter_a-b_60s_latest",
        "v_ts_gauge_load_60s_latest",
    ];
    let columns = rig.json("/all-columns/").await;
    assert!(columns.as_object().unwrap().keys().eq(tables), "{columns}");
    let series = rig.json("/distinct-values/ts_gauge_load_60s/serie_name").await;
    assert_eq!(series, json!(["default"]));
}

/// Other programs may write to the file, too.
#[tokio::test]
async fn what_is_no_table_of_a_series_costs_its_points_alone() {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("ts.sqlite3")).unwrap();
    conn.execute_batch(
        "CREATE TABLE ts_counter_keyless_60s (timestamp INTEGER, serie_name TEXT, env_name TEXT, count REAL, increment REAL, metadata TEXT);
         CREATE VIEW ts_gauge_view_60s AS SELECT * FROM ts_counter_keyless_60s;
         CREATE INDEX ts_gauge_index_60s ON ts_counter_keyless_60s (count);
         CREATE TABLE ts_delta_null_60s (timestamp INTEGER, serie_name TEXT, env_name TEXT, previous_value REAL, current_value REAL, delta REAL, metadata TEXT, PRIMARY KEY (timestamp, serie_name, env_name));
         INSERT INTO ts_delta_null_60s VALUES (60, 'default', '', NULL, NULL, NULL, NULL);",
    )
    .unwrap();
    drop(conn);
    let mut rig = Rig::start_in(folder, super::build, PARAMS).await;
    let point = |path: &str| event("POST", path, r#"{"timestamp":61,"value":1}"#);
    let bad = [
        ("/ts_counter_keyless_60s", "ON CONFLICT clause does not match"),
        ("/ts_gauge_view_60s", "is a view"),
        ("/ts_gauge_index_60s", "an index of table `ts_counter_keyless_60s` has that name"),
        ("/ts_delta_null_60s", "Invalid column type"),
    ];
    let good = point("/ts_counter_good_60s");
    let batch: Vec<String> = bad
        .iter()
        .flat_map(|(path, _)| [good.clone(), point(path)])
        .chain([good.clone()])
        .collect();
    let refused = rig.deliver(&batch).await;
    assert_eq!(refused.len(), bad.len(), "{refused:?}");
    for ((content, reason), (path, why)) in refused.iter().zip(bad) {
        assert_eq!(*content, point(path));
        assert!(reason.contains(why), "{path}: {reason}");
    }
    assert_eq!(rig.json("/query-table/ts_counter_good_60s").await[0]["count"], json!(5));
}

/// Lets the sink do what it does by itself.
async fn run_until(rig: &Rig, is_done: impl AsyncFn() -> bool) {
    let stop = CancellationToken::new();
    let looking = async {
        while !is_done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(Arc::clone(&rig.sink).run(stop.clone()), looking) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("done in time");
}

/// However long ago that is.
#[tokio::test]
async fn rows_are_as_old_as_the_newest_of_their_table_allows() {
    let params = r#"{ "database": "ts.sqlite3", "row_ttl_sec": 600 }"#;
    let mut rig = Rig::start(super::build, params).await;
    for (table, at) in
        [("a", 60), ("a", 1200), ("a", 1260), ("a", 1800), ("b", 60), ("b", 600), ("c", 60)]
    {
        let body = format!(r#"{{"timestamp":{at},"value":1}}"#);
        rig.post(&format!("/ts_gauge_{table}_60s"), &body).await;
    }
    let times = async |table: &str| {
        rig.json(&format!("/distinct-values/ts_gauge_{table}_60s/timestamp")).await
    };
    run_until(&rig, async || times("a").await == json!([1200, 1260, 1800])).await;
    assert_eq!((times("b").await, times("c").await), (json!([60, 600]), json!([60])));
}

#[tokio::test]
async fn old_rows_go_and_a_wrong_clock_takes_nothing_along() {
    let mut rig = rig().await;
    let now = crate::sink::table::timestamp::now_seconds();
    for at in [now - 90_000, now - 3600, now + 1_000_000_000] {
        let body = format!(r#"{{"timestamp":{at},"value":1}}"#);
        rig.post("/ts_gauge_x_60s", &body).await;
    }
    let rows = async || rig.json("/query-table/ts_gauge_x_60s").await;
    run_until(&rig, async || rows().await.as_array().unwrap().len() <= 2).await;
    let left = rows().await;
    assert!(left[0]["timestamp"].as_i64().unwrap() > now - 4000, "{left}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Deltas add up to how far the value moved, gauges and deltas hold the newest value: whatever the order of arrival.
    #[test]
    fn the_order_of_arrival_does_not_matter(points in proptest::collection::btree_map(0i64..600, -50i32..50, 1..25), shuffle in proptest::num::u64::ANY) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let points: Vec<(i64, i32)> = points.into_iter().collect();
        let mut arriving = points.clone();
        // Spread by a multiplicative hash, so that a case can be repeated.
        arriving.sort_by_key(|(at, _)| (u64::try_from(*at).unwrap() + 1).wrapping_mul(shuffle | 1).rotate_left(17));
        runtime.block_on(async {
            let mut rig = rig().await;
            for table in ["/ts_delta_x_60s", "/ts_gauge_x_60s"] {
                let events: Vec<String> = arriving.iter().map(|(at, value)| event("POST", table, &format!(r#"{{"timestamp":{at},"value":{value}}}"#))).collect();
                rig.write(&events).await;
            }
            let rows = rig.json("/query-table/ts_delta_x_60s?order=timestamp").await;
            let rows = rows.as_array().unwrap();
            let sum: f64 = rows.iter().map(|row| row["delta"].as_f64().unwrap()).sum();
            let (first, last) = (points[0].1, points[points.len() - 1].1);
            assert_eq!(sum, f64::from(last - first), "{arriving:?}");
            for pair in rows.windows(2) {
                assert_eq!(pair[0]["current_value"], pair[1]["previous_value"], "{arriving:?}");
            }
            let gauge = rig.json("/query-table/ts_gauge_x_60s?order=timestamp").await;
            for (row, delta) in gauge.as_array().unwrap().iter().zip(rows) {
                assert_eq!(row["value"], delta["current_value"], "{arriving:?}");
            }
        });
    }
}

//! Series and ranges.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::rig;
use crate::sink::table::rig::{Rig, event};

/// Two series of a gauge, a point each ten seconds for ten minutes: `up` grows by one, `flat` stays at 5.
pub(super) async fn charts() -> Rig {
    let mut rig = rig().await;
    let mut events = Vec::new();
    for n in 0..60 {
        let at = 1_000_020 + n * 10;
        for (serie, value) in [("up", n), ("flat", 5)] {
            let body = format!(
                r#"{{"timestamp":{at},"serieName":"{serie}","envName":"e","value":{value}}}"#
            );
            events.push(event("POST", "/ts_gauge_g_10s", &body));
            events.push(event("POST", "/ts_rollup_r_60s", &body));
            events.push(event("POST", "/ts_counter_c_60s", &body));
            events.push(event("POST", "/ts_delta_d_60s", &body));
        }
    }
    rig.write(&events).await;
    rig
}

/// Without the views of the newest rows, which have no range.
const KNOWN: &str =
    "no table `nothing`; known: ts_counter_c_60s, ts_delta_d_60s, ts_gauge_g_10s, ts_rollup_r_60s";

fn values(rows: &Value) -> Vec<f64> {
    rows.as_array().unwrap().iter().map(|row| row["value"].as_f64().unwrap()).collect()
}

#[tokio::test]
async fn every_aggregate_over_steps() {
    let rig = charts().await;
    let uri = "/range/ts_gauge_g_10s?serie=up&step=5m&start=1000200&stop=1000499";
    for (aggregate, expected) in [
        ("avg", 32.5),
        ("min", 18.0),
        ("max", 47.0),
        ("sum", 975.0),
        ("count", 30.0),
        ("last", 47.0),
        ("p95", 46.0),
        // The first point of a range has grown since the one before the range.
        ("rate", 30.0 / 300.0),
    ] {
        let rows = rig.json(&format!("{uri}&aggregate={aggregate}")).await;
        assert_eq!(values(&rows), [expected], "{aggregate}");
        assert_eq!(rows[0]["timestamp"], json!(1_000_200));
    }
    for aggregates in ["min,max", "min,max,min&aggregate=max"] {
        let (status, rows) = rig.get(&format!("{uri}&aggregate={aggregates}")).await;
        let expected =
            r#"[{"timestamp":1000200,"serie_name":"up","env_name":"e","min":18,"max":47}]"#;
        assert_eq!((status.as_u16(), rows.as_str()), (200, expected), "{aggregates}");
    }
}

#[tokio::test]
async fn rates_of_neighbouring_spans_add_up() {
    let rig = charts().await;
    let rates = async |start: i64, stop: i64| {
        let uri = format!(
            "/range/ts_gauge_g_10s?serie=up&step=1m&aggregate=rate&start={start}&stop={stop}"
        );
        values(&rig.json(&uri).await)
    };
    let whole = rates(1_000_020, 1_000_619).await;
    // Before its first point a series has not grown.
    assert_eq!(whole[..2], [5.0 / 60.0, 6.0 / 60.0]);
    let parts = [rates(1_000_020, 1_000_319).await, rates(1_000_320, 1_000_619).await].concat();
    assert_eq!(parts, whole);
}

/// As one of a program that was started anew.
#[tokio::test]
async fn a_value_that_fell_has_grown_from_nothing() {
    let mut rig = rig().await;
    for (at, value) in [(60, 100), (70, 130), (80, 20), (90, 50)] {
        let body = format!(r#"{{"timestamp":{at},"value":{value}}}"#);
        rig.post("/ts_gauge_g_10s", &body).await;
    }
    let rows = rig.json("/range/ts_gauge_g_10s?step=1m&aggregate=rate").await;
    assert_eq!(values(&rows), [(30.0 + 20.0 + 30.0) / 60.0]);
}

#[tokio::test]
async fn the_newest_row_of_each_series_is_a_view() {
    let mut rig = charts().await;
    let other = r#"{"timestamp":1000020,"serieName":"up","envName":"other","value":7}"#;
    rig.post("/ts_gauge_g_10s", other).await;
    let rows = rig.json("/query-table/v_ts_gauge_g_10s_latest?order=timestamp").await;
    let rows = rows.as_array().unwrap().iter();
    let mut seen: Vec<_> =
        rows.map(|row| json!([row["serie_name"], row["env_name"], row["value"]])).collect();
    seen.sort_by_key(ToString::to_string);
    let expected = [json!(["flat", "e", 5]), json!(["up", "e", 59]), json!(["up", "other", 7])];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_series_that_is_named_is_found_among_any_number_of_them() {
    let rig = charts().await;
    let conn = Connection::open(rig.folder.path().join("ts.sqlite3")).unwrap();
    conn.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 10400)
         INSERT INTO ts_gauge_g_10s (timestamp, serie_name, env_name, value)
         SELECT 1000020, printf('s%05d', i), printf('e%d', i % 2), i FROM n",
    )
    .unwrap();
    drop(conn);
    let uri = "/range/ts_gauge_g_10s?step=1h";
    let found = rig.json(&format!("{uri}&serie=s10400&serie=s00003&serie=s10400&serie=none")).await;
    assert_eq!(values(&found), [3.0, 10_400.0]);
    assert_eq!(rig.json(&format!("{uri}&serie=s10400&env=e1")).await, json!([]));
    let of_env = rig.json(&format!("{uri}&serie=s10400&serie=s00003&env=e1&env=none")).await;
    assert_eq!(values(&of_env), [3.0]);
    let (status, reason) = rig.refusal(uri).await;
    assert_eq!(status, 400);
    assert!(reason.starts_with("more than 10000 series: name those"), "{reason}");
    let listed = rig.json("/series/ts_gauge_g_10s").await;
    assert_eq!(listed.as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn other_kinds_are_put_together_from_what_they_hold() {
    let rig = charts().await;
    let one = async |table: &str, aggregate: &str| {
        let uri = format!(
            "/range/{table}?serie=up&step=10m&start=1000200&stop=1000499&aggregate={aggregate}"
        );
        values(&rig.json(&uri).await)[0]
    };
    assert_eq!(one("ts_rollup_r_60s", "avg").await, 32.5);
    assert_eq!(one("ts_rollup_r_60s", "min").await, 18.0);
    assert_eq!(one("ts_rollup_r_60s", "count").await, 30.0);
    assert_eq!(one("ts_counter_c_60s", "sum").await, 975.0);
    assert_eq!(one("ts_counter_c_60s", "count").await, 5.0);
    assert_eq!(one("ts_counter_c_60s", "rate").await, 975.0 / 600.0);
    // From the value before the span, 17, to the last one.
    assert_eq!(one("ts_delta_d_60s", "sum").await, 30.0);
    assert_eq!(one("ts_delta_d_60s", "last").await, 47.0);
    assert_eq!(one("ts_delta_d_60s", "rate").await, 30.0 / 600.0);
}

#[tokio::test]
async fn a_chart_gets_as_many_points_as_it_asks_for() {
    let rig = charts().await;
    let rows = rig.json("/range/ts_gauge_g_10s?points=5").await;
    assert_eq!(rows.as_array().unwrap().len(), 10, "of two series");
    for points in 1..=60_usize {
        let uri = format!("/range/ts_gauge_g_10s?serie=up&aggregate=count&points={points}");
        let counts = values(&rig.json(&uri).await);
        assert!((points.div_ceil(2)..=points).contains(&counts.len()), "{points}: {counts:?}");
        assert_eq!(counts.iter().sum::<f64>(), 60.0, "{points}: {counts:?}");
    }
    let one = rig.json("/range/ts_gauge_g_10s?serie=up&points=1").await;
    assert_eq!(one[0]["timestamp"], json!(1_000_020));
    let rows_of_up = rig.json("/range/ts_gauge_g_10s?serie=up").await;
    assert_eq!(rows_of_up.as_array().unwrap().len(), 60, "no finer than the table");
    let (_, csv) = rig.get("/range/ts_gauge_g_10s?serie=flat&points=1&format=csv").await;
    assert_eq!(csv.lines().next(), Some("timestamp,serie_name,env_name,value"));
    assert_eq!(rig.json("/range/ts_gauge_g_10s?serie=none").await, json!([]));
    let empty = "/range/ts_gauge_g_10s?serie=up&start=&stop=&step=&points=&aggregate=&format=&_=1";
    assert_eq!(rig.json(empty).await, rows_of_up);
}

#[tokio::test]
async fn series_are_listed() {
    let rig = charts().await;
    let serie = |name: &str| json!({ "serie_name": name, "env_name": "e", "first": 1_000_020, "last": 1_000_610 });
    assert_eq!(rig.json("/series/ts_gauge_g_10s").await, json!([serie("flat"), serie("up")]));
    assert_eq!(rig.json("/distinct-values/ts_gauge_g_10s/serie_name").await, json!(["flat", "up"]));
    let page = rig.json("/query-table/ts_gauge_g_10s?limit=2&order=value:desc").await;
    let after = &page[1]["_rpf_id"];
    let next = rig
        .json(&format!("/query-table/ts_gauge_g_10s?limit=1&order=value:desc&after={after}"))
        .await;
    assert_eq!(next[0]["value"], json!(57));
}

#[tokio::test]
async fn rows_are_ordered_by_their_number_too() {
    let rig = charts().await;
    let numbers = async |query: &str| -> Vec<u64> {
        let rows = rig.json(&format!("/query-table/ts_gauge_g_10s?{query}")).await;
        rows.as_array().unwrap().iter().map(|row| row["_rpf_id"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("order=_rpf_id&limit=2").await, [1, 2]);
    assert_eq!(numbers("order=_rpf_id:desc&limit=2").await, [120, 119]);
    assert_eq!(numbers("order=_rpf_id:desc&limit=2&after=119").await, [118, 117]);
}

#[tokio::test]
async fn snapshots_are_told_apart_by_their_value() {
    let mut rig = rig().await;
    for (at, state) in [(0, "up"), (60, "up"), (61, "down"), (62, "up")] {
        let body = format!(r#"{{"timestamp":{at},"value":"{state}"}}"#);
        rig.post("/ts_snapshot_s_60s", &body).await;
    }
    let rows = rig.json("/range/ts_snapshot_s_60s?step=1h").await;
    let row = |state: &str, count: u32| json!({ "timestamp": 0, "serie_name": "default", "env_name": "", "state": state, "value": count });
    assert_eq!(rows, json!([row("down", 1), row("up", 3)]));
}

/// As they are in the key of their table.
#[tokio::test]
async fn values_of_a_snapshot_that_are_the_same_number_are_one() {
    let mut rig = rig().await;
    for (at, value) in [
        (0, "0"),
        (60, "-0.0"),
        (120, "9007199254740992"),
        (180, "9007199254740992.0"),
        (240, "\"0\""),
        (300, "0.5"),
    ] {
        let body = format!(r#"{{"timestamp":{at},"value":{value}}}"#);
        rig.post("/ts_snapshot_n_60s", &body).await;
    }
    let rows = rig.json("/range/ts_snapshot_n_60s?step=1h").await;
    assert_eq!(values(&rows), [1.0, 2.0, 1.0, 2.0], "{rows}");
    let found = rig.json("/query-table/ts_snapshot_n_60s?value=0&order=timestamp").await;
    assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
}

#[tokio::test]
async fn a_range_has_so_many_steps_and_no_more() {
    let mut rig = rig().await;
    rig.post("/ts_gauge_n_1s", r#"{"timestamp":1700000000,"value":1}"#).await;
    let range = |stop: u32| format!("/range/ts_gauge_n_1s?step=1s&start=1700000000&stop={stop}");
    assert_eq!(rig.get(&range(1_700_099_999)).await.0.as_u16(), 200);
    let (status, message) = rig.refusal(&range(1_700_100_000)).await;
    assert!(status == 400 && message.starts_with("step is too short"), "{status} {message}");
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let rig = charts().await;
    for (uri, status, text) in [
        ("/range/nothing", 404, KNOWN),
        ("/series/nothing", 404, KNOWN),
        (
            "/series/v_ts_gauge_g_10s_latest",
            400,
            "`v_ts_gauge_g_10s_latest` is not a table of a time series",
        ),
        ("/range/ts_gauge_g_10s?aggregate=median", 400, "aggregate: expected avg, min,"),
        ("/range/ts_gauge_g_10s?step=0", 400, "step: expected a length of time"),
        ("/range/ts_gauge_g_10s?points=0", 400, "points: expected a number"),
        ("/range/ts_gauge_g_10s?start=soon", 400, "start: expected Unix time"),
        ("/range/ts_gauge_g_10s?step=10s&start=0", 400, "step is too short for this span"),
        ("/range/ts_gauge_g_10s?limit=1", 400, "no parameter `limit`; known: serie, env,"),
        ("/series/ts_gauge_g_10s?serie=up", 400, "no parameter `serie`; known: format"),
        ("/range/%ff", 400, "the path is not UTF-8"),
        ("/x", 404, "no such path; there are query-table/TABLE"),
    ] {
        let (found, message) = rig.refusal(uri).await;
        assert_eq!(found, status, "{uri}: {message}");
        let is_told = if text == KNOWN { message == text } else { message.starts_with(text) };
        assert!(is_told, "{uri}: {message}");
    }
}

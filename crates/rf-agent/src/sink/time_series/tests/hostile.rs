//! Requests and events that mean harm: no request is answered with a 500, none changes or shows what it must not; no event
//! costs another one.

use proptest::prelude::ProptestConfig;
use proptest::proptest;
use serde_json::{Value, json};

use super::api::charts;
use super::{PARAMS, event};
use crate::sink::table::hostile::{HOSTILE, check, dump, encode, encode_bytes, fuzz};
use crate::sink::table::hostile_events::{Kind, check_events};
use crate::sink::table::identifier::Identifier;

/// Every place of a request that `{}`, percent-encoded already, can stand in.
fn requests(encoded: &str) -> Vec<String> {
    let places = [
        "/range/{}",
        "/series/{}",
        "/range/ts_gauge_g_10s?{}=1",
        "/range/ts_gauge_g_10s?serie={}",
        "/range/ts_gauge_g_10s?env={}",
        "/range/ts_gauge_g_10s?start={}",
        "/range/ts_gauge_g_10s?stop={}",
        "/range/ts_gauge_g_10s?step={}",
        "/range/ts_gauge_g_10s?points={}",
        "/range/ts_gauge_g_10s?aggregate={}",
        "/range/ts_gauge_g_10s?format={}",
        "/query-table/ts_gauge_g_10s?order={}",
        "/query-table/{}",
        "/rpf-db/{}",
        "/query-table/v_ts_gauge_g_10s_latest?serie_name={}",
        "/query-table/ts_gauge_g_10s?serie_name_contains={}",
        "/query-table/ts_gauge_g_10s?value_in={}",
        "/query-table/ts_gauge_g_10s?{}=1",
        "/query-table/ts_gauge_g_10s?value_gt={}",
        "/query-table/ts_gauge_g_10s?limit={}",
        "/query-table/ts_gauge_g_10s?after={}",
        "/columns/{}",
        "/distinct-values/{}/value",
        "/distinct-values/ts_gauge_g_10s/{}",
        "/distinct-values/ts_gauge_g_10s/value?limit={}",
        "/all-columns/?{}",
        "/list?{}={}",
        "/series/ts_gauge_g_10s?format={}",
        "/{}",
    ];
    places.map(|uri| uri.replace("{}", encoded)).into()
}

#[tokio::test]
async fn injected_sql_is_a_value_or_an_unknown_name() {
    let rig = charts().await;
    let path = rig.folder.path().join("ts.sqlite3");
    let before = dump(&path);
    for text in HOSTILE {
        check(&rig, &requests(&encode(text))).await;
    }
    assert_eq!(dump(&path), before);
}

#[tokio::test]
async fn injected_sql_in_points_is_a_value_or_refused() {
    let mut rig = charts().await;
    for text in HOSTILE {
        let text_json = serde_json::to_string(text).unwrap();
        let body = format!(
            r#"{{"timestamp":1000020,"serieName":{text_json},"envName":{text_json},"value":1,{text_json}:{text_json}}}"#
        );
        rig.write(&[event("POST", "/ts_gauge_hostile_10s", &body)]).await;
        let table = format!("/ts_gauge_{text} x_10s");
        assert!(rig.try_write(&[event("POST", &table, &body)]).await.is_err(), "{table}");
    }
    let names = rig.json("/distinct-values/ts_gauge_hostile_10s/serie_name").await;
    let mut expected = HOSTILE.to_vec();
    expected.sort_unstable();
    assert_eq!(names, json!(expected), "each is the name of a series");
    assert_eq!(rig.json("/list").await.as_array().map(Vec::len), Some(10), "and no table is new");
}

/// Whether the mark is in the key's column, or with what has none. Of two values or times one counts.
fn is_whole_point(row: &Value, key: &str, mark: &str) -> bool {
    let column = Identifier::column(key);
    match column.as_ref().map_or("", Identifier::as_str) {
        column @ ("serie_name" | "env_name") => row[column] == mark,
        "value" | "timestamp" => true,
        _ => row["metadata"].as_str().is_some_and(|metadata| metadata.contains(mark)),
    }
}

#[tokio::test]
async fn hostile_paths_and_keys_cost_no_other_point() {
    let kind = Kind {
        build: crate::sink::time_series::build,
        params: PARAMS,
        good: ["/ts_gauge_good_60s", "/ts_gauge_GOOD_60s"],
        taken: &[
            "/gauge_good_60s",
            "/ts_gauge_gOOd_60s/",
            "/TS_GAUGE_GOOD_60S",
            "/ts_gauge_good_60S",
            "/rpf-db/ts_gauge_good_60s?x=1",
            "/ts_gauge_good-_60s",
            "/ts_gauge_good_60s_60s",
            "/ts_gauge_good_1m",
            "/ts_gauge_Größe_60s",
            "/ts_gauge_größe_60s",
            "/ts_gauge_v_ts_gauge_good_60s_latest_60s",
            "/ts_counter_good_60s",
            "/ts_counter_GOOD_60s",
            "/ts_rollup_good_60s",
            "/ts_rollup_Good_60s",
            "/ts_delta_good_60s",
            "/ts_delta_Good_60s",
            "/ts_snapshot_good_60s",
            "/ts_snapshot_Good_60s",
        ],
        refused: &[
            "/",
            "/good",
            "/idx_ts_gauge_good_60s_serie",
            "/v_ts_gauge_good_60s_latest",
            "/pragma_table_xinfo",
            "/_rpf_idx",
            "/sqlite_schema",
            "/ts_gauge_good_0s",
            "/ts_gauge__60s",
            "/ts_gauge_good_60s\0",
            "/ts_gauge_go\u{301}od_60s",
            "/ts_gauge_a/b_60s",
        ],
        refused_keys: &["timestamp", "value"],
        body: |mark| json!({ "serieName": mark, "value": 1, "timestamp": 60 }),
        column: "serie_name",
        is_whole: is_whole_point,
        is_table: |name| !name.starts_with("v_"),
    };
    check_events(&kind).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn fuzzed_requests_are_answered((text, bytes) in fuzz()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = charts().await;
            let path = rig.folder.path().join("ts.sqlite3");
            let before = dump(&path);
            check(&rig, &requests(&encode(&text))).await;
            check(&rig, &requests(&encode_bytes(&bytes))).await;
            assert_eq!(dump(&path), before);
        });
    }
}

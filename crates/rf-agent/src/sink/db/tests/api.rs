//! What the query API answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use http::Request;
use rf_core::config::{Problems, parse};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{event, open, rig};
use crate::sink::SinkContext;
use crate::sink::table::reader::{MAX_QUERY_SECONDS, Reader};
use crate::sink::table::rig::{Rig, get, send};
use crate::sink::table::row_api;

async fn people() -> Rig {
    let mut rig = rig().await;
    for body in [
        r#"{"id":"a","name":"Ann","age":30,"active":true,"city":"Bonn"}"#,
        r#"{"id":"b","name":"Bob 50%","age":20,"active":false}"#,
        r#"{"id":"c","name":"Cy_d","age":40.5,"active":true,"city":"Köln"}"#,
        r#"{"id":"d","name":"Dee","age":30,"active":true,"city":"Bonn"}"#,
    ] {
        rig.post("/people", body).await;
    }
    rig
}

pub(super) fn ids(rows: &Value) -> String {
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn filters_orders_and_limits() {
    let rig = people().await;
    for (query, expected) in [
        ("", "abcd"),
        ("age=30", "ad"),
        ("age_gt=30", "c"),
        ("age_gte=30", "acd"),
        ("age_lt=30", "b"),
        ("age_lte=30", "abd"),
        ("age_ne=30", "bc"),
        ("city_ne=Bonn", "bc"),
        ("age_in=20,40.5", "bc"),
        ("id_in=a,d,x", "ad"),
        ("active=true", "acd"),
        ("active=0", "b"),
        ("city_null=true", "b"),
        ("city_null=false", "acd"),
        ("name_contains=ee", "d"),
        ("name_contains=EE", "d"),
        ("name_contains=50%25", "b"),
        ("name_contains=_", "c"),
        ("city=K%C3%B6ln", "c"),
        ("city=Bonn&age_gt=1&name_contains=n", "a"),
        ("order=age", "badc"),
        ("order=age:desc", "cdab"),
        ("order=age:DESC&limit=2", "cd"),
        ("order=city:asc", "badc"),
        ("limit=1", "a"),
        ("limit=&order=&after=&format=", "abcd"),
        ("order=age&order=", "badc"),
        ("limit=999999999999", "abcd"),
        ("after=2", "cd"),
        ("_rpf_id_gt=1&_rpf_id_lt=4", "bc"),
    ] {
        assert_eq!(
            ids(&rig.json(&format!("/query-table/people?{query}")).await),
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended() {
    let rig = people().await;
    for (order, expected) in [
        ("_rpf_id", "abcd"),
        ("_rpf_id:desc", "dcba"),
        ("age", "badc"),
        ("age:desc", "cdab"),
        ("city", "badc"),
        ("city:desc", "cdab"),
        ("active", "bacd"),
    ] {
        let mut seen = String::new();
        let mut after = String::new();
        loop {
            let uri = format!("/rpf-db/people?order={order}&limit=1{after}");
            let page = rig.json(&uri).await;
            let Some(row) = page.get(0) else { break };
            seen.push_str(row["id"].as_str().unwrap());
            after = format!("&after={}", row["_rpf_id"]);
        }
        assert_eq!(seen, expected, "{order}");
    }
    let reason = "after: that row is gone, or was written again: begin again without after";
    let gone = rig.refusal("/rpf-db/people?order=age&after=77").await;
    assert_eq!(gone, (400, reason.to_owned()));
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let rig = people().await;
    for (uri, status, text) in [
        ("/rpf-db/persons", 404, "no table `persons`; known: people"),
        ("/find/persons/a", 404, "no table `persons`; known: people"),
        ("/find/people/x", 404, "no row with this id in table `people`"),
        ("/columns/persons", 404, "no table `persons`; known: people"),
        ("/distinct-values/people/aeg", 404, "no column `aeg`; known: id, _rpf_id,"),
        ("/rpf-db/people?aeg=1", 404, "no column `aeg`; known: id, _rpf_id,"),
        ("/rpf-db/people?order=aeg", 404, "no column `aeg`; known: id,"),
        ("/rpf-db/_rpf_events", 404, "no table `_rpf_events`; known: people"),
        ("/rpf-db/sqlite_master", 404, "no table `sqlite_master`; known: people"),
        ("/time-analytics/?table=x", 404, "no table `x`; known: people"),
        ("/time-analytics/", 400, "table is missing: expected time-analytics/?table=TABLE"),
        ("/time-analytics/?table=", 400, "table is missing"),
        (
            "/time-analytics/?table=people&age_gt=1",
            400,
            "no parameter `age_gt`; known: table, start_time, stop_time, range_time, format",
        ),
        ("/distinct-values/people/age?id=x", 400, "no parameter `id`; known: limit"),
        ("/nothing", 404, "no such path; there are rpf-db/TABLE, query-table/TABLE, find/TABLE/ID"),
        ("/static/x", 404, "no such path"),
        ("/rpf-db/%ff", 400, "the path is not UTF-8"),
        ("/find/people/%ff", 400, "the path is not UTF-8"),
        ("/columns/%ff", 400, "the path is not UTF-8"),
        ("/distinct-values/people/%ff", 400, "the path is not UTF-8"),
        ("/rpf-db/people?age_gt=abc", 400, "age_gt: expected a number"),
        ("/rpf-db/people?active_lt=x", 400, "active_lt: expected true, false or a number"),
        ("/rpf-db/people?limit=0", 400, "limit: expected a number"),
        ("/rpf-db/people?limit=x", 400, "limit: expected a number"),
        ("/rpf-db/people?order=age:up", 400, "order: expected COLUMN"),
        ("/rpf-db/people?after=x", 400, "after: expected the _rpf_id"),
        ("/rpf-db/people?format=xml", 400, "format: expected json, ndjson or csv"),
        ("/rpf-db/people?city_null=maybe", 400, "city_null: expected true or false"),
        ("/time-analytics/?table=people&range_time=soon", 400, "range_time: expected a duration"),
        ("/time-analytics/?table=people&range_time=99999999h", 400, "range_time: expected a dura"),
        ("/time-analytics/?table=people&range_time=-1", 400, "range_time: expected a duration"),
        ("/time-analytics/?table=people&range_time=1e99", 400, "range_time: expected a duration"),
        ("/time-analytics/?table=people&start_time=soon", 400, "start_time: expected Unix time"),
    ] {
        let (found, message) = rig.refusal(uri).await;
        assert_eq!(found, status, "{uri}");
        assert!(message.starts_with(text), "{uri}: {message}");
    }
}

#[tokio::test]
async fn what_a_text_is_to_contain_has_a_bound() {
    let rig = people().await;
    for (text, is_taken) in
        [("x".repeat(50_000), true), ("_".repeat(50_000), true), ("x".repeat(50_001), false)]
    {
        let uri = format!("/rpf-db/people?name_contains={text}");
        if is_taken {
            assert_eq!(rig.json(&uri).await, json!([]));
        } else {
            let (status, message) = rig.refusal(&uri).await;
            assert_eq!(status, 400, "{message}");
            assert!(
                message.starts_with("name_contains: expected at most 50000 bytes"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn conditions_and_the_values_of_one_have_a_bound() {
    let rig = people().await;
    for (condition, separator, most, refusal) in [
        ("age_gt=1", "&age_gt=1", 50, "more than 50 conditions"),
        ("id_in=a", ",a", 500, "id_in: more than 500 values"),
    ] {
        let uri =
            |count: usize| format!("/rpf-db/people?{condition}{}", separator.repeat(count - 1));
        assert!(rig.json(&uri(most)).await[0].is_object(), "{condition}");
        assert_eq!(rig.refusal(&uri(most + 1)).await, (400, refusal.to_owned()));
    }
}

#[tokio::test]
async fn values_of_a_column_are_so_many_and_no_more() {
    let mut rig = rig().await;
    rig.post("/t", r#"{"n":0}"#).await;
    open(&rig)
        .execute_batch(
            "WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 10100)
             INSERT INTO t (id, n) SELECT 'x' || n, n FROM i",
        )
        .unwrap();
    for (query, values) in
        [("", 1000), ("?limit=5", 5), ("?limit=10000", 10_000), ("?limit=10001", 10_000)]
    {
        let found = rig.json(&format!("/distinct-values/t/n{query}")).await;
        assert_eq!(found.as_array().unwrap().len(), values, "{query}");
    }
}

#[tokio::test]
async fn what_only_keeps_caches_away_is_passed_over() {
    let rig = people().await;
    for uri in [
        "/time-analytics/?table=people&start_time=&_=1700000000000",
        "/time-analytics/?table=people&limit=5",
        "/rpf-db/people?_=1&age_gt=",
        "/list?_=1",
    ] {
        assert!(!rig.json(uri).await[0].is_null(), "{uri}");
    }
    assert_eq!(rig.json("/distinct-values/people/city?_=1&limit=1").await, json!(["Bonn"]));
}

#[tokio::test]
async fn other_methods_are_refused_in_json() {
    let rig = people().await;
    for path in ["/list", "/rpf-db/people", "/time-analytics/"] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        let (status, text) = send(Arc::clone(&rig.sink).api().unwrap(), request).await;
        assert_eq!(status.as_u16(), 405, "{path}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body["error"].is_string(), "{path}: {text}");
    }
}

#[tokio::test]
async fn lists_of_tables_columns_and_values() {
    let mut rig = people().await;
    rig.post("/a-table", r#"{"x":1}"#).await;
    let own = ["id", "_rpf_id", "_rpf_last_updated_idx", "timestamp"];
    let columns = [&own[..], &["name", "age", "active", "city"]].concat();
    assert_eq!(rig.json("/list").await, json!(["a-table", "people"]));
    assert_eq!(rig.json("/columns/people").await, json!(columns));
    let with_x = [&own[..], &["x"]].concat();
    let all = json!({ "a-table": with_x, "people": columns });
    assert_eq!(rig.json("/all-columns/").await, all);
    assert_eq!(rig.json("/all-columns").await, all);
    assert_eq!(rig.json("/distinct-values/people/city").await, json!(["Bonn", "Köln"]));
    assert_eq!(rig.json("/distinct-values/people/active").await, json!([false, true]));
    assert_eq!(rig.json("/distinct-values/people/age?limit=2").await, json!([20, 30]));
    assert_eq!(rig.json("/distinct-values/people/age?limit=").await, json!([20, 30, 40.5]));
}

#[tokio::test]
async fn values_that_are_too_large_together_are_refused() {
    let mut rig = rig().await;
    let status = |number: usize| format!("{number} {}", "x".repeat(1 << 20));
    let row = |number| {
        let body = json!({ "status": status(number), "timestamp": 60 });
        event("POST", "/t", &body.to_string())
    };
    rig.write(&(0..17).map(row).collect::<Vec<_>>()).await;
    let uri = "/distinct-values/t/status";
    let reason = "the values have more than 16777216 bytes: ask for fewer with limit";
    assert_eq!(rig.refusal(uri).await, (400, reason.to_owned()));
    assert_eq!(rig.json(&format!("{uri}?limit=2")).await, json!([status(0), status(1)]));
    let (code, reason) = rig.refusal("/time-analytics/?table=t").await;
    let expected = "more than 10000 values of status in a bucket, or 16777216 bytes of them";
    assert_eq!((code, reason.as_str()), (400, expected));
}

#[tokio::test]
async fn other_formats() {
    let mut rig = rig().await;
    rig.write(&[event("POST", "/t", r#"{"id":"1","a":"x,y","b":true,"timestamp":5}"#)]).await;
    open(&rig).execute_batch("UPDATE t SET _rpf_last_updated_idx = 9").unwrap();
    let (_, csv) = rig.get("/rpf-db/t?format=csv").await;
    assert_eq!(csv, "id,_rpf_id,_rpf_last_updated_idx,timestamp,a,b\r\n1,1,9,5,\"x,y\",true\r\n");
    let (_, lines) = rig.get("/rpf-db/t?format=ndjson").await;
    assert_eq!(
        lines,
        "{\"id\":\"1\",\"_rpf_id\":1,\"_rpf_last_updated_idx\":9,\"timestamp\":5,\"a\":\"x,y\",\"b\":true}\n"
    );
    assert_eq!(rig.get("/rpf-db/t?a=none&format=ndjson").await.1, "");
    assert_eq!(rig.get("/rpf-db/t?a=none").await.1, "[]");
}

#[tokio::test]
async fn an_answer_of_many_pieces_is_whole() {
    let mut rig = rig().await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(1000));
    let rows: Vec<String> = (0..900).map(|_| event("POST", "/t", &body)).collect();
    rig.write(&rows).await;
    let answer = rig.json("/rpf-db/t").await;
    assert_eq!(answer.as_array().unwrap().len(), 900);
    let (_, csv) = rig.get("/rpf-db/t?format=csv&order=_rpf_id:desc").await;
    assert_eq!(csv.lines().count(), 901);
}

/// Of what nobody reads only a few pieces are in memory, and half an answer is not taken for a whole one.
#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_reader_and_is_cut_when_its_time_is_over() {
    let mut rig = rig().await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(1000));
    let rows: Vec<String> = (0..900).map(|_| event("POST", "/t", &body)).collect();
    rig.write(&rows).await;
    let request = Request::get("/rpf-db/t").body(Body::empty()).unwrap();
    let answer = Arc::clone(&rig.sink).api().unwrap().oneshot(request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    tokio::time::advance(Duration::from_secs(MAX_QUERY_SECONDS + 1)).await;
    let pieces: Vec<_> = answer.into_body().into_data_stream().collect().await;
    let (last, whole) = pieces.split_last().unwrap();
    assert!(last.is_err(), "{} pieces", pieces.len());
    let bytes: usize = whole.iter().map(|piece| piece.as_ref().unwrap().len()).sum();
    assert!((1..900_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn without_a_limit_there_are_as_many_rows_as_the_original_gives() {
    let mut rig = rig().await;
    let rows = vec![event("POST", "/t", r#"{"a":1}"#); 1001];
    for _ in 0..10 {
        rig.write(&rows).await;
    }
    for (query, expected) in [("", 10_000), ("limit=20000", 10_010), ("limit=7", 7)] {
        let answer = rig.json(&format!("/query-table/t?{query}")).await;
        assert_eq!(answer.as_array().unwrap().len(), expected, "{query}");
    }
}

#[tokio::test]
async fn counts_by_time_and_status() {
    let mut rig = rig().await;
    for (at, status) in [(7200, "ok"), (7201, "bad"), (9000, "ok"), (10_800, "ok"), (-1, "old")] {
        rig.post("/t", &format!(r#"{{"timestamp":{at},"status":"{status}"}}"#)).await;
    }
    rig.post("/plain", r#"{"timestamp":7200}"#).await;
    let row = |at: i64, status: &str, count: u32| json!({ "time_bucket": at, "status": status, "count": count });
    assert_eq!(
        rig.json("/time-analytics/?table=t&start_time=0&stop_time=1970-01-01T03:00:00Z").await,
        json!([row(7200, "bad", 1), row(7200, "ok", 2), row(10_800, "ok", 1)])
    );
    assert_eq!(
        rig.json("/time-analytics?table=t&range_time=30m&start_time=9000").await,
        json!([row(9000, "ok", 1), row(10_800, "ok", 1)])
    );
    assert_eq!(
        rig.json("/time-analytics?table=t&range_time=1800&start_time=9000&format=").await,
        json!([row(9000, "ok", 1), row(10_800, "ok", 1)])
    );
    assert_eq!(rig.json("/time-analytics/?table=t").await[0], row(-3600, "old", 1));
    // As Grafana writes a long interval.
    for (range, expected) in [("1d", row(-86_400, "old", 1)), ("1w", row(-604_800, "old", 1))] {
        let rows = rig.json(&format!("/time-analytics/?table=t&range_time={range}")).await;
        assert_eq!(rows[0], expected, "{range}");
        assert_eq!(rows[2], row(0, "ok", 3), "{range}");
    }
    assert_eq!(
        rig.json("/time-analytics/?table=plain").await,
        json!([{ "time_bucket": 7200, "count": 1 }])
    );
    // What is shorter than a second is one.
    for range in ["500ms", "0"] {
        let rows = rig.json(&format!("/time-analytics/?table=plain&range_time={range}")).await;
        assert_eq!(rows, json!([{ "time_bucket": 7200, "count": 1 }]), "{range}");
    }
}

#[tokio::test]
async fn a_query_ends_when_its_time_is_over() {
    let mut rig = rig().await;
    let rows: Vec<String> =
        (0..1000).map(|n| event("POST", "/t", &format!(r#"{{"n":{n}}}"#))).collect();
    for _ in 0..10 {
        rig.write(&rows).await;
    }
    let reader = Reader::with_time(rig.folder.path().join("db.sqlite3"), Duration::ZERO);
    let router = row_api::router(Arc::clone(&reader));
    let (status, text) = get(router, "/rpf-db/t?n_contains=x").await;
    assert_eq!(status.as_u16(), 503, "{text}");
    assert!(text.contains("the query took longer"), "{text}");
}

/// With LIKE, text and value would be multiplied: minutes a row, without an end that anybody could set.
#[tokio::test]
async fn a_long_text_in_a_long_value_is_looked_for_at_once() {
    let mut rig = rig().await;
    let value = "a".repeat(2_000_000);
    rig.write(&[event("POST", "/t", &format!(r#"{{"n":"{value}"}}"#))]).await;
    for (text, rows) in [("a".repeat(45_000) + "b", 0), ("A".repeat(45_000), 1)] {
        let uri = format!("/rpf-db/t?n_contains={text}");
        let answer = tokio::time::timeout(Duration::from_secs(20), rig.json(&uri)).await;
        let answer = answer.expect("an answer in time");
        assert_eq!(answer.as_array().expect("rows").len(), rows);
    }
}

#[tokio::test]
async fn numbers_are_looked_through_as_they_are_written() {
    let mut rig = rig().await;
    for n in ["1234", "12.5", "\"x12\"", "null", "true"] {
        rig.write(&[event("POST", "/t", &format!(r#"{{"n":{n}}}"#))]).await;
    }
    let count = async |text: &str| {
        let rows = rig.json(&format!("/rpf-db/t?n_contains={text}")).await;
        rows.as_array().expect("rows").len()
    };
    assert_eq!(count("12").await, 3);
    assert_eq!(count("2.5").await, 1);
    assert_eq!(count("").await, 4, "NULL contains nothing, not even an empty text");
}

#[tokio::test]
async fn a_query_ends_when_its_client_has_left() {
    let mut rig = rig().await;
    let rows: Vec<String> =
        (0..2000).map(|n| event("POST", "/t", &format!(r#"{{"n":{n}}}"#))).collect();
    rig.write(&rows).await;
    let reader = Reader::new(rig.folder.path().join("db.sqlite3"));
    let mut left = Vec::new();
    for _ in 0..4 {
        let (starts, started) = tokio::sync::oneshot::channel();
        let query = reader.begin(move |session| {
            starts.send(()).expect("the test waits for it");
            // Hours of work.
            let sql = "SELECT count(*) FROM t AS a, t AS b, t AS c WHERE a.n + b.n + c.n > 0";
            Ok(session.conn.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        left.push(query.await.expect("a place"));
        started.await.expect("it runs");
    }
    drop(left);
    // Else this one would be told that all places are taken.
    reader.run(|session| session.table("t")).await.expect("a place");
}

#[tokio::test]
async fn files_are_served_and_nothing_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("www")).unwrap();
    std::fs::write(folder.path().join("www/page.html"), "<p>hi</p>").unwrap();
    std::fs::write(folder.path().join("secret"), "no").unwrap();
    let params = r#"{ "database": "db.sqlite3", "static_dir": "www" }"#;
    let rig = Rig::start_in(folder, crate::sink::db::build, params).await;
    assert_eq!(rig.get("/static/page.html").await.1, "<p>hi</p>");
    for path in ["/static/../secret", "/static/%2e%2e/secret", "/static/none", "/static/"] {
        assert_eq!(rig.get(path).await.0.as_u16(), 404, "{path}");
    }
    let (_, paths) = rig.refusal("/nothing").await;
    assert!(paths.ends_with(", static/PATH"), "{paths}");
    let request = Request::post("/static/page.html").body(Body::empty()).unwrap();
    let (status, text) = send(Arc::clone(&rig.sink).api().unwrap(), request).await;
    assert!(status.as_u16() == 405 && text.starts_with(r#"{"error":"#), "{status} {text}");
}

#[test]
fn a_folder_of_files_that_is_not_there_is_warned_of_with_its_full_name() {
    let folder = tempfile::tempdir().unwrap();
    let (name, data_dir) = ("me", folder.path());
    let context = SinkContext { name, data_dir, sinks: &[name] };
    let mut problems = Problems::default();
    let params = r#"{ "database": "db.sqlite3", "static_dir": "www" }"#;
    let document = parse("player.json", params, &|_| None, &mut problems).unwrap();
    assert!(crate::sink::db::build(&context, &document.root(), &mut problems).is_some());
    let www = data_dir.join("www");
    let told = format!("warning: static_dir: folder {}: No such file", www.display());
    assert!(problems.to_string().contains(&told), "{problems}");
}

#[test]
fn a_folder_of_files_may_not_hold_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let context = SinkContext { name: "me", data_dir: &data_dir, sinks: &["me"] };
    let above = folder.path().to_string_lossy();
    for static_dir in [".", "..", &*above] {
        let mut problems = Problems::default();
        let params = format!(r#"{{ "database": "db.sqlite3", "static_dir": "{static_dir}" }}"#);
        let document = parse("player.json", &params, &|_| None, &mut problems).unwrap();
        assert!(crate::sink::db::build(&context, &document.root(), &mut problems).is_none());
        let told = "error: static_dir: dataDir lies in this folder";
        assert!(problems.to_string().contains(told), "{static_dir}: {problems}");
    }
}

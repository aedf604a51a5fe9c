//! The sinks that keep tables, in the real program: what was acknowledged is in every one of them, once.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use flate2::read::GzDecoder;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::support::http::request;
use crate::support::load::{Load, try_post};
use crate::support::ports::free_port;
use crate::support::stack::Stack;
use crate::support::wait::{eventually, let_pass};
use crate::support::wire::{Wire, call, post};

/// Names a table for all three sinks.
const TABLE: &str = "ts_counter_hits_60s";
/// How long the events that wait may take after the last kill.
const DRAIN: Duration = Duration::from_secs(60);

/// A player with the three sinks that keep tables; each gets every event.
fn stack(server: u16) -> Stack {
    Stack::with(|configs| {
        configs.player["exposedPort"] = json!(server);
        configs.player["sources"][0]["sinks"] = json!(["rows", "series", "checks"]);
        let sink = |name: &str, kind: &str| {
            let database = format!("{name}.sqlite3");
            json!({ "name": name, "type": kind, "params": { "database": database } })
        };
        configs.player["sinks"] =
            json!([sink("rows", "db"), sink("series", "time_series"), sink("checks", "alert"),]);
    })
}

/// A question to a sink's database, asked beside the running player; the default while it cannot be answered.
fn ask<T: rusqlite::types::FromSql + Default>(stack: &Stack, sink: &str, sql: &str) -> T {
    let path = stack.folder().join(format!("player/{sink}.sqlite3"));
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    conn.and_then(|conn| conn.query_row(sql, [], |row| row.get(0))).unwrap_or_default()
}

/// Clients that post numbers to this port.
fn load(port: u16) -> Load<usize> {
    Load::start(3, move |number| {
        let body = json!({ "timestamp": 60, "value": 1, "number": number, "status": "down" });
        try_post(port, &format!("/{TABLE}"), body.to_string().as_bytes()).then_some(number)
    })
}

fn numbers(stack: &Stack, sink: &str) -> Vec<usize> {
    let list: String =
        ask(stack, sink, &format!("SELECT group_concat(number) FROM {TABLE} ORDER BY number"));
    list.split(',').filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn crash_of_a_player_doubles_no_row_and_no_point() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut stack = stack(free_port());
    let load = load(stack.ports.proxy);
    for _ in 0..20 {
        let_pass(Duration::from_millis(rng.u64(10..400)));
        let before = load.count();
        let victim = if rng.u8(0..4) == 0 { &mut stack.relay } else { &mut stack.player };
        victim.kill();
        victim.restart();
        // Enough of them for all the kills together, however slow the disk is.
        eventually("requests are taken", DRAIN, || load.count() > before + 5);
    }
    let acknowledged = load.finish();
    assert!(acknowledged.len() > 100, "the load was too small to tell: {}", acknowledged.len());
    for sink in ["rows", "checks"] {
        eventually("every acknowledged event is a row", DRAIN, || {
            let stored: BTreeSet<usize> = numbers(&stack, sink).into_iter().collect();
            acknowledged.is_subset(&stored)
        });
    }
    let count = format!("SELECT coalesce(sum(count), 0) FROM {TABLE}");
    let rows = format!("SELECT count(*) FROM {TABLE}");
    eventually("the sinks have the same events", DRAIN, || {
        let points: f64 = ask(&stack, "series", &count);
        let (stored, checks): (i64, i64) =
            (ask(&stack, "rows", &rows), ask(&stack, "checks", &rows));
        stored == checks && format!("{points}") == stored.to_string()
    });
    for sink in ["rows", "checks"] {
        let stored = numbers(&stack, sink);
        let distinct: BTreeSet<usize> = stored.iter().copied().collect();
        assert_eq!(stored.len(), distinct.len(), "a row came twice into {sink}");
    }
    assert!(stack.player.stop().success());
}

#[test]
fn real_webhooks_become_rows_that_can_be_asked_for() {
    let server = free_port();
    let mut stack = stack(server);
    // The other sinks of the stack have no use for them.
    stack.player.expect_error("event moved to the dead letters");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/github-webhooks");
    let bodies: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let mut wire = Wire::connect(stack.ports.proxy);
    for body in &bodies {
        assert_eq!(wire.exchange(&request("POST", "/rpf-db/github", &[], body)).status(), 200);
    }
    let count = i64::try_from(bodies.len()).unwrap();
    eventually("every webhook is a row", DRAIN, || {
        ask::<i64>(&stack, "rows", "SELECT count(*) FROM github") == count
    });
    let get = |target: &str| call(server, "GET", target, &[("Host", b"localhost")], b"");
    let rows = get("/rows/rpf-db/github?limit=1000").json();
    let stored = rows.as_array().unwrap().iter().filter_map(|row| row["repository"].as_str());
    let mut stored: Vec<serde_json::Value> =
        stored.map(|text| serde_json::from_str(text).unwrap()).collect();
    let sent = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).unwrap());
    let mut sent: Vec<serde_json::Value> = sent
        .filter_map(|body| body.get("repository").cloned().filter(serde_json::Value::is_object))
        .collect();
    for list in [&mut stored, &mut sent] {
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(stored, sent, "nested values are kept as JSON");
    let actions = get("/rows/distinct-values/github/action").json();
    assert!(actions.as_array().is_some_and(|actions| !actions.is_empty()), "{actions}");
    let csv = get("/rows/rpf-db/github?format=csv&action_null=false&order=action");
    assert!(csv.text().starts_with("id,_rpf_id,"), "{}", csv.text());
    let hostile = get("/rows/rpf-db/github?order=id;drop%20table%20github");
    assert_eq!(hostile.status(), 404, "{}", hostile.text());
}

/// As in files of the original: a port for each, as a text, and none for all of them.
#[test]
fn each_sink_answers_at_a_port_of_its_own() {
    let sinks = [
        ("rows", "db", "listen_port", "listen_host", free_port()),
        ("series", "time_series", "listen_port", "listen_host", free_port()),
        ("checks", "alert", "exposed_port", "listen_addr", free_port()),
    ];
    let mut stack = Stack::with(|configs| {
        configs.player["sources"][0]["sinks"] = json!(["rows", "series", "checks"]);
        let sink = |(name, kind, port_key, host_key, port): (&str, &str, &str, &str, u16)| {
            let mut params = json!({ "database": format!("{name}.sqlite3") });
            params[port_key] = json!(port.to_string());
            params[host_key] = json!("127.0.0.1");
            json!({ "name": name, "type": kind, "params": params })
        };
        configs.player["sinks"] = json!(sinks.map(sink));
    });
    let body = json!({ "timestamp": 60, "value": 1, "status": "ok" }).to_string();
    post(stack.ports.proxy, &format!("/{TABLE}"), body.as_bytes());
    for (name, .., port) in sinks {
        for path in [format!("/query-table/{TABLE}"), format!("/{name}/query-table/{TABLE}")] {
            eventually(&path, DRAIN, || {
                let answer = call(port, "GET", &path, &[("Host", b"localhost")], b"");
                answer.status() == 200 && answer.json()[0]["timestamp"] == 60
            });
        }
    }
    assert!(stack.player.stop().success());
}

/// Also where samples come more often than a table has intervals.
#[test]
fn values_of_a_machine_become_series_without_a_script() {
    let mut stack = Stack::with(|configs| {
        let params = json!({ "intervalSeconds": "500ms", "include": ["load_1"] });
        let source =
            json!({ "id": "in", "type": "system-stats", "params": params, "targetSink": "out" });
        configs.proxy["sources"] = json!([source]);
        configs.proxy["envName"] = json!("prod");
        configs.player["sources"][0]["sinks"] = json!(["series"]);
        let params = json!({ "database": "series.sqlite3" });
        configs.player["sinks"] =
            json!([{ "name": "series", "type": "time_series", "params": params }]);
    });
    let sql = "SELECT count(*) FROM ts_gauge_systemstats_1s WHERE serie_name = 'load_1' AND env_name = 'prod'";
    eventually("rows of two seconds", DRAIN, || ask::<i64>(&stack, "series", sql) >= 2);
    assert!(stack.player.stop().success());
}

/// Browsers ask for gzip, and whoever compresses asks a stream once more behind its end.
#[test]
fn a_long_answer_comes_whole_also_compressed() {
    let server = free_port();
    let mut stack = stack(server);
    stack.player.expect_error("event moved to the dead letters");
    let mut wire = Wire::connect(stack.ports.proxy);
    for number in 0..60 {
        let row = json!({ "id": number, "text": "x".repeat(8192) }).to_string();
        let sent = request("POST", "/rpf-db/wide", &[], row.as_bytes());
        assert_eq!(wire.exchange(&sent).status(), 200);
    }
    eventually("every event is a row", DRAIN, || {
        ask::<i64>(&stack, "rows", "SELECT count(*) FROM wide") == 60
    });
    for format in ["json", "ndjson", "csv"] {
        let target = format!("/rows/rpf-db/wide?format={format}");
        let plain = call(server, "GET", &target, &[("Host", b"localhost")], b"");
        assert!(plain.body.len() > 60 * 8192, "{format}: {} bytes", plain.body.len());
        let headers: [(&str, &[u8]); 2] = [("Host", b"localhost"), ("Accept-Encoding", b"gzip")];
        let packed = call(server, "GET", &target, &headers, b"");
        assert_eq!(packed.header("content-encoding").as_deref(), Some("gzip"), "{format}");
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut GzDecoder::new(&packed.body[..]), &mut unpacked).unwrap();
        assert!(unpacked == plain.body, "{format}: {} bytes", unpacked.len());
    }
}

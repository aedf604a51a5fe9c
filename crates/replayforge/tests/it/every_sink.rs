//! Real webhook bodies through proxy, relay and player into every sink at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::fixtures::{bodies, collection, copies};
use crate::support::http::request;
use crate::support::stack::Stack;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::Wire;

/// Names a table for every sink that keeps tables.
const TABLE: &str = "ts_counter_github_60s";

/// Writes each event to a file, and answers.
const PROGRAM: &str = r#"#!/bin/sh
while read -r line; do
    rest=${line#*\"id\":\"}
    printf '%s\n' "$line" >>program.out
    echo "ok ${rest%%\"*}"
done
"#;

/// A player with every kind of sink, each of which gets every event; `people` is told by `notification`.
fn stack(people: &Target) -> Stack {
    Stack::with(|configs| {
        let data = configs.player["dataDir"].as_str().unwrap().to_owned();
        let program = Path::new(&data).with_file_name("own_sink");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let url = format!("http://127.0.0.1:{}/told", people.port);
        let more = [
            ("db", json!({ "database": "db.sqlite3" })),
            ("time_series", json!({ "database": "time_series.sqlite3" })),
            ("alert", json!({ "database": "alert.sqlite3" })),
            ("file", json!({ "path": "all.ndjson" })),
            ("log", json!({ "logFilePath": "all.log" })),
            ("own", json!({})),
            ("notification", json!({ "webhooks": { "people": { "url": url, "groupMax": 1 } } })),
        ];
        let sinks = configs.player["sinks"].as_array_mut().unwrap();
        let sink = |(kind, params)| json!({ "name": kind, "type": kind, "params": params });
        sinks.extend(more.map(sink));
        let names: Vec<Value> = sinks.iter().map(|sink| sink["name"].clone()).collect();
        configs.player["sources"][0]["sinks"] = json!(names);
    })
}

/// A number out of a sink's database; none while it cannot be asked.
fn number(stack: &Stack, sink: &str, sql: &str) -> Option<usize> {
    let path = stack.folder().join(format!("player/{sink}.sqlite3"));
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    conn.query_row(sql, [], |row| row.get(0)).ok()
}

/// The bodies of the events that stand in the lines of a file, from the first brace of each on.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line.split_at(line.find('{')?).1).ok()?;
        let event = event.get("event").unwrap_or(&event);
        event["body"].as_str().map(|body| body.as_bytes().to_vec())
    };
    text.lines().filter_map(event).collect()
}

fn check(folder: &Path, at_least: usize) {
    let bodies: BTreeMap<String, Vec<u8>> = bodies(folder);
    assert!(bodies.len() >= at_least, "{} bodies in {}", bodies.len(), folder.display());
    let people = Target::start();
    let mut stack = stack(&people);
    let mut wire = Wire::connect(stack.ports.proxy);
    for (name, body) in &bodies {
        let headers: [(&str, &[u8]); 2] =
            [("Content-Type", b"application/json"), ("X-GitHub-Delivery", name.as_bytes())];
        let answer = wire.exchange(&request("POST", &format!("/{TABLE}"), &headers, body));
        assert_eq!(answer.status(), 200, "{name}");
    }
    let count = bodies.len();
    let received = stack.target.wait_for(count);
    assert!(received.iter().map(|request| &request.body).eq(bodies.values()), "http: in order");
    let rows = format!("SELECT count(*) FROM {TABLE}");
    for sink in ["db", "alert"] {
        eventually(sink, SOON, || number(&stack, sink, &rows) == Some(count));
    }
    let points = format!("SELECT CAST(sum(count) AS INTEGER) FROM {TABLE}");
    eventually("time_series", SOON, || number(&stack, "time_series", &points) == Some(count));
    for path in ["player/all.ndjson", "player/all.log", "program.out"] {
        let path = stack.folder().join(path);
        eventually("a line for each", SOON, || lines(&path).len() == count);
        assert!(lines(&path).iter().eq(bodies.values()), "{}: in order", path.display());
    }
    eventually("each is told", SOON, || people.count() >= count);
    let told: BTreeSet<Vec<u8>> = people.requests().into_iter().map(|told| told.body).collect();
    assert_eq!(people.count(), count, "and told once");
    assert_eq!(told.len(), bodies.values().collect::<BTreeSet<_>>().len(), "with its own text");
    assert!(stack.player.stop().success());
}

#[test]
fn real_webhooks_go_into_every_sink() {
    check(&copies(), 7);
}

#[test]
fn the_whole_collection_of_webhooks_goes_into_every_sink() {
    if collection().exists() {
        check(&collection(), 60);
    } else {
        eprintln!("skipped: {} is not there", collection().display());
    }
}

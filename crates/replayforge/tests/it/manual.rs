//! Calls that the manual shows.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::ports::free_port;
use crate::support::stack::{Stack, TOKEN};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::read_to_string(docs.join(name)).unwrap()
}

#[test]
fn the_batch_of_the_protocol_s_page_is_replayed() {
    let page = page("reference/protocol.md");
    let shown = page.split("\n```").find(|block| block.contains("/record-batch \\\n")).unwrap();
    let batch = shown.split('\'').nth_back(1).unwrap();
    let stack = Stack::start();
    let bearer = format!("Bearer {TOKEN}");
    let headers: [(&str, &[u8]); 2] = [("RF-BUCKETS", b"b"), ("Authorization", bearer.as_bytes())];
    let answer = call(stack.ports.relay, "POST", "/record-batch", &headers, batch.as_bytes());
    assert_eq!(answer.status(), 200, "{batch}");
    let replayed = stack.target.wait_for(2);
    let starts: Vec<&str> = replayed.iter().map(|request| request.start.as_str()).collect();
    assert_eq!(starts, ["GET /health HTTP/1.1", "POST /orders HTTP/1.1"]);
    assert_eq!(replayed[1].text(), "hi");
}

/// What a guide asks the player's server; what a dashboard or a shell puts there stands in place of their variables.
fn questions(guide: &str, now: u64) -> Vec<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '`' | '\'' | '"');
    let guide = page(guide);
    let asked = guide.split("http://192.0.2.7:8090/").skip(1);
    let asked = asked.map(|rest| format!("/{}", rest.split(ends).next().unwrap_or_default()));
    let filled = |question: String| {
        question
            .replace("${__from:date:seconds}", &(now - 3600).to_string())
            .replace("${__to:date:seconds}", &(now + 3600).to_string())
            .replace("${__interval}", "5m")
            .replace("$after", "0")
    };
    asked.map(filled).collect()
}

#[test]
fn the_questions_of_the_guides_have_answers() {
    let server = free_port();
    let mut stack = Stack::with(|configs| {
        let status = configs.relay["portStatusZ"].clone();
        configs.player["exposedPort"] = json!(server);
        configs.player["relayUrlStatusz"] = json!(format!("http://127.0.0.1:{status}"));
        configs.player["sources"][0]["sinks"] = json!(["orders", "jobs", "stats", "watch"]);
        let sink = |name: &str, kind: &str| {
            let database = format!("{name}.sqlite3");
            json!({ "name": name, "type": kind, "params": { "database": database } })
        };
        configs.player["sinks"] = json!([
            sink("orders", "db"),
            sink("jobs", "db"),
            sink("stats", "time_series"),
            sink("watch", "alert"),
        ]);
    });
    // Each sink gets every event; a time series has no use for the others.
    stack.player.expect_error("event moved to the dead letters");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (table, row) in [
        ("/orders", json!({ "total": 5, "state": "paid" })),
        ("/backups", json!({ "host": "web-1", "status": "ok" })),
        ("/backups", json!({ "host": "web-1", "status": "failed" })),
        (
            "/ts_gauge_systemstats_60s",
            json!({ "serieName": "cpu_percent", "value": 5, "timestamp": now }),
        ),
    ] {
        post(stack.ports.proxy, table, row.to_string().as_bytes());
    }
    let guides = ["grafana", "uptime-kuma", "spreadsheets"];
    let asked: Vec<String> =
        guides.iter().flat_map(|guide| questions(&format!("guides/{guide}.md"), now)).collect();
    assert!(asked.len() >= 13, "{asked:#?}");
    for question in asked {
        eventually(&question, SOON, || {
            let answer = call(server, "GET", &question, &[("Host", b"localhost")], b"");
            let text = answer.text();
            // The first line of a table holds the names.
            let is_there = !question.contains("format=csv") || text.lines().count() > 1;
            answer.status() == 200 && is_there && !["", "[]"].contains(&text.trim())
        });
    }
}

//! examples/loki-push: pushes of an agent become a row a line, with the labels of the stream.

use serde_json::{Value, json};

use super::rig::{Example, number, ports, wait_for_rows};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// Lines that are not easy to carry.
const LINES: [&str; 5] =
    ["paid", "", "a \"quoted\" line\twith\\escapes", "Grüße \u{1f600}", "first\nsecond\n"];
const STREAMS: usize = 4;
const FIRST_NANOS: u64 = 1_795_478_400_000_000_002;

/// One push with so many streams; each line has nanoseconds of its own.
fn push(round: u64) -> Value {
    let stream = |stream: usize| {
        let nanos = |line: usize| FIRST_NANOS + round * 1_000 + (stream * 100 + line) as u64;
        let value = |(index, line): (usize, &&str)| json!([nanos(index).to_string(), line]);
        let values: Vec<Value> = LINES.iter().enumerate().map(value).collect();
        json!({ "stream": { "app": format!("app-{stream}"), "level": "info" }, "values": values })
    };
    json!({ "streams": (0..STREAMS).map(stream).collect::<Vec<_>>() })
}

/// What a push must become, in order: nanoseconds, line, labels, seconds.
fn expected(push: &Value) -> Vec<(String, String, Value, u64)> {
    let streams = push["streams"].as_array().unwrap().iter();
    let lines = streams.flat_map(|stream| {
        let labels = stream["stream"].clone();
        stream["values"].as_array().unwrap().iter().map(move |value| (value, labels.clone()))
    });
    let row = |(value, labels): (&Value, Value)| {
        let (nanos, line) = (value[0].as_str().unwrap(), value[1].as_str().unwrap());
        let seconds = nanos.parse::<u64>().unwrap() / 1_000_000_000;
        (nanos.to_owned(), line.to_owned(), labels, seconds)
    };
    lines.map(row).collect()
}

fn told(row: &Value) -> (String, String, Value, u64) {
    let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key}: {row}")).to_owned();
    let labels = serde_json::from_str(&text("labels")).unwrap();
    (text("nanos"), text("line"), labels, row["timestamp"].as_u64().unwrap())
}

#[test]
fn each_line_of_each_push_becomes_a_row() {
    let [relay, server, loki] = ports();
    let replaced = [("8081", &*relay), ("8090", &server), ("3100", &loki)];
    let example = Example::set_up("loki-push", &replaced);
    let _relay = example.start("relay -c");
    let _player = example.start("player -c");
    let _proxy = example.start("proxy -c");
    example.run("/push");
    let post = |target: &str, body: &[u8]| {
        let json = [("Content-Type", &b"application/json"[..])];
        let answer = call(number(&loki), "POST", target, &json, body);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    let pushes: Vec<Value> = (0..10).map(push).collect();
    for push in &pushes {
        post("/ready", b"");
        post("/loki/api/v1/push", push.to_string().as_bytes());
        post("/loki/api/v1/push", b"\x05\x00snappy");
    }
    let all = "/logs/query-table/loki_lines?order=_rpf_id";
    let count = 1 + 10 * STREAMS * LINES.len();
    let rows = wait_for_rows(&server, all, count);
    let shown = json!({ "app": "shop" });
    let first =
        ("1795478400000000001".to_owned(), "paid".to_owned(), shown, FIRST_NANOS / 1_000_000_000);
    let all: Vec<_> = std::iter::once(first).chain(pushes.iter().flat_map(expected)).collect();
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), all);
    // Pushes that are no JSON are kept; other requests are not.
    eventually("the dead letters", SOON, || example.letters("proxy.json").len() >= 10);
    for letter in example.letters("proxy.json") {
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.starts_with("json_decode: the text cannot be read as JSON: "), "{letter}");
    }
    assert_eq!(example.letters("proxy.json").len(), 10);
    let newest: Vec<Value> = serde_json::from_str(&example.run("query-table")).unwrap();
    assert_eq!(newest.len(), 20);
}

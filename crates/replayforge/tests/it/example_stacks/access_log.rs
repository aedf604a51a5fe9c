//! examples/access-log: lines of a real log become rows, counted here without the script.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::rig::{Example, ports, rows, wait_for_rows};
use crate::support::wait::{SOON, always_for, eventually};

/// Lines of no access log, and after how many others they come.
const JUNK: [(usize, &str); 3] = [
    (0, "nginx: worker process exited"),
    (250, "203.0.113.7 - - [24/Nov/2026:00:00:00 +0000] \"GET / HT"),
    (499, "\u{fffd}\u{1}"),
];
/// As the script has it.
const SAMPLE: usize = 10;

/// The row of a line of the combined format.
fn row(line: &str, weight: usize, clock: &Connection) -> Value {
    let quoted: Vec<&str> = line.split('"').collect();
    let (client, rest) = quoted[0].split_once(' ').unwrap();
    let time = rest.split_once('[').unwrap().1.split_once(' ').unwrap();
    assert_eq!(time.1, "+0000] ");
    let [method, url, _] = quoted[1].split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let [status, bytes] = quoted[2].split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    json!({
        "client": client,
        "method": method,
        "url": url,
        "status": status.parse::<u32>().unwrap(),
        "bytes": bytes.parse::<u64>().unwrap_or(0),
        "agent": quoted[5],
        "weight": weight,
        "timestamp": unix_seconds(time.0, clock),
    })
}

/// `17/May/2015:10:05:03`, by SQLite's calendar.
fn unix_seconds(time: &str, clock: &Connection) -> i64 {
    let (date, time) = time.split_once(':').unwrap();
    let [day, month, year] = date.split('/').collect::<Vec<_>>()[..] else { panic!("{date}") };
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month).unwrap() / 3 + 1;
    let text = format!("{year}-{month:02}-{day} {time}");
    clock.query_row("SELECT unixepoch(?1)", [text], |row| row.get(0)).unwrap()
}

/// What the lines must become: every error, and every tenth line that is none.
fn expected_rows<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let clock = Connection::open_in_memory().unwrap();
    let mut expected = Vec::new();
    for (index, line) in lines.enumerate() {
        let is_error = line.split('"').nth(2).unwrap().trim().starts_with('5');
        if is_error || (index + 1).is_multiple_of(SAMPLE) {
            expected.push(row(line, if is_error { 1 } else { SAMPLE }, &clock));
        }
    }
    expected
}

/// Without what the table adds.
fn told(mut row: Value) -> Value {
    for added in ["id", "_rpf_id", "_rpf_last_updated_idx"] {
        assert!(row.as_object_mut().unwrap().remove(added).is_some(), "{added}: {row}");
    }
    row
}

fn check(log: &Path, lines_of_log: usize, errors: usize) {
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), lines_of_log);
    let expected = expected_rows(lines.iter().copied());
    assert_eq!(expected.len(), lines_of_log / SAMPLE + errors);

    let folder = tempfile::tempdir().unwrap();
    let followed = folder.path().join("access.log");
    let [relay, server] = ports();
    let example = Example::set_up(
        "access-log",
        &[
            ("8081", &relay),
            ("8090", &server),
            ("/var/log/nginx/access.log", followed.to_str().unwrap()),
        ],
    );
    let mut file = File::create(&followed).unwrap();
    let mut write = |range: std::ops::Range<usize>| {
        for (index, line) in lines.iter().enumerate().take(range.end).skip(range.start) {
            for (_, junk) in JUNK.iter().filter(|(place, _)| *place == index) {
                writeln!(file, "{junk}").unwrap();
            }
            writeln!(file, "{line}").unwrap();
        }
    };
    // One half is there at the start, the other is written while it is followed.
    write(0..lines.len() / 2);
    let _relay = example.start("relay -c relay.json");
    let _player = example.start("player -c player.json");
    let _proxy = example.start("proxy -c proxy.json");
    write(lines.len() / 2..lines.len());

    let all = "/logs/query-table/access_log?order=_rpf_id&limit=10000";
    let arrived = wait_for_rows(&server, all, expected.len());
    let arrived: Vec<Value> = arrived.into_iter().map(told).collect();
    assert!(arrived == expected, "{}", first_difference(&arrived, &expected));
    eventually("the rest is a dead letter", SOON, || {
        example.letters("proxy.json").len() >= JUNK.len()
    });
    for letter in example.letters("proxy.json") {
        assert_eq!(letter["reason"], "not a line of the combined log format", "{letter}");
    }
    always_for("no row comes twice", Duration::from_millis(300), || {
        rows(&server, all).len() == expected.len()
    });
    assert_eq!(example.letters("proxy.json").len(), JUNK.len());

    let shown: Vec<Value> = serde_json::from_str(&example.run("curl")).unwrap();
    assert_eq!(shown.len(), errors);
    assert!(shown.iter().all(|row| row["status"].as_u64() >= Some(500)), "{shown:?}");
    // The tests of the script, and the script over the log, as the README shows it.
    example.run("script test access.lua");
    let run = example.run("script run access.lua");
    assert_eq!(run.lines().count(), expected.len(), "{run}");
}

fn first_difference(arrived: &[Value], expected: &[Value]) -> String {
    let pair = arrived.iter().zip(expected).find(|(arrived, expected)| arrived != expected);
    format!("{} rows, expected {}; the first that differ: {pair:#?}", arrived.len(), expected.len())
}

#[test]
fn a_real_log_becomes_rows() {
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/access.log");
    check(&copy, 500, 0);
}

/// The larger log beside the workspace; not everybody has it.
fn whole_log() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/access.log")
}

#[test]
fn six_thousand_lines_become_rows() {
    if whole_log().exists() {
        check(&whole_log(), 6000, 2);
    } else {
        eprintln!("skipped: {} is not there", whole_log().display());
    }
}

//! Page, JSON, metrics and command line at the same moment, with three things wrong.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::program::Program;
use crate::support::system::System;
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::{call, post};

/// What one of the four says.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Level, what it is about, and why.
    troubles: BTreeSet<(String, String, String)>,
    /// Buckets with the events that wait.
    waiting: BTreeSet<(String, u64)>,
    /// Nodes with their level.
    nodes: BTreeSet<(String, String)>,
}

/// Levels as the report names them.
fn level(word: &str) -> String {
    match word {
        // The page says beside the level that a node is awaited.
        "ok" | "✓ ok" | "awaited" => "ok",
        "warning" | "! warning" => "warn",
        "TROUBLE" | "✕ trouble" => "bad",
        other => panic!("no level: {other:?}"),
    }
    .to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn number(text: &str) -> u64 {
    if text == "–" { 0 } else { text.replace(',', "").parse().expect("a number") }
}

fn in_json(system: &System) -> Seen {
    let report = system.statusz()["report"].take();
    let list = |key: &str| report[key].as_array().expect("a list").clone();
    let troubles = |kind: &str, key: &str, all: &[Value]| -> Vec<(String, String, String)> {
        let of = |one: &Value| {
            let about = format!("{kind} {}", text(&one[key]));
            let why = one["why"].as_array().expect("a list").clone();
            let why = why.into_iter();
            why.map(|why| (text(&why["level"]), about.clone(), text(&why["text"])))
                .collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    };
    let (buckets, nodes) = (list("buckets"), list("nodes"));
    let mut all = troubles("bucket", "name", &buckets);
    all.extend(troubles("node", "id", &nodes));
    let waiting = |bucket: &Value| (text(&bucket["name"]), bucket["events"].as_u64().unwrap());
    Seen {
        troubles: all.into_iter().collect(),
        waiting: buckets.iter().map(waiting).collect(),
        nodes: nodes.iter().map(|node| (text(&node["id"]), text(&node["level"]))).collect(),
    }
}

/// As it stands there; the page is opened anew.
fn on_page(system: &System, browser: &Browser) -> Seen {
    browser.open(&system.page(""));
    let rows = |script: &str| -> Vec<Vec<String>> {
        let rows = browser.run(script);
        let row = |row: &Value| row.as_array().expect("a row").iter().map(text).collect();
        rows.as_array().expect("rows").iter().map(row).collect()
    };
    let troubles = rows(
        "return [...document.querySelectorAll('.troubles li')].map((li) => [li.querySelector('.pill').textContent.trim(),
            li.querySelector('a').textContent.trim(), li.lastElementChild.textContent]);",
    );
    let waiting = rows(
        "return [...document.querySelectorAll('#buckets tbody tr')].map((tr) => [tr.id.slice(7),
            tr.querySelector('[data-label=Waiting]').textContent.trim()]);",
    );
    let nodes = rows(
        "return [...document.querySelectorAll('#nodes tbody tr')].map((tr) => [tr.id.slice(5),
            tr.querySelector('[data-label=State] .pill').textContent.trim()]);",
    );
    let trouble = |row: &Vec<String>| (level(&row[0]), row[1].clone(), row[2].clone());
    Seen {
        troubles: troubles.iter().map(trouble).collect(),
        waiting: waiting.iter().map(|row| (row[0].clone(), number(&row[1]))).collect(),
        nodes: nodes.iter().map(|row| (row[0].clone(), level(&row[1]))).collect(),
    }
}

/// The tables are told apart by their heads; columns are two spaces apart.
fn in_terminal(system: &System) -> Seen {
    let url = format!("http://127.0.0.1:{}", system.status);
    let finished = Program::run(system.folder(), &["status", "--relay", &url], &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let (mut troubles, mut waiting, mut nodes) = Default::default();
    let mut table = "";
    for line in finished.output.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [head @ ("BUCKET" | "NODE"), ..] => table = *head,
            [word, kind @ ("bucket" | "node"), ..] if table.is_empty() => {
                let rest = line.split_once(kind).expect("it is there").1.trim();
                let (id, why) = rest.split_once(": ").expect("a reason");
                BTreeSet::insert(
                    &mut troubles,
                    (level(word), format!("{kind} {id}"), why.to_owned()),
                );
            }
            [name, _, _, _, events, ..] if table == "BUCKET" => {
                BTreeSet::insert(&mut waiting, ((*name).to_owned(), number(events)));
            }
            [host, "unknown", state, ..] if table == "NODE" => {
                BTreeSet::insert(&mut nodes, ((*host).to_owned(), level(state)));
            }
            [host, role, state, ..] if table == "NODE" => {
                BTreeSet::insert(&mut nodes, (format!("{host}/{role}"), level(state)));
            }
            other => panic!("a line of no table: {other:?}"),
        }
    }
    Seen { troubles, waiting, nodes }
}

/// Metrics have no sentences: levels and numbers.
struct Metrics {
    text: String,
}

impl Metrics {
    fn of(system: &System) -> Metrics {
        Metrics { text: call(system.status, "GET", "/metrics", &[], b"").text() }
    }

    fn value(&self, series: &str) -> u64 {
        let line = self.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {series} in:\n{}", self.text));
        value.parse().expect("a whole number")
    }

    /// Where they say something else.
    fn differences(&self, seen: &Seen) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |series: &str, value: Option<u64>, expected: Option<u64>| {
            if value != expected {
                differences.push(format!("{series} is {value:?}, not {expected:?}"));
            }
        };
        for level in ["warn", "bad"] {
            let count = seen.troubles.iter().filter(|trouble| trouble.0 == level).count();
            let series = format!("replayforge_troubles{{level=\"{level}\"}}");
            compare(&series, Some(self.value(&series)), Some(count as u64));
        }
        for (bucket, events) in &seen.waiting {
            let series = format!("replayforge_bucket_events{{bucket=\"{bucket}\"}}");
            compare(&series, Some(self.value(&series)), Some(*events));
        }
        for (id, level) in &seen.nodes {
            let number = (0..).zip(["ok", "warn", "bad"]).find(|(_, known)| known == level);
            let series = format!("replayforge_node_level{{node=\"{id}\",");
            let line = self.text.lines().find(|line| line.starts_with(&series));
            let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
            compare(&series, value, number.map(|(number, _)| number));
        }
        differences
    }
}

#[test]
fn page_json_metrics_and_command_line_agree() {
    let mut system = System::with(|relay| {
        relay["expectedNodes"] = json!(["web-1", "db-9"]);
        // No sentence that says how long: it would be another one in the next second. So one node is awaited only.
        relay["alerts"]["oldestEvent"] = json!(0);
        relay["alerts"]["nodeSilentAfter"] = json!("1h");
    });
    // A sink that is paused, of a proxy that still can tell.
    let (folder, mut configs) = system.further(2);
    let mut second = configs.proxy["sinks"][0].clone();
    second["id"] = json!("second");
    configs.proxy["sinks"].as_array_mut().unwrap().push(second);
    configs.proxy["sinks"][0]["authBearer"] = json!("wrong");
    let mut third = Program::role(&folder, "proxy", &configs.proxy);
    third.expect_error("sink is paused until this is fixed");
    let port = configs.proxy["sources"][0]["params"]["listenPort"].as_u64().unwrap();
    post(u16::try_from(port).unwrap(), "/paused", b"1");
    // A bucket that is nearly full. Its player has told of itself, not only called.
    let desk = |seen: &Seen| seen.nodes.iter().any(|(id, _)| id == "desk-2/player");
    eventually("the second player is known", SOON, || desk(&in_json(&system)));
    system.players[1].stop();
    let body = vec![b'x'; 256 * 1024];
    let arrives = |count: u64| {
        system.post(1, "/logs", &body);
        eventually("the event is there", SOON, || system.bucket("logs")["events"] == count);
    };
    // What the WAL holds counts, and is given back some time later: far enough from "nearly full" and from "full" for both.
    let is_filling = || {
        let bucket = system.bucket("logs");
        bucket["usedBytes"].as_u64().unwrap() * 100 / bucket["eventsMaxBytes"].as_u64().unwrap()
            >= 88
    };
    // One by one: a large commit would leave much in the WAL.
    let mut count = 0;
    while !is_filling() {
        count += 1;
        arrives(count);
    }

    let browser = system.overview();
    browser.wait_for("#verdict", "1 thing is wrong, and 1 warning");
    browser.wait_for("#summary", "is paused until somebody acts");
    // The last of what was sent may still be on its way, the bucket may give back what its WAL holds, and each of the four may
    // show a state of some seconds ago.
    let json = eventually_some("the four agree while nothing moves", SOON, || {
        let before = in_json(&system);
        let (page, terminal) = (on_page(&system, &browser), in_terminal(&system));
        let differences = Metrics::of(&system).differences(&before);
        if in_json(&system) == before && page == before && terminal == before {
            if differences.is_empty() {
                return Some(before);
            }
            println!("metrics: {differences:?}");
        } else {
            println!("JSON {before:?}\npage {page:?}\nterminal {terminal:?}");
        }
        None
    });
    let kinds: Vec<(&str, &str)> = json.troubles.iter().map(|t| (&*t.0, &*t.1)).collect();
    assert_eq!(kinds, [("bad", "node web-3/proxy"), ("warn", "bucket logs")]);
    assert!(json.nodes.len() >= 5, "four that run, and one that is awaited: {json:?}");
}

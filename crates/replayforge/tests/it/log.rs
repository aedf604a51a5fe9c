//! The sink `log`: lines of the player's own log at a level, or a file of its own with every event once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

/// Longer than a lease, under which a killed player may have what it had just asked for.
const LEASED: Duration = Duration::from_secs(60);
/// Kills of the player while its file is written.
const KILLS: usize = 6;
/// Events between two kills.
const EVENTS: usize = 30;

fn stack(sinks: &[(&str, Value)]) -> Stack {
    Stack::with(|configs| {
        let names: Vec<&str> = sinks.iter().map(|(name, _)| *name).collect();
        configs.player["sources"][0]["sinks"] = json!(names);
        let sink = |(name, params): &(&str, Value)| json!({ "name": name, "type": "log", "params": params });
        configs.player["sinks"] = sinks.iter().map(sink).collect();
    })
}

#[test]
fn events_are_lines_of_the_player_s_log_at_their_level() {
    let stack = stack(&[
        ("loud", json!({ "logLevel": "warn" })),
        ("usual", json!({})),
        ("quiet", json!({ "logLevel": "debug" })),
    ]);
    post(stack.ports.proxy, "/a", b"the body");
    for (sink, level) in [("loud", " WARN "), ("usual", " INFO ")] {
        let line = stack.player.wait_for(&format!("sink={sink} "));
        assert!(line.contains(level) && line.contains("the body"), "{line}");
    }
    post(stack.ports.proxy, "/a", b"the last");
    eventually("the sinks went on", SOON, || stack.player.log().matches("the last").count() >= 2);
    assert!(!stack.player.log().contains("sink=quiet"), "{}", stack.player.log());
}

/// How often each body is in the file; every line is a whole one.
fn bodies(path: &Path) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines() {
        let (head, event) = line.split_at(line.find('{').expect("an event"));
        assert!(head.ends_with("Z ERROR "), "time and level: {line}");
        let event: Value = serde_json::from_str(event).expect("a whole event");
        *counted.entry(event["body"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counted
}

#[test]
fn a_file_of_its_own_has_every_event_once_over_kills() {
    let params = json!({ "logLevel": "error", "logFilePath": "own/100%.log" });
    let mut stack = stack(&[("own", params)]);
    let path = stack.folder().join("player/own/100%.log");
    for kill in 0..KILLS {
        for number in kill * EVENTS..(kill + 1) * EVENTS {
            post(stack.ports.proxy, "/", format!("body {number}").as_bytes());
        }
        // The kill comes while the rest is pulled and written.
        let wanted = kill * EVENTS + kill * 7 % EVENTS;
        eventually("the player goes on", LEASED, || bodies(&path).len() >= wanted);
        stack.player.kill();
        stack.player.restart();
    }
    eventually("every event is a line", LEASED, || bodies(&path).len() == KILLS * EVENTS);
    stack.player.stop();
    let twice: Vec<_> = bodies(&path).into_iter().filter(|(_, count)| *count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

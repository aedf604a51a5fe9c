//! Sinks that are programs: a type of the user's own, found beside the player.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::program::{Program, write_config};
use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

/// Longer than a lease, under which a killed player may have what it had just asked for.
const LEASED: Duration = Duration::from_secs(60);
/// Kills of the player, and events between two of them.
const KILLS: usize = 6;
const EVENTS: usize = 30;

/// Writes its parameters, then each event as it comes, and answers.
const PROGRAM: &str = r#"#!/bin/sh
echo "$RPF_SINK_NAME $RPF_SINK_PARAMS" >>out
while read -r line; do
    rest=${line#*\"id\":\"}
    echo "$line" >>out
    echo "ok ${rest%%\"*}"
done
"#;

#[test]
fn a_type_of_its_own_is_a_program_in_the_working_directory() {
    let mut stack = Stack::with(|configs| {
        let data = configs.player["dataDir"].as_str().unwrap().to_owned();
        let program = Path::new(&data).parent().unwrap().join("mine_sink");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        configs.player["sinks"][0]["type"] = json!("mine");
        configs.player["sinks"][0]["params"] = json!({ "any": ["thing", 1] });
    });
    let out = stack.folder().join("out");
    let told = || fs::read_to_string(&out).unwrap_or_default();
    post(stack.ports.proxy, "/a", b"first");
    eventually("the first event", SOON, || told().contains("first"));
    assert!(told().starts_with("target {\"any\":[\"thing\",1]}\n"), "{}", told());
    stack.player.kill();
    post(stack.ports.proxy, "/a", b"second");
    stack.player.restart();
    eventually("the second event", SOON, || told().contains("second"));
    assert_eq!(told().matches("target {").count(), 2, "a new program with the new player");
}

#[test]
fn a_program_that_hangs_at_one_event_is_started_again_for_the_others() {
    let mut stack = Stack::with(|configs| {
        let data = configs.player["dataDir"].as_str().unwrap().to_owned();
        let program = Path::new(&data).with_file_name("hangs");
        let hangs = "case $line in *hang*) sleep 3600 ;; esac\n    echo \"$line\" >>out";
        let script = PROGRAM.replace("echo \"$line\" >>out", hangs);
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        configs.player["sinks"][0]["type"] = json!("exec");
        configs.player["sinks"][0]["params"] =
            json!({ "command": [program], "timeout": "5s", "maxAttempts": 2 });
    });
    stack.player.expect_error("given up after 2 attempts");
    let out = stack.folder().join("out");
    let told = || fs::read_to_string(&out).unwrap_or_default();
    for body in ["one;", "hang;", "two;", "three;"] {
        post(stack.ports.proxy, "/a", body.as_bytes());
    }
    stack.player.wait_for("the program gave no answer within 5s, and is started again");
    let all = ["one;", "two;", "three;"];
    eventually("the other events", SOON, || all.iter().all(|body| told().contains(body)));
}

#[test]
fn a_program_gets_every_event_over_kills() {
    let mut stack = Stack::with(|configs| {
        let data = configs.player["dataDir"].as_str().unwrap().to_owned();
        let program = Path::new(&data).with_file_name("mine_sink");
        fs::write(&program, PROGRAM).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        configs.player["sinks"][0]["type"] = json!("mine");
    });
    let out = stack.folder().join("out");
    let told = || -> Vec<String> {
        let text = fs::read_to_string(&out).unwrap_or_default();
        let body =
            |line: &str| Some(line.split("\"body\":\"").nth(1)?.split('"').next()?.to_owned());
        text.lines().filter_map(body).collect()
    };
    for kill in 0..KILLS {
        for number in kill * EVENTS..(kill + 1) * EVENTS {
            post(stack.ports.proxy, "/a", format!("event {number};").as_bytes());
        }
        // The kill comes while the rest is on its way.
        let wanted = kill * EVENTS + kill * 7 % EVENTS;
        let distinct = || told().into_iter().collect::<BTreeSet<_>>().len();
        eventually("the program goes on", LEASED, || distinct() >= wanted);
        stack.player.kill();
        stack.player.restart();
    }
    let expected: BTreeSet<String> =
        (0..KILLS * EVENTS).map(|number| format!("event {number};")).collect();
    eventually("every event", LEASED, || told().into_iter().collect::<BTreeSet<_>>() == expected);
}

#[test]
fn a_program_that_cannot_be_run_says_why() {
    let stack = Stack::with(|configs| {
        configs.player["sinks"][0]["type"] = json!("exec");
        configs.player["sinks"][0]["params"] = json!({ "command": ["/no/such/program"] });
    });
    let line = stack.player.wait_for("the program is started again");
    assert!(line.contains("/no/such/program: No such file or directory"), "{line}");
    assert!(line.contains(" pause_ms="), "numbers do not count where lines are muted: {line}");
}

#[test]
fn a_program_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let sink = json!({ "name": "a", "type": "influx", "params": {} });
    let player = json!({ "relayUrl": "http://127.0.0.1:1", "sinks": [sink] });
    let config = write_config(folder.path(), "player", &player);
    let finished = Program::run(folder.path(), &["check", "-c", &config], &[]);
    assert_eq!(finished.code, Some(78));
    let expected = "there is no program ./influx_sink in the working directory";
    assert!(finished.log.contains(expected), "{finished:?}");
}

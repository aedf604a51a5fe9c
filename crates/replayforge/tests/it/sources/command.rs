//! `command`: what is run ends in time, ends with the agent, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use super::{bodies, contents, events, proxy, stops_in_time, wait_for_bodies};
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually, eventually_some};

/// Longer than any test: who sleeps so long and ends was ended.
const FOR_EVER: &str = "600";

#[test]
fn each_run_is_an_event_at_its_path() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({
        "command": shell("echo \"$WHO in $(basename \"$PWD\")\"; echo no >&2; exit 3"),
        "shell": true,
        "intervalSeconds": 0.2,
        "workingDir": folder.path(),
        "env": { "WHO": "me" },
        "path": "/df",
    });
    let _proxy = proxy(folder.path(), &target, "command", &params);
    let bodies = wait_for_bodies(&target, 2);
    let name = folder.path().file_name().unwrap().to_string_lossy();
    for body in &bodies {
        assert_eq!(body["stdout"], format!("me in {name}\n"));
        assert_eq!((&body["stderr"], &body["exit_code"]), (&json!("no\n"), &json!(3)));
        assert_eq!(body["timed_out"], false);
    }
    assert!(events(&target).iter().all(|event| event["path"] == "/df"));
}

#[test]
fn each_line_of_a_run_at_the_times_of_a_pattern_is_an_event() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({ "command": ["printf", "a\\nb"], "cron": "* * * * * *", "mode": "lines" });
    let _proxy = proxy(folder.path(), &target, "command", &params);
    let bodies = wait_for_bodies(&target, 4);
    let lines: Vec<_> = bodies.iter().map(|body| body["content"].as_str().unwrap()).collect();
    assert_eq!(lines[..4], ["a", "b", "a", "b"]);
}

#[test]
fn a_program_that_cannot_be_run_says_so_as_in_a_shell() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({ "command": ["/no/such/program"], "intervalSeconds": 600 });
    let proxy = proxy(folder.path(), &target, "command", &params);
    let body = wait_for_bodies(&target, 1).remove(0);
    let line = proxy.wait_for("the command could not be run");
    assert!(line.contains("/no/such/program: No such file or directory"), "{line}");
    assert_eq!(body["exit_code"], 127);
    assert!(body["stderr"].as_str().unwrap().contains("/no/such/program cannot be run"), "{body}");
}

#[test]
fn a_stream_that_cannot_be_run_says_why() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({ "command": ["no-such-program"], "mode": "stream" });
    let proxy = proxy(folder.path(), &target, "command", &params);
    let line = proxy.wait_for("the program is started again");
    assert!(line.contains("no-such-program: there is no such program in PATH"), "{line}");
}

/// A shell line as a file has to write it: `$` belongs to the file's own variables.
fn shell(line: &str) -> String {
    line.replace('$', "\\$")
}

/// A line for the shell that starts one process in its group and one that has left it, writes down the ids of all three,
/// and goes on; `trap` is what the shell itself does on SIGTERM.
fn family(folder: &Path, trap: &str) -> String {
    let pids = folder.join("pids");
    format!(
        "trap '{trap}' TERM; sleep {FOR_EVER} & one=$!; setsid sleep {FOR_EVER} & two=$!; \
         echo $$ $one $two > {0}.new && mv {0}.new {0}; echo up; while :; do sleep 0.05; done",
        pids.display()
    )
}

/// The ids that a [`family`] has written down.
fn family_of(folder: &Path) -> Vec<Pid> {
    eventually_some("the program writes down its processes", SOON, || {
        let text = fs::read_to_string(folder.join("pids")).ok()?;
        fs::remove_file(folder.join("pids")).ok()?;
        Some(
            text.split_whitespace()
                .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
                .collect(),
        )
    })
}

fn all_gone(family: &[Pid]) {
    assert!(!family.is_empty());
    for pid in family {
        // A zombie would still be there to be asked.
        eventually(&format!("{pid:?} is gone"), SOON, || test_kill_process(*pid).is_err());
    }
}

#[test]
fn a_run_that_takes_too_long_is_ended_with_all_that_it_started() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({
        "command": shell(&family(folder.path(), "")),
        "shell": true,
        "intervalSeconds": 15,
        "timeout": "1s",
    });
    let proxy = proxy(folder.path(), &target, "command", &params);
    // The shell ignores SIGTERM, so it is killed after 5 s.
    let family = family_of(folder.path());
    // A run that had not come so far when its time was over, on a slow machine, shows nothing: the next one may.
    let body = eventually_some("a run that was up has been ended", SOON, || {
        bodies(&target).into_iter().find(|body| body["stdout"] == "up\n")
    });
    assert_eq!((&body["timed_out"], &body["exit_code"]), (&json!(true), &json!(128 + 9)));
    all_gone(&family);
    proxy.wait_for("took too long");
}

#[test]
fn what_a_run_leaves_behind_is_ended_and_runs_do_not_overlap() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let line = &format!(
        "mkdir lock || echo overlap; sleep {FOR_EVER} & echo $! >> left; sleep 0.3; rmdir lock; echo done"
    );
    let params = json!({
        "command": shell(line), "shell": true, "intervalSeconds": 0.05, "workingDir": folder.path(),
    });
    let _proxy = proxy(folder.path(), &target, "command", &params);
    for body in wait_for_bodies(&target, 3) {
        assert_eq!(body["stdout"], "done\n", "{body}");
    }
    let left = fs::read_to_string(folder.path().join("left")).unwrap();
    let first: Vec<Pid> =
        left.lines().take(3).map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
    all_gone(&first);
}

#[test]
fn nothing_outlives_an_agent_that_is_killed_or_stopped() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({
        "command": shell(&family(folder.path(), "exit 0")), "shell": true, "mode": "stream",
    });
    let mut proxy = proxy(folder.path(), &target, "command", &params);
    let family = family_of(folder.path());
    proxy.kill();
    all_gone(&family);

    proxy.restart();
    let family = family_of(folder.path());
    assert!(proxy.stop().success());
    all_gone(&family);
}

#[test]
fn a_program_that_has_left_its_group_or_is_stopped_is_asked_to_end_like_any_other() {
    let trap = "trap 'echo bye; exit 0' TERM; echo up;";
    let stops = |command: &serde_json::Value| {
        let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
        let params = json!({ "command": command, "mode": "stream" });
        let mut proxy = proxy(folder.path(), &target, "command", &params);
        wait_for_bodies(&target, 1);
        if !stops_in_time(&mut proxy) {
            return false;
        }
        let bodies = wait_for_bodies(&target, 2);
        let lines: Vec<_> = bodies.iter().map(|body| body["content"].as_str().unwrap()).collect();
        assert_eq!(lines, ["up", "bye"], "{command}");
        true
    };
    let check = |command: serde_json::Value| {
        eventually("a stop in time", SOON, || stops(&command));
    };
    let waits = format!("{trap} while :; do sleep 0.05; done");
    check(json!(["setsid", "sh", "-c", waits]));
    // The group of the program is that of its guard.
    let is_stopped = format!("{trap} kill -STOP 0; while :; do sleep 0.05; done");
    check(json!(["sh", "-c", is_stopped]));
}

#[test]
fn a_guard_that_is_killed_takes_its_group_along_and_the_stream_starts_again() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let line = &format!("echo $$ $PPID; exec sleep {FOR_EVER}");
    let params = json!({ "command": shell(line), "shell": true, "mode": "stream" });
    let proxy = proxy(folder.path(), &target, "command", &params);
    let first = wait_for_bodies(&target, 1).remove(0);
    let pids: Vec<Pid> = first["content"]
        .as_str()
        .unwrap()
        .split(' ')
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect();
    kill_process(pids[1], Signal::KILL).unwrap();
    eventually("the program has ended with its guard", SOON, || {
        test_kill_process(pids[0]).is_err()
    });
    wait_for_bodies(&target, 2);
    proxy.wait_for("is started again");
}

#[test]
fn a_streams_lines_come_as_they_are_written_and_its_last_words_too() {
    let line =
        "trap 'echo bye; exit 0' TERM; n=0; echo one; echo two; while :; do sleep 0.05; done";
    let params =
        json!({ "command": shell(line), "shell": true, "mode": "stream", "path": "/feed" });
    eventually("a stop in time", SOON, || {
        let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
        let mut proxy = proxy(folder.path(), &target, "command", &params);
        wait_for_bodies(&target, 2);
        if !stops_in_time(&mut proxy) {
            return false;
        }
        let bodies = wait_for_bodies(&target, 3);
        let lines: Vec<_> = bodies.iter().map(|body| body["content"].as_str().unwrap()).collect();
        assert_eq!(lines, ["one", "two", "bye"]);
        true
    });
}

#[test]
fn a_stream_waits_for_a_full_queue_and_loses_no_line() {
    let (folder, mut target) = (tempfile::tempdir().unwrap(), Target::start());
    target.go_away();
    let line = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); printf '%d %050000d\\n' $i 0; done; \
                touch written; exec sleep 600";
    let params = json!({
        "command": shell(line), "shell": true, "mode": "stream", "workingDir": folder.path(),
    });
    let mut file = super::proxy_file(folder.path(), &target, "command", &params);
    file["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
    let proxy = crate::support::program::Program::role(folder.path(), "proxy", &file);
    proxy.wait_for("events cannot be stored now, trying again");
    always_for("the program is held up", Duration::from_millis(300), || {
        !folder.path().join("written").exists()
    });
    target.come_back();
    let bodies = wait_for_bodies(&target, 60);
    let numbers: Vec<usize> = bodies
        .iter()
        .map(|body| body["content"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    assert_eq!(contents(&target).len(), 60);
}

//! The sinks `alert` and `notification` together: what goes wrong is told once, and its end too, whatever is killed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Message;
use crate::support::ports::free_port;
use crate::support::stack::Stack;
use crate::support::wait::{SOON, always_for, eventually, eventually_some};
use crate::support::wire::{call, post};

/// As long as nobody must be told anything.
const A_WHILE: Duration = Duration::from_secs(2);

/// A player whose sink `checks` tells the target; with the ports of its server and of its status page.
fn stack() -> (Stack, u16, u16) {
    let (server, status) = (free_port(), free_port());
    let stack = Stack::with(|configs| {
        configs.player["portStatusZ"] = json!(status);
        let url = configs.player["sinks"][0]["params"]["targetHost"].clone();
        configs.player["exposedPort"] = json!(server);
        configs.player["sources"][0]["sinks"] = json!(["checks"]);
        configs.player["sinks"] = json!([
            {
                "name": "checks", "type": "alert",
                "params": { "database": "checks.sqlite3", "notification_sink": "people" },
            },
            {
                "name": "people", "type": "notification",
                "params": { "webhooks": { "chat": { "url": url, "contentType": "json", "groupMax": 1 } } },
            },
        ]);
    });
    (stack, server, status)
}

/// Waits until what was told is out of the queue: until then a kill has it told again.
fn wait_until_stored(status: u16) {
    eventually("nothing waits to be told", SOON, || {
        get(status, "/statusz").json()["sinks"]["people"]["totalEvents"] == 0
    });
}

fn check(stack: &Stack, table: &str, statuses: &[&str]) {
    for status in statuses {
        let body = json!({ "status": status }).to_string();
        post(stack.ports.proxy, &format!("/{table}"), body.as_bytes());
    }
}

fn get(server: u16, target: &str) -> Message {
    call(server, "GET", target, &[("Host", b"localhost")], b"")
}

/// What the sink says of a table, once it has had so many events.
fn watched(server: u16, table: &str, state: &str) -> Value {
    eventually_some("the state of the table", SOON, || {
        let tables = get(server, "/checks/status").json();
        let found = tables.as_array()?.iter().find(|row| row["table"] == table)?.clone();
        (found["state"] == state).then_some(found)
    })
}

fn told(stack: &Stack) -> Vec<String> {
    stack.target.requests().iter().map(Message::text).collect()
}

/// Waits for the message number `count`, which must be the last one.
fn message(stack: &Stack, count: usize) -> String {
    eventually("a message", SOON, || told(stack).len() >= count);
    let told = told(stack);
    assert_eq!(told.len(), count, "{told:?}");
    told[count - 1].clone()
}

#[test]
fn an_alarm_and_its_end_are_told_once_over_a_kill_in_between() {
    let (mut stack, server, status) = stack();
    check(&stack, "web", &["ok", "down", "down"]);
    watched(server, "web", "ok");
    check(&stack, "web", &["down"]);
    let alarm = message(&stack, 1);
    assert!(alarm.contains("web: down") && alarm.contains("is in alarm"), "{alarm}");
    let since = watched(server, "web", "bad")["bad_since"].as_i64().expect("since when");
    wait_until_stored(status);

    stack.player.kill();
    check(&stack, "web", &["down", "down"]);
    stack.player.restart();
    let after = watched(server, "web", "bad");
    assert_eq!(after["bad_since"], json!(since), "the state is what it was");
    eventually("the events of meanwhile are rows", SOON, || {
        get(server, "/checks/rpf-db/web?status=down").json().as_array().map(Vec::len) == Some(5)
    });
    always_for("no second alarm", A_WHILE, || told(&stack).len() == 1);

    check(&stack, "web", &["ok"]);
    let end = message(&stack, 2);
    assert!(end.contains("web: recovered"), "{end}");
    let length = end.split("for ").nth(1).and_then(|rest| rest.split(" s").next());
    let length: u64 = length.and_then(|seconds| seconds.parse().ok()).expect("a length of time");
    assert!((2..600).contains(&length), "it was bad for the time that was waited: {end}");
    watched(server, "web", "ok");
    // A new one is told again.
    check(&stack, "web", &["slow", "slow", "slow"]);
    assert!(message(&stack, 3).contains("web: slow"));
}

#[test]
fn a_silence_is_kept_over_a_kill_and_what_is_bad_at_its_end_is_told_then() {
    let (mut stack, server, _) = stack();
    check(&stack, "web", &["ok"]);
    watched(server, "web", "ok");
    let silence = json!({ "table": "web", "for": "1h", "reason": "deployment" }).to_string();
    let headers: [(&str, &[u8]); 2] =
        [("Host", b"localhost"), ("Content-Type", b"application/json")];
    let set = call(server, "POST", "/checks/silences", &headers, silence.as_bytes());
    assert_eq!(set.status(), 204, "{}", set.text());
    stack.player.kill();
    stack.player.restart();
    check(&stack, "web", &["down", "down", "down"]);
    let silenced = watched(server, "web", "bad");
    assert!(silenced["silenced_until"].is_i64(), "{silenced}");
    // Another table is none of its business.
    check(&stack, "mail", &["full", "full", "full"]);
    assert!(message(&stack, 1).contains("mail: full"));
    always_for("silence", A_WHILE, || told(&stack).len() == 1);
    let ended = call(server, "DELETE", "/checks/silences/web", &[("Host", b"localhost")], b"");
    assert_eq!(ended.status(), 204, "{}", ended.text());
    assert!(message(&stack, 2).contains("web: down"));
}

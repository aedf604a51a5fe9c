//! Notifications, from a request at the proxy to the service; and `notify test`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Message;
use crate::support::program::{Finished, Program, write_config};
use crate::support::server::{Answer, Server};
use crate::support::stack::Stack;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

/// Longer than a lease, under which a killed player may have what it had just asked for.
const LEASED: Duration = Duration::from_secs(60);
/// Kills of the player, and events between two of them.
const KILLS: usize = 6;
const EVENTS: usize = 30;

/// A stack whose player tells `target` as Discord does.
fn stack_that_notifies(change: impl FnOnce(&mut Value)) -> Stack {
    Stack::with(|configs| {
        let url = configs.player["sinks"][0]["params"]["targetHost"].clone();
        let mut params = json!({ "webhooks": { "chat": { "kind": "discord", "url": url } } });
        change(&mut params);
        configs.player["sinks"][0]["type"] = json!("notification");
        configs.player["sinks"][0]["params"] = params;
    })
}

fn contents(requests: &[Message]) -> Vec<String> {
    requests.iter().map(|request| request.json()["content"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_content(target: &Target, wanted: &str) {
    eventually(wanted, SOON, || {
        contents(&target.requests()).iter().any(|text| text.contains(wanted))
    });
}

/// How many notifications these messages stand for.
fn told(requests: &[Message]) -> usize {
    let hidden = |text: &str| {
        let count = text.rsplit_once("\nand ")?.1.strip_suffix(" more")?;
        count.parse::<usize>().ok()
    };
    let count = |text: &String| text.matches("event number").count() + hidden(text).unwrap_or(0);
    contents(requests).iter().map(count).sum()
}

#[test]
fn a_service_that_was_down_is_told_everything_over_a_kill() {
    let mut stack = stack_that_notifies(|_| ());
    stack.target.go_away();
    post(stack.ports.proxy, "/", b"event number 0");
    stack.player.wait_for("destination cannot be reached");
    for n in 1..13 {
        post(stack.ports.proxy, "/", format!("event number {n}").as_bytes());
    }
    stack.player.kill();
    stack.player.restart();
    stack.target.come_back();
    eventually("13 notifications", SOON, || told(&stack.target.requests()) >= 13);
    assert_eq!(told(&stack.target.requests()), 13);
}

#[test]
fn a_service_is_told_everything_over_kills() {
    let mut stack = stack_that_notifies(|params| {
        params["webhooks"]["chat"]["groupMax"] = json!(1);
        params["maxMessagesPerMinute"] = json!(0);
    });
    let told = |stack: &Stack| contents(&stack.target.requests());
    for kill in 0..KILLS {
        for number in kill * EVENTS..(kill + 1) * EVENTS {
            post(stack.ports.proxy, "/", format!("event {number};").as_bytes());
        }
        // The kill comes while the rest is on its way.
        let wanted = kill * EVENTS + kill * 7 % EVENTS;
        let distinct = |stack: &Stack| told(stack).into_iter().collect::<BTreeSet<_>>().len();
        eventually("the service is told more", LEASED, || distinct(&stack) >= wanted);
        stack.player.kill();
        stack.player.restart();
    }
    let expected: BTreeSet<String> =
        (0..KILLS * EVENTS).map(|number| format!("event {number};")).collect();
    eventually("everything is told", LEASED, || {
        told(&stack).into_iter().collect::<BTreeSet<_>>() == expected
    });
}

#[test]
fn what_discord_limits_is_sent_when_it_says() {
    let stack = stack_that_notifies(|_| ());
    stack.target.answer(|_, number| {
        if number > 0 {
            return Answer::status(204);
        }
        Answer::status(429)
            .with_body(r#"{"message":"You are being rate limited.","retry_after":1.2}"#)
    });
    let begun = tokio::time::Instant::now();
    post(stack.ports.proxy, "/", b"hello");
    stack.target.wait_for(2);
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
}

#[test]
fn a_duplicate_is_counted_over_kills_and_its_count_is_told() {
    let mut stack = stack_that_notifies(|params| params["dedupWindow"] = json!("20s"));
    // All three come within the window, also where each step and the start take seconds.
    let down = br#"{"subject":"shop","message":"is down"}"#;
    post(stack.ports.proxy, "/", down);
    wait_for_content(&stack.target, "is down");
    post(stack.ports.proxy, "/", down);
    post(stack.ports.proxy, "/", b"a mark");
    wait_for_content(&stack.target, "a mark");
    stack.player.kill();
    stack.player.restart();
    post(stack.ports.proxy, "/", down);
    wait_for_content(&stack.target, "came 2 more times within 20s");
    let told = contents(&stack.target.requests());
    let is_alarm = |text: &&String| text.contains("is down") && !text.contains("more times");
    let downs = told.iter().filter(is_alarm).count();
    // The kill may have hit the moment after the mark was sent: then it is sent again.
    assert_eq!(downs, 1, "{told:?}");
}

fn notify_test(params: &Value, args: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let sink = |name: &str| json!({ "name": name, "type": "notification", "params": params });
    let player =
        json!({ "relayUrl": "http://127.0.0.1:1", "sinks": [sink("alerts"), sink("other")] });
    let config = write_config(folder.path(), "player", &player);
    Program::run(folder.path(), &[&["notify", "test", "-c", &config], args].concat(), &[])
}

#[test]
fn notify_test_sends_one_and_says_what_came_back() {
    let good = Server::start(0, |_| Answer::status(200).with_body("ok"));
    let bad = Server::start(0, |_| Answer::status(403).with_body("invalid_token"));
    let url = |server: &Server| format!("http://127.0.0.1:{}/services/secret", server.port);
    let fine = json!({ "webhooks": { "chat": { "kind": "slack", "url": url(&good) } } });
    let finished = notify_test(&fine, &["alerts"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.output.starts_with("alerts/chat: 200 OK ("), "{finished:?}");
    assert_eq!(finished.output.lines().count(), 1);
    assert_eq!(notify_test(&fine, &[]).output.lines().count(), 2);

    let broken = json!({ "webhooks": { "chat": { "kind": "slack", "url": url(&bad) } } });
    let finished = notify_test(&broken, &["alerts"]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.output.contains("alerts/chat: not sent: answered 403"), "{finished:?}");
    assert!(finished.output.contains("invalid_token"), "{finished:?}");
    assert!(!format!("{finished:?}").contains("secret"), "{finished:?}");

    let finished = notify_test(&fine, &["alert"]);
    assert_eq!(finished.code, Some(78));
    assert!(finished.log.contains("is named `alert`; known: alerts, other"), "{finished:?}");
}

#[test]
fn notify_test_tries_what_a_relay_tells() {
    let server = Server::start(0, |_| Answer::status(200).with_body("ok"));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}/services/secret", server.port);
    let check = |notify: &Value, args: &[&str], code: i32, expected: &str| {
        let relay = json!({ "buckets": { "b": { "auth": "t" } }, "alerts": { "notify": notify } });
        let config = write_config(folder.path(), "relay", &relay);
        let args = [&["notify", "test", "-c", &config], args].concat();
        let finished = Program::run(folder.path(), &args, &[]);
        assert_eq!(finished.code, Some(code), "{finished:?}");
        let told = format!("{}{}", finished.output, finished.log);
        assert!(told.contains(expected), "{finished:?}");
    };
    let phone = json!({ "phone": { "kind": "slack", "url": url } });
    check(&phone, &[], 0, "alerts/phone: 200 OK (");
    check(&phone, &["alerts"], 0, "alerts/phone: 200 OK (");
    check(&phone, &["chat"], 78, "is named `chat`; known: alerts");
    check(&json!({}), &[], 78, "alerts.notify names no service");
    check(&json!({ "x": { "kind": "slack" } }), &[], 78, "alerts.notify.x: kind `slack` needs url");
    let proxy = json!({ "sources": [{ "id": "a", "type": "stdin" }] });
    let config = write_config(folder.path(), "proxy", &proxy);
    let finished = Program::run(folder.path(), &["notify", "test", "-c", &config], &[]);
    assert!(finished.log.contains("this looks like a proxy's file"), "{finished:?}");
}

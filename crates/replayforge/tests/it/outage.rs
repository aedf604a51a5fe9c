//! What is away, slow or refuses costs time, and never an event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::support::http::Message;
use crate::support::ports::Ports;
use crate::support::program::{Program, write_config};
use crate::support::server::Answer;
use crate::support::stack::{Configs, Stack, TOKEN};
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually, let_pass};
use crate::support::wire::{call, post};

fn targets(requests: &[Message]) -> Vec<&str> {
    requests.iter().map(Message::target).collect()
}

/// Answers the first request of each path with `first`, every later one with 200.
fn only_first(
    first: impl Fn(&Message) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Message, usize) -> Answer {
    let seen = Mutex::new(BTreeMap::new());
    move |request, _| {
        let mut seen = seen.lock();
        let times: &mut u32 = seen.entry(request.target().to_owned()).or_default();
        *times += 1;
        let is_first = *times == 1;
        drop(seen);
        if is_first { first(request) } else { Answer::status(200) }
    }
}

#[test]
fn a_relay_that_is_away_delays_and_keeps_the_order() {
    let mut stack = Stack::start();
    post(stack.ports.proxy, "/before", b"");
    stack.target.wait_for(1);
    assert!(stack.relay.stop().success());
    for n in 0..30 {
        post(stack.ports.proxy, &format!("/while/{n}"), b"kept by the proxy");
    }
    stack.proxy.wait_for("destination cannot be reached, trying again");
    assert_eq!(stack.target.count(), 1);
    stack.relay.restart();
    let received = stack.target.wait_for(31);
    let expected: Vec<String> = (0..30).map(|n| format!("/while/{n}")).collect();
    assert_eq!(targets(&received)[1..], expected);
    post(stack.ports.proxy, "/after", b"");
    assert_eq!(stack.target.wait_for(32)[31].target(), "/after");
}

#[test]
fn a_failure_that_goes_on_is_told_twice_and_then_muted() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let proxy = Program::role(folder.path(), "proxy", &Configs::new(folder.path(), ports).proxy);
    post(ports.proxy, "/", b"");
    let muted = proxy.wait_for("destination cannot be reached, trying again (muted for 3 minutes)");
    assert!(muted.contains(" WARN ") && muted.contains("sink=out"), "{muted}");
    // Two more tries at the least: the pauses double from 0.1 s on.
    let told = || proxy.log().matches("destination cannot be reached").count();
    always_for("nothing more is told", Duration::from_secs(2), || told() == 2);
}

#[test]
fn a_target_that_is_away_delays_and_keeps_the_order() {
    let mut stack = Stack::start();
    stack.target.go_away();
    for n in 0..30 {
        post(stack.ports.proxy, &format!("/{n}"), b"kept by the player");
    }
    stack.player.wait_for("destination cannot be reached, trying again");
    stack.target.come_back();
    let received = stack.target.wait_for(30);
    assert_eq!(targets(&received), (0..30).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[test]
fn everything_may_be_away_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    target.go_away();
    let ports = Ports { target: target.port, ..Ports::free() };
    let configs = Configs::new(folder.path(), ports);
    let player = Program::role(folder.path(), "player", &configs.player);
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    post(ports.proxy, "/early", b"1");
    player.wait_for("relay cannot be reached");
    proxy.wait_for("destination cannot be reached");
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    player.wait_for("destination cannot be reached");
    target.come_back();
    assert_eq!(target.wait_for(1)[0].target(), "/early");
}

#[test]
fn a_player_says_each_time_that_its_relay_is_away_and_that_it_works_again() {
    let mut stack = Stack::start();
    let told = |text: &str| stack.player.log().matches(text).count();
    for times in 1..=3 {
        let before = told(" WARN relay cannot be reached, trying again");
        assert!(stack.relay.stop().success());
        eventually("it is away", SOON, || {
            told(" WARN relay cannot be reached, trying again") > before
        });
        stack.relay.restart();
        eventually("it works again", SOON, || told(" INFO relay works again source=b") == times);
    }
}

#[test]
fn what_answers_and_is_no_relay_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    let relay = Program::role(folder.path(), "relay", &configs.relay);
    let other = Target::start();
    other.answer(|_, _| Answer::status(503));
    let check = |url: String, message: &str, error: &str| {
        let mut config = configs.player.clone();
        config["relayUrl"] = json!(url);
        let player = Program::role(folder.path(), "player", &config);
        let line = player.wait_for(message);
        assert!(line.contains(error), "{line}");
    };
    let status = format!("http://127.0.0.1:{}", ports.status);
    let hint = format!(
        "{status} answered, but not as a relay's API: is relayUrl its `port`, not `portStatusZ`?"
    );
    check(format!("{status}/"), "relay answers with an error, trying again", &hint);
    check(
        format!("http://127.0.0.1:{}/", other.port),
        "relay answers with an error, trying again",
        "it answers 503 Service Unavailable",
    );
    check(
        format!("https://127.0.0.1:{}/", ports.relay),
        "relay cannot be reached, trying again",
        "no TLS is spoken there: is it http:// instead of https://?",
    );
    drop(relay);
}

#[test]
fn a_proxy_that_ships_to_a_status_port_keeps_its_events() {
    let target = Target::start();
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports { target: target.port, ..Ports::free() };
    let mut configs = Configs::new(folder.path(), ports);
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let _player = Program::role(folder.path(), "player", &configs.player);
    configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{}", ports.status));
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.expect_error("sink is paused until this is fixed");
    post(ports.proxy, "/kept", b"1");
    let line = proxy.wait_for("sink is paused until this is fixed");
    assert!(line.contains("the relay's API is at its `port`"), "{line}");
    assert!(proxy.stop().success());
    configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{}", ports.relay));
    write_config(folder.path(), "proxy", &configs.proxy);
    proxy.restart();
    assert_eq!(targets(&target.wait_for(1)), ["/kept"]);
}

#[test]
fn answers_that_ask_for_another_try_get_one_with_the_same_key() {
    let stack = Stack::start();
    stack.target.answer(only_first(|request| {
        let status = request.target().trim_start_matches('/');
        Answer::status(status.parse().unwrap_or_else(|_| panic!("{status}")))
    }));
    let again = ["/500", "/502", "/503", "/504", "/599", "/408", "/425", "/429"];
    let done =
        ["/200", "/201", "/204", "/301", "/302", "/400", "/401", "/403", "/404", "/410", "/422"];
    for target in again.iter().chain(&done) {
        post(stack.ports.proxy, target, target.as_bytes());
    }
    let received = stack.target.wait_for(2 * again.len() + done.len());
    let twice = again.iter().flat_map(|target| [*target, *target]);
    assert_eq!(targets(&received), twice.chain(done).collect::<Vec<_>>());
    for (key, bodies) in stack.target.by_key() {
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{key}");
    }
    assert_eq!(
        stack.target.by_key().len(),
        again.len() + done.len(),
        "a repeat has the key of its first try"
    );
}

#[test]
fn retry_after_is_honoured() {
    let stack = Stack::start();
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    stack.target.answer(move |_, number| {
        seen.lock().push(Instant::now());
        if number == 0 {
            Answer::status(429).with_header("Retry-After", 1)
        } else {
            Answer::status(200)
        }
    });
    post(stack.ports.proxy, "/busy", b"");
    stack.target.wait_for(2);
    let times = times.lock();
    let pause = times[1] - times[0];
    // Ten times the first backoff: a second try before would be the backoff's, not the target's.
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&pause), "{pause:?}");
}

#[test]
fn a_target_that_hangs_or_hangs_up_is_tried_again() {
    let stack =
        Stack::with(|configs| configs.player["sinks"][0]["params"]["timeout"] = json!("5s"));
    stack.target.answer(only_first(|request| {
        if request.target() == "/hangs" {
            let_pass(Duration::from_secs(30));
        }
        Answer::HangUp
    }));
    post(stack.ports.proxy, "/hangs", b"1");
    post(stack.ports.proxy, "/hangs-up", b"2");
    let received = stack.target.wait_for(4);
    assert_eq!(targets(&received), ["/hangs", "/hangs", "/hangs-up", "/hangs-up"]);
    assert_eq!(stack.target.by_key().len(), 2);
    stack.player.wait_for("no answer from 127.0.0.1");
}

#[test]
fn a_failing_sink_holds_back_no_other() {
    let other = Target::start();
    let port = other.port;
    let mut stack = Stack::with(|configs| {
        let params = json!({ "targetHost": format!("http://127.0.0.1:{port}") });
        let sink = json!({ "name": "other", "type": "http", "params": params });
        configs.player["sinks"].as_array_mut().unwrap().push(sink);
        configs.player["sources"][0]["sinks"] = json!(["target", "other"]);
    });
    stack.target.go_away();
    for n in 0..10 {
        post(stack.ports.proxy, &format!("/{n}"), b"");
    }
    let at_other = other.wait_for(10);
    stack.target.come_back();
    assert_eq!(targets(&stack.target.wait_for(10)), targets(&at_other));
    assert_eq!(stack.target.by_key(), other.by_key(), "one event has one key everywhere");
}

#[test]
fn a_wrong_token_pauses_loudly_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let configs = Configs::new(folder.path(), ports);
    let mut wrong = configs.relay.clone();
    wrong["buckets"]["b"]["auth"] = json!("another-secret");
    let mut relay = Program::role(folder.path(), "relay", &wrong);
    let mut player = Program::role(folder.path(), "player", &configs.player);
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.expect_error("sink is paused until this is fixed");
    player.expect_error("relay refuses the bucket or its token");
    for n in 0..5 {
        post(ports.proxy, &format!("/{n}"), b"kept");
    }
    let line = proxy.wait_for("sink is paused until this is fixed");
    assert!(
        line.contains(" ERROR ") && line.contains("sink=out") && line.contains("401"),
        "{line}"
    );
    let line = player.wait_for("relay refuses the bucket or its token");
    assert!(
        line.contains(" ERROR ") && line.contains("source=b") && line.contains("401"),
        "{line}"
    );
    always_for("the source still takes requests", Duration::from_millis(200), || {
        proxy.is_running()
    });
    post(ports.proxy, "/5", b"kept");

    assert!(relay.stop().success());
    write_config(folder.path(), "relay", &configs.relay);
    relay.restart();
    // Each looks by itself every 30 s; a start looks at once.
    for program in [&mut proxy, &mut player] {
        assert!(program.stop().success());
        program.restart();
    }
    assert_eq!(targets(&target.wait_for(6)), ["/0", "/1", "/2", "/3", "/4", "/5"]);
    for program in [&proxy, &player, &relay] {
        assert!(!program.log().contains(TOKEN) && !program.log().contains("another-secret"));
    }
}

#[test]
fn a_relay_that_is_full_delays_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let mut configs = Configs::new(folder.path(), ports);
    configs.relay["buckets"]["b"]["dbMaxSizeKb"] = json!(1024);
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let body = vec![b'x'; 30_000];
    // 3 MB for a bucket of 1 MiB; the rest waits in the proxy, which has 10 MiB.
    for n in 0..100 {
        assert_eq!(call(ports.proxy, "POST", &format!("/{n}"), &[], &body).status(), 200, "{n}");
    }
    let line = proxy.wait_for("delivery failed, trying again");
    assert!(line.contains("answered 429 Too Many Requests"), "{line}");
    let _player = Program::role(folder.path(), "player", &configs.player);
    let received = target.wait_for_within(100, SOON);
    assert_eq!(targets(&received), (0..100).map(|n| format!("/{n}")).collect::<Vec<_>>());
    assert!(received.iter().all(|request| request.body == body));
    eventually("the bucket is empty", SOON, || {
        let pull = [("RF-BUCKET", &b"b"[..]), ("Authorization", b"Bearer token-of-b")];
        call(ports.relay, "GET", "/first-batch", &pull, b"").status() == 404
    });
}

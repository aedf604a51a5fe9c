//! `trace`: one event's way, against the real three programs.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::ports::free_port;
use crate::support::program::{Finished, Program};
use crate::support::server::Answer;
use crate::support::stack::{Configs, Stack};
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::post;

/// A stack whose programs can all be asked.
fn stack() -> Stack {
    Stack::with(|configs| configs_with_status(configs, json!({})))
}

fn configs_with_status(configs: &mut Configs, target: Value) {
    configs.proxy["portStatusZ"] = json!(free_port());
    configs.proxy["hostName"] = json!("web-1");
    configs.player["portStatusZ"] = json!(free_port());
    configs.player["hostName"] = json!("home");
    configs.relay["statusAuth"] = json!("s3cret");
    if let Some(more) = target.as_object() {
        let params = configs.player["sinks"][0]["params"].as_object_mut().unwrap();
        params.extend(more.clone());
    }
}

/// Asks the three programs by their files.
fn trace(stack: &Stack, id: &str, more: &[&str]) -> Finished {
    let args = ["trace", id, "-c", "proxy.json", "-c", "relay.json", "-c", "player.json"];
    Program::run(stack.folder(), &[&args[..], more].concat(), &[])
}

/// The steps of each program that `--json` tells, as `role step`, as soon as `is_enough`.
fn steps_when(stack: &Stack, id: &str, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    eventually_some("the way of the event", SOON, || {
        let told: Value = serde_json::from_str(&trace(stack, id, &["--json"]).output).unwrap();
        let mut steps: Vec<(u64, String)> = Vec::new();
        for program in told["programs"].as_array().unwrap() {
            let report = &program["report"];
            let role = report["role"].as_str().unwrap();
            for step in report["steps"].as_array().unwrap() {
                let text = format!("{role} {}", step["step"].as_str().unwrap());
                steps.push((step["atUs"].as_u64().unwrap(), text));
            }
        }
        steps.sort_by_key(|(at_us, _)| *at_us);
        let steps: Vec<String> = steps.into_iter().map(|(_, step)| step).collect();
        is_enough(&steps).then_some(steps)
    })
}

/// What is told once the event is nowhere any more: it leaves each queue a moment after it has been sent on.
fn trace_when_gone(stack: &Stack, id: &str) -> Finished {
    eventually_some("the event is nowhere any more", SOON, || {
        let shown = trace(stack, id, &[]);
        (shown.code == Some(0) && !shown.output.contains("now: ")).then_some(shown)
    })
}

fn has(steps: &[String], step: &str) -> bool {
    steps.iter().any(|known| known == step)
}

/// The id of the request that the target has got at this place.
fn id_at_target(stack: &Stack, place: usize) -> String {
    eventually("the request is at the target", SOON, || stack.target.count() > place);
    stack.target.requests()[place].header("idempotency-key").unwrap()
}

#[test]
fn a_delivered_event_is_told_from_capture_to_delivery() {
    let stack = stack();
    post(stack.ports.proxy, "/secret-path", b"secret-payload");
    let id = id_at_target(&stack, 0);
    // Each program notes what it has done a moment after it did it.
    let steps = steps_when(&stack, &id, |steps| steps.len() >= 7);
    let mut sorted = steps.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "player delivered",
            "player pulled",
            "player stored",
            "proxy shipped",
            "proxy stored",
            "relay pulled",
            "relay stored",
        ]
    );
    let place = |step: &str| steps.iter().position(|known| known == step);
    let in_order = ["player pulled", "player delivered"].map(place);
    assert!(in_order.is_sorted(), "{steps:?}");
    let shown = trace_when_gone(&stack, &id);
    for part in [
        "captured, according to its id",
        "proxy web-1  stored, from source `in`",
        "shipped by sink `out`, try 1: batch ",
        "relay        stored in bucket `b`: from web-1, batch ",
        "handed out of bucket `b` by home",
        "pulled from bucket `b`",
        "delivered by sink `target`, try 1",
    ] {
        assert!(shown.output.contains(part), "no `{part}` in\n{}", shown.output);
    }
    for secret in ["secret", "s3cret", "token-of-b"] {
        let all = trace(&stack, &id, &["--json"]).output + &shown.output;
        assert!(!all.contains(secret), "`{secret}` in {all}");
    }
    // The same by URL, where the relay's token comes from the environment.
    let relay = format!("http://127.0.0.1:{}", stack.ports.status);
    let token = [("RF_STATUS_TOKEN", "s3cret")];
    let shown = Program::run(stack.folder(), &["trace", &id, "--relay", &relay], &token);
    assert!(shown.code == Some(0) && shown.output.contains("stored in bucket `b`"), "{shown:?}");
    let shown = Program::run(stack.folder(), &["trace", &id, "--relay", &relay], &[]);
    assert!(shown.code == Some(1) && shown.log.contains("set RF_STATUS_TOKEN"), "{shown:?}");
}

#[test]
fn an_event_that_nobody_knows_ends_with_1_and_says_how_far_back_is_known() {
    let stack = stack();
    let shown = trace(&stack, &Uuid::now_v7().to_string(), &[]);
    assert_eq!((shown.code, shown.output.as_str()), (Some(1), ""));
    assert!(shown.log.contains("no program that answered knows the event"), "{}", shown.log);
    let shown = trace(&stack, "no-id", &[]);
    assert_eq!(shown.code, Some(2), "{}", shown.log);
    let expected = "'<ID>': expected an event's id, such as 019abe40-7d3b-7000-8000-000000000001";
    assert!(shown.log.contains(expected), "{}", shown.log);
}

#[test]
fn an_event_that_waits_is_found_with_its_failed_tries_and_also_while_its_proxy_is_down() {
    let mut stack = stack();
    stack.relay.stop();
    post(stack.ports.proxy, "/a", b"x");
    let letters = stack.folder().join("proxy/proxy.sqlite3");
    let id = eventually_some("the event is stored", SOON, || {
        let store = rf_queue::find(&letters, &|_| true, SOON).ok()?;
        (!store.waiting.is_empty()).then(|| id_of_waiting(&letters))
    });
    steps_when(&stack, &id, |steps| has(steps, "proxy retried"));
    let shown = trace(&stack, &id, &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.log);
    assert!(shown.output.contains("try 1 of sink `out` failed: "), "{}", shown.output);
    let waits = "proxy web-1: waits in the queue of `out` since ";
    assert!(shown.output.contains(waits), "{}", shown.output);
    assert!(
        shown.log.contains("relay.json: "),
        "the relay is away, and that is said: {}",
        shown.log
    );
    stack.proxy.kill();
    let shown = trace(&stack, &id, &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.log);
    assert!(shown.output.contains("proxy.json: waits in the queue of `out`"), "{}", shown.output);
    assert!(shown.log.contains("only its store was looked at"), "{}", shown.log);
    stack.relay.restart();
    stack.proxy.restart();
    stack.target.wait_for(1);
}

/// The id of the only event in a store.
fn id_of_waiting(path: &std::path::Path) -> String {
    let id = std::cell::Cell::new(None);
    let look = |content: &[u8]| {
        id.set(rf_core::event::event_id(content));
        true
    };
    rf_queue::find(path, &look, SOON).unwrap();
    id.get().expect("an event of ours has an id").to_string()
}

#[test]
fn a_dead_letter_is_told_with_its_reason_and_its_way_goes_on_when_it_is_retried() {
    let mut stack =
        Stack::with(|configs| configs_with_status(configs, json!({ "maxAttempts": 2 })));
    stack.player.expect_error("event moved to the dead letters");
    stack.target.answer(|_, _| Answer::status(500));
    post(stack.ports.proxy, "/a", b"x");
    let id = id_at_target(&stack, 0);
    steps_when(&stack, &id, |steps| has(steps, "player deadLettered"));
    let shown = trace(&stack, &id, &[]);
    assert!(
        shown.output.contains("dead letter of `target`, after 2 attempts: "),
        "{}",
        shown.output
    );
    assert!(
        shown.output.contains("player home: dead letter 1 of `target` since "),
        "{}",
        shown.output
    );
    // What the journal has forgotten, the store still knows.
    stack.player.stop();
    stack.player.restart();
    let shown = trace(&stack, &id, &[]);
    assert!(
        shown.output.contains("player home: dead letter 1 of `target` since "),
        "{}",
        shown.output
    );
    assert!(!shown.output.contains("pulled from bucket"), "{}", shown.output);
    stack.target.answer(|_, _| Answer::status(200));
    let retry = ["dead-letters", "retry", "-c", "player.json", "--all"];
    assert_eq!(Program::run(stack.folder(), &retry, &[]).code, Some(0));
    steps_when(&stack, &id, |steps| has(steps, "player delivered"));
    trace_when_gone(&stack, &id);
}

#[test]
fn an_event_that_is_replayed_twice_shows_each_try() {
    let stack = stack();
    stack.target.answer(|_, number| Answer::status(if number == 0 { 503 } else { 200 }));
    post(stack.ports.proxy, "/a", b"x");
    let id = id_at_target(&stack, 1);
    let steps = steps_when(&stack, &id, |steps| has(steps, "player delivered"));
    assert!(has(&steps, "player retried"), "{steps:?}");
    let shown = trace(&stack, &id, &[]).output;
    assert!(shown.contains("try 1 of sink `target` failed: ") && shown.contains("503"), "{shown}");
    assert!(shown.contains("delivered by sink `target`, try 2"), "{shown}");
}

#[test]
fn a_script_s_part_is_told_and_without_a_journal_only_what_lies_in_stores() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("pass.lua");
    let text = "function Process(c, emit)\n if string.find(c, '/drop', 1, true) then drop('not wanted') return end\n emit('out', c)\nend";
    std::fs::write(&script, text).unwrap();
    let stack = Stack::with(|configs| {
        configs_with_status(configs, json!({}));
        let source = configs.proxy["sources"][0].as_object_mut().unwrap();
        source.remove("targetSink");
        source.insert("transformScript".to_owned(), json!(script));
        configs.player["traceSteps"] = json!(0);
    });
    post(stack.ports.proxy, "/a", b"x");
    let id = id_at_target(&stack, 0);
    // Programs note what they do side by side, so only the steps are certain, not their order.
    let mut steps = steps_when(&stack, &id, |steps| steps.len() >= 4);
    steps.sort();
    assert_eq!(steps, ["proxy script", "proxy shipped", "relay pulled", "relay stored"]);
    let shown = trace(&stack, &id, &[]).output;
    assert!(shown.contains("through the script of source `in`: emitted to out"), "{shown}");
}

//! examples/http-replay: the README's request, and kills of all four programs.

use std::collections::BTreeSet;

use super::rig::{Example, number, ports};
use crate::support::program::Program;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// The ids of the replayed requests that the stand-in for the target has printed in its runs.
fn printed(target: &Program, ids: &mut BTreeSet<u32>) {
    for line in target.output().lines() {
        // A kill may have cut the last one short.
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        assert!(!event["headers"]["Idempotency-Key"].is_null(), "{line}");
        let id = event["params"]["id"][0].as_str().unwrap();
        ids.insert(id.parse().unwrap());
    }
}

#[test]
fn what_was_received_arrives_whichever_of_the_four_is_killed() {
    let [proxy, relay, target] = ports();
    let replaced = [("8080", &*proxy), ("8081", &relay), ("8082", &target)];
    let example = Example::set_up("http-replay", &replaced);
    let start = |part: &str| example.start(part);
    let mut programs = ["relay.json", "target.json", "player.json", "proxy.json"].map(start);
    assert_eq!(example.run("curl"), "Request received");
    let line = programs[1].wait_for_output("/orders");
    assert!(line.contains("hello") && line.contains("Idempotency-Key"), "{line}");

    let (mut next, mut ids) = (2, BTreeSet::new());
    for killed in 0..programs.len() {
        for _ in 0..5 {
            let path = format!("/orders?id={next}");
            assert_eq!(call(number(&proxy), "POST", &path, &[], b"hello").status(), 200);
            next += 1;
        }
        printed(&programs[1], &mut ids);
        programs[killed].kill();
        printed(&programs[1], &mut ids);
        programs[killed].restart();
    }
    let all: BTreeSet<u32> = (1..next).collect();
    eventually("every request", SOON * 2, || {
        printed(&programs[1], &mut ids);
        ids == all
    });
}

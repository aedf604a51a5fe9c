//! Buckets that nobody reads and that fill, and a relay that is away for a while.

use serde_json::{Value, json};

use crate::support::system::System;
use crate::support::wait::{SOON, eventually};

/// Per cent of a bucket's limit.
fn fill(bucket: &Value) -> u64 {
    bucket["usedBytes"].as_u64().unwrap() * 100 / bucket["eventsMaxBytes"].as_u64().unwrap()
}

/// Fills the bucket `logs` until `is_enough`; the number of events that it took.
fn flood(system: &System, is_enough: impl Fn(&Value) -> bool) -> usize {
    let body = vec![b'x'; 256 * 1024];
    for sent in 1..100 {
        let before = system.bucket("logs")["received"].as_u64();
        system.post(1, "/logs", &body);
        eventually("the relay has it, or refuses it", SOON, || {
            let bucket = system.bucket("logs");
            bucket["received"].as_u64() > before || bucket["refused"].as_u64() > Some(0)
        });
        if is_enough(&system.bucket("logs")) {
            return sent;
        }
    }
    panic!("three times the limit, and it is not full: {}", system.bucket("logs"));
}

#[test]
fn one_that_nobody_reads_is_told_with_what_waits_until_it_is_read() {
    let mut system = System::with(|relay| relay["alerts"]["oldestEvent"] = json!("2s"));
    let browser = system.overview();
    browser.wait_for("#verdict", "All is well");
    system.players[1].kill();
    // It is told from 80 % on. What the WAL holds counts, and may be given back before the page has shown it.
    let mut events = flood(&system, |bucket| fill(bucket) >= 84);
    browser.wait_for("#summary", "bucket logs is 8");
    browser.wait_for("#summary", "its oldest event has waited for");
    browser.wait_for("#bucket-logs", "trouble");
    browser.wait_for("#map .box.bucket.bad", "logs");
    // It becomes full: what does not fit stays with its sender.
    events += flood(&system, |bucket| bucket["refused"].as_u64() > Some(0));
    browser.wait_for("#summary", "was full and refused");
    browser.open(&system.page("bucket?name=logs"));
    browser.wait_for("h1", "trouble");
    browser.wait_for("dl.facts", "of 6.8 MiB for events");

    system.players[1].restart();
    assert_eq!(system.targets[1].wait_for(events).len(), events, "none lost, none twice");
    // What was refused is told for `lossesFor`; all else is over.
    browser.open(&system.page(""));
    browser.wait_for("#verdict", "1 warning");
    browser.wait_for("#bucket-logs .why", "was full and refused");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_relay_that_was_away_goes_on_with_what_it_knew() {
    let mut system = System::with(|relay| relay["expectedNodes"] = json!(["web-1", "desk-1"]));
    system.wait_until_told(4);
    let browser = system.overview();
    browser.wait_for("#verdict", "All is well");
    for number in 0..3 {
        system.post(0, &format!("/{number}"), b"x");
    }
    system.targets[0].wait_for(3);
    // What a player has got, and even acknowledged, may be counted later.
    eventually("the players have acknowledged, and all is counted", SOON, || {
        let bucket = system.bucket("orders");
        bucket["events"] == 0 && bucket["received"] == 3 && bucket["sent"] == 3
    });
    let known = |system: &System| {
        let report = system.statusz()["report"].take();
        let nodes = report["nodes"].as_array().expect("a list").clone();
        let of = |node: &Value| (node["id"].clone(), node["writes"][0]["events"].clone());
        let bucket = system.bucket("orders");
        (
            bucket["received"].clone(),
            bucket["sent"].clone(),
            nodes.iter().map(of).collect::<Vec<_>>(),
        )
    };
    let before = known(&system);
    let ids: Vec<&str> = before.2.iter().filter_map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["desk-1/player", "desk-2/player", "web-1/proxy", "web-2/proxy"]);

    system.relay.stop();
    browser.wait_for("#live.stale", "not connected to the relay: what you see is old");
    browser.wait_for("#verdict", "All is well");
    system.relay.restart();
    assert_eq!(known(&system), before);
    browser.wait_until_gone("#live.stale");
    browser.wait_for("#verdict", "All is well");
    browser.wait_for("#nodes", "web-2");
    // Only that it was away is in the console.
    let log = browser.log();
    assert!(
        log.iter().all(|line| line.contains("ERR_CONNECTION_")
            || line.contains("ERR_EMPTY_RESPONSE")
            || line.contains("ERR_INCOMPLETE_CHUNKED_ENCODING")),
        "{log:?}"
    );
}

//! Proxies and players that break, one after the other.

use std::time::Duration;

use serde_json::json;

use crate::support::program::Program;
use crate::support::server::Answer;
use crate::support::system::System;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

const HOSTS: [&str; 5] = ["web-1", "web-2", "desk-1", "desk-2", "web-3"];

/// An agent tells of itself when it has started, and then each minute; so that is how long it takes where a busy machine
/// had it miss the first.
const A_MINUTE: Duration = Duration::from_secs(80);

/// Before the minute: what goes wrong is told by itself.
const AT_ONCE: Duration = Duration::from_secs(40);

fn system(alerts: &serde_json::Value) -> System {
    System::with(|relay| {
        relay["expectedNodes"] = json!(HOSTS);
        relay["alerts"] = alerts.clone();
    })
}

#[test]
fn one_that_was_never_seen_is_missing_and_one_that_is_killed_falls_silent() {
    let system = system(&json!({ "diskPercent": 100, "nodeSilentAfter": "1s" }));
    let browser = system.overview();
    browser.wait_for("#verdict", "1 thing is wrong");
    browser.wait_for("#summary", "node web-3 missing: expected (expectedNodes)");
    browser.wait_for("[id='node-web-3']", "missing");

    let (folder, mut configs) = system.further(2);
    configs.proxy["nodeInfoEvery"] = json!("1s");
    let mut third = Program::role(&folder, "proxy", &configs.proxy);
    browser.wait_for("#verdict", "All is well");
    browser.wait_for("[id='node-web-3/proxy']", "ok");

    third.kill();
    browser.wait_for("#verdict", "1 thing is wrong");
    browser.wait_for("#summary", "stopped, or cannot reach the relay");
    browser.wait_for("[id='node-web-3/proxy']", "silent");
    browser.wait_for("#map .box.bad", "web-3");

    third.restart();
    browser.wait_for("#verdict", "All is well");
    browser.wait_for("[id='node-web-3/proxy']", "ok");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_target_that_is_away_is_told_with_the_reason_until_it_is_back() {
    let mut system = system(&json!({ "diskPercent": 100 }));
    let (folder, configs) = system.further(2);
    let _third = Program::role(&folder, "proxy", &configs.proxy);
    system.wait_until_told(5);
    let browser = system.overview();
    browser.wait_for("#verdict", "All is well");

    system.targets[0].go_away();
    system.post(0, "/orders", b"1");
    eventually("the event is at the player", SOON, || system.bucket("orders")["events"] == 0);
    // Told at once, not with the minute.
    browser.wait_for_within("#summary", "sink target cannot deliver and tries again", AT_ONCE);
    browser.wait_for("[id='node-desk-1/player']", "warning");
    browser.wait_for("#map .box.warn", "→ target");
    // The page of the node has the target's own words.
    browser.open(&system.page("node?id=desk%2D1%2Fplayer"));
    browser.wait_for("table p.why", "connect");

    system.targets[0].come_back();
    system.targets[0].wait_for(1);
    browser.wait_for("h1", "ok");
    browser.open(&system.page(""));
    browser.wait_for("#verdict", "All is well");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn dead_letters_are_told_for_a_while_and_stay_in_their_column() {
    let mut system = system(&json!({ "diskPercent": 100, "lossesFor": "15s" }));
    let (folder, configs) = system.further(2);
    let _third = Program::role(&folder, "proxy", &configs.proxy);
    system.wait_until_told(5);
    let browser = system.overview();
    browser.wait_for("#verdict", "All is well");

    system.players[1].stop();
    system.players[1].expect_error("event moved to the dead letters");
    system.targets[1].answer(|_, _| Answer::status(500));
    system.post(1, "/logs", b"2");
    eventually("the event is at the relay", SOON, || system.bucket("logs")["events"] == 1);
    system.players[1].restart();
    browser.wait_for_within("#summary", "1 event became a dead letter lately", A_MINUTE);
    // It is mended when nothing more has died for `lossesFor`; the letter itself stays in its column.
    browser.wait_for("#verdict", "All is well");
    browser.wait_for("[id='node-desk-2/player'] [data-label=Dead]", "1");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_wrong_token_pauses_a_sink_until_it_is_right() {
    let system = system(&json!({ "diskPercent": 100 }));
    let (folder, mut configs) = system.further(2);
    let port = configs.proxy["sources"][0]["params"]["listenPort"].as_u64().unwrap();
    // A second way, so that the relay hears of the first.
    let mut second = configs.proxy["sinks"][0].clone();
    second["id"] = json!("second");
    configs.proxy["sinks"].as_array_mut().unwrap().push(second);
    let right = configs.proxy.clone();
    configs.proxy["sinks"][0]["authBearer"] = json!("wrong");
    let mut third = Program::role(&folder, "proxy", &configs.proxy);
    third.expect_error("sink is paused until this is fixed");
    system.wait_until_told(5);
    let browser = system.overview();
    browser.wait_for("#verdict", "All is well");

    post(u16::try_from(port).unwrap(), "/orders", b"1");
    browser.wait_for_within("#verdict", "1 thing is wrong", AT_ONCE);
    browser.wait_for("#summary", "sink out is paused until somebody acts: ");
    browser.wait_for("#summary", "401 Unauthorized");
    browser.wait_for("[id='node-web-3/proxy']", "trouble");

    third.stop();
    let _mended = Program::role(&folder, "proxy", &right);
    browser.wait_for("#verdict", "All is well");
    // It waited, and was not lost.
    assert_eq!(system.targets[0].wait_for(1)[0].text(), "1");
    assert_eq!(browser.log(), Vec::<String>::new());
}

//! SIGKILL at random moments under load: what was acknowledged arrives, and what comes twice says so.
//!
//! Every run prints its seed; `CRASH_SEED=N` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::bucket::drain_events;
use crate::support::load::{Load, try_post};
use crate::support::ports::Ports;
use crate::support::program::Program;
use crate::support::server::{Answer, Server};
use crate::support::stack::{Configs, Stack};
use crate::support::target::Target;
use crate::support::wait::{eventually, let_pass};

/// How long the events that wait may take after the last kill: pauses between tries have grown meanwhile.
const DRAIN: Duration = Duration::from_secs(60);
/// So many requests are taken between a kill and the next one, however long that lasts.
const TAKEN: usize = 14;

fn seeded() -> Rng {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("CRASH_SEED={seed}");
    Rng::with_seed(seed)
}

/// Clients that post to this port; what they write down are bodies.
fn load(port: u16, clients: usize) -> Load<Vec<u8>> {
    Load::start(clients, move |number| {
        let body = format!("{number} {}", ".".repeat(number * 37 % 3000)).into_bytes();
        try_post(port, "/", &body).then_some(body)
    })
}

/// Everything acknowledged is there, and each key stands for one body, each body for one key.
fn check_arrived(target: &Target, acknowledged: &BTreeSet<Vec<u8>>) {
    target.wait_for_bodies(acknowledged, DRAIN);
    let mut key_of: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let mut repeats = 0;
    for (key, bodies) in target.by_key() {
        repeats += bodies.len() - 1;
        assert!(bodies.iter().all(|body| *body == bodies[0]), "key {key} came with two bodies");
        let other = key_of.insert(bodies[0].clone(), key.clone());
        assert_eq!(other, None, "one event came with two keys, the second is {key}");
    }
    println!("{} events delivered, {repeats} repeats", key_of.len());
}

/// Kills one of the three, at random, so often; starts it again at once.
fn kill_at_random(stack: &mut Stack, load: &Load<Vec<u8>>, rng: &mut Rng, kills: usize) {
    for _ in 0..kills {
        let_pass(Duration::from_millis(rng.u64(20..700)));
        let before = load.count();
        let victim = match rng.u8(0..3) {
            0 => &mut stack.proxy,
            1 => &mut stack.relay,
            _ => &mut stack.player,
        };
        victim.kill();
        victim.restart();
        eventually("requests are taken after the kill", DRAIN, || load.count() >= before + TAKEN);
    }
}

fn check_random_kills(concurrency: usize) {
    let mut rng = seeded();
    let mut stack = Stack::with(|configs| {
        configs.player["sinks"][0]["params"]["concurrency"] = json!(concurrency);
    });
    let load = load(stack.ports.proxy, 4);
    kill_at_random(&mut stack, &load, &mut rng, 15);
    let acknowledged = load.finish();
    assert!(acknowledged.len() > 200, "the load was too small to tell: {}", acknowledged.len());
    check_arrived(&stack.target, &acknowledged);
}

#[test]
fn crash_of_any_role_loses_nothing_acknowledged() {
    check_random_kills(1);
}

#[test]
fn crash_of_any_role_loses_nothing_acknowledged_with_concurrent_delivery() {
    check_random_kills(8);
}

#[test]
fn crash_of_proxy_or_relay_puts_each_event_into_the_bucket_once() {
    let mut rng = seeded();
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    let mut relay = Program::role(folder.path(), "relay", &configs.relay);
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let load = load(ports.proxy, 4);
    for _ in 0..15 {
        let_pass(Duration::from_millis(rng.u64(20..500)));
        // Often both: a batch is under way, its commit done and its answer lost, or its id not yet stored.
        let (kill_proxy, kill_relay) =
            [(true, true), (true, false), (false, true)][rng.usize(0..3)];
        let before = load.count();
        if kill_proxy {
            proxy.kill();
        }
        if kill_relay {
            relay.kill();
            relay.restart();
        }
        if kill_proxy {
            proxy.restart();
        }
        eventually("requests are taken after the kill", DRAIN, || load.count() >= before + TAKEN);
    }
    let acknowledged = load.finish();
    assert!(acknowledged.len() > 200, "the load was too small to tell: {}", acknowledged.len());
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut bodies = BTreeSet::new();
    eventually("every acknowledged event is in the bucket", DRAIN, || {
        for (id, body) in drain_events(ports.relay, "b") {
            assert!(bodies.insert(body.clone()), "stored twice: event {id}");
            assert_eq!(found.insert(id, body), None, "one id for two events");
        }
        acknowledged.is_subset(&bodies)
    });
    println!("{} events in the bucket", found.len());
}

#[test]
fn crash_with_a_script_that_emits_to_two_sinks_loses_nothing_of_either() {
    let mut rng = seeded();
    let folder = tempfile::tempdir().unwrap();
    let script = "function Process(content, emit)
        kv_set('events', (kv_get('events') or 0) + 1)
        emit('out', content) emit('copy', content)
    end";
    std::fs::write(folder.path().join("both.lua"), script).unwrap();
    let ports = Ports::free();
    let mut configs = Configs::new(folder.path(), ports);
    configs.relay["buckets"]["c"] = configs.relay["buckets"]["b"].clone();
    configs.proxy["sources"][0]["transformScript"] = json!(folder.path().join("both.lua"));
    let mut copy = configs.proxy["sinks"][0].clone();
    copy["id"] = json!("copy");
    copy["buckets"] = json!(["c"]);
    configs.proxy["sinks"].as_array_mut().unwrap().push(copy);
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let load = load(ports.proxy, 4);
    for _ in 0..15 {
        let_pass(Duration::from_millis(rng.u64(20..500)));
        let before = load.count();
        proxy.kill();
        proxy.restart();
        eventually("requests are taken after the kill", DRAIN, || load.count() >= before + TAKEN);
    }
    let acknowledged = load.finish();
    assert!(acknowledged.len() > 200, "the load was too small to tell: {}", acknowledged.len());
    // An event is in both or in none, also one whose answer was lost.
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    eventually("both buckets have the same, with all that was acknowledged", DRAIN, || {
        for (bucket, found) in ["b", "c"].into_iter().zip(&mut found) {
            for (id, body) in drain_events(ports.relay, bucket) {
                assert!(found.insert(body), "stored twice in {bucket}: event {id}");
            }
        }
        acknowledged.is_subset(&found[0]) && found[0] == found[1]
    });
}

/// Kills the player so often while it pulls; its target is away, so that every event waits in its queue. Then counts.
fn check_each_pulled_once(
    player: &mut Program,
    target: &mut Target,
    rng: &mut Rng,
    bodies: &BTreeSet<Vec<u8>>,
) {
    for _ in 0..15 {
        let_pass(Duration::from_millis(rng.u64(1..150)));
        player.kill();
        player.restart();
    }
    target.come_back();
    target.wait_for_bodies(bodies, DRAIN);
    for (key, bodies) in target.by_key() {
        assert_eq!(bodies.len(), 1, "event {key} was stored twice by the player");
    }
    assert_eq!(target.count(), bodies.len());
}

#[test]
fn crash_between_commit_and_acknowledgement_stores_each_event_once() {
    let mut rng = seeded();
    let folder = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    target.go_away();
    let bodies: BTreeSet<Vec<u8>> = (0..500).map(|n| format!("event {n}").into_bytes()).collect();
    let relay = slow_relay(&bodies);
    let ports = Ports { target: target.port, relay: relay.port, ..Ports::free() };
    let mut config = Configs::new(folder.path(), ports).player;
    config["sources"][0]["hookInterval"] = json!("10ms");
    let mut player = Program::role(folder.path(), "player", &config);
    check_each_pulled_once(&mut player, &mut target, &mut rng, &bodies);
}

/// A relay of the original that gives 20 events at a time, and takes its time for acknowledgements: so most kills fall
/// between the player's commit and the answer to its acknowledgement. Half of the acknowledgements are done before the
/// pause, half after it.
fn slow_relay(bodies: &BTreeSet<Vec<u8>>) -> Server {
    let content = |(number, body): (usize, &Vec<u8>)| {
        let event = json!({ "method": "POST", "path": "/", "body": String::from_utf8_lossy(body), "eventId": event_id(number) });
        (number as u64 + 1, event.to_string())
    };
    let events: Mutex<Vec<(u64, String)>> =
        Mutex::new(bodies.iter().enumerate().map(content).collect());
    let turn = AtomicBool::new(false);
    Server::start(0, move |request| match request.method() {
        "GET" => {
            let events = events.lock();
            let items: Vec<Value> = events
                .iter()
                .take(20)
                .map(|(id, content)| json!({ "id": id, "content": content }))
                .collect();
            Answer::status(if items.is_empty() { 404 } else { 200 })
                .with_body(json!(items).to_string())
        }
        _ => {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let ids: Vec<u64> = body["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap().parse().unwrap())
                .collect();
            let remove = || events.lock().retain(|(id, _)| !ids.contains(id));
            let is_first = turn.fetch_xor(true, Ordering::Relaxed);
            if is_first {
                remove();
            }
            let_pass(Duration::from_millis(60));
            if !is_first {
                remove();
            }
            Answer::status(200)
        }
    })
}

fn event_id(number: usize) -> String {
    uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number as u128).to_string()
}

#[test]
fn crash_of_a_player_at_our_relay_stores_each_event_once() {
    let mut rng = seeded();
    let mut stack = Stack::start();
    stack.target.go_away();
    let mut bodies = BTreeSet::new();
    let load = load(stack.ports.proxy, 2);
    for _ in 0..15 {
        let_pass(Duration::from_millis(rng.u64(1..200)));
        stack.player.kill();
        stack.player.restart();
    }
    bodies.extend(load.finish());
    // The load was stopped between requests: all that were sent were answered.
    check_each_pulled_once(&mut stack.player, &mut stack.target, &mut rng, &bodies);
}

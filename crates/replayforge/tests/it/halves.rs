//! A batch that is refused as a whole goes on in halves, and each event is in each bucket once; what no relay has refused
//! costs no event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::json;

use crate::support::bucket::drain_events;
use crate::support::http::Message;
use crate::support::ports::Ports;
use crate::support::program::{Program, write_config};
use crate::support::server::{Answer, Server};
use crate::support::stack::Configs;
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::{call, post};

/// Hands a request on to the relay.
fn passed_on(port: u16, request: &Message) -> Answer {
    let headers: Vec<(&str, &[u8])> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let answer = call(port, request.method(), request.target(), &headers, &request.body);
    let mut passed = Answer::status(answer.status()).with_body(answer.body.clone());
    for name in ["Accept-Encoding", "Content-Type"] {
        if let Some(value) = answer.header(name) {
            passed = passed.with_header(name, value);
        }
    }
    passed
}

/// What stands between proxy and relay lets batches pass, and of halves so many.
#[derive(Default)]
struct Gate {
    batches: Mutex<usize>,
    halves: Mutex<usize>,
    held_back: AtomicBool,
}

impl Gate {
    fn opens(&self, batch_id: &str) -> bool {
        let left = if batch_id.contains('.') { &self.halves } else { &self.batches };
        let mut left = left.lock();
        let opens = *left > 0;
        *left -= usize::from(opens);
        if !opens && batch_id.contains('.') {
            self.held_back.store(true, Ordering::SeqCst);
        }
        opens
    }
}

#[test]
fn a_proxy_that_stops_between_two_halves_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::<Gate>::default();
    let ports = Ports::free();
    let opens = Arc::clone(&gate);
    let between = Server::start(0, move |request| {
        if opens.opens(&request.header("RF-BATCH-ID").unwrap_or_default()) {
            passed_on(ports.relay, request)
        } else {
            Answer::status(503)
        }
    });
    let mut configs = Configs::new(folder.path(), ports);
    configs.relay["buckets"]["b"]["dbMaxSizeKb"] = json!(2048);
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{}", between.port));
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.expect_error("event moved to the dead letters");
    // While the first waits for the gate, the others gather in one batch.
    post(ports.proxy, "/", b"first");
    proxy.wait_for("delivery failed, trying again");
    post(ports.proxy, "/", b"one");
    post(ports.proxy, "/", b"two");
    // No bucket of 2 MiB takes it.
    post(ports.proxy, "/", &vec![b'x'; 2_000_000]);
    *gate.halves.lock() = 1;
    *gate.batches.lock() = 1_000;
    eventually("the second half waits", SOON, || gate.held_back.load(Ordering::SeqCst));
    assert!(proxy.stop().success());
    *gate.halves.lock() = 1_000;
    proxy.restart();
    proxy.wait_for("event moved to the dead letters");
    let bodies: Vec<Vec<u8>> =
        drain_events(ports.relay, "b").into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"first".to_vec(), b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn a_bucket_that_is_too_small_for_a_batch_doubles_nothing_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let mut configs = Configs::new(folder.path(), ports);
    configs.relay["buckets"]["c"] = configs.relay["buckets"]["b"].clone();
    configs.relay["buckets"]["c"]["dbMaxSizeKb"] = json!(1024);
    configs.proxy["sinks"][0]["buckets"] = json!(["b", "c"]);
    let _proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let sent: BTreeSet<Vec<u8>> =
        (0..20).map(|n| format!("{n} {}", "x".repeat(100_000)).into_bytes()).collect();
    for body in &sent {
        post(ports.proxy, "/", body);
    }
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let mut found: BTreeMap<&str, BTreeSet<Vec<u8>>> = BTreeMap::new();
    eventually("both buckets have had all", SOON, || {
        for bucket in ["b", "c"] {
            let found = found.entry(bucket).or_default();
            for (id, body) in drain_events(ports.relay, bucket) {
                assert!(found.insert(body), "stored twice in {bucket}: event {id}");
            }
        }
        found.values().all(|found| *found == sent)
    });
}

#[test]
fn what_a_web_server_refuses_by_itself_costs_no_event() {
    let pages = [
        (
            400,
            "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
        ),
        (413, "<html>\r\n<head><title>413 Request Entity Too Large</title></head>"),
    ];
    for (status, page) in pages {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports::free();
        let mut configs = Configs::new(folder.path(), ports);
        let server = Server::start(0, move |_| {
            Answer::status(status).with_header("Content-Type", "text/html").with_body(page)
        });
        configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{}", server.port));
        let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
        proxy.expect_error("sink is paused until this is fixed");
        let sent: BTreeSet<Vec<u8>> = (0..10).map(|n| n.to_string().into_bytes()).collect();
        for body in &sent {
            post(ports.proxy, "/", body);
        }
        let line = proxy.wait_for("sink is paused until this is fixed");
        assert!(line.contains(&status.to_string()), "{line}");
        assert!(proxy.stop().success());
        let _relay = Program::role(folder.path(), "relay", &configs.relay);
        configs.proxy["sinks"][0]["url"] = json!(format!("http://127.0.0.1:{}", ports.relay));
        write_config(folder.path(), "proxy", &configs.proxy);
        proxy.restart();
        let mut found = BTreeSet::new();
        let all = eventually_some("all are in the bucket", SOON, || {
            found.extend(drain_events(ports.relay, "b").into_iter().map(|(_, body)| body));
            (found.len() == sent.len()).then(|| found.clone())
        });
        assert_eq!(all, sent);
    }
}

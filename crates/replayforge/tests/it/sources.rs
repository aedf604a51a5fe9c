//! Sources other than `http`, in a real proxy that posts its batches to the test's own server.

mod command;
mod exec;
mod local;
mod logfile;
mod stdin;
mod syslog;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::http::Message;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually_some};

/// A proxy's file with one source, whose events go to `target`.
fn proxy_file(folder: &Path, target: &Target, kind: &str, params: &Value) -> Value {
    json!({
        "dataDir": folder.join("proxy"),
        "sources": [{ "id": "s", "type": kind, "params": params, "targetSink": "out" }],
        "sinks": [{
            "id": "out",
            "type": "http",
            "notRelay": true,
            "config": { "batchTimeoutSecs": "1ms" },
            "url": format!("http://127.0.0.1:{}/events", target.port),
            "maxMessagesPerMinute": -1,
        }],
    })
}

/// Starts it.
fn proxy(folder: &Path, target: &Target, kind: &str, params: &Value) -> Program {
    Program::role(folder, "proxy", &proxy_file(folder, target, kind, params))
}

/// How the log tells of what came at the stop, and was given up because it was not stored in time.
const LOST: &str = "are lost: no queue accepted them before the stop";
/// How long that is waited for.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Stops it, well. False when the machine stood still, so that something was given up: then the test is to begin anew.
fn stops_in_time(proxy: &mut Program) -> bool {
    let asked = Instant::now();
    assert!(proxy.stop().success());
    let is_late = asked.elapsed() >= LAST_WAIT && proxy.log().contains(LOST);
    if is_late {
        proxy.expect_error(LOST);
    }
    !is_late
}

/// The contents of all events that have come so far, in order.
fn contents(target: &Target) -> Vec<String> {
    let batch = |request: &Message| serde_json::from_slice::<Vec<String>>(&request.body).unwrap();
    target.requests().iter().flat_map(batch).collect()
}

/// Events as JSON.
fn events(target: &Target) -> Vec<Value> {
    contents(target).iter().map(|content| serde_json::from_str(content).unwrap()).collect()
}

/// The bodies of all events, as JSON.
fn bodies(target: &Target) -> Vec<Value> {
    let body = |event: &Value| serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
    events(target).iter().map(body).collect()
}

/// Waits until at least so many events have come; their bodies.
fn wait_for_bodies(target: &Target, count: usize) -> Vec<Value> {
    eventually_some(&format!("{count} events at the target"), SOON, || {
        let bodies = bodies(target);
        (bodies.len() >= count).then_some(bodies)
    })
}

//! The sources `pgcall` and `listen` over a real server.

mod listen;
mod pgcall;
mod tls;
mod types;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::http::Message;
use crate::support::postgres::{PASSWORD, Postgres, USER};
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually_some};

/// A proxy with one source of this kind, whose events are printed.
fn printing(folder: &Path, kind: &str, params: &Value) -> Program {
    let sink = json!({
        "id": "out",
        "type": "http",
        "url": ":dbg>stdout:",
        "maxMessagesPerMinute": -1,
    });
    Program::role(folder, "proxy", &config(folder, kind, params, &sink))
}

/// A proxy that posts its events to this port.
fn posting(folder: &Path, kind: &str, params: &Value, port: u16) -> Program {
    let sink = json!({
        "id": "out",
        "type": "http",
        "notRelay": true,
        "config": { "batchTimeoutSecs": "1ms" },
        "url": format!("http://127.0.0.1:{port}/"),
        "maxMessagesPerMinute": -1,
        "buffer": { "maxBytes": "1MiB" },
    });
    Program::role(folder, "proxy", &config(folder, kind, params, &sink))
}

fn config(folder: &Path, kind: &str, params: &Value, sink: &Value) -> Value {
    json!({
        "dataDir": folder.join("data"),
        "sources": [{ "id": "db", "type": kind, "params": params, "targetSink": "out" }],
        "sinks": [sink],
    })
}

/// The keys that say where the server is, and these besides.
fn params(postgres: &Postgres, others: &Value) -> Value {
    let mut params = json!({
        "host": "127.0.0.1",
        "port": postgres.port,
        "user": USER,
        "password": PASSWORD,
        "database": "postgres",
    });
    for (key, value) in others.as_object().expect("an object") {
        params[key] = value.clone();
    }
    params
}

/// The events that it has printed in this run.
fn printed(program: &Program) -> Vec<Value> {
    let output = program.output();
    // The last line may be half there.
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn body(event: &Value) -> Value {
    serde_json::from_str(event["body"].as_str().expect("a body")).expect("JSON")
}

/// The first printed body for which `find` finds something.
fn wait_for<T>(program: &Program, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
    eventually_some(what, SOON, || printed(program).iter().find_map(|event| find(&body(event))))
}

/// The events that the target has got, in order.
fn posted(target: &Target) -> Vec<Value> {
    let batch =
        |request: &Message| serde_json::from_slice::<Vec<String>>(&request.body).expect("a batch");
    let contents = target.requests().iter().flat_map(batch).collect::<Vec<_>>();
    contents.iter().map(|content| serde_json::from_str(content).expect("an event")).collect()
}

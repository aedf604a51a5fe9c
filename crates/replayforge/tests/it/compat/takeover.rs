//! Configuration files and databases that the original left behind.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::support::http::Message;
use crate::support::ports::Ports;
use crate::support::program::Program;
use crate::support::stack::Configs;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{Wire, post};

const RELAY_FILE: &str = r#"{
  "port": 1,
  "portStatusZ": STATUS_PORT,
  "useTailnet": false,
  "tailnetHostname": "relay-forwarder",
  "buckets": {
    "b": { "auth": "$RELAY_TOKEN", "dbMaxSizeKb": 10240, "tls": 3600 },
    "costs": { "auth": "\\$5-${RELAY_TOKEN}", "dbMaxSizeKb": 10240, "tls": 0 }
  }
}"#;

/// Keys in any case, as Go reads them.
const PROXY_FILE: &str = r#"{
  "TsnetHostname": "", "envname": "prod-${STAGE}", "hostName": "web-1", "verbosityLevel": "info", "enablePprof": false,
  "sources": [{
    "id": "web", "type": "http", "params": { "listenport": PROXY_PORT }, "targetSink": "relay", "hookInterval": "1s"
  }],
  "Sinks": [{
    "id": "relay", "type": "http", "url": "http://127.0.0.1:${RELAY_PORT}", "authBearer": "$RELAY_TOKEN",
    "buckets": ["b"], "useTsnet": false, "maxMessagesPerMinute": 600, "notRelay": false,
    "config": { "maxPayloadBytes": 5242880, "batchGoalBytes": 4456448, "batchMaxEvents": 1000, "batchTimeoutSecs": 5 }
  }]
}"#;

const PLAYER_FILE: &str = r#"{
  "relayUrl": "http://127.0.0.1:$RELAY_PORT/", "relayUrlStatusz": "", "envName": "home", "hostName": "nas",
  "tsnet": { "hostname": "player" }, "listenUsingTailscale": false, "staticFolderPath": "", "useTsnetStatusZ": false,
  "sources": [{ "name": "b", "relayAuthenticationBearer": "$RELAY_TOKEN", "sinks": ["local"], "hookInterval": "300ms" }],
  "sinks": [{
    "name": "local", "type": "http", "id": "local", "params": { "targetHost": "http://127.0.0.1:TARGET_PORT" },
    "metadata": { "title": "the shop", "order": 1 }
  }]
}"#;

#[test]
fn files_of_the_original_work_as_they_are() {
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let folder = tempfile::tempdir().unwrap();
    let relay_port = ports.relay.to_string();
    let env =
        [("RELAY_TOKEN", "secret-token"), ("STAGE", "blue"), ("RELAY_PORT", relay_port.as_str())];
    let start = |role: &str, text: &str, more: &[&str]| {
        let text = text.replace("STATUS_PORT", &ports.status.to_string());
        let text = text.replace("PROXY_PORT", &ports.proxy.to_string());
        let text = text.replace("TARGET_PORT", &ports.target.to_string());
        // Everything is written to the working directory, as by the original: one each.
        let home = folder.path().join(role);
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("config.json"), text).unwrap();
        let program = Program::start(&home, &[&[role, "-c", "config.json"], more].concat(), &env);
        program.wait_for("started");
        program
    };
    let relay = start("relay", RELAY_FILE, &["-p", &relay_port]);
    let player = start("player", PLAYER_FILE, &[]);
    let proxy = start("proxy", PROXY_FILE, &[]);

    post(ports.proxy, "/hook?a=1", b"hello");
    let received = target.wait_for(1);
    assert_eq!(
        (received[0].start.as_str(), received[0].text().as_str()),
        ("POST /hook?a=1 HTTP/1.1", "hello")
    );
    // Its delivery may be seen before it is counted.
    eventually("the relay counts it by name", SOON, || {
        let status = Wire::connect(ports.status)
            .exchange(b"GET /statusz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            .json();
        let count = |kind: &str, name: &str| status[kind][name]["rxMessagesSinceStart"] == 1;
        count("envs", "prod-blue") && count("hostnames", "web-1")
    });
    assert!(folder.path().join("relay/b/relay.sqlite3").exists());
    let logs = [&relay, &player, &proxy].map(Program::log);
    check_literal_dollar(ports.relay);
    for log in logs {
        assert!(!log.contains(" WARN "), "the original's keys are no reason for a warning: {log}");
        assert!(!log.contains("secret-token"), "{log}");
    }
}

/// `\$` is a plain `$`.
fn check_literal_dollar(relay: u16) {
    let ask = |token: &str| {
        format!(
            "GET /first-batch HTTP/1.1\r\nHost: x\r\nRF-BUCKET: costs\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
    };
    let status = |token: &str| Wire::connect(relay).exchange(ask(token).as_bytes()).status();
    assert_eq!((status("$5-secret-token"), status("5-secret-token")), (404, 401));
}

fn content(path: &str) -> String {
    json!({ "ip": "1.2.3.4:5", "method": "POST", "path": path, "params": {}, "headers": {}, "body": "from the original" }).to_string()
}

fn make(path: &Path, create: &str, insert: &str, rows: &[(u32, &str)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = Connection::open(path).unwrap();
    old.execute_batch(create).unwrap();
    for (id, target) in rows {
        old.execute(insert, (id, content(target))).unwrap();
    }
}

#[test]
fn databases_of_the_original_are_taken_over_and_delivered() {
    let mut target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let folder = tempfile::tempdir().unwrap();
    let configs = Configs::new(folder.path(), ports);
    make(
        &folder.path().join("relay/b/relay.sqlite3"),
        "CREATE TABLE wrap_calls (id INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT, timestamp INTEGER);
         CREATE INDEX idx_timestamp ON wrap_calls (timestamp);",
        "INSERT INTO wrap_calls VALUES (?1, ?2, unixepoch())",
        &[(7, "/relay/7"), (9, "/relay/9"), (12, "/relay/12")],
    );
    let sink = folder.path().join("proxy/out-sink.sqlite3");
    make(
        &sink,
        "CREATE TABLE sink_events (id INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT);",
        "INSERT INTO sink_events VALUES (?1, ?2)",
        &[(3, "/proxy/3"), (4, "/proxy/4")],
    );
    // Away, so that the relay is seen with both.
    target.go_away();
    let relay = Program::role(folder.path(), "relay", &configs.relay);
    relay.wait_for("3 events of the original program imported");
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.wait_for("2 events of the original program imported");
    let pull = format!(
        "GET /first-batch HTTP/1.1\r\nHost: x\r\nRF-BUCKET: b\r\nAuthorization: Bearer {}\r\n\r\n",
        crate::support::stack::TOKEN
    );
    let mut bucket = json!([]);
    eventually("five events in the bucket", SOON, || {
        let answer = Wire::connect(ports.relay).exchange(pull.as_bytes());
        bucket = answer.json();
        bucket.as_array().is_some_and(|events| events.len() == 5)
    });
    let ids: Vec<u64> =
        bucket.as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert_eq!(ids[..3], [7, 9, 12], "an old player may still acknowledge what it pulled before");
    assert!(ids[3] > 12);

    target.come_back();
    let _player = Program::role(folder.path(), "player", &configs.player);
    let received = target.wait_for(5);
    let paths: Vec<&str> = received.iter().map(Message::target).collect();
    assert_eq!(paths, ["/relay/7", "/relay/9", "/relay/12", "/proxy/3", "/proxy/4"]);
    assert!(received.iter().all(|request| request.text() == "from the original"));

    assert!(!sink.exists() && folder.path().join("proxy/out-sink.sqlite3.migrated").exists());
    assert!(proxy.stop().success());
    proxy.restart();
    post(ports.proxy, "/new", b"");
    assert_eq!(target.wait_for(6)[5].target(), "/new", "nothing is taken over twice");
}

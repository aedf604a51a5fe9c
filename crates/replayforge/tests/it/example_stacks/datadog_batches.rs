//! examples/datadog-batches: the requests that a server gets which demands what Datadog's log API documents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use super::rig::{Example, number, ports};
use crate::support::http::{Message, request};
use crate::support::server::Answer;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::Wire;

/// Of the API: logs in a request, bytes of a request, bytes of a log.
const MAX_LOGS: usize = 1000;
const MAX_BYTES: usize = 5_000_000;
const MAX_LOG_BYTES: usize = 1_000_000;
/// More than one request may hold.
const EVENTS: usize = 1200;

/// The logs of a request, or what the API has against it.
fn logs(request: &Message) -> Result<Vec<Value>, (u16, String)> {
    let bad = |text: &str| Err((400, text.to_owned()));
    if (request.method(), request.target()) != ("POST", "/api/v2/logs") {
        return Err((404, request.start.clone()));
    }
    match request.values("DD-API-KEY")[..] {
        [b"your-key"] => {}
        ref other => return Err((403, format!("DD-API-KEY: {other:?}"))),
    }
    if request.header("Content-Type").as_deref() != Some("application/json") {
        return bad("the content type is not application/json");
    }
    if request.header("Content-Encoding").is_some() {
        return bad("an encoding that was not agreed upon");
    }
    if request.body.len() > MAX_BYTES {
        return Err((413, format!("{} bytes", request.body.len())));
    }
    let Ok(Value::Array(entries)) = serde_json::from_slice(&request.body) else {
        return bad("the body is no JSON array");
    };
    if entries.is_empty() || entries.len() > MAX_LOGS {
        return bad(&format!("{} logs", entries.len()));
    }
    let log = |entry: Value| {
        let text = entry.as_str().unwrap_or_default().to_owned();
        let log = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
        match log {
            Some(log) if text.len() <= MAX_LOG_BYTES => Ok(log),
            _ => Err((400, format!("not a log: {text}"))),
        }
    };
    entries.into_iter().map(log).collect()
}

#[test]
fn every_request_is_one_log_in_batches_that_the_api_takes() {
    let api = Target::start();
    let (url, [port]) = (format!("http://127.0.0.1:{}", api.port), ports());
    let replaced = [("https://http-intake.logs.datadoghq.com", &*url), ("8080", &port)];
    let example = Example::set_up("datadog-batches", &replaced);
    // While the API asks for patience, batches grow.
    let is_patient = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let (takes, took, complained) =
        (Arc::clone(&is_patient), Arc::clone(&taken), Arc::clone(&complaints));
    api.answer(move |request, _| match logs(request) {
        Err((status, text)) => {
            complained.lock().push(text);
            Answer::status(status)
        }
        Ok(logs) if takes.load(Ordering::SeqCst) => {
            took.lock().extend(logs);
            Answer::status(202).with_body("{}")
        }
        Ok(_) => Answer::status(429).with_header("Retry-After", 1),
    });
    let mut proxy = example.start("proxy -c");
    assert_eq!(example.run("curl"), "Request received");
    let mut wire = Wire::connect(number(&port));
    for event in 0..EVENTS {
        let target = format!("/service-{}/orders?id={event}", event % 3);
        let answer = wire.exchange(&request("POST", &target, &[], event.to_string().as_bytes()));
        assert_eq!(answer.status(), 200);
    }
    eventually("the API was asked", SOON, || api.count() > 0);
    is_patient.store(true, Ordering::SeqCst);
    eventually("every log", SOON * 2, || taken.lock().len() > EVENTS);
    assert!(proxy.stop().success());
    assert_eq!(*complaints.lock(), <[String; 0]>::default());
    check_logs(&taken.lock());
}

/// Each event once, with its service.
fn check_logs(logs: &[Value]) {
    let mut messages: BTreeMap<&str, usize> = BTreeMap::new();
    for log in logs {
        let message = log["message"].as_str().unwrap();
        *messages.entry(message).or_default() += 1;
        let service = message.parse::<usize>().map(|event| format!("service-{}", event % 3));
        assert_eq!(log["service"], service.unwrap_or_else(|_| "shop".to_owned()), "{log}");
        assert_eq!(
            (&log["ddsource"], &log["ddtags"]),
            (&"replayforge".into(), &"env:production".into())
        );
    }
    assert!(messages.contains_key("paid") && messages.len() == EVENTS + 1, "{}", messages.len());
    assert!(messages.values().all(|times| *times == 1), "{messages:?}");
}

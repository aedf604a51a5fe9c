//! A bucket of a relay, read as the original's player reads it: without leases.

use serde_json::{Value, json};

use super::stack::TOKEN;
use super::wire::call;

/// Takes everything out of a bucket with this token; the contents, in order.
pub(crate) fn drain(port: u16, bucket: &str, token: &str) -> Vec<String> {
    let authorization = format!("Bearer {token}");
    let headers = [("RF-BUCKET", bucket.as_bytes()), ("Authorization", authorization.as_bytes())];
    let mut contents = Vec::new();
    loop {
        let pulled = call(port, "GET", "/first-batch", &headers, b"").json();
        let events = pulled.as_array().expect("a list");
        if events.is_empty() {
            return contents;
        }
        contents.extend(events.iter().map(|event| event["content"].as_str().unwrap().to_owned()));
        let ids: Vec<String> = events.iter().map(|event| event["id"].to_string()).collect();
        let body = json!({ "ids": ids }).to_string();
        let done = call(port, "DELETE", "/acknowledge-batch", &headers, body.as_bytes());
        assert_eq!(done.status(), 200, "{}", done.text());
    }
}

/// The same of a bucket of a [`super::stack::Stack`]: the ids that our proxies gave to the events, and their bodies.
pub(crate) fn drain_events(port: u16, bucket: &str) -> Vec<(String, Vec<u8>)> {
    let event = |content: String| {
        let event: Value = serde_json::from_str(&content).unwrap();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (text("eventId"), text("body").into_bytes())
    };
    drain(port, bucket, TOKEN).into_iter().map(event).collect()
}

//! examples/post-to-an-api: batches of the promised shape, also those that waited while the API was away.

use super::rig::{Example, number, ports};
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

const EVENTS: usize = 250;
/// As the example has it.
const BATCH: usize = 100;

#[test]
fn every_request_reaches_the_api_once() {
    let mut api = Target::start();
    let [proxy] = ports();
    let replaced = [("8080", &*proxy), ("9000", &api.port.to_string())];
    let example = Example::set_up("post-to-an-api", &replaced);
    let _proxy = example.start("proxy -c");
    assert_eq!(example.run("curl"), "Request received");
    api.wait_for(1);
    api.wait_for_answers(1);
    api.go_away();
    for event in 1..EVENTS {
        post(number(&proxy), &format!("/orders?id={event}"), b"hello");
    }
    api.come_back();
    let contents = || {
        let mut contents = Vec::new();
        for request in api.requests() {
            assert_eq!(request.start, "POST /events HTTP/1.1");
            let token = request.header("Authorization");
            assert_eq!(token.as_deref(), Some("Bearer the-token-of-your-api"));
            let batch: Vec<String> = serde_json::from_slice(&request.body).unwrap();
            assert!(!batch.is_empty() && batch.len() <= BATCH, "{} in a batch", batch.len());
            contents.extend(batch);
        }
        contents
    };
    eventually("every event", SOON * 2, || contents().len() >= EVENTS);
    let targets = contents().into_iter().map(|content| {
        let event: serde_json::Value = serde_json::from_str(&content).unwrap();
        assert_eq!(
            (&event["method"], &event["body"]),
            (&"POST".into(), &"hello".into()),
            "{event}"
        );
        event["target"].as_str().or(event["path"].as_str()).unwrap().to_owned()
    });
    let first = std::iter::once("/orders".to_owned());
    let expected = first.chain((1..EVENTS).map(|event| format!("/orders?id={event}")));
    assert_eq!(targets.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

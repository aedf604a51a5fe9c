//! Our proxy and our player with a relay that only knows the original's protocol.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::protocol::MAX_PULLED_BYTES;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::http::Message;
use crate::support::ports::{Ports, free_port};
use crate::support::program::Program;
use crate::support::server::{Answer, Server};
use crate::support::stack::{Configs, TOKEN};
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually};
use crate::support::wire::{call, post};

/// A relay as the original is: no codings, no leases, no long poll, at most 100 events an answer.
struct OldRelay {
    state: Arc<Mutex<State>>,
    server: Server,
}

#[derive(Default)]
struct State {
    last_id: u64,
    events: Vec<(u64, String)>,
    calls: Vec<Message>,
    /// An answer with more events is larger than a player reads.
    most: Option<usize>,
    /// 400 rather than 404.
    refuses_node_info: bool,
}

impl OldRelay {
    fn start() -> OldRelay {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // Nobody else is given the port while a test has the relay away.
        let server = Server::start(free_port(), move |request| shared.lock().answer(request));
        OldRelay { state, server }
    }

    fn put(&self, events: impl IntoIterator<Item = String>) {
        let mut state = self.state.lock();
        for event in events {
            state.last_id += 1;
            let id = state.last_id;
            state.events.push((id, event));
        }
    }

    fn let_more_be_too_large(&self, most: usize) {
        self.state.lock().most = Some(most);
    }

    fn events(&self) -> Vec<String> {
        self.state.lock().events.iter().map(|(_, event)| event.clone()).collect()
    }

    fn calls(&self) -> Vec<Message> {
        self.state.lock().calls.clone()
    }

    fn ports(&self) -> Ports {
        Ports { relay: self.server.port, ..Ports::free() }
    }
}

impl State {
    fn answer(&mut self, request: &Message) -> Answer {
        self.calls.push(request.clone());
        if request.header("Authorization") != Some(format!("Bearer {TOKEN}")) {
            return Answer::status(401);
        }
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        match (request.method(), path) {
            ("POST", "/node-info") if self.refuses_node_info => Answer::status(400),
            ("POST", "/record-batch") => self.record(request),
            ("GET", "/first-batch") => self.first(query),
            ("DELETE", "/acknowledge-batch") => self.acknowledge(&request.body),
            _ => Answer::status(404),
        }
    }

    fn record(&mut self, request: &Message) -> Answer {
        let Ok(events) = serde_json::from_slice::<Vec<String>>(&request.body) else {
            return Answer::status(400);
        };
        for event in events {
            self.last_id += 1;
            self.events.push((self.last_id, event));
        }
        Answer::status(200).with_body("")
    }

    fn first(&self, query: &str) -> Answer {
        let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let limit = limit
            .map_or(Some(100), |limit| limit.parse().ok())
            .filter(|limit| (1..=100).contains(limit));
        let Some(limit) = limit else { return Answer::status(400) };
        let item = |(id, content): &(u64, String)| json!({ "id": id, "content": content });
        let items: Vec<Value> = self.events.iter().take(limit).map(item).collect();
        if self.most.is_some_and(|most| items.len() > most) {
            return Answer::status(200).with_body(vec![b' '; MAX_PULLED_BYTES + 1]);
        }
        let status = if items.is_empty() { 404 } else { 200 };
        Answer::status(status).with_body(serde_json::to_vec(&items).unwrap())
    }

    fn acknowledge(&mut self, body: &[u8]) -> Answer {
        // Strings only, as in the original.
        let ids = serde_json::from_slice::<Value>(body).ok().and_then(|body| {
            let ids = body["ids"].as_array()?.iter().map(|id| id.as_str()?.parse::<u64>().ok());
            ids.collect::<Option<Vec<u64>>>()
        });
        let Some(ids) = ids else { return Answer::status(400) };
        let before = self.events.len();
        self.events.retain(|(id, _)| !ids.contains(id));
        Answer::status(if self.events.len() < before { 200 } else { 404 })
    }
}

#[test]
fn our_proxy_ships_to_an_old_relay() {
    let relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let ports = relay.ports();
    let mut config = Configs::new(folder.path(), ports).proxy;
    config["envName"] = json!("prod");
    config["hostName"] = json!("web-1");
    let _proxy = Program::role(folder.path(), "proxy", &config);
    // Large enough that a batch would be compressed for a relay of ours.
    let body = "an event ".repeat(300);
    for n in 0..20 {
        let answer = call(
            ports.proxy,
            "PUT",
            &format!("/item/{n}?n={n}"),
            &[("X-One", b"1")],
            body.as_bytes(),
        );
        assert_eq!(answer.status(), 200);
    }
    eventually("20 events at the relay", SOON, || relay.events().len() >= 20);
    let events: Vec<Value> =
        relay.events().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(events.len(), 20);
    for (n, event) in events.iter().enumerate() {
        let seen = (
            &event["method"],
            &event["path"],
            &event["params"],
            &event["headers"]["X-One"],
            &event["body"],
        );
        let path = json!(format!("/item/{n}"));
        assert_eq!(
            seen,
            (&json!("PUT"), &path, &json!({ "n": [n.to_string()] }), &json!(["1"]), &json!(body))
        );
        assert!(event["ip"].as_str().is_some_and(|ip| ip.starts_with("127.0.0.1:")), "{event}");
    }
    // A second after its start it tells of itself, which a slow disk may let come before the last event.
    for batch in relay.calls().iter().filter(|call| call.target() != "/node-info") {
        let named = ["RF-BUCKETS", "RF-ENV-NAME", "RF-HOSTNAME"]
            .map(|name| batch.header(name).unwrap_or_default());
        assert_eq!(
            (batch.start.as_str(), named),
            ("POST /record-batch HTTP/1.1", ["b", "prod", "web-1"].map(str::to_owned))
        );
        assert_eq!(batch.header("Content-Encoding"), None, "nobody said that it can be read");
    }
}

#[test]
fn our_player_pulls_from_an_old_relay() {
    let relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..relay.ports() };
    let event = |n: usize| {
        json!({
            "ip": "10.0.0.1:4711", "method": "POST", "path": format!("/old/{n}"), "params": { "a": ["1", "2"], "b": [""] },
            "headers": { "Content-Type": ["text/plain"], "X-Many": ["x", "y"], "X-Script": "plain" }, "body": format!("body {n}"),
        })
    };
    relay.put((0..250).map(|n| event(n).to_string()));
    let mut config = Configs::new(folder.path(), ports).player;
    config["sources"][0]["hookInterval"] = json!("50ms");
    let _player = Program::role(folder.path(), "player", &config);

    let received = target.wait_for(250);
    for (n, request) in received.iter().enumerate() {
        assert_eq!(request.start, format!("POST /old/{n}?a=1&a=2&b= HTTP/1.1"));
        assert_eq!(request.text(), format!("body {n}"));
        assert_eq!(request.values("x-many"), [b"x", b"y"]);
        assert_eq!(
            (request.header("x-script"), request.header("content-type")),
            (Some("plain".into()), Some("text/plain".into()))
        );
    }
    assert_eq!(target.by_key().len(), 250, "events without an id of their own get one each");
    eventually("everything is acknowledged", SOON, || relay.events().is_empty());

    // It goes on asking, but not all the time.
    let (since, calls) = (Instant::now(), relay.calls().len());
    relay.put([event(250).to_string()]);
    target.wait_for(251);
    always_for("an idle old relay is asked some 20 times a second", Duration::from_secs(1), || {
        // The time is looked at last: where the machine stands still in between, more calls are allowed, not fewer.
        let more = relay.calls().len() - calls;
        more < 60 + 60 * usize::try_from(since.elapsed().as_secs()).unwrap()
    });
    let pulls = relay.calls().into_iter().filter(|call| call.method() == "GET");
    assert!(pulls.map(|call| limit(call.target())).all(|limit| limit <= 100));
}

#[test]
fn an_empty_pull_is_no_message_of_its_source() {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..relay.ports() };
    let status = free_port();
    let mut config = Configs::new(folder.path(), ports).player;
    config["portStatusZ"] = json!(status);
    config["sources"][0]["hookInterval"] = json!("50ms");
    let _player = Program::role(folder.path(), "player", &config);
    let source = |page: &str| call(status, "GET", page, &[], b"").json()["sources"]["b"].clone();
    eventually("the relay has answered", SOON, || {
        source("/node-info")["lastSuccessAtMs"].is_number()
    });
    assert_eq!(source("/statusz")["lastMessageDate"], NEVER);
    relay.put([json!({ "method": "POST", "path": "/one" }).to_string()]);
    target.wait_for(1);
    // Its delivery may be seen before it is counted.
    eventually("its date is told", SOON, || source("/statusz")["lastMessageDate"] != NEVER);
}

#[test]
fn events_that_are_too_large_together_are_pulled_one_by_one_and_one_that_is_so_alone_is_told() {
    let relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..relay.ports() };
    let event = |n: usize| json!({ "method": "POST", "path": format!("/{n}") }).to_string();
    relay.let_more_be_too_large(3);
    relay.put((0..10).map(event));
    let mut config = Configs::new(folder.path(), ports).player;
    config["sources"][0]["hookInterval"] = json!("50ms");
    let mut player = Program::role(folder.path(), "player", &config);
    for (n, request) in target.wait_for(10).iter().enumerate() {
        assert_eq!(request.target(), format!("/{n}"));
    }
    eventually("everything is acknowledged", SOON, || relay.events().is_empty());
    player.expect_error("too large to be pulled");
    relay.let_more_be_too_large(0);
    relay.put([event(10)]);
    let line = player.wait_for("too large to be pulled");
    assert!(line.contains("larger than 64 MiB") && line.contains("DELETE /acknowledge"), "{line}");
}

#[test]
fn a_relay_that_takes_nothing_of_a_node_is_told_of_in_the_log_once() {
    let relay = OldRelay::start();
    relay.state.lock().refuses_node_info = true;
    let folder = tempfile::tempdir().unwrap();
    let mut config = Configs::new(folder.path(), relay.ports()).proxy;
    config["nodeInfoEvery"] = json!("1s");
    let mut proxy = Program::role(folder.path(), "proxy", &config);
    let line = proxy.wait_for("relay does not accept this node's info");
    assert!(line.contains(" WARN ") && line.contains("it answers 400"), "{line}");
    let told = || relay.calls().iter().filter(|call| call.target() == "/node-info").count();
    eventually("it was told three times", SOON, || told() >= 3);
    proxy.stop();
    assert_eq!(proxy.log().matches("relay does not accept").count(), 1);
}

#[test]
fn a_relay_is_told_once_a_round_and_a_wrong_token_is_known_at_the_start() {
    let relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = Configs::new(folder.path(), relay.ports()).proxy;
    config["nodeInfoEvery"] = json!("1s");
    let mut second = config["sinks"][0].clone();
    second["id"] = json!("second");
    second["buckets"] = json!(["other"]);
    second["authBearer"] = json!("wrong");
    config["sinks"].as_array_mut().unwrap().push(second);
    let proxy = Program::role(folder.path(), "proxy", &config);
    // Without an event that would have to go there.
    let line = proxy.wait_for("relay refuses the token for this bucket");
    assert!(line.contains(" WARN ") && line.contains("bucket=other"), "{line}");
    assert!(line.contains("401 Unauthorized"), "{line}");
    let told = |bucket: &str| {
        let of = |call: &&Message| {
            call.target() == "/node-info" && call.header("RF-BUCKET").as_deref() == Some(bucket)
        };
        relay.calls().iter().filter(of).count()
    };
    eventually("it was told three times", SOON, || told("b") >= 3);
    assert_eq!(told("other"), 1);
}

fn limit(target: &str) -> usize {
    target
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix("limit="))
        .map_or(100, |limit| limit.parse().unwrap())
}

#[test]
fn an_old_relay_that_comes_and_goes_loses_nothing() {
    let mut relay = OldRelay::start();
    let folder = tempfile::tempdir().unwrap();
    let ports = relay.ports();
    let _proxy = Program::role(folder.path(), "proxy", &Configs::new(folder.path(), ports).proxy);
    post(ports.proxy, "/one", b"1");
    eventually("one event at the relay", SOON, || relay.events().len() == 1);
    // An event whose answer is cut off comes again.
    eventually("every call is answered", SOON, || relay.server.answered() >= relay.calls().len());
    let port = relay.server.port;
    drop(relay.server);
    post(ports.proxy, "/two", b"2");
    post(ports.proxy, "/three", b"3");
    let shared = Arc::clone(&relay.state);
    relay.server = Server::start(port, move |request| shared.lock().answer(request));
    eventually("three events at the relay", SOON, || relay.events().len() >= 3);
    let paths: Vec<Value> = relay
        .events()
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["path"].clone())
        .collect();
    assert_eq!(paths, ["/one", "/two", "/three"]);
}

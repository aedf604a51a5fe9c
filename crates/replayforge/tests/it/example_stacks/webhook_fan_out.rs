//! examples/webhook-fan-out: signed webhooks reach the teams that want them, byte for byte, and no others.

use std::collections::BTreeMap;

use super::rig::{Example, number, ports};
use crate::fixtures::{bodies, collection, copies, signature};
use crate::support::http::Message;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// As the README has it.
const SECRET: &[u8] = b"as-configured-at-github";

/// Kind of event, and body: real ones, and of the wanted kinds that are not among them ones that look like it.
fn webhooks() -> Vec<(String, Vec<u8>)> {
    let folder = if collection().exists() { collection() } else { copies() };
    let kind = |name: &str| name.split('.').next().unwrap().to_owned();
    let mut webhooks: Vec<_> =
        bodies(&folder).into_iter().map(|(name, body)| (kind(&name), body)).collect();
    for (kind, body) in [
        ("push", &br#"{ "ref": "refs/heads/main", "commits": [] }"#[..]),
        ("release", b"{\"action\":\"published\",\"release\":{\"tag_name\":\"v1\\u0000\"}}\n"),
    ] {
        webhooks.push((kind.to_owned(), body.to_vec()));
    }
    webhooks
}

/// What a team must get, in order.
fn wanted(webhooks: &[(String, Vec<u8>)], kinds: &[&str]) -> Vec<Vec<u8>> {
    let wanted = webhooks.iter().filter(|(kind, _)| kinds.contains(&kind.as_str()));
    wanted.map(|(_, body)| body.clone()).collect()
}

fn send(port: u16, kind: &str, signature: &str, body: &[u8]) {
    let headers = [
        ("Content-Type", &b"application/json"[..]),
        ("X-GitHub-Event", kind.as_bytes()),
        ("X-Hub-Signature-256", signature.as_bytes()),
    ];
    let answer = call(port, "POST", "/hooks/github", &headers, body);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "Request received"), "{kind}");
}

fn check_team(team: &str, target: &Target, expected: &[Vec<u8>]) {
    eventually(team, SOON, || target.count() >= expected.len());
    let received = target.requests();
    let got: Vec<&[u8]> = received.iter().map(|request| request.body.as_slice()).collect();
    assert_eq!(got, expected.iter().map(Vec::as_slice).collect::<Vec<_>>(), "{team}");
    for request in &received {
        let sent = request.header("X-Hub-Signature-256");
        assert_eq!(sent, Some(signature(SECRET, &request.body)), "{team}");
        assert_eq!(request.start, "POST /hooks/github HTTP/1.1");
    }
}

#[test]
fn each_team_gets_what_it_wants_and_nothing_unsigned() {
    let (builds, chat) = (Target::start(), Target::start());
    let [proxy, relay] = ports();
    let example = Example::set_up(
        "webhook-fan-out",
        &[
            ("8080", &proxy),
            ("8081", &relay),
            ("9001", &builds.port.to_string()),
            ("9002", &chat.port.to_string()),
        ],
    );
    let _relay = example.start("relay -c");
    let _proxy = example.start("proxy -c");
    let _players = [example.start("player-builds.json"), example.start("player-chat.json")];
    let webhooks = webhooks();
    let port = number(&proxy);
    for (kind, body) in &webhooks {
        send(port, kind, &signature(b"another secret", body), body);
        send(port, kind, "", body);
        send(port, kind, &signature(SECRET, &[body, &b" "[..]].concat()), body);
        send(port, kind, &signature(SECRET, body), body);
    }
    // The last ones go to both: behind them nothing is under way.
    check_team("builds", &builds, &wanted(&webhooks, &["push", "release"]));
    check_team("chat", &chat, &wanted(&webhooks, &["release", "star"]));
    let keys = |target: &Target| target.by_key().len();
    assert_eq!((keys(&builds), keys(&chat)), (builds.count(), chat.count()));
    let releases = webhooks.iter().filter(|(kind, _)| kind == "release").count();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for request in builds.requests().iter().chain(&chat.requests()) {
        *seen.entry(key(request)).or_default() += 1;
    }
    let of_both = seen.values().filter(|times| **times == 2).count();
    assert_eq!(of_both, releases, "a release has one id, at both teams");
}

fn key(request: &Message) -> String {
    request.header("Idempotency-Key").expect("every replay has one")
}

//! The sink `file`: exactly once over SIGKILLs of the player, and its files replayed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::stack::{Configs, Stack, TOKEN};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

/// Kills of the player, at moments that differ from one to the next.
const KILLS: usize = 12;
/// The relay's leases of 30 s, and some more.
const LEASED: Duration = Duration::from_secs(60);

fn stack_with_files(params: &Value) -> Stack {
    Stack::with(|configs| use_files(configs, params))
}

fn use_files(configs: &mut Configs, params: &Value) {
    configs.player["sinks"][0]["type"] = json!("file");
    configs.player["sinks"][0]["params"] = params.clone();
}

/// Bodies in all plain files below the player's folder, with how often each is there. Every line must be whole.
fn bodies(folder: &Path) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder.join("player/out")) else { return counted };
    for entry in entries {
        let path = entry.unwrap().path();
        // A file may be renamed just now.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| {
                panic!("{}: {error}: {line}", path.display());
            });
            *counted.entry(event["body"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counted
}

#[test]
fn every_event_is_in_the_files_once_over_kills_of_the_player() {
    let mut stack =
        stack_with_files(&json!({ "path": "out/{path}.ndjson", "rotateBytes": 20_000 }));
    let mut sent = 0;
    for kill in 0..KILLS {
        for _ in 0..60 {
            post(stack.ports.proxy, &format!("/{}", sent % 3), format!("body {sent}").as_bytes());
            sent += 1;
        }
        // Not all of it is waited for: the kill comes while the rest is pulled, queued and written.
        // What a killed player had just asked for may be under its lease for a while, so a few events are not waited for.
        let wanted = (sent - 60 + kill * 7 % 60).saturating_sub(40);
        eventually("the player goes on", LEASED, || bodies(stack.folder()).len() >= wanted);
        stack.player.kill();
        stack.player.restart();
    }
    eventually("every event is in a file", LEASED, || bodies(stack.folder()).len() == sent);
    stack.player.stop();
    let counted = bodies(stack.folder());
    let wrong: Vec<_> = counted.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(counted.len(), sent);
}

#[test]
fn a_file_is_replayed_by_posting_its_lines_to_a_relay() {
    let stack = Stack::with(|configs| {
        use_files(configs, &json!({ "path": "out/all.ndjson" }));
        configs.relay["buckets"]["again"] = json!({ "auth": TOKEN });
    });
    let requests: [(&str, &[u8]); 3] =
        [("/a?x=1&x=2", b"plain"), ("/b%2Fc", b"two\nlines\n"), ("/d", &[0, 159, 146, 150])];
    for (target, body) in requests {
        post(stack.ports.proxy, target, body);
    }
    let file = stack.folder().join("player/out/all.ndjson");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("three lines", SOON, || lines().lines().count() == 3);
    // A second player, which replays.
    let mut replayer = json!({
        "relayUrl": format!("http://127.0.0.1:{}/", stack.ports.relay),
        "dataDir": stack.folder().join("replayer"),
        "sources": [{ "name": "again", "relayAuthenticationBearer": TOKEN, "sinks": ["target"] }],
    });
    replayer["sinks"] = json!([{
        "name": "target",
        "type": "http",
        "params": { "targetHost": format!("http://127.0.0.1:{}", stack.ports.target) },
    }]);
    let batch = json!(lines().lines().collect::<Vec<_>>()).to_string();
    let headers: [(&str, &[u8]); 2] =
        [("Authorization", b"Bearer token-of-b"), ("RF-BUCKETS", b"again")];
    let answer = call(stack.ports.relay, "POST", "/record-batch", &headers, batch.as_bytes());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let folder = stack.folder().join("replayer.d");
    std::fs::create_dir(&folder).unwrap();
    let _replayer = Program::role(&folder, "player", &replayer);
    let replayed = stack.target.wait_for(3);
    for ((target, body), request) in requests.iter().zip(&replayed) {
        assert_eq!((request.target(), &request.body[..]), (*target, *body));
    }
}

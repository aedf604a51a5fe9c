//! Checkpoints that cannot be read: the log says what follows from it, and everything goes on.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

/// Stores what is no checkpoint of ours under these keys.
fn spoil(store: &Path, keys: &[&str]) {
    let database = Connection::open(store).unwrap();
    for key in keys {
        let sql = "INSERT OR REPLACE INTO checkpoints (key, value) VALUES (?1, X'3F')";
        database.execute(sql, [key]).unwrap();
    }
}

#[test]
fn checkpoints_that_cannot_be_read_are_told_and_hold_nothing_up() {
    let mut stack = Stack::with(|configs| {
        let url = configs.player["sinks"][0]["params"]["targetHost"].clone();
        let webhook = json!({ "kind": "discord", "url": url });
        configs.player["sinks"] = json!([
            { "name": "files", "type": "file", "params": { "path": "all.ndjson" } },
            { "name": "chat", "type": "notification", "params": { "webhooks": { "chat": webhook } } },
        ]);
        configs.player["sources"][0]["sinks"] = json!(["files", "chat"]);
    });
    let written = stack.folder().join("player/all.ndjson");
    let lines = || std::fs::read_to_string(&written).unwrap_or_default().lines().count();
    post(stack.ports.proxy, "/", b"first");
    stack.target.wait_for(1);
    eventually("the first is in the file", SOON, || lines() == 1);
    for (role, program) in [("proxy", &mut stack.proxy), ("player", &mut stack.player)] {
        program.expect_error("checkpoint cannot be read: ");
        assert!(program.stop().success(), "{role}");
    }
    spoil(&stack.folder().join("proxy/proxy.sqlite3"), &["ship:out", "letters:out"]);
    let of_player = ["file:files", "files-of:files", "notify:chat"];
    spoil(&stack.folder().join("player/player.sqlite3"), &of_player);
    stack.player.restart();
    stack.proxy.restart();
    let told = "checkpoint cannot be read: ";
    for consequence in [
        "batches that were in flight may be delivered twice",
        "events that were given up may be tried again",
    ] {
        stack.proxy.wait_for(&format!("{told}{consequence}"));
    }
    for consequence in [
        "the last events written may be incomplete or duplicated in their file",
        "services may be told their last notifications again",
    ] {
        stack.player.wait_for(&format!("{told}{consequence}"));
    }
    post(stack.ports.proxy, "/", b"second");
    stack.target.wait_for(2);
    eventually("the second is in the file", SOON, || lines() == 2);
}

//! The player's server, as a browser sees it.

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::wire::call;

/// A player with an `http` sink that never gets anything, and a server.
fn player(folder: &std::path::Path, port: u16, more: &serde_json::Value) -> Program {
    let mut config = json!({
        "relayUrl": "http://127.0.0.1:1/",
        "dataDir": folder.join("data"),
        "sources": [{ "name": "b", "relayAuthenticationBearer": "t", "sinks": ["target"] }],
        "sinks": [{
            "name": "target",
            "id": "t1",
            "type": "http",
            "params": { "targetHost": "http://127.0.0.1:1" },
            "metadata": { "note": "<img src=x onerror=alert(1)>" },
        }],
        "exposedPort": port,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    Program::role(folder, "player", &config)
}

#[test]
fn the_server_runs_beside_the_player_and_asks_for_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _player = player(folder.path(), port, &json!({ "httpTokens": ["token-1"] }));
    assert_eq!(call(port, "GET", "/ping", &[], b"").text(), "pong");
    assert_eq!(call(port, "GET", "/sink/list", &[], b"").status(), 401);
    let headers: [(&str, &[u8]); 1] = [("Authorization", b"Bearer token-1")];
    let list = call(port, "GET", "/sink/list", &headers, b"").json();
    assert_eq!(list[0]["id"], "t1");
}

#[test]
fn the_page_shows_the_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _player = player(folder.path(), port, &json!({}));
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/"));
    browser.wait_for("body", "target");
    assert_eq!(browser.log(), Vec::<String>::new());
}

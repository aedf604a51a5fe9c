//! The whole way: proxy, relay, player and target, each on a port of its own, in one temporary folder.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::ports::Ports;
use super::program::Program;
use super::target::Target;

/// The token of the bucket `b`.
pub(crate) const TOKEN: &str = "token-of-b";

/// The three files, to be changed before the start.
pub(crate) struct Configs {
    pub(crate) proxy: Value,
    pub(crate) relay: Value,
    pub(crate) player: Value,
}

/// All of it, running. The fields stand in the order in which they are stopped.
pub(crate) struct Stack {
    pub(crate) proxy: Program,
    pub(crate) player: Program,
    pub(crate) relay: Program,
    pub(crate) target: Target,
    pub(crate) ports: Ports,
    folder: TempDir,
}

impl Stack {
    pub(crate) fn start() -> Stack {
        Stack::with(|_| ())
    }

    /// Starts everything after `change` has seen the files.
    pub(crate) fn with(change: impl FnOnce(&mut Configs)) -> Stack {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::start();
        let ports = Ports { target: target.port, ..Ports::free() };
        let mut configs = Configs::new(folder.path(), ports);
        change(&mut configs);
        let relay = Program::role(folder.path(), "relay", &configs.relay);
        let player = Program::role(folder.path(), "player", &configs.player);
        let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
        Stack { proxy, player, relay, target, ports, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Configs {
    pub(crate) fn new(folder: &Path, ports: Ports) -> Configs {
        Configs {
            proxy: proxy_config(folder, ports),
            relay: relay_config(folder, ports),
            player: player_config(folder, ports),
        }
    }
}

fn proxy_config(folder: &Path, ports: Ports) -> Value {
    json!({
        "dataDir": folder.join("proxy"),
        "sources": [{
            "id": "in",
            "type": "http",
            "params": { "listenPort": ports.proxy, "listenAddress": "127.0.0.1" },
            "targetSink": "out",
        }],
        "sinks": [{
            "id": "out",
            "type": "http",
            "url": format!("http://127.0.0.1:{}", ports.relay),
            "authBearer": TOKEN,
            "buckets": ["b"],
            "maxMessagesPerMinute": -1,
        }],
    })
}

fn relay_config(folder: &Path, ports: Ports) -> Value {
    json!({
        "port": ports.relay,
        "listenAddress": "127.0.0.1",
        "portStatusZ": ports.status,
        "dataDir": folder.join("relay"),
        "buckets": { "b": { "auth": TOKEN, "dbMaxSizeKb": 65536 } },
    })
}

fn player_config(folder: &Path, ports: Ports) -> Value {
    json!({
        "relayUrl": format!("http://127.0.0.1:{}/", ports.relay),
        "dataDir": folder.join("player"),
        "sources": [{ "name": "b", "relayAuthenticationBearer": TOKEN, "sinks": ["target"] }],
        "sinks": [{
            "name": "target",
            "type": "http",
            "params": { "targetHost": format!("http://127.0.0.1:{}", ports.target) },
        }],
    })
}

//! Several machines at one relay: `web-1` ships to the bucket `orders`, which `desk-1` replays; `web-2` and `desk-2` do the
//! same with `logs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::browser::Browser;
use super::ports::{Ports, free_port};
use super::program::Program;
use super::stack::{Configs, TOKEN};
use super::target::Target;
use super::wait::{SOON, eventually};
use super::wire::{call, post};

/// All of it, running. The fields stand in the order in which they are stopped.
pub(crate) struct System {
    _proxies: [Program; 2],
    pub(crate) players: [Program; 2],
    pub(crate) relay: Program,
    pub(crate) targets: [Target; 2],
    pub(crate) status: u16,
    pub(crate) api: u16,
    proxy_ports: [u16; 2],
    folder: TempDir,
}

/// Hosts and buckets, by their pair.
pub(crate) const BUCKETS: [&str; 2] = ["orders", "logs"];

impl System {
    /// Starts everything after `change` has seen the relay's file.
    pub(crate) fn with(change: impl FnOnce(&mut Value)) -> System {
        let folder = tempfile::tempdir().unwrap();
        let (api, status) = (free_port(), free_port());
        let mut config = json!({
            "port": api, "listenAddress": "127.0.0.1", "portStatusZ": status,
            "dataDir": folder.path().join("relay"),
            "buckets": {
                "orders": { "auth": TOKEN, "dbMaxSizeKb": 65536 },
                "logs": { "auth": TOKEN, "dbMaxSizeKb": 8192 },
            },
            // The disk of the machine that runs this is none of the test's.
            "alerts": { "diskPercent": 100 },
        });
        change(&mut config);
        let relay = Program::role(folder.path(), "relay", &config);
        let targets = [Target::start(), Target::start()];
        let proxy_ports = [free_port(), free_port()];
        let configs = |pair: usize| {
            let ports =
                Ports { proxy: proxy_ports[pair], relay: api, status, target: targets[pair].port };
            pair_configs(folder.path(), ports, pair)
        };
        let start = |pair: usize, role: &str| {
            let (folder, configs) = configs(pair);
            let config = if role == "proxy" { &configs.proxy } else { &configs.player };
            Program::role(&folder, role, config)
        };
        let players = [start(0, "player"), start(1, "player")];
        let proxies = [start(0, "proxy"), start(1, "proxy")];
        System { _proxies: proxies, players, relay, targets, status, api, proxy_ports, folder }
    }

    /// Captures a request at `web-1` (0) or `web-2` (1).
    pub(crate) fn post(&self, pair: usize, target: &str, body: &[u8]) {
        post(self.proxy_ports[pair], target, body);
    }

    /// A browser before the overview.
    pub(crate) fn overview(&self) -> Browser {
        let browser = Browser::start();
        browser.open(&self.page(""));
        browser
    }

    /// The address of a page.
    pub(crate) fn page(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.status)
    }

    /// `/statusz`. Each time the question is another one: where the processor is slow, an answer may have taken so long that it
    /// is kept for who asks the same.
    pub(crate) fn statusz(&self) -> Value {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let path = format!("/statusz?asked={}", ASKED.fetch_add(1, Ordering::Relaxed));
        call(self.status, "GET", &path, &[], b"").json()
    }

    /// The report's entry of a bucket.
    pub(crate) fn bucket(&self, name: &str) -> Value {
        let page = self.statusz();
        let buckets = page["report"]["buckets"].as_array().expect("a list");
        buckets.iter().find(|bucket| bucket["name"] == name).expect("a known bucket").clone()
    }

    /// Waits until so many proxies and players have told of themselves.
    pub(crate) fn wait_until_told(&self, count: usize) {
        let told = || {
            let page = self.statusz();
            let nodes = page["report"]["nodes"].as_array().expect("a list");
            nodes.iter().filter(|node| node["presence"] == "here").count()
        };
        eventually(&format!("{count} nodes have told"), SOON, || told() == count);
    }

    /// The files of a further pair, in a folder of their own.
    pub(crate) fn further(&self, pair: usize) -> (PathBuf, Configs) {
        let ports = Ports { relay: self.api, status: self.status, ..Ports::free() };
        pair_configs(self.folder.path(), ports, pair)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn pair_configs(folder: &Path, ports: Ports, pair: usize) -> (PathBuf, Configs) {
    let folder = folder.join(format!("pair-{}", pair + 1));
    std::fs::create_dir_all(&folder).unwrap();
    let mut configs = Configs::new(&folder, ports);
    let bucket = BUCKETS[pair % BUCKETS.len()];
    configs.proxy["hostName"] = json!(format!("web-{}", pair + 1));
    configs.proxy["sinks"][0]["buckets"] = json!([bucket]);
    configs.player["hostName"] = json!(format!("desk-{}", pair + 1));
    configs.player["sources"][0]["name"] = json!(bucket);
    // What is refused once is given up: nothing waits for a second try.
    configs.player["sinks"][0]["params"]["maxAttempts"] = json!(1);
    (folder, configs)
}

//! What proxies and players tell of themselves: on their status ports, to their relays, to systemd.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::Message;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::stack::{Configs, Stack};
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::{call, post};

fn get(port: u16, path: &str) -> Message {
    call(port, "GET", path, &[], b"")
}

/// A stack whose proxy and player have status ports.
fn stack() -> (Stack, u16, u16) {
    let (proxy, player) = (free_port(), free_port());
    let stack = Stack::with(|configs| {
        configs.proxy["portStatusZ"] = json!(proxy);
        configs.proxy["hostName"] = json!("web-1");
        configs.proxy["envName"] = json!("production");
        configs.player["portStatusZ"] = json!(player);
        configs.player["hostName"] = json!("private");
    });
    (stack, proxy, player)
}

#[test]
fn the_status_page_has_the_original_s_shape() {
    let (stack, proxy, player) = stack();
    post(stack.ports.proxy, "/a", b"x");
    stack.target.wait_for(1);
    // Counted last, and then it leaves the queue; the others are looked at afterwards.
    let page = eventually_some("the delivery is counted", SOON, || {
        let page = get(proxy, "/statusz").json();
        let sink = &page["sinks"]["out"];
        (sink["lastMessage"] != "" && sink["totalEvents"] == 0).then_some(page)
    });
    let source = &page["sources"]["in"];
    assert_eq!((&source["type"], &source["messageSinceStart"]), (&json!("http"), &json!(1)));
    let sink = &page["sinks"]["out"];
    assert_eq!(sink["url"], format!("http://127.0.0.1:{}/", stack.ports.relay));
    for (id, entry) in [("in", source), ("out", sink)] {
        assert_eq!(entry["id"], id);
        // 0 where the minute has turned since.
        assert!(entry["messagesByMinute"].as_u64().is_some_and(|count| count <= 1), "{entry}");
        let date = entry["lastMessageDate"].as_str().unwrap_or_default();
        assert!(date.starts_with("20") && date.ends_with('Z'), "{entry}");
    }
    // The quotes of an event are escaped on the way, and the relay's yes has no body.
    let contents = get(proxy, "/node-info").json()["sinks"]["out"]["bytes"].as_u64().unwrap();
    assert!(sink["appBytesSent"].as_u64().unwrap() > contents, "{sink}");
    assert_eq!(sink["appBytesRecv"], 0);
    assert_eq!((&sink["messageSinceStart"], &sink["batchCounter"]), (&json!(1), &json!(1)));
    assert_eq!(sink["lastMessage"], "{\"ip\":\"127.0.0.");
    assert!(source["recentLogs"][0].as_str().unwrap().contains("listening"), "{source}");
    assert!(page["uptime"].as_str().unwrap().ends_with('s') && page["version"].is_string());
    for (query, expected) in [
        ("sink=out", (0, 1)),
        ("source=in", (1, 0)),
        ("source=in&sink=out", (1, 1)),
        ("source=out", (0, 0)),
        ("", (1, 1)),
    ] {
        let filtered = get(proxy, &format!("/statusz?{query}")).json();
        let count = |kind: &str| filtered[kind].as_object().unwrap().len();
        assert_eq!((count("sources"), count("sinks")), expected, "{query}");
    }
    assert_eq!(get(player, "/statusz").json()["sources"]["b"]["type"], "relay");
    assert_eq!(get(player, "/anything").text(), "ok");
    assert_eq!(call(player, "POST", "/record-batch", &[], b"[]").status(), 405, "it keeps nothing");
}

#[test]
fn relays_are_told_of_every_node() {
    let (stack, _, _) = stack();
    post(stack.ports.proxy, "/a", b"x");
    stack.target.wait_for(1);
    let told = |page: &Value| {
        let nodes = page["nodeInfo"].as_object().cloned().unwrap_or_default();
        nodes.values().map(|node| node["role"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let page = eventually_some("both nodes have told", SOON, || {
        let page = get(stack.ports.status, "/statusz").json();
        let mut roles: Vec<String> = told(&page);
        roles.sort();
        (roles == ["player", "proxy"]).then_some(page)
    });
    let nodes = page["nodeInfo"].as_object().unwrap();
    let proxy = nodes.values().find(|node| node["role"] == "proxy").unwrap();
    assert_eq!(proxy["envName"], "production");
    assert!(proxy["memoryProcess"].as_u64().unwrap() > 1_000_000, "{proxy}");
    assert!(proxy["diskTotal"].as_u64().unwrap() > proxy["diskFree"].as_u64().unwrap(), "{proxy}");
    let sink = &proxy["sinks"]["out"];
    assert_eq!((&sink["type"], &sink["wiredTo"]["buckets"]), (&json!("relay"), &json!(["b"])));
    assert_eq!(proxy["sources"]["in"]["sinks"], json!(["out"]));
}

#[test]
fn two_agents_of_one_role_on_one_host_are_two_nodes_also_after_a_restart() {
    let (stack, _, _) = stack();
    let folder = stack.folder().join("second");
    std::fs::create_dir_all(&folder).unwrap();
    let mut config = Configs::new(stack.folder(), stack.ports).proxy;
    config["dataDir"] = json!(folder);
    config["hostName"] = json!("web-1");
    config["sources"][0]["params"]["listenPort"] = json!(free_port());
    // When each was started, by its id.
    let nodes = || -> BTreeMap<String, Value> {
        let report = get(stack.ports.status, "/statusz").json()["report"].clone();
        let nodes = report["nodes"].as_array().unwrap().iter();
        let of =
            |node: &Value| (node["id"].as_str().unwrap().to_owned(), node["startedAtMs"].clone());
        nodes.map(of).filter(|(id, _)| id.starts_with("web-1/proxy")).collect()
    };
    eventually("the first has told", SOON, || nodes().keys().eq(["web-1/proxy"]));
    let mut second = Program::role(&folder, "proxy", &config);
    let both =
        eventually_some("both have told", SOON, || Some(nodes()).filter(|nodes| nodes.len() == 2));
    assert!(both.keys().all(|id| id.len() > "web-1/proxy/".len()), "{both:?}");
    second.stop();
    second.restart();
    eventually("the second has told again", SOON, || nodes() != both);
    assert!(nodes().keys().eq(both.keys()), "the same two as before: {both:?}, {:?}", nodes());
}

#[test]
fn a_paused_sink_is_not_ready_and_its_relay_is_told_why() {
    let (mut stack, _, player) = stack();
    assert_eq!(get(player, "/readyz").status(), 200);
    stack.player.expect_error("relay refuses the bucket or its token");
    stack.player.stop();
    let mut refused = Configs::new(stack.folder(), stack.ports).player;
    refused["portStatusZ"] = json!(player);
    refused["sources"][0]["relayAuthenticationBearer"] = json!("wrong");
    let mut other = Program::role(stack.folder(), "player", &refused);
    other.expect_error("relay refuses the bucket or its token");
    eventually("the refused source shows", SOON, || get(player, "/readyz").status() == 503);
    let reason = get(player, "/readyz").text();
    assert!(reason.starts_with("source `b` is paused: 401"), "{reason}");
    let status = free_port();
    let mut config = Configs::new(stack.folder(), stack.ports).proxy;
    config["dataDir"] = json!(stack.folder().join("second"));
    config["sources"][0]["params"]["listenPort"] = json!(free_port());
    config["sinks"][0]["authBearer"] = json!("wrong");
    config["portStatusZ"] = json!(status);
    let path = stack.folder().join("second");
    std::fs::create_dir_all(&path).unwrap();
    let mut proxy = Program::role(&path, "proxy", &config);
    proxy.expect_error("sink is paused until this is fixed");
    let port = config["sources"][0]["params"]["listenPort"].as_u64().unwrap();
    post(u16::try_from(port).unwrap(), "/a", b"x");
    eventually("the pause shows", SOON, || get(status, "/readyz").status() == 503);
    let reason = get(status, "/readyz").text();
    assert!(reason.starts_with("sink `out` is paused: ") && reason.contains("401"), "{reason}");
    assert_eq!(get(status, "/healthz").status(), 200, "it lives all the same");
    // Logged once it shows.
    eventually("the page has the log's line", SOON, || {
        let logs = get(status, "/statusz").json()["sinks"]["out"]["recentLogs"].to_string();
        logs.contains("sink is paused until this is fixed")
    });
}

/// A foreign name can be made to point at 127.0.0.1; then the page of another site may read what it gets.
#[test]
fn a_foreign_name_reads_nothing() {
    let [proxy, player] = [free_port(), free_port()];
    let _stack = Stack::with(|configs| {
        configs.proxy["portStatusZ"] = json!(proxy);
        configs.player["portStatusZ"] = json!(player);
        configs.player["statusHosts"] = json!(["player.tail.example"]);
    });
    let ask = |port: u16, path: &str, host: &str| {
        call(port, "GET", path, &[("Host", host.as_bytes())], b"")
    };
    let id = "/trace/00000000-0000-0000-0000-000000000007";
    for port in [proxy, player] {
        for path in ["/statusz", "/node-info", "/metrics", id, "/trace/x"] {
            let answer = ask(port, path, "rebound.example");
            assert_eq!(answer.status(), 403, "{path}");
            assert_eq!(answer.text(), "this host name is not known: add it to statusHosts\n");
        }
        for path in ["/", "/healthz", "/readyz"] {
            assert_eq!(ask(port, path, "rebound.example").text(), "ok", "{path}");
        }
        for host in ["127.0.0.1:1", "[::1]:1", "localhost"] {
            assert_eq!(ask(port, "/statusz", host).status(), 200, "{host}");
        }
    }
    assert_eq!(ask(player, "/statusz", "Player.tail.example:443").status(), 200);
    assert_eq!(ask(proxy, "/statusz", "player.tail.example").status(), 403);
}

#[test]
fn systemd_is_told_and_its_watchdog_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let configs = Configs::new(folder.path(), crate::support::ports::Ports::free());
    let file = crate::support::program::write_config(folder.path(), "proxy", &configs.proxy);
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut proxy = Program::start(folder.path(), &["proxy", "-c", &file], &env);
    let mut told = String::new();
    while told.matches("WATCHDOG=1").count() < 2 {
        told.push_str(&receive(&socket));
    }
    assert!(told.starts_with("READY=1"), "{told}");
    // Read meanwhile: a socket holds a few messages, and then whoever sends waits.
    proxy.signal(Signal::TERM);
    while !told.contains("STOPPING=1") {
        told.push_str(&receive(&socket));
    }
    assert!(proxy.wait_for_end().success());
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a message to systemd");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

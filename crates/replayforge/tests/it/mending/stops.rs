//! Two of one thing, and the ways to stop.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::support::http::Message;
use crate::support::ports::Ports;
use crate::support::program::{Program, write_config};
use crate::support::server::Answer;
use crate::support::stack::{Configs, Stack};
use crate::support::wait::{SOON, always_for, eventually, let_pass};
use crate::support::wire::{Wire, call, post};

#[test]
fn a_sink_that_closes_tells_its_answers_by_class() {
    let mut stack = Stack::start();
    stack.target.answer(|request, _| {
        Answer::status(if request.target() == "/unknown" { 404 } else { 200 })
    });
    for target in ["/a", "/unknown", "/b"] {
        post(stack.ports.proxy, target, b"");
    }
    stack.target.wait_for(3);
    assert!(stack.player.stop().success());
    let line = stack.player.wait_for("http sink closed");
    let expected = "closed sink=target success=2 redirection=0 client_error=1 other=0";
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn a_second_agent_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let configs = Configs::new(folder.path(), Ports::free());
    for role in ["proxy", "player"] {
        let config = if role == "proxy" { &configs.proxy } else { &configs.player };
        let _first = Program::role(folder.path(), role, config);
        let mut second = config.clone();
        if role == "proxy" {
            second["sources"][0]["params"]["listenPort"] = json!(Ports::free().proxy);
        }
        let file = write_config(folder.path(), "second", &second);
        let finished = Program::run(folder.path(), &[role, "-c", &file], &[]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let store = folder.path().join(format!("{role}/{role}.sqlite3"));
        assert!(
            finished.log.contains(&format!("{} is in use by another process", store.display())),
            "{}",
            finished.log
        );
    }
}

fn check_port_taken(folder: &Path, role: &str, config: &serde_json::Value, key: &str, port: u16) {
    let file = write_config(folder, "taken", config);
    let finished = Program::run(folder, &[role, "-c", &file], &[]);
    assert_eq!(finished.code, Some(1), "{role}: {finished:?}");
    let named = [key, &format!("port {port} on 127.0.0.1 is already in use")]
        .map(|text| finished.log.contains(text));
    assert_eq!(named, [true, true], "{role}: {}", finished.log);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    let hold = |port: u16| TcpListener::bind(("127.0.0.1", port)).unwrap();
    let held = hold(ports.proxy);
    check_port_taken(folder.path(), "proxy", &configs.proxy, "listenPort", ports.proxy);
    drop(held);
    let held = hold(ports.relay);
    let keys = "(keys listenAddress, port)";
    check_port_taken(folder.path(), "relay", &configs.relay, keys, ports.relay);
    drop(held);
    let _held = hold(ports.status);
    let keys = "(keys statusAddress, portStatusZ)";
    check_port_taken(folder.path(), "relay", &configs.relay, keys, ports.status);
}

#[test]
fn a_port_that_another_proxy_has_is_taken_too() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    let _first = Program::role(folder.path(), "proxy", &configs.proxy);
    let mut second = configs.proxy.clone();
    second["dataDir"] = json!(folder.path().join("another"));
    check_port_taken(folder.path(), "proxy", &second, "listenPort", ports.proxy);
}

/// A request whose head the proxy has read, and half of its body.
fn in_flight(port: u16) -> Wire {
    let mut wire = Wire::connect(port);
    let head = b"POST /in-flight HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(wire.exchange(head).status(), 100);
    wire.send(b"hello");
    wire
}

#[test]
fn a_stop_answers_what_is_in_flight() {
    let mut stack = Stack::start();
    let mut idle = Wire::connect(stack.ports.proxy);
    assert_eq!(
        idle.exchange(b"POST /idle HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status(),
        200
    );
    let mut busy = in_flight(stack.ports.proxy);
    stack.target.wait_for(1);
    stack.proxy.signal(Signal::TERM);
    stack.proxy.wait_for("stopping");
    assert!(idle.is_closed_by_peer(), "what idles is closed");
    eventually("no new connection", SOON, || Wire::try_connect(stack.ports.proxy).is_err());
    busy.send(b"world");
    assert_eq!(busy.answer().text(), "Request received");
    assert!(stack.proxy.wait_for_end().success());
    let received = stack.target.wait_for(2);
    assert_eq!((received[1].target(), received[1].text().as_str()), ("/in-flight", "helloworld"));
    stack.proxy.restart();
}

#[test]
fn a_stop_waits_for_what_hangs_until_the_grace_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let config = write_config(folder.path(), "proxy", &Configs::new(folder.path(), ports).proxy);
    let mut proxy = Program::start(folder.path(), &["proxy", "-c", &config, "--grace", "1s"], &[]);
    proxy.wait_for("started");
    proxy.expect_error("source in");
    let _hanging = in_flight(ports.proxy);
    let asked = Instant::now();
    let status = proxy.stop();
    // Without being told, it would have waited for half a minute.
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(20)).contains(&asked.elapsed()),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(status.code(), Some(1), "what hung is no clean end");
    assert!(proxy.log().contains("source in"), "the one that hung is named: {}", proxy.log());
}

#[test]
fn a_second_signal_leaves_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let mut proxy =
        Program::role(folder.path(), "proxy", &Configs::new(folder.path(), ports).proxy);
    let _hanging = in_flight(ports.proxy);
    post(ports.proxy, "/", b"acknowledged");
    proxy.signal(Signal::TERM);
    proxy.wait_for("stopping; a second signal stops at once signal=SIGTERM");
    always_for("it waits for the request in flight", Duration::from_millis(500), || {
        proxy.is_running()
    });
    proxy.signal(Signal::INT);
    let status = proxy.wait_for_end();
    assert_eq!(status.code(), Some(1));
    assert!(proxy.log().contains("stopped at once"), "not by waiting: {}", proxy.log());
    proxy.restart();
}

#[test]
fn a_player_finishes_the_request_under_way_and_keeps_the_rest() {
    let mut stack = Stack::start();
    let all_there = Arc::new(AtomicBool::new(false));
    let goes_on = Arc::clone(&all_there);
    stack.target.answer(move |_, _| {
        eventually("the player has them all", SOON, || goes_on.load(Ordering::SeqCst));
        let_pass(Duration::from_millis(700));
        Answer::status(200)
    });
    for n in 0..20 {
        post(stack.ports.proxy, &format!("/{n}"), b"");
    }
    eventually("the first is under way", SOON, || stack.target.count() == 1);
    // A reader without a lease sees what is not acknowledged yet.
    let head = [("RF-BUCKET", &b"b"[..]), ("Authorization", b"Bearer token-of-b")];
    eventually("the player has them all", SOON, || {
        call(stack.ports.relay, "GET", "/first-batch", &head, b"").status() == 404
    });
    all_there.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    assert!(stack.player.stop().success());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let done = stack.target.count();
    assert!((1..20).contains(&done), "{done}: it flushes for a while, not for ever");
    stack.target.answer(|_, _| Answer::status(200));
    stack.player.restart();
    let received = stack.target.wait_for(20);
    let targets: Vec<&str> = received.iter().map(Message::target).collect();
    assert_eq!(
        targets,
        (0..20).map(|n| format!("/{n}")).collect::<Vec<_>>(),
        "none twice, none missing"
    );
}

#[test]
fn a_relay_answers_its_long_polls_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let mut relay =
        Program::role(folder.path(), "relay", &Configs::new(folder.path(), ports).relay);
    let mut polling = Wire::connect(ports.relay);
    polling.send(b"GET /first-batch?wait=30s&lease=30s HTTP/1.1\r\nHost: x\r\nRF-BUCKET: b\r\nAuthorization: Bearer token-of-b\r\n\r\n");
    polling.wait_until_read();
    let head = [("RF-BUCKET", &b"b"[..]), ("Authorization", b"Bearer token-of-b")];
    assert_eq!(call(ports.relay, "GET", "/first-batch", &head, b"").status(), 404);
    let asked = Instant::now();
    relay.signal(Signal::TERM);
    let answer = polling.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (404, "[]"));
    assert!(relay.wait_for_end().success());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

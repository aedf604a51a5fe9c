//! Where something is away, slow or full: the client is told in clear words, and copies never hold traffic.

use std::fs;
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::rig::{Rig, Upstream, ok, read_request, read_until, send_rest};
use crate::support::http::{Kind, Message};
use crate::support::ports::free_port;
use crate::support::small_disk::SmallDisk;
use crate::support::wait::{SOON, eventually, let_pass};
use crate::support::wire::{Wire, call};

#[test]
fn an_upstream_that_is_away_is_told_and_comes_back() {
    let port = free_port();
    let mut rig = Rig::start(port, &json!({ "captureResponse": true }));
    let answer = call(rig.port, "GET", "/away", &[], b"");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (502, "The server behind this proxy gave no answer\n")
    );
    let event = rig.event("/away");
    assert_eq!(
        (&event["response"]["status"], &event["response"]["generated"]),
        (&json!(502), &json!(true))
    );
    rig.proxy.wait_for("no answer from the upstream: answered with 502");
    assert!(rig.proxy.stop().success());
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let upstream = Upstream::start(|stream| {
        read_request(stream)?;
        read_until(stream, b"never").map(drop)
    });
    let rig = Rig::start(upstream.port, &json!({ "upstreamTimeout": "200ms" }));
    let answer = call(rig.port, "POST", "/silent", &[], b"x");
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (504, "The server behind this proxy did not answer in time\n")
    );
}

#[test]
fn a_slow_upload_is_no_silence_of_the_upstream() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    // Each side goes on well in time, also on a machine that stands still for a while; the whole upload takes longer.
    let rig =
        Rig::start(upstream.port, &json!({ "upstreamTimeout": "5s", "requestTimeout": "7s" }));
    let mut wire = rig.connect();
    wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    for byte in b"hello" {
        let_pass(Duration::from_millis(1200));
        wire.send(&[*byte]);
    }
    assert_eq!(wire.answer().text(), "hello");
}

#[test]
fn a_client_that_stops_sending_is_given_up_itself_although_the_upstream_has_less_time() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    // Within the shorter time the upstream has to be dialed.
    let rig =
        Rig::start(upstream.port, &json!({ "upstreamTimeout": "5s", "requestTimeout": "7s" }));
    let mut wire = rig.connect();
    wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
    let answer = wire.answer();
    assert_eq!(answer.status(), 408, "{answer:?}");
}

#[test]
fn a_pause_within_an_upload_is_no_silence_of_the_upstream() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    let rig =
        Rig::start(upstream.port, &json!({ "upstreamTimeout": "5s", "requestTimeout": "30s" }));
    let mut wire = rig.connect();
    wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
    let_pass(Duration::from_secs(6));
    wire.send(b"llo");
    assert_eq!(wire.answer().text(), "hello");
}

/// More than the buffers of the system take on the way.
const FLOOD: usize = 64 * 1024 * 1024;

#[test]
fn an_upstream_that_stops_taking_a_request_is_given_up() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |stream| {
        Message::read_head(stream)?;
        // Ends with the test.
        held.lock().recv().ok();
        Ok(())
    });
    let mut rig =
        Rig::start(upstream.port, &json!({ "upstreamTimeout": "300ms", "requestTimeout": "20s" }));
    let mut wire = rig.connect();
    let since = Instant::now();
    wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {FLOOD}\r\n\r\n").as_bytes());
    // Nobody takes so much: after the answer the rest is thrown away.
    send_rest(&mut wire, &vec![b'x'; FLOOD], since);
    assert_eq!(wire.answer().status(), 504);
    assert!(wire.is_closed_by_peer());
    rig.proxy.wait_for("the upstream did not answer in time: answered with 504");
    // Nothing is left for which a stop would wait, although the upstream holds its connection open.
    assert!(rig.proxy.stop().success());
    let log = rig.proxy.log();
    assert!(!log.contains("cut off"), "{log}");
    drop(release);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off_after_its_time_and_told_of() {
    let upstream = Upstream::answering(|_| ok(&vec![b'x'; FLOOD]));
    let rig = Rig::start(upstream.port, &json!({ "clientTimeout": "300ms" }));
    let mut wire = rig.connect();
    wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    rig.proxy.wait_for("a client does not read its answer, closing its connection");
    assert!(wire.read_rest().len() < FLOOD);
}

#[test]
fn an_upstream_that_dies_midway_breaks_the_answer_off() {
    let upstream = Upstream::start(|stream| {
        let head = Message::read_head(stream)?.expect("a request");
        match head.target() {
            "/before" => Ok(()),
            "/garbage" => stream.get_mut().write_all(b"220 mail ready\r\n"),
            "/chunked" => stream
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            _ => stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
        }
    });
    let rig = Rig::start(upstream.port, &json!({ "captureResponse": true }));
    assert_eq!(call(rig.port, "GET", "/before", &[], b"").status(), 502);
    assert_eq!(call(rig.port, "GET", "/garbage", &[], b"").status(), 502);
    for target in ["/length", "/chunked"] {
        let mut wire = rig.connect();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let broken = wire.try_answer(Kind::Answer).expect_err("the answer must not look whole");
        assert_ne!(broken.kind(), std::io::ErrorKind::WouldBlock, "{target}: {broken}");
        let event = rig.event(target);
        assert_eq!(event["response"]["body"], "hello");
        assert_eq!(
            (&event["response"]["bodyTruncated"], &event["response"]["bodyBytes"]),
            (&json!(true), &json!(5))
        );
    }
}

/// Sends many requests, each of which must be answered, and none of them late.
fn hammer(port: u16, count: usize, body: usize) {
    let mut wire = Wire::connect(port);
    let body = "x".repeat(body);
    let request =
        format!("POST /h HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let since = Instant::now();
        assert_eq!(wire.exchange(request.as_bytes()).status(), 200);
        slowest = slowest.max(since.elapsed());
    }
    // A copy that waited would wait for ever here.
    assert!(slowest < SOON / 2, "{slowest:?}");
}

/// A proxy whose sink takes nothing: the queue fills, and what `whenFull` says must not be felt.
fn check_full(when_full: &str, memory: &str, reason: Option<&str>) -> Rig {
    let (upstream, status) = (Upstream::answering(|_| ok(b"fine")), free_port());
    // Without redaction a copy is made quickly: it gets what the tests beside this one leave of the processors.
    let params = json!({ "captureMemoryBytes": memory, "redact": { "keep": ["*"] } });
    let mut rig = Rig::with(upstream.port, &params, |config| {
        config["sinks"][0]["url"] = json!("http://127.0.0.1:1/");
        config["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB", "whenFull": when_full });
        config["portStatusZ"] = json!(status);
    });
    hammer(rig.port, 300, 20_000);
    if when_full == "block" {
        // Until then they lack memory alone: they are stored with the lowest priority. A commit that is slow is no full queue:
        // the source has waited for a while before, and still does after all of them.
        eventually("the queue takes no more copies", SOON, || {
            let seen = || {
                let page = call(status, "GET", "/statusz", &[], b"").json();
                let paused =
                    page["sources"]["in"]["paused"].as_str().unwrap_or_default().to_owned();
                (page["sinks"]["out"]["totalEvents"].as_u64().unwrap(), paused)
            };
            let before = seen();
            hammer(rig.port, 100, 20_000);
            before.0 >= 25 && before.1.starts_with("queue full") && seen() == before
        });
    }
    if let Some(reason) = reason {
        eventually("the page counts the lost copies", SOON, || {
            let source = call(status, "GET", "/statusz", &[], b"").json()["sources"]["in"].clone();
            source["dropped"][reason].as_u64().is_some_and(|count| count > 0)
        });
    }
    assert!(rig.proxy.stop().success());
    if let Some(reason) = reason {
        let line = rig.proxy.wait_for("copies of requests are lost");
        assert!(line.contains(&format!(" {reason}")), "{line}");
    }
    rig
}

#[test]
fn traffic_goes_on_when_the_queue_is_full() {
    check_full("reject", "16MiB", Some("full"));
}

#[test]
fn traffic_goes_on_when_the_queue_makes_sources_wait() {
    let rig = check_full("block", "64KiB", Some("memory"));
    // Those that waited in memory at the stop.
    let log = rig.proxy.log();
    let mut told = log.lines().filter(|line| line.contains("copies of requests are lost"));
    assert!(told.any(|line| line.contains(" stopping")), "{log}");
}

#[test]
fn traffic_goes_on_when_the_script_hangs() {
    let (upstream, status) = (Upstream::answering(|_| ok(b"fine")), free_port());
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("hang.lua");
    fs::write(&script, "function Process(content, emit) while true do end end").unwrap();
    let mut rig = Rig::with(upstream.port, &json!({ "captureMemoryBytes": "1MiB" }), |config| {
        config["portStatusZ"] = json!(status);
        config["sources"][0]["transformScript"] = json!(script);
        config["sources"][0]["scriptLimits"] = json!({ "callTimeMs": 60_000 });
    });
    hammer(rig.port, 200, 20_000);
    eventually("copies find no room", SOON, || {
        let source = call(status, "GET", "/statusz", &[], b"").json()["sources"]["in"].clone();
        source["dropped"]["memory"].as_u64().is_some_and(|count| count > 0)
    });
    assert_eq!(rig.events().len(), 0, "nothing can pass a script that hangs");
    rig.proxy.kill();
}

#[test]
fn traffic_goes_on_when_the_disk_is_full() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path().join("small"));
    let mut rig = Rig::with(upstream.port, &json!({}), |config| {
        config["dataDir"] = json!(disk.path);
        config["sinks"][0]["url"] = json!("http://127.0.0.1:1/");
    });
    // How a full disk is told is for the queue to choose.
    rig.proxy.expect_error("");
    disk.fill(4096);
    hammer(rig.port, 200, 20_000);
    rig.proxy.wait_for("copies of requests are lost");
    disk.make_room();
    hammer(rig.port, 10, 100);
    assert!(rig.proxy.stop().success());
}

#[test]
fn traffic_goes_on_when_the_oldest_copies_make_room() {
    check_full("dropOldest", "16MiB", None);
}

#[test]
fn a_copy_that_can_never_fit_is_counted_and_its_neighbours_are_kept() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let params = json!({ "maxCaptureBytes": "4MiB", "redact": { "keep": ["*"] } });
    let rig = Rig::with(upstream.port, &params, |config| {
        config["sinks"][0]["buffer"] = json!({ "maxBytes": "2MiB" });
    });
    let mut wire = rig.connect();
    wire.send(b"POST /huge HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n");
    wire.send(&vec![b'x'; 3_000_000]);
    wire.send(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((wire.answer().status(), wire.answer().status()), (200, 200));
    rig.event("/small");
    let line = rig.proxy.wait_for("copies of requests are lost");
    assert!(line.contains("1 tooLarge"), "{line}");
}

#[test]
fn copies_reach_the_queue_before_a_stop_ends() {
    let upstream = Upstream::answering(|_| ok(b"fine"));
    let mut rig = Rig::start(upstream.port, &json!({}));
    hammer(rig.port, 200, 100);
    assert!(rig.proxy.stop().success());
    // What a slow machine could not deliver within the time of the stop is delivered from the queue now.
    rig.proxy.restart();
    eventually("every copy has arrived", SOON, || rig.events().len() == 200);
}

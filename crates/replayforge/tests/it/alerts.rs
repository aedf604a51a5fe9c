//! Alerts of a relay about nodes and buckets, and its heartbeat, as a service gets them.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::bucket::drain;
use crate::support::http::Message;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::server::Answer;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// Alerts that wait for nothing, and a heart that beats each second.
fn told_at_once(service: &Target, heart: &Target) -> Value {
    json!({
        "after": 0, "nodeSilentAfter": "1s",
        "notify": { "hook": { "url": format!("http://127.0.0.1:{}/hook", service.port), "contentType": "json" } },
        "heartbeatUrl": format!("http://127.0.0.1:{}/beat", heart.port),
        "heartbeatEvery": "1s",
    })
}

#[test]
fn trouble_and_its_end_are_told_once_and_the_heart_beats() {
    let folder = tempfile::tempdir().unwrap();
    let (service, heart, port) = (Target::start(), Target::start(), free_port());
    let config = json!({
        "port": port, "listenAddress": "127.0.0.1", "dataDir": folder.path().join("data"),
        "expectedNodes": ["web-1"],
        "buckets": { "b": { "auth": "t" } },
        "alerts": told_at_once(&service, &heart),
    });
    let mut relay = Program::role(folder.path(), "relay", &config);
    let told = || -> Vec<String> { service.requests().iter().map(Message::text).collect() };
    eventually("the missing node is told", SOON, || {
        told().iter().any(|text| text.contains("TROUBLE node web-1: missing"))
    });
    eventually("the heart beats", SOON, || heart.count() >= 2);
    // The log has the same words.
    relay.wait_for(
        "WARN TROUBLE node web-1: missing: expected (expectedNodes), and not heard of in the",
    );

    let tell = |host: &str, info: &Value| {
        let headers: [(&str, &[u8]); 3] =
            [("Authorization", b"Bearer t"), ("RF-BUCKET", b"b"), ("RF-HOSTNAME", host.as_bytes())];
        let answer = call(port, "POST", "/node-info", &headers, info.to_string().as_bytes());
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    // What is told when the relay is stopped before it has read the service's answer is told again. A service is told one thing
    // after the other: when it is told of another node, the relay is done with the first one.
    tell("other", &node(&json!({ "type": "relay", "paused": "401" })));
    eventually("the other node is told", SOON, || {
        told().iter().any(|text| text.contains("TROUBLE node other/proxy: sink out is paused"))
    });

    relay.stop();
    relay.restart();
    tell("web-1", &json!({}));
    eventually("its end is told", SOON, || {
        told().iter().any(|text| text.contains("RECOVERED node web-1: silent"))
    });
    relay.wait_for("INFO RECOVERED node web-1: silent, after");
    // The other node's may have been told again.
    let told = told();
    let without = told.iter().map(|text| text.replace("TROUBLE node other/proxy", ""));
    let troubles = without.filter(|text| text.contains("TROUBLE")).count();
    assert_eq!(troubles, 1, "a restart tells nothing again: {told:?}");
}

/// As one whose token is wrong, until somebody has mended the file.
#[test]
fn what_a_service_refused_to_take_is_told_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (service, heart) = (Target::start(), Target::start());
    service.answer(|_, _| Answer::status(403));
    let config = json!({
        "port": free_port(), "listenAddress": "127.0.0.1", "dataDir": folder.path().join("data"),
        "expectedNodes": ["web-1"],
        "buckets": { "b": { "auth": "t" } },
        "alerts": told_at_once(&service, &heart),
    });
    let mut relay = Program::role(folder.path(), "relay", &config);
    relay.wait_for("an alert cannot be sent, trying again");
    relay.stop();
    let refused = service.count();
    service.answer(|_, _| Answer::status(200));
    relay.restart();
    eventually("it is told", SOON, || {
        let later = service.requests().split_off(refused);
        later.iter().any(|request| request.text().contains("TROUBLE node web-1: missing"))
    });
}

#[test]
fn a_bucket_that_cannot_be_opened_stops_the_heart_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let (service, heart) = (Target::start(), Target::start());
    // A file is where the bucket's folder should be.
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("b"), "in the way").unwrap();
    let config = json!({
        "port": free_port(), "listenAddress": "127.0.0.1", "dataDir": data,
        "buckets": { "a": { "auth": "t" }, "b": { "auth": "t" } },
        "alerts": told_at_once(&service, &heart),
    });
    let mut relay = Program::role(folder.path(), "relay", &config);
    relay.expect_error("bucket cannot be opened");
    let told = |line: &str| {
        let texts = service.requests();
        texts.iter().map(Message::text).any(|text| text.contains(line))
    };
    eventually("it is told", SOON, || told("TROUBLE bucket b: cannot be opened: "));
    assert!(!told("bucket a"), "the other is well");
    relay.wait_for("no heartbeat: a bucket cannot be opened");
    let beats = heart.count();
    fs::remove_file(data.join("b")).unwrap();
    eventually("the heart beats again", SOON, || heart.count() > beats);
    eventually("its end is told", SOON, || told("RECOVERED bucket b: unavailable, after"));
}

/// What is told when it begins, and when it is over.
const TOLD: [(&str, &str); 11] = [
    ("TROUBLE node quiet/proxy: silent for", "RECOVERED node quiet/proxy: silent, after"),
    ("WARNING node skewed/proxy: its clock is", "RECOVERED node skewed/proxy: clock, after"),
    (
        "TROUBLE node lossy/proxy: dropped 5 events lately (full)",
        "RECOVERED node lossy/proxy: drops, after",
    ),
    (
        "WARNING node lossy/proxy: 2 events became dead letters lately",
        "RECOVERED node lossy/proxy: deadLetters, after",
    ),
    ("TROUBLE node ill/proxy: its disk is 97 % full", "RECOVERED node ill/proxy: disk, after"),
    (
        "TROUBLE node ill/proxy: sink out is paused until somebody acts: 401",
        "RECOVERED node ill/proxy: sink out paused, after",
    ),
    (
        "WARNING node ill/proxy: the queue of sink out is 90 % full: 90 B of 100 B",
        "RECOVERED node ill/proxy: sink out filling, after",
    ),
    ("WARNING bucket filling: is 8", "RECOVERED bucket filling: filling, after"),
    ("bucket waiting: its oldest event has waited for", "RECOVERED bucket waiting: oldest, after"),
    ("TROUBLE bucket ring: dropped ", ""),
    ("WARNING bucket full: was full and refused ", ""),
];

/// A relay whose service is told at once, and what it was told.
struct Watched {
    port: u16,
    status: u16,
    service: Target,
    _relay: Program,
    _folder: tempfile::TempDir,
}

impl Watched {
    fn start() -> Watched {
        let (folder, service) = (tempfile::tempdir().unwrap(), Target::start());
        let port = free_port();
        let status = free_port();
        let small = json!({ "auth": "t", "dbMaxSizeKb": 8192 });
        let ring = json!({ "auth": "t", "dbMaxSizeKb": 8192, "whenFull": "dropOldest" });
        let config = json!({
            "port": port, "listenAddress": "127.0.0.1", "portStatusZ": status,
            "dataDir": folder.path().join("data"),
            "buckets": { "filling": small, "full": small, "ring": ring, "waiting": { "auth": "t" } },
            "alerts": {
                "after": 0, "oldestEvent": "1s", "nodeSilentAfter": "1s", "lossesFor": "15s",
                "notify": { "hook": { "url": format!("http://127.0.0.1:{}/hook", service.port), "contentType": "json" } },
            },
        });
        let relay = Program::role(folder.path(), "relay", &config);
        Watched { port, status, service, _relay: relay, _folder: folder }
    }

    fn tell(&self, host: &str, info: &Value) {
        let headers: [(&str, &[u8]); 3] = [
            ("Authorization", b"Bearer t"),
            ("RF-BUCKET", b"waiting"),
            ("RF-HOSTNAME", host.as_bytes()),
        ];
        let answer = call(self.port, "POST", "/node-info", &headers, info.to_string().as_bytes());
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// Records an event of 256 KiB; the status.
    fn record(&self, bucket: &str) -> u16 {
        let headers: [(&str, &[u8]); 2] =
            [("Authorization", b"Bearer t"), ("RF-BUCKET", bucket.as_bytes())];
        call(self.port, "POST", "/record", &headers, &vec![b'x'; 256 * 1024]).status()
    }

    /// Per cent of its limit. Each time the question is another one: where the processor is slow, an answer may have taken so
    /// long that it is kept for who asks the same.
    fn fill(&self, bucket: &str) -> u64 {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        let path = format!("/statusz?bucket={bucket}&asked={number}");
        let page = call(self.status, "GET", &path, &[], b"").json();
        let bucket = &page["report"]["buckets"][0];
        bucket["usedBytes"].as_u64().unwrap() * 100 / bucket["eventsMaxBytes"].as_u64().unwrap()
    }

    fn was_told(&self, text: &str) -> bool {
        self.service.requests().iter().any(|request| request.text().contains(text))
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500,000,000")
}

/// A node that tells of one sink.
fn node(sink: &Value) -> Value {
    json!({ "role": "proxy", "startedAtMs": 1, "clockMs": now_ms(), "sinks": { "out": sink } })
}

#[test]
fn each_kind_of_trouble_is_told_and_so_is_its_end() {
    let watched = Watched::start();
    let well = node(&json!({ "type": "relay" }));
    let mut quiet = well.clone();
    quiet["everySecs"] = json!(1);
    watched.tell("quiet", &quiet);
    let mut skewed = well.clone();
    skewed["clockMs"] = json!(now_ms() - 60_000);
    watched.tell("skewed", &skewed);
    watched.tell("lossy", &well);
    watched.tell("lossy", &node(&json!({ "dropped": { "full": 5 }, "deadLettered": 2 })));
    let queue = json!({ "events": 1, "bytes": 90, "maxBytes": 100 });
    let mut ill = node(&json!({ "type": "relay", "paused": "401", "queue": queue }));
    ill["diskUsedPct"] = json!(97);
    watched.tell("ill", &ill);
    assert_eq!(watched.record("waiting"), 200);
    // It is told from 80 % on. What the WAL holds counts, and may be given back before the next look.
    while watched.fill("filling") < 84 {
        assert_eq!(watched.record("filling"), 200);
    }
    // 10 MiB, and there is room for less than 8.
    (0..40).for_each(|_| assert_eq!(watched.record("ring"), 200));
    assert!((0..40).any(|_| watched.record("full") != 200));
    for (begins, _) in TOLD {
        eventually(begins, SOON, || watched.was_told(begins));
    }

    watched.tell("skewed", &node(&json!({ "type": "relay" })));
    watched.tell("ill", &node(&json!({ "type": "relay" })));
    drain(watched.port, "waiting", "t");
    drain(watched.port, "filling", "t");
    for (_, ends) in TOLD {
        eventually(ends, SOON, || {
            let mut quiet = node(&json!({ "type": "relay" }));
            quiet["everySecs"] = json!(1);
            watched.tell("quiet", &quiet);
            watched.was_told(ends)
        });
    }
    // Each was told once; what went on was not told again, nor what became of it between two looks.
    // The subject of a notice of one change says the same as its message.
    let message = |request: &Message| request.json()["message"].as_str().unwrap().to_owned();
    let lines: Vec<String> = watched.service.requests().iter().map(message).collect();
    for (begins, _) in TOLD.iter().filter(|(begins, _)| !begins.contains("quiet")) {
        let times = lines.iter().map(|text| text.matches(begins).count()).sum::<usize>();
        assert_eq!(times, 1, "{begins}: {lines:#?}");
    }
}

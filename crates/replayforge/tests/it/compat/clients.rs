//! An old proxy and an old player at our relay: the bytes that the original's programs send, and what they get.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::Message;
use crate::support::ports::Ports;
use crate::support::program::Program;
use crate::support::wire::Wire;

/// A relay with the buckets `b`, `c` and `small`, all with one token, and `other` with its own.
struct Relay {
    program: Program,
    ports: Ports,
    _folder: TempDir,
}

impl Relay {
    fn start() -> Relay {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports::free();
        let bucket = |auth: &str, size_kb: u64| json!({ "auth": auth, "dbMaxSizeKb": size_kb });
        let config = json!({
            "port": ports.relay,
            "listenAddress": "127.0.0.1",
            "portStatusZ": ports.status,
            "dataDir": folder.path(),
            "buckets": {
                "b": bucket("one", 10240),
                "c": bucket("one", 10240),
                "small": bucket("one", 1024),
                "other": bucket("two", 10240),
            },
        });
        let program = Program::role(folder.path(), "relay", &config);
        Relay { program, ports, _folder: folder }
    }

    /// What Go's client sends for this call, to the byte.
    fn go(&self, method: &str, target: &str, lines: &[&str], body: &str) -> Message {
        let port = self.ports.relay;
        let length = format!("Content-Length: {}", body.len());
        let length = (!body.is_empty()).then_some(length.as_str());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: Go-http-client/1.1\r\n"
        );
        let lines = length.iter().chain(lines).flat_map(|line| [*line, "\r\n"]);
        let head: String = std::iter::once(head.as_str()).chain(lines).collect();
        Wire::connect(port)
            .exchange(format!("{head}Accept-Encoding: gzip\r\n\r\n{body}").as_bytes())
    }

    fn record(&self, buckets: &str, token: &str, events: &[&str]) -> Message {
        let lines = [
            format!("Authorization: Bearer {token}"),
            "Content-Type: application/json".into(),
            format!("Rf-Buckets: {buckets}"),
        ];
        let lines = lines.each_ref().map(String::as_str);
        self.go("POST", "/record-batch", &lines, &serde_json::to_string(events).unwrap())
    }

    fn of_bucket(&self, method: &str, target: &str, bucket: &str, body: &str) -> Message {
        let bucket = format!("Rf-Bucket: {bucket}");
        self.go(method, target, &["Authorization: Bearer one", &bucket], body)
    }

    /// Contents and ids of a bucket, in the very text that the original writes.
    fn pull(&self, bucket: &str, target: &str) -> Vec<(u64, String)> {
        let answer = self.of_bucket("GET", target, bucket, "");
        assert_eq!(
            (answer.status(), answer.header("Content-Encoding")),
            (200, None),
            "{}",
            answer.text()
        );
        let items = answer.json();
        let items: Vec<(u64, String)> =
            items.as_array().unwrap().iter().map(id_and_content).collect();
        let item = |(id, content): &(u64, String)| {
            format!("{{\"id\":{id},\"content\":{}}}", json!(content))
        };
        assert_eq!(
            answer.text(),
            format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(","))
        );
        items
    }

    fn contents(&self, bucket: &str, target: &str) -> Vec<String> {
        self.pull(bucket, target).into_iter().map(|(_, content)| content).collect()
    }

    fn check_empty(&self, bucket: &str) {
        let answer = self.of_bucket("GET", "/first-batch", bucket, "");
        assert_eq!((answer.status(), answer.text().as_str()), (404, "[]"), "bucket {bucket}");
    }

    fn acknowledge(&self, bucket: &str, ids: &[u64]) -> Message {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        self.of_bucket("DELETE", "/acknowledge-batch", bucket, &json!({ "ids": ids }).to_string())
    }

    fn status(&self) -> Value {
        let answer = Wire::connect(self.ports.status)
            .exchange(b"GET /statusz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        assert_eq!(answer.status(), 200);
        answer.json()
    }
}

fn id_and_content(item: &Value) -> (u64, String) {
    (item["id"].as_u64().unwrap(), item["content"].as_str().unwrap().to_owned())
}

#[test]
fn an_old_proxy_records_into_several_buckets() {
    let relay = Relay::start();
    let events = [r#"{"ip":"1.2.3.4:5","body":"a \"quoted\" é"}"#, "plain text\n\t", ""];
    let answer = relay.record("b, c", "one", &events);
    assert_eq!((answer.status(), answer.body.len()), (200, 0), "{}", answer.text());
    for bucket in ["b", "c"] {
        assert_eq!(relay.contents(bucket, "/first-batch"), events, "bucket {bucket}");
    }
    relay.check_empty("small");
}

#[test]
fn a_token_that_does_not_fit_every_bucket_writes_to_none() {
    let relay = Relay::start();
    for buckets in ["b,other", "other,b", "b,nobody", "b, c, other", "nobody"] {
        assert_eq!(relay.record(buckets, "one", &["x"]).status(), 401, "{buckets}");
    }
    for token in ["wrong", "", "one ", "One", "oneone"] {
        let wanted = if token == "one " { 200 } else { 401 };
        assert_eq!(relay.record("c", token, &["x"]).status(), wanted, "token {token:?}");
    }
    assert_eq!(relay.go("POST", "/record-batch", &["Rf-Buckets: b"], r#"["x"]"#).status(), 401);
    assert_eq!(
        relay.go("POST", "/record-batch", &["Authorization: Bearer one"], r#"["x"]"#).status(),
        401
    );
    relay.check_empty("b");
    assert_eq!(
        relay.contents("c", "/first-batch"),
        ["x"],
        "only the blank at the end of a header does not count"
    );
}

#[test]
fn an_old_player_reads_and_acknowledges() {
    let relay = Relay::start();
    relay.check_empty("b");
    let events: Vec<String> = (0..150).map(|n| format!("event {n}")).collect();
    let texts: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(relay.record("b", "one", &texts).status(), 200);

    // Reading does not remove, and every reader sees the same.
    let first = relay.pull("b", "/first-batch?limit=2");
    assert_eq!(first, relay.pull("b", "/first-batch?limit=2"));
    assert_eq!(relay.contents("b", "/first-batch?limit=100"), events[..100]);
    assert_eq!(relay.contents("b", "/first-batch"), events[..100], "100 is the default");
    assert_eq!(relay.contents("b", "/first-batch?limit=1"), events[..1]);

    let answer = relay.acknowledge("b", &[first[0].0, first[1].0]);
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains(' '), "a sentence: {}", answer.text());
    assert_eq!(relay.acknowledge("b", &[first[0].0]).status(), 404, "none of them there");
    assert_eq!(relay.acknowledge("c", &[first[1].0 + 1]).status(), 404, "ids are of one bucket");
    let rest = relay.pull("b", "/first-batch");
    assert_eq!(rest[0].1, "event 2");
    assert!(rest.windows(2).all(|pair| pair[0].0 < pair[1].0), "ids grow");

    let highest = rest[rest.len() - 1].0;
    let rest: Vec<u64> = (0..200).map(|n| first[0].0 + n).collect();
    assert_eq!(relay.acknowledge("b", &rest).status(), 200, "some of them are there");
    relay.check_empty("b");
    assert_eq!(relay.record("b", "one", &["later"]).status(), 200);
    assert!(relay.pull("b", "/first-batch")[0].0 > highest, "an id is never used again");
}

#[test]
fn what_makes_no_sense_is_refused_as_the_original_does() {
    let relay = Relay::start();
    assert_eq!(relay.record("b", "one", &["kept"]).status(), 200);
    for limit in ["0", "101", "-1", "ten", "1.5", "99999999999999999999999"] {
        let answer = relay.of_bucket("GET", &format!("/first-batch?limit={limit}"), "b", "");
        assert_eq!(answer.status(), 400, "limit {limit}");
    }
    for body in ["{}", r#"{"ids": 1}"#, r#"{"ids": ["x"]}"#, "nothing"] {
        assert_eq!(
            relay.of_bucket("DELETE", "/acknowledge-batch", "b", body).status(),
            400,
            "{body}"
        );
    }
    for body in ["{}", "[1]", r#"["a""#, "text", r#"["a"] more"#] {
        let answer = relay.go(
            "POST",
            "/record-batch",
            &["Authorization: Bearer one", "Rf-Buckets: b"],
            body,
        );
        assert_eq!(answer.status(), 400, "{body}");
    }
    for (method, target) in [
        ("GET", "/record-batch"),
        ("PUT", "/record-batch"),
        ("DELETE", "/record-batch"),
        ("POST", "/first-batch"),
        ("POST", "/acknowledge-batch"),
        ("GET", "/acknowledge-batch"),
        ("GET", "/node-info"),
    ] {
        assert_eq!(relay.of_bucket(method, target, "b", "").status(), 405, "{method} {target}");
    }
    assert_eq!(relay.contents("b", "/first-batch"), ["kept"]);
}

#[test]
fn single_events_have_their_own_calls() {
    let relay = Relay::start();
    let record = |body: &str| {
        relay.go("POST", "/record", &["Authorization: Bearer one", "Rf-Buckets: b"], body)
    };
    assert_eq!(record("the raw body, \"as it is\"").status(), 200);
    assert_eq!(record("second").status(), 200);
    let first = relay.of_bucket("GET", "/first", "b", "");
    let (id, content) = id_and_content(&first.json());
    assert_eq!(content, "the raw body, \"as it is\"");
    assert_eq!(first.text(), format!("{{\"id\":{id},\"content\":{}}}", json!(content)));
    let acknowledge =
        || relay.of_bucket("DELETE", &format!("/acknowledge?id={id}"), "b", "").status();
    assert_eq!((acknowledge(), acknowledge()), (200, 404));
    assert_eq!(relay.contents("b", "/first-batch"), ["second"]);
}

#[test]
fn a_full_bucket_is_named_and_the_others_still_take() {
    let mut relay = Relay::start();
    relay.program.expect_error("");
    let large = "x".repeat(50_000);
    let mut stored = 0;
    let refused = loop {
        let answer = relay.record("small", "one", &[&large]);
        if answer.status() != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "a bucket of 1024 KiB holds {stored} events of 50,000 bytes");
    };
    assert!(stored > 5, "{stored} fit into 1024 KiB");
    assert_eq!(refused.status(), 429);
    assert!(refused.text().contains("small"), "{}", refused.text());
    assert!(refused.header("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));

    // What the WAL holds counts, and may be given back in between: then a few more fit.
    let both = loop {
        let answer = relay.record("b,small", "one", &[&large]);
        if answer.status() != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "a bucket of 1024 KiB holds {stored} events of 50,000 bytes");
    };
    assert_eq!(both.status(), 429);
    assert!(both.text().contains("small") && !both.text().contains("b,"), "{}", both.text());

    let ids: Vec<u64> = relay.pull("small", "/first-batch").iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), stored);
    assert_eq!(relay.acknowledge("small", &ids).status(), 200);
    assert_eq!(relay.record("small", "one", &[&large]).status(), 200, "there is room again");
}

#[test]
fn the_status_page_has_the_original_s_fields() {
    let relay = Relay::start();
    let caller = [
        "Authorization: Bearer one",
        "Rf-Bucket: b",
        "Rf-Buckets: b",
        "Rf-Env-Name: prod",
        "Rf-Hostname: web-1",
    ];
    assert_eq!(relay.go("POST", "/record-batch", &caller, r#"["1","2","3"]"#).status(), 200);
    assert_eq!(relay.go("GET", "/first-batch?limit=2", &caller, "").status(), 200);
    let info = json!({
        "memoryProcess": 1, "memoryHostTotal": 2, "memoryHostFree": 3, "memoryHostUsedPct": 4.5, "cpuPercentHost": 0.5,
        "diskTotal": 6, "diskFree": 7, "diskUsedPct": 8, "lastUpdated": "2024-01-01T00:00:00Z", "warnCount": 9,
        "errorCount": 10, "statuszInfo": { "sources": {} }, "appBytesSentTotal": 11, "envName": "prod", "tsComputedName": "",
    });
    assert_eq!(relay.go("POST", "/node-info", &caller, &info.to_string()).status(), 200);
    assert_eq!(relay.go("POST", "/node-info", &caller, "[1]").status(), 400);
    assert_eq!(
        relay
            .go("POST", "/node-info", &["Authorization: Bearer no", "Rf-Bucket: b"], "{}")
            .status(),
        401
    );

    let status = relay.status();
    assert_eq!(status["nodeInfo"]["web-1"], info);
    assert!(status["uptime"].is_string());
    for (kind, entry) in [
        ("relay", &status["buckets"]["b"]),
        ("env", &status["envs"]["prod"]),
        ("hostname", &status["hostnames"]["web-1"]),
    ] {
        check_entry(kind, entry);
    }
    let bucket = &status["buckets"]["b"];
    assert_eq!((&bucket["id"], &bucket["databaseMaxSizeKb"]), (&json!("b"), &json!(10240)));
    assert!(bucket["databaseSizeKb"].as_u64().is_some_and(|kb| kb > 0));
    assert_eq!(status["buckets"]["c"]["rxMessagesSinceStart"], 0, "a silent bucket is there, too");
    let other =
        Wire::connect(relay.ports.status).exchange(b"GET /anything HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((other.status(), other.text().as_str()), (200, "ok"));
}

/// Three messages came in one query, two went out in one.
fn check_entry(kind: &str, entry: &Value) {
    let counts = |names: [&str; 3]| {
        names
            .map(|name| entry[name].as_u64().unwrap_or_else(|| panic!("{kind}: {name} in {entry}")))
    };
    assert_eq!(entry["kind"], kind);
    assert_eq!(
        counts(["rxMessagesSinceStart", "databaseSizeKb", "databaseMaxSizeKb"])[0],
        3,
        "{entry}"
    );
    // The minute may have turned since.
    let [rx, last_minute, rx_queries] =
        counts(["rxMessagesByMinute", "lastMinuteRxMessages", "rxQueryByMinute"]);
    assert!((rx, rx_queries) == (3, 1) || last_minute == 3, "{entry}");
    let [tx, tx_queries, _] =
        counts(["txMessageByMinute", "txQueryByMinute", "rxMessagesSinceStart"]);
    assert!((tx, tx_queries) == (2, 1) || last_minute == 3, "{entry}");
    for name in ["rxLastMessageDate", "txLastAccess"] {
        let date = entry[name].as_str().unwrap_or_else(|| panic!("{kind}: {name} in {entry}"));
        assert!(date.starts_with("20") && date.contains('T'), "{kind}: {name} is {date}");
    }
}

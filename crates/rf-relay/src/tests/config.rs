//! Configuration files and what is said about them.

use std::time::Duration;

use rf_core::config::{Problems, parse};

use crate::config::{Durability, RelayConfig, WhenFull};

/// Checks a file; what is said about it comes along.
fn check(text: &str) -> (Option<RelayConfig>, String) {
    let mut problems = Problems::new();
    let document = parse("relay.json", text, &|_| None, &mut problems).expect("JSON");
    (RelayConfig::check(document.root(), None, &mut problems), problems.to_string())
}

fn good(text: &str) -> RelayConfig {
    let (config, problems) = check(text);
    assert_eq!(problems, "");
    config.expect("no problems")
}

#[test]
fn a_file_of_the_original() {
    let config = good(
        r#"{
            "port": 9000,
            "portStatusZ": 5254,
            "useTailnet": false,
            "tailnetHostname": "relay-forwarder",
            "buckets": {
                "api.prod": {"auth": "one", "dbMaxSizeKb": 20480, "tls": 3600},
                "logs": {"auth": "two", "dbMaxSizeKb": 1024, "tls": 0}
            }
        }"#,
    );
    assert_eq!((config.listen_address.as_str(), config.port), ("0.0.0.0", 9000));
    let status = config.status.unwrap();
    assert_eq!((status.address.as_str(), status.port), ("127.0.0.1", 5254));
    assert_eq!(config.data_dir.to_str(), Some("."));
    let buckets: Vec<_> = config
        .buckets
        .iter()
        .map(|(name, bucket)| (name.as_str(), bucket.auth.expose(), bucket.max_bytes, bucket.ttl))
        .collect();
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(
        buckets,
        [("api.prod", "one", 20_480 * 1024, hour), ("logs", "two", 1024 * 1024, None)]
    );
}

#[test]
fn zero_and_empty_are_what_a_missing_key_is() {
    let config = good(
        r#"{
            "port": 0, "portStatusZ": 0, "listenAddress": "", "statusAddress": "",
            "buckets": {"b": {"auth": "x", "dbMaxSizeKb": 0, "tls": 0}}
        }"#,
    );
    assert_eq!((config.listen_address.as_str(), config.port), ("0.0.0.0", 8081));
    let bucket = config.buckets.values().next().unwrap();
    assert_eq!((bucket.max_bytes, bucket.ttl), (100 * 1024 * 1024, None));
}

#[test]
fn every_key_of_ours() {
    let config = good(
        r#"{
            // JSON5 is fine
            listenAddress: "127.0.0.1", statusAddress: "0.0.0.0", portStatusZ: 0, dataDir: "/data", store: "embedded",
            limits: {maxBodyBytes: "1MiB", maxBatchEvents: 5, maxConnections: 7, headerTimeout: "1s",
                     bodyTimeout: "2s", idleTimeout: 3},
            buckets: {b: {auth: "x", ttlSecs: 60, whenFull: "dropOldest", durability: "process"}},
        }"#,
    );
    assert_eq!((config.listen_address.as_str(), config.port), ("127.0.0.1", 8081));
    assert_eq!(config.status, None, "port 0 is no status page");
    assert_eq!(config.data_dir.to_str(), Some("/data"));
    assert_eq!(
        (config.requests.max_body_bytes, config.requests.max_batch_events),
        (1024 * 1024, 5)
    );
    assert_eq!(config.server.max_connections.get(), 7);
    let timeouts =
        [config.server.header_timeout, config.requests.body_timeout, config.server.idle_timeout];
    assert_eq!(timeouts, [1, 2, 3].map(Duration::from_secs));
    let bucket = config.buckets.values().next().unwrap();
    assert_eq!(bucket.max_bytes, 100 * 1024 * 1024);
    assert_eq!(bucket.ttl, Some(Duration::from_secs(60)));
    assert_eq!((bucket.when_full, bucket.durability), (WhenFull::DropOldest, Durability::Process));
}

#[test]
fn all_errors_at_once() {
    let (config, problems) = check(
        r#"{
  "useTailnet": true,
  "store": "cloud",
  "buckets": {
    "../up": {"auth": "x"},
    "open": {"auth": ""},
    "small": {"auth": "x", "dbMaxSizeKb": 5}
  }
}"#,
    );
    assert!(config.is_none());
    let expected = "\
relay.json:2:17: error: useTailnet: the relay does not join a tailnet by itself: remove the key, and use the host's \
Tailscale, see docs/guides/tailnet.md
relay.json:3:12: error: store: expected embedded, found \"cloud\"
relay.json:5:14: error: buckets[\"../up\"]: not the name of a bucket: expected 1 to 255 bytes without `/`, commas and \
control characters, without a `.` at the start, and without whitespace at either end
relay.json:6:22: error: buckets.open.auth: expected a token, found nothing: anybody could read the bucket
relay.json:7:43: warning: buckets.small.dbMaxSizeKb: a bucket takes at least 1024 KiB on disk: 1024 is used";
    assert_eq!(problems, expected);
}

#[test]
fn what_cannot_work_is_told_before_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let told = |keys: &str, expected: &str| {
        let (config, problems) = check(&format!("{{buckets: {{b: {{auth: \"x\"}}}}, {keys}}}"));
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
        assert_eq!(config.is_none(), problems.contains(": error: "), "{problems}");
    };
    let same = "error: portStatusZ: the relay itself listens there already";
    told("port: 9000, portStatusZ: 9000", same);
    told("port: 9000, portStatusZ: 9000, listenAddress: \"127.0.0.1\"", same);
    told("port: 9000, portStatusZ: 9000, listenAddress: \"127.0.0.2\"", "");
    told("port: 0, portStatusZ: 0", "");
    let no_address = "listenAddress: expected an IP address or a name, found \"999.1.1.1\"";
    told("listenAddress: \"999.1.1.1\"", no_address);
    told(
        "portStatusZ: 9001, statusAddress: \"999.1.1.1\", statusAuth: \"x\"",
        "statusAddress: expected an IP address or a name, found \"999.1.1.1\"",
    );
    told(
        &format!("dataDir: {file:?}"),
        &format!("dataDir: expected a folder, {} is a file", file.display()),
    );
    told("limits: {maxBodyBytes: 0}", "limits.maxBodyBytes: expected a size above zero");
    told("limits: {idleTimeout: 0}", "limits.idleTimeout: expected a time above zero");
    told(
        "limits: {maxConnections: 2000000}",
        "limits.maxConnections: more than 1048576 are of no use: 1048576 is used",
    );
    told("traceSteps: 10000001", "traceSteps: more than 10000000 are of no use: 10000000 is used");
}

#[test]
fn the_port_of_the_command_line_is_the_one_that_is_looked_at() {
    let told = |keys: &str, expected: &str| {
        let text = format!("{{buckets: {{b: {{auth: \"x\"}}}}, {keys}}}");
        let mut problems = Problems::new();
        let document = parse("relay.json", &text, &|_| None, &mut problems).expect("JSON");
        let config = RelayConfig::check(document.root(), Some(9000), &mut problems);
        assert_eq!(config.map(|config| config.port), expected.is_empty().then_some(9000));
        let problems = problems.to_string();
        assert!(problems.ends_with(expected), "{problems}");
        assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
    };
    told("portStatusZ: 8081", "");
    told("port: 5253, portStatusZ: 5253", "");
    let same = "error: portStatusZ: the relay itself listens there already";
    told("portStatusZ: 9000", same);
    told("port: 5253, portStatusZ: 9000", same);
}

#[test]
fn a_bucket_is_no_larger_than_a_database_can_be() {
    let (config, problems) = check("{buckets: {b: {auth: \"x\", dbMaxSizeKb: 9007199254740993}}}");
    let most = config.unwrap().buckets.values().next().unwrap().max_bytes;
    assert_eq!(most, rf_queue::MAX_STORE_BYTES);
    let expected = "dbMaxSizeKb: a database holds at most 17179869176 KiB: 17179869176 is used";
    assert!(problems.ends_with(expected), "{problems}");
}

#[test]
fn a_token_is_one_that_a_request_can_show() {
    let errors = |token: &str| {
        let token = serde_json::Value::from(token);
        check(&serde_json::json!({ "buckets": { "b": { "auth": token } } }).to_string()).1
    };
    for token in ["x", "two words", "a=b/c+d~", "!", " my-token", "my-token \t", "my-tökn"] {
        assert_eq!(errors(token), "", "{token}");
    }
    assert!(errors(" \t").contains("expected a token, found nothing"));
    for token in ["my-token\n", "my\ntoken", "my\u{7f}token", "my\0token"] {
        let problems = errors(token);
        let expected = "error: buckets.b.auth: no header can carry this token";
        assert!(problems.contains(expected) && !problems.contains("my"), "{problems}");
    }
}

#[test]
fn warnings_leave_a_configuration() {
    let (config, problems) = check("{\"buckets\": {}}");
    assert!(config.is_some());
    assert_eq!(
        problems,
        "relay.json:1:13: warning: buckets: there are no buckets, so the relay accepts no events"
    );
    let (config, problems) =
        check("{\"buckets\": {\"b\": {\"auth\": \"secret-token\", \"dbMaxSizeKB\": 1, \"x\": 1}}}");
    assert!(config.is_some_and(|config| {
        config.buckets.values().all(|bucket| bucket.max_bytes == 1024 * 1024)
    }));
    assert!(problems.contains("buckets.b.x"), "{problems}");
    assert!(!problems.contains("secret-token"), "{problems}");
}

#[test]
fn bodies_are_no_larger_than_what_a_player_reads() {
    let (config, problems) =
        check(r#"{limits: {maxBodyBytes: "65MiB"}, buckets: {b: {auth: "x"}}}"#);
    let expected = "relay.json:1:25: warning: limits.maxBodyBytes: a player reads at most 64 MiB at once, so a larger event \
                    could never leave its bucket: 64MiB is used";
    assert_eq!(problems, expected);
    assert_eq!(config.unwrap().requests.max_body_bytes, 64 * 1024 * 1024);
    let most = good(r#"{limits: {maxBodyBytes: "64MiB"}, buckets: {b: {auth: "x"}}}"#);
    assert_eq!(most.requests.max_body_bytes, 64 * 1024 * 1024);
}

#[test]
fn of_two_names_of_a_key_ours_counts() {
    let (config, problems) = check(r#"{"buckets": {"b": {"auth": "x", "ttlSecs": 1, "tls": 2}}}"#);
    let expected = "relay.json:1:47: warning: buckets.b.tls: ignored: `ttlSecs` is there too and means the same";
    assert_eq!(problems, expected);
    let ttls: Vec<_> = config.unwrap().buckets.values().map(|bucket| bucket.ttl).collect();
    assert_eq!(ttls, [Some(Duration::from_secs(1))]);
}

#[test]
fn a_token_is_never_printed() {
    let config = good(r#"{"buckets": {"b": {"auth": "secret-token"}}}"#);
    assert!(!format!("{config:?}").contains("secret-token"));
}

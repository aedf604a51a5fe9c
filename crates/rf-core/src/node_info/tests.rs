use serde_json::json;

use super::*;

/// What an agent of this version sends, in full.
fn full() -> NodeInfo {
    let mut latency = Latency::default();
    [0, 1, 2, 7, 7_200_000].into_iter().for_each(|took| latency.add(took));
    let sink = SinkInfo {
        kind: "relay".to_owned(),
        wired_to: Some(Wiring {
            relay: "http://relay:8081".to_owned(),
            buckets: vec!["shop".to_owned()],
        }),
        shipped: 5,
        dropped: [("full".to_owned(), 2)].into(),
        queue: QueueInfo { events: 3, bytes: 300, max_bytes: 1000, oldest_at_ms: Some(7) },
        paused: Some("401: unknown bucket or wrong token".to_owned()),
        last_error: Some(LastError { at_ms: 9, text: "connection refused".to_owned() }),
        latency: Some(latency),
        recent_logs: vec![LogLine { at_ms: 8, level: "warn".to_owned(), text: "slow".to_owned() }],
        ..SinkInfo::default()
    };
    let source = SourceInfo {
        kind: "http".to_owned(),
        sinks: vec!["to-relay".to_owned()],
        received: 10,
        last_success_at_ms: Some(6),
        ..SourceInfo::default()
    };
    NodeInfo {
        cpu_percent_host: 12.5,
        memory_process: 1024,
        statusz_info: json!({ "uptime": "1s" }),
        role: Role::Proxy,
        version: "0.1.0".to_owned(),
        clock_ms: 10,
        sources: [("in".to_owned(), source)].into(),
        sinks: [("to-relay".to_owned(), sink)].into(),
        ..NodeInfo::default()
    }
}

#[test]
fn what_is_written_is_read() {
    let info = full();
    assert_eq!(NodeInfo::parse(&info.clone().to_body()).unwrap(), info);
}

/// Old relays hand on what they are told, and dashboards read it by these keys.
#[test]
fn every_key_of_the_original_is_written() {
    let written: Value = serde_json::from_slice(&full().to_body()).unwrap();
    for key in [
        "memoryProcess",
        "memoryHostTotal",
        "memoryHostFree",
        "memoryHostUsedPct",
        "cpuPercentHost",
        "diskTotal",
        "diskFree",
        "diskUsedPct",
        "lastUpdated",
        "warnCount",
        "errorCount",
        "statuszInfo",
        "appBytesSentNodeInfo",
        "appBytesRecvNodeInfo",
        "appBytesSentTotal",
        "appBytesRecvTotal",
        "envName",
        "tsComputedName",
    ] {
        assert!(written.get(key).is_some(), "{key} in {written}");
    }
    assert_eq!(DEFAULT_EVERY_SECS, 60);
}

#[test]
fn the_originals_keys_and_any_types() {
    let body = json!({
        "memoryProcess": 1.5e9, "cpuPercentHost": 3, "diskUsedPct": "much", "warnCount": -1,
        "lastUpdated": "2026-01-31T00:00:00Z", "statuszInfo": { "sources": {} }, "role": "gateway",
        "sinks": { "a": { "type": 7, "queue": { "events": "x", "bytes": 4 }, "new key": [1] } }, "sources": [1],
    });
    let info = NodeInfo::parse(body.to_string().as_bytes()).unwrap();
    assert_eq!((info.memory_process, info.warn_count), (1_500_000_000, 0));
    assert_eq!((info.cpu_percent_host, info.disk_used_pct), (3.0, 0.0));
    assert_eq!(info.last_updated, "2026-01-31T00:00:00Z");
    assert_eq!((info.role, info.sources.len()), (Role::Unknown, 0));
    assert_eq!((info.sinks["a"].kind.as_str(), info.sinks["a"].queue.bytes), ("", 4));
    assert_eq!(NodeInfo::parse(b"{}").unwrap(), NodeInfo::default());
    assert!(NodeInfo::parse(b"[1]").is_err());
}

#[test]
fn what_a_stranger_sends_is_bounded() {
    let long = "ä".repeat(1000);
    let line = json!({ "atMs": 1, "level": long, "text": long });
    let mut last = line.clone();
    last["text"] = json!("last");
    let mut lines = vec![line; 100];
    lines.push(last);
    let component = json!({
        "type": long, "sinks": vec![&long; 100], "recentLogs": lines, "paused": long,
        "wiredTo": { "relay": long, "buckets": vec![&long; 100] },
        "latency": { "counts": vec![u64::MAX; 100] },
    });
    let mut components: BTreeMap<String, Value> =
        (0..100).map(|n| (format!("c{n}"), json!({}))).collect();
    components.insert("c0".to_owned(), component);
    components.insert(long.clone(), json!({}));
    let body = json!({ "version": long, "cpuPercentHost": 1e300, "sources": components, "sinks": components });
    let info = NodeInfo::parse(body.to_string().as_bytes()).unwrap();

    assert_eq!(info.version.chars().count(), MAX_NAME_CHARS);
    assert_eq!(info.cpu_percent_host, 100.0);
    assert_eq!((info.sources.len(), info.sinks.len()), (MAX_COMPONENTS, MAX_COMPONENTS));
    let (source, sink) = (&info.sources["c0"], &info.sinks["c0"]);
    assert_eq!(source.sinks.len(), MAX_LISTED);
    assert_eq!(source.recent_logs.len(), MAX_LOG_LINES);
    assert_eq!(source.recent_logs[MAX_LOG_LINES - 1].text, "last");
    assert_eq!(source.recent_logs[0].text.chars().count(), MAX_TEXT_CHARS);
    assert_eq!(sink.wired_to.as_ref().unwrap().buckets.len(), MAX_LISTED);
    let latency = sink.latency.as_ref().unwrap();
    assert_eq!(latency.counts.len(), LATENCY_BOUNDS_MS.len() + 1);
    assert_eq!(latency.quantile_ms(0.5), Some(500));
}

#[test]
fn a_body_that_is_too_large_leaves_logs_out_first() {
    let mut info = full();
    let line = LogLine { at_ms: 1, level: "warn".to_owned(), text: "x".repeat(MAX_TEXT_CHARS) };
    let noisy = SinkInfo { recent_logs: vec![line; MAX_LOG_LINES], ..SinkInfo::default() };
    info.sinks.extend((0..60).map(|n| (format!("s{n}"), noisy.clone())));
    let body = info.clone().to_body();
    assert!(body.len() <= MAX_NODE_INFO_BYTES);
    let read = NodeInfo::parse(&body).unwrap();
    assert_eq!((read.sinks.len(), read.sinks["s0"].recent_logs.len()), (61, 0));
    assert_eq!(read.statusz_info, info.statusz_info);

    info.statusz_info = json!("x".repeat(MAX_NODE_INFO_BYTES));
    let read = NodeInfo::parse(&info.to_body()).unwrap();
    assert_eq!((read.statusz_info, read.sinks.len()), (Value::Null, 61));
}

#[test]
fn latency_counts_by_bound() {
    let latency = full().sinks["to-relay"].latency.clone().unwrap();
    assert_eq!(latency.counts[..4], [2, 1, 0, 1]);
    assert_eq!((latency.counts[17], latency.sum_ms), (1, 7_200_010));
    assert_eq!((latency.quantile_ms(0.5), latency.quantile_ms(0.8)), (Some(2), Some(10)));
    assert_eq!((latency.quantile_ms(1.0), Latency::default().quantile_ms(0.5)), (None, None));
}

#[test]
fn of_a_large_message_as_much_is_kept_as_fits() {
    // This many sinks with a hundred lines of 300 characters each; the lines that are kept of each.
    let check = |sinks: usize, more: &str, expected: Option<usize>| {
        let lines: Vec<String> = (0..100).map(|n| format!("{n} {}", "x".repeat(300))).collect();
        let component = json!({ "recentLogs": lines });
        let sinks: BTreeMap<String, Value> =
            (0..sinks).map(|n| (n.to_string(), component.clone())).collect();
        let body = json!({ "warnCount": 7, "statuszInfo": { "sinks": sinks, "more": more } });
        let body = body.to_string();
        let kept = kept_part(body.as_bytes()).unwrap().expect("it fits");
        assert!(kept.len() <= MAX_NODE_INFO_BYTES, "{}", kept.len());
        let info = NodeInfo::parse(&kept).unwrap();
        assert_eq!(info.warn_count, 7);
        let logs = info.statusz_info["sinks"]["0"]["recentLogs"].as_array();
        assert_eq!(logs.map(Vec::len), expected);
        let last = logs.and_then(|logs| logs.last()).and_then(Value::as_str);
        assert!(last.is_none_or(|line| line.starts_with("99 ")), "{last:?}");
    };
    check(2, "", Some(100));
    check(10, "", Some(MAX_LOG_LINES));
    check(100, "", Some(5));
    check(130, &"y".repeat(100_000), Some(1));
    check(130, &"y".repeat(240_000), Some(0));
    check(1, &"y".repeat(MAX_NODE_INFO_BYTES), None);
    let hopeless = json!({ "x": "y".repeat(MAX_NODE_INFO_BYTES) }).to_string();
    assert!(kept_part(hopeless.as_bytes()).unwrap().is_none());
}

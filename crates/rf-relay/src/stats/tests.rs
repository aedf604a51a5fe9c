use super::*;

/// The start of some minute.
const NOW: u64 = 1_700_000_040;

fn caller<'a>(env: &'a str, hostname: &'a str) -> Caller<'a> {
    Caller { env: env.into(), hostname: hostname.into() }
}

fn bucket() -> BucketName {
    BucketName::new("b").unwrap()
}

fn names<V>(named: Vec<(String, V)>) -> Vec<String> {
    let mut names: Vec<String> = named.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[test]
fn minute_counts_start_anew_each_minute() {
    let stats = Stats::default();
    stats.received(&caller("", ""), &[bucket()], 5, NOW);
    stats.received(&caller("", ""), &[bucket()], 2, NOW + 59);
    stats.sent(&caller("", ""), &bucket(), 3, NOW + 59);
    let minute_and_last = |now| {
        let counts = stats.bucket("b", now).counts;
        (
            counts.rx_messages_minute,
            counts.rx_queries_minute,
            counts.tx_messages_minute,
            counts.rx_messages_last_minute,
        )
    };
    assert_eq!(minute_and_last(NOW + 59), (7, 2, 3, 0));
    assert_eq!(minute_and_last(NOW + 60), (0, 0, 0, 7));
    assert_eq!(minute_and_last(NOW + 120), (0, 0, 0, 0));
    assert_eq!(minute_and_last(NOW - 1), (0, 0, 0, 0));
    let since_start = stats.bucket("b", NOW + 600).counts;
    assert_eq!(
        (since_start.rx_messages_since_start, since_start.rx_last_secs),
        (7, Some(NOW + 59))
    );
}

#[test]
fn hosts_are_forgotten_after_an_hour_and_environments_are_not() {
    let stats = Stats::default();
    stats.received(&caller("prod", "old"), &[bucket()], 1, NOW);
    stats.received(&caller("prod", "new"), &[bucket()], 1, NOW + 100);
    assert_eq!(names(stats.hostnames(NOW + 3599)), ["new", "old"]);
    assert_eq!(names(stats.hostnames(NOW + 3600)), ["new"]);
    assert_eq!(names(stats.envs(NOW + 99_999)), ["prod"]);
}

#[test]
fn tables_are_bounded_and_the_stalest_makes_room() {
    let stats = Stats::default();
    for n in 0..MAX_NAMES as u64 + 1 {
        let hostname = format!("host-{n}");
        stats.received(&caller(&hostname, &hostname), &[bucket()], 1, NOW + n);
    }
    for table in [names(stats.hostnames(NOW)), names(stats.envs(NOW))] {
        assert_eq!(table.len(), MAX_NAMES);
        assert!(!table.contains(&"host-0".to_owned()) && table.contains(&"host-1".to_owned()));
    }
    let many: Vec<_> = (0..100).map(|n| BucketName::new(&format!("bucket-{n}")).unwrap()).collect();
    stats.received(&caller("", "h"), &many, 1, NOW + 2000);
    let hosts = stats.hostnames(NOW + 2000);
    let host = hosts.iter().find(|(name, _)| name == "h").unwrap();
    assert_eq!(host.1.flows.len(), MAX_FLOWS);
}

#[test]
fn absurd_names_are_not_counted() {
    let stats = Stats::default();
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    stats.received(&caller(&long, &long), &[bucket()], 1, NOW);
    assert_eq!((stats.envs(NOW).len(), stats.hostnames(NOW).len()), (0, 0));
}

#[test]
fn who_uses_which_bucket_is_told_apart() {
    let stats = Stats::default();
    stats.received(&caller("prod", "web"), &[bucket()], 5, NOW);
    stats.sent(&caller("", "player"), &bucket(), 3, NOW + 1);
    let hosts: HashMap<_, _> = stats.hostnames(NOW + 2).into_iter().collect();
    let (web, player) = (hosts["web"].flows["b"], hosts["player"].flows["b"]);
    assert_eq!((web.written, web.written_at_secs, web.read_at_secs), (5, Some(NOW), None));
    assert_eq!((player.read, player.read_at_secs, player.written), (3, Some(NOW + 1), 0));
    assert_eq!(hosts["web"].env, "prod");
}

#[test]
fn counting_goes_on_after_a_restart() {
    let stats = Stats::default();
    stats.received(&caller("prod", "web"), &[bucket(), BucketName::new("gone").unwrap()], 5, NOW);
    stats.refused(&bucket(), NOW);
    let before = Usage { dropped_full: 3, dropped_age: 1, dropped_damaged: 2, ..Usage::default() };
    let kept = stats.to_tables(|name| (name == "b").then(|| before.clone()));
    let kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();

    let stats = Stats::new(kept, Absences::default());
    stats.received(&caller("prod", "web"), &[bucket()], 2, NOW + 5);
    let counts = stats.bucket("b", NOW + 5);
    let after = Usage { dropped_full: 10, ..Usage::default() };
    assert_eq!((counts.counts.rx_messages_since_start, counts.counts.refused), (7, 1));
    assert_eq!(counts.dropped(&after), (13, 1, 2));
    assert_eq!(counts.totals(&after).dropped, 16);
    assert_eq!(stats.bucket("gone", NOW).counts.rx_messages_since_start, 0);
    assert_eq!(names(stats.hostnames(NOW + 5)), ["web"]);
}

#[test]
fn what_earlier_versions_kept_is_read() {
    let kept = br#"{
        "buckets": {"b": {
            "counts": {"last_seen": 1700000040, "rx_last": 1700000039, "tx_last": 1700000038},
            "chart": {"points": [
                {"at": 1700000040, "rx": 1, "tx": 2, "dropped": 0, "refused": 0, "events": 3, "bytes": 4}
            ]}
        }},
        "hostnames": {"web": {
            "counts": {"last_seen": 1700000040},
            "flows": {"b": {"written_at": 1700000039, "read_at": 1700000038}}
        }}
    }"#;
    let stats = Stats::new(serde_json::from_slice(kept).unwrap(), Absences::default());
    let bucket = stats.bucket("b", NOW);
    assert_eq!(bucket.counts.rx_last_secs, Some(NOW - 1));
    assert_eq!(bucket.counts.tx_last_secs, Some(NOW - 2));
    assert_eq!(bucket.chart.points().next().map(|point| point.at_secs), Some(NOW));
    let hosts: HashMap<_, _> = stats.hostnames(NOW).into_iter().collect();
    let flow = hosts["web"].flows["b"];
    assert_eq!((flow.written_at_secs, flow.read_at_secs), (Some(NOW - 1), Some(NOW - 2)));
}

#[test]
fn the_newest_refused_call_of_a_host_is_known_for_some_minutes() {
    let stats = Stats::default();
    for n in 0..MAX_NAMES as u64 + 5 {
        stats.refused_call(&format!("host-{n}"), None, NOW + n);
    }
    stats.refused_call("web", Some("b".to_owned()), NOW + 2000);
    stats.refused_call("", None, NOW + 2000);
    let calls = stats.refused_calls(NOW + 2000);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls["web"], RefusedCall { at_secs: NOW + 2000, buckets: Some("b".to_owned()) });
    assert_eq!(stats.unauthorized(), MAX_NAMES as u64 + 7);
    assert_eq!(stats.refused_calls(NOW + 2181).len(), 0);
}

#[test]
fn the_log_has_the_names_of_some_refused_hosts_and_not_of_any_number() {
    let stats = Stats::default();
    let mut told = (0..30).map(|n| stats.refused_call(&format!("host-{n}"), None, NOW));
    assert_eq!((told.by_ref().take(20).all(|is| is), told.any(|is| is)), (true, false));
    assert!(!stats.refused_call("", None, NOW) && !stats.refused_call("host-0", None, NOW));
    assert!(stats.refused_call("host-0", None, NOW + 181), "the flood is over");
}

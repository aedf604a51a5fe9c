use std::time::Duration;

use rf_core::node_info::{LastError, NodeInfo, QueueInfo, Role, SinkInfo, SourceInfo};
use serde_json::value::RawValue;

use super::*;
use crate::absences::Absences;
use crate::config::Thresholds;
use crate::nodes::Nodes;

const NOW: u64 = 1_700_000_040_000;
const MINUTE: u64 = 60_000;
const MIB: u64 = 1024 * 1024;

/// What a relay that was always there says of the only node.
fn node_report(nodes: &Nodes, now_ms: u64) -> NodeReport {
    let node = &nodes.all(now_ms)[0];
    build::node_report(node, now_ms, &Thresholds::default(), &Absences::default())
}

/// A node that told of itself a minute before `NOW` and at `NOW`; its sentences.
fn sentences(change: impl FnOnce(&mut NodeInfo)) -> Vec<String> {
    let sink = SinkInfo { kind: "relay".to_owned(), ..SinkInfo::default() };
    let before = NodeInfo {
        role: Role::Proxy,
        started_at_ms: 1,
        sources: [("in".to_owned(), SourceInfo::default())].into(),
        sinks: [("out".to_owned(), sink)].into(),
        ..NodeInfo::default()
    };
    let mut after = before.clone();
    change(&mut after);
    let nodes = Nodes::default();
    let raw = || RawValue::from_string("{}".to_owned()).unwrap();
    nodes.told("web", raw(), before, NOW - MINUTE);
    nodes.told("web", raw(), after, NOW);
    let report = node_report(&nodes, NOW);
    assert_eq!(report.level, report.why.first().map_or(Level::Ok, |why| why.level));
    report.why.iter().map(|why| format!("{}: {}", why.level.as_str(), why.text)).collect()
}

fn sink(change: impl FnOnce(&mut SinkInfo)) -> Vec<String> {
    sentences(|info| change(info.sinks.get_mut("out").unwrap()))
}

fn error(at_ms: u64) -> Option<LastError> {
    Some(LastError { at_ms, text: "connection refused".to_owned() })
}

#[test]
fn a_node_that_is_well_has_nothing_to_say() {
    assert_eq!(sentences(|_| ()), [""; 0]);
    // What went wrong and well again, a queue that is nearly empty, a clock that is nearly right.
    let well = sentences(|info| {
        info.clock_ms = NOW + 9000;
        info.disk_used_pct = 89.9;
        let sink = info.sinks.get_mut("out").unwrap();
        sink.last_error = error(NOW - 2);
        sink.last_success_at_ms = Some(NOW - 1);
        sink.queue = QueueInfo {
            events: 3,
            bytes: MIB,
            max_bytes: 10 * MIB,
            oldest_at_ms: Some(NOW - MINUTE),
        };
    });
    assert_eq!(well, [""; 0]);
}

#[test]
fn a_sink_that_does_not_deliver() {
    assert_eq!(
        sink(|sink| sink.paused = Some("401 Unauthorized".to_owned())),
        ["bad: sink out is paused until somebody acts: 401 Unauthorized"]
    );
    let queue =
        |oldest| QueueInfo { events: 3, oldest_at_ms: Some(oldest), ..QueueInfo::default() };
    let fails = |oldest| {
        sink(|sink| {
            sink.last_error = error(NOW - 1);
            sink.queue = queue(oldest);
        })
    };
    assert_eq!(
        fails(NOW - MINUTE),
        ["warn: sink out cannot deliver and tries again: connection refused"]
    );
    assert_eq!(
        fails(NOW - 11 * MINUTE),
        ["bad: the oldest event of sink out has waited for 11 min: connection refused"]
    );
    let slow = sink(|sink| {
        sink.shipped = 5;
        sink.queue = queue(NOW - 11 * MINUTE);
    });
    assert_eq!(
        slow,
        ["warn: the oldest event of sink out has waited for 11 min"],
        "slow, but moving"
    );
}

#[test]
fn a_queue_that_fills_losses_clock_and_disk() {
    let full = |bytes| {
        sink(|sink| sink.queue = QueueInfo { bytes, max_bytes: 100, ..QueueInfo::default() })
    };
    assert_eq!(full(80), ["warn: the queue of sink out is 80 % full: 80 B of 100 B"]);
    assert_eq!(full(95), ["bad: the queue of sink out is 95 % full: 95 B of 100 B"]);
    assert_eq!(
        sink(|sink| {
            sink.dropped = [("full".to_owned(), 1200), ("age".to_owned(), 0)].into();
            sink.dead_lettered = 1;
        }),
        ["bad: dropped 1,200 events lately (full)", "warn: 1 event became a dead letter lately"]
    );
    let dropped = |reasons: &[(&str, u64)]| {
        let reasons = reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        sink(|sink| sink.dropped = reasons.collect())
    };
    assert_eq!(dropped(&[("script", 9)]), [""; 0], "what a script filters out is no trouble");
    assert_eq!(
        dropped(&[("script", 9), ("scriptError", 2)]),
        ["bad: dropped 2 events lately (scriptError)"]
    );
    assert_eq!(
        sentences(|info| {
            info.clock_ms = NOW - 130_000;
            info.disk_used_pct = 97.5;
            info.disk_free = MIB;
        }),
        ["bad: its disk is 97 % full, 1.0 MiB free", "warn: its clock is 2 min behind the relay's"]
    );
    // A wrong clock does not make events old.
    let skewed = sentences(|info| {
        info.clock_ms = NOW - 3600 * 1000;
        info.sinks.get_mut("out").unwrap().queue.oldest_at_ms = Some(NOW - 3600 * 1000 - 5);
    });
    assert_eq!(skewed, ["warn: its clock is 60 min behind the relay's"]);
    let ahead = sentences(|info| {
        info.sinks.get_mut("out").unwrap().queue.oldest_at_ms = Some(NOW + 2 * 3600 * 1000);
    });
    assert_eq!(ahead.len(), 1, "{ahead:?}");
    let text = "warn: the oldest event of sink out was stored while a clock was wrong: its time is 2 h ahead";
    assert!(ahead[0].starts_with(text), "{ahead:?}");
}

#[test]
fn a_source_that_fails_or_is_paused() {
    let source =
        |change: fn(&mut SourceInfo)| sentences(|info| change(info.sources.get_mut("in").unwrap()));
    assert_eq!(
        source(|source| source.last_error = error(NOW)),
        ["warn: source in fails: connection refused"]
    );
    assert_eq!(
        source(|source| source.paused = Some("no such file".to_owned())),
        ["bad: source in is paused: no such file"]
    );
}

#[test]
fn the_instance_is_what_the_id_has_besides_host_and_role() {
    for (host, id, expected) in [
        ("web", "web/proxy", ""),
        ("web", "web", ""),
        ("web", "web/proxy/1f", "1f"),
        ("a/proxy", "a/proxy/proxy/1f", "1f"),
    ] {
        let (host, id, role) = (host.to_owned(), id.to_owned(), "proxy".to_owned());
        let node = NodeReport { host, id, role, ..NodeReport::default() };
        assert_eq!(node.instance(), expected);
    }
}

#[test]
fn dead_letters_of_scripts_count_too() {
    let nodes = Nodes::default();
    let source = |dead_letters| SourceInfo { dead_letters, ..SourceInfo::default() };
    let info = NodeInfo {
        sources: [("a".to_owned(), source(2)), ("b".to_owned(), source(3))].into(),
        sinks: [("out".to_owned(), SinkInfo { dead_letters: 4, ..SinkInfo::default() })].into(),
        ..NodeInfo::default()
    };
    nodes.told("web", RawValue::from_string("{}".to_owned()).unwrap(), info, NOW);
    let report = node_report(&nodes, NOW);
    let of_parts = (report.sources[1].dead_letters, report.sinks[0].dead_letters);
    assert_eq!((report.dead_letters, of_parts), (9, (3, 4)));
}

#[test]
fn silence_hides_what_was_told_before() {
    let nodes = Nodes::default();
    let raw = || RawValue::from_string("{}".to_owned()).unwrap();
    let info = |received| NodeInfo {
        every_secs: 120,
        disk_used_pct: 99.0,
        sources: [("in".to_owned(), SourceInfo { received, ..SourceInfo::default() })].into(),
        ..NodeInfo::default()
    };
    nodes.told("web", raw(), info(0), NOW - MINUTE);
    nodes.told("web", raw(), info(60), NOW);
    let at = |now| node_report(&nodes, now);
    let here = at(NOW + 6 * MINUTE);
    assert_eq!(here.presence, Presence::Here, "three messages of two minutes");
    assert_eq!((here.per_minute, here.sources[0].per_minute), (60, 60));
    let silent = at(NOW + 6 * MINUTE + 1);
    assert_eq!((silent.presence, silent.level), (Presence::Silent, Level::Bad));
    assert_eq!((silent.per_minute, silent.sources[0].per_minute), (0, 0), "nothing is known");
    assert_eq!((here.disk_percent, silent.disk_percent), (99.0, 0.0));
    assert_eq!(silent.why.len(), 1);
    assert!(silent.why[0].text.starts_with("silent for 6 min"), "{:?}", silent.why);
}

#[test]
fn a_missing_node_is_told_with_the_time_in_which_it_could_be_heard() {
    let text = |listened| judge::missing(Duration::from_secs(listened)).text;
    let missing = "missing: expected (expectedNodes), and not heard of";
    assert_eq!(text(1), format!("{missing} in the 1 s since the relay started"));
    assert_eq!(text(3600), format!("{missing} within the last hour"));
}

#[test]
fn nobody_is_silent_for_the_time_that_the_relay_was_away() {
    let nodes = Nodes::default();
    let raw = RawValue::from_string("{}".to_owned()).unwrap();
    nodes.told("web", raw, NodeInfo::default(), NOW);
    let kept = serde_json::to_vec(&nodes.kept()).unwrap();
    // The relay was away twice for two hours, with a minute between; the first time from `after_ms` behind the message on.
    let check = |after_ms: u64, up_ms: u64, expected: Presence| {
        let first = NOW + after_ms..NOW + after_ms + 120 * MINUTE;
        let second = first.end + MINUTE..first.end + 121 * MINUTE;
        let now = second.end + up_ms;
        let mut absences = Absences::default();
        absences.add(first);
        absences.add(second);
        let kept = serde_json::from_slice(&kept).unwrap();
        let nodes = Nodes::new(&[], kept, absences.clone(), Duration::from_secs(900));
        let node = &nodes.all(now)[0];
        let report = build::node_report(node, now, &Thresholds::default(), &absences);
        assert_eq!(report.presence, expected, "{after_ms} ms before, {up_ms} ms behind");
    };
    check(MINUTE, 0, Presence::Here);
    check(MINUTE, MINUTE, Presence::Here);
    check(MINUTE, MINUTE + 1, Presence::Silent);
    // Silent before: a start of the relay does not make it well.
    check(3 * MINUTE + 1, 0, Presence::Silent);
}

#[test]
fn buckets() {
    let check = |report: BucketReport, facts: judge::BucketFacts<'_>, expected: &[&str]| {
        let why = judge::bucket(&report, &facts, &Thresholds::default());
        let texts: Vec<String> =
            why.iter().map(|why| format!("{}: {}", why.level.as_str(), why.text)).collect();
        assert_eq!(texts, expected);
    };
    let facts = || judge::BucketFacts {
        failure: None,
        trouble: None,
        when_full: crate::config::WhenFull::Reject,
        losses: (0, 0),
        now_ms: NOW,
    };
    let report = |used_bytes, oldest: Option<u64>| BucketReport {
        used_bytes,
        max_bytes: 100,
        oldest_at_ms: oldest,
        ..BucketReport::default()
    };
    check(report(79, Some(NOW - MINUTE)), facts(), &[]);
    check(report(80, None), facts(), &["warn: is 80 % full: 80 B of 100 B for events"]);
    let drops = || judge::BucketFacts {
        when_full: crate::config::WhenFull::DropOldest,
        losses: (2, 1),
        ..facts()
    };
    check(
        report(100, None),
        drops(),
        &[
            "bad: dropped 2 events lately",
            "warn: was full and refused 1 batch lately; their senders keep them",
        ],
    );
    let oldest = Some(NOW - 11 * MINUTE);
    check(
        report(1, oldest),
        facts(),
        &["bad: its oldest event has waited for 11 min; nobody has ever asked for it"],
    );
    let asked = BucketReport { asked_at_ms: Some(NOW - 5 * MINUTE), ..report(1, oldest) };
    check(
        asked,
        facts(),
        &["bad: its oldest event has waited for 11 min; last asked for 5 min ago"],
    );
    let moving = BucketReport { tx_per_minute: 7, ..report(1, oldest) };
    check(
        moving,
        facts(),
        &["warn: its oldest event has waited for 11 min; 7 events per minute go out"],
    );
    let broken = judge::BucketFacts { failure: Some("no space"), ..facts() };
    check(report(1, None), broken, &["bad: cannot be opened: no space"]);
    let full =
        rf_queue::StoreTrouble { since_ms: NOW - 5 * MINUTE, text: "the disk is full".to_owned() };
    let full = judge::BucketFacts { trouble: Some(&full), ..facts() };
    let expected = "bad: its database does not work: the disk is full (for 5 min)";
    check(report(1, None), full, &[expected]);
    let damaged = BucketReport { dropped_damaged: 3, ..report(1, None) };
    let lost = judge::BucketFacts { losses: (3, 0), ..facts() };
    check(damaged, lost, &["bad: dropped 3 events lately (damaged)"]);
    let ahead = "warn: its oldest event was stored while a clock was wrong: its time is 2 d ahead, so it is unknown how long it has waited";
    check(report(1, Some(NOW + 2 * 86_400_000)), facts(), &[ahead]);
}

#[test]
fn a_silent_node_whose_token_is_refused() {
    let call = |buckets: Option<&str>| crate::stats::RefusedCall {
        at_secs: NOW / 1000,
        buckets: buckets.map(str::to_owned),
    };
    let silent = judge::silent(Duration::from_secs(200), Some(&call(Some("shop"))));
    assert_eq!(silent.text, "silent for 3 min: it calls, but its token for shop is wrong");
    for (taken_secs, expected) in [(0, true), (74, true), (75, false), (3600, false)] {
        let taken_ms = NOW - taken_secs * 1000;
        assert_eq!(build::is_outweighed(&call(None), taken_ms), expected, "{taken_secs}");
    }
    let named_none = judge::refused(&call(None)).text;
    assert_eq!(named_none, "calls in its name are refused: it names no bucket that exists");
}

#[test]
fn the_relays_own_disk() {
    let check = |percent, expected: &[&str]| {
        let disk = DiskRoom { total: 100 * MIB, free: MIB, percent };
        let why = judge::relay(Some(&disk), &Thresholds::default());
        let texts: Vec<String> =
            why.iter().map(|why| format!("{}: {}", why.level.as_str(), why.text)).collect();
        assert_eq!(texts, expected);
    };
    check(89, &[]);
    check(90, &["warn: its disk is 90 % full, 1.0 MiB free"]);
    check(97, &["bad: its disk is 97 % full, 1.0 MiB free"]);
}

#[test]
fn thresholds_can_be_switched_off() {
    let limits = Thresholds { oldest_event: None, clock_skew: None, ..Thresholds::default() };
    let report = BucketReport { oldest_at_ms: Some(1), ..BucketReport::default() };
    let facts = judge::BucketFacts {
        failure: None,
        trouble: None,
        when_full: crate::config::WhenFull::Reject,
        losses: (0, 0),
        now_ms: NOW,
    };
    assert_eq!(judge::bucket(&report, &facts, &limits), []);
    assert_eq!(limits.node_silent_after, Duration::from_secs(180));
}

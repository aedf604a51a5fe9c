use rf_core::node_info::{MAX_NODE_INFO_BYTES, SinkInfo, SourceInfo};

use super::*;

const NOW: u64 = 1_700_000_040_000;
const MINUTE: u64 = 60_000;
const A_MINUTE: Duration = Duration::from_secs(60);

impl Default for Nodes {
    fn default() -> Self {
        Self::new(&[], Vec::new(), Absences::default(), 15 * A_MINUTE)
    }
}

/// Those that were kept, after a restart of the relay.
fn again(kept: &[u8]) -> Nodes {
    let kept = serde_json::from_slice(kept).unwrap();
    Nodes::new(&[], kept, Absences::default(), 15 * A_MINUTE)
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn info(received: u64, dropped: u64, started: u64) -> NodeInfo {
    let source = SourceInfo { received, ..SourceInfo::default() };
    let sink = SinkInfo { dropped: [("full".to_owned(), dropped)].into(), ..SinkInfo::default() };
    NodeInfo {
        role: Role::Proxy,
        started_at_ms: started,
        sources: [("in".to_owned(), source)].into(),
        sinks: [("out".to_owned(), sink)].into(),
        ..NodeInfo::default()
    }
}

fn ids(nodes: &Nodes, now: u64) -> Vec<String> {
    nodes.all(now).iter().map(|node| node.id.text()).collect()
}

#[test]
fn rates_losses_and_skew_follow_from_two_messages() {
    let nodes = Nodes::default();
    nodes.told("web", raw("{}"), info(100, 1, 7), NOW);
    let second = NodeInfo { clock_ms: NOW + MINUTE - 5000, ..info(160, 4, 7) };
    nodes.told("web", raw("{}"), second, NOW + MINUTE);
    let past = nodes.all(NOW + MINUTE)[0].past.clone();
    assert_eq!((past.skew_ms, past.source_rates["in"]), (-5000, 60));
    assert_eq!(past.losses_since(NOW / 1000), (3, 0));

    nodes.told("web", raw("{}"), info(30, 2, 8), NOW + 2 * MINUTE);
    let past = nodes.all(NOW + 2 * MINUTE)[0].past.clone();
    assert_eq!(past.source_rates["in"], 30, "a start sets counters back");
    assert_eq!(past.losses_since(NOW / 1000), (5, 0));
    assert_eq!(past.losses_since(NOW / 1000 + 61), (2, 0));
}

#[test]
fn a_clock_beyond_all_time_is_ahead() {
    for clock_ms in [1 << 63, u64::MAX] {
        let nodes = Nodes::default();
        nodes.told("web", raw("{}"), NodeInfo { clock_ms, ..info(1, 0, 7) }, NOW);
        let skew_ms = nodes.all(NOW)[0].past.skew_ms;
        assert!(skew_ms > 0 && skew_ms.checked_neg().is_some(), "{skew_ms}");
    }
}

#[test]
fn who_was_heard_by_a_clock_that_was_ahead_is_silent_from_now_on() {
    let nodes = Nodes::default();
    nodes.told("web", raw("{}"), info(1, 0, 7), NOW + 3_600_000);
    for now_ms in [NOW, NOW + 60_000] {
        assert_eq!(nodes.all(now_ms)[0].past.last_seen_ms, NOW);
    }
}

#[test]
fn two_messages_of_one_round_are_no_rate_of_their_own() {
    let nodes = Nodes::default();
    let rates = |now: u64| {
        let past = nodes.all(now)[0].past.clone();
        (past.source_rates["in"], past.beats.iter().map(|beat| beat.rate).collect::<Vec<_>>())
    };
    nodes.told("web", raw("{}"), info(0, 0, 7), NOW);
    for round in 1..=2 {
        let now = NOW + round * MINUTE;
        nodes.told("web", raw("{}"), info(600 * round, round, 7), now);
        nodes.told("web", raw("{}"), info(600 * round, round + 1, 7), now + 5);
        let (rate, beats) = rates(now + 5);
        assert!((599..=600).contains(&rate) && beats.len() as u64 == round, "{rate} {beats:?}");
    }
    let past = nodes.all(NOW + 3 * MINUTE)[0].past.clone();
    assert_eq!(past.losses_since(NOW / 1000), (3, 0), "losses of both count");
}

#[test]
fn a_rate_soon_after_a_start_is_no_more_than_there_was() {
    let nodes = Nodes::default();
    nodes.told("web", raw("{}"), info(0, 0, 7), NOW);
    let rate = |received: u64, seconds: u64| {
        nodes.told("web", raw("{}"), info(received, 0, 7), NOW + seconds * 1000);
        nodes.all(NOW + seconds * 1000)[0].past.source_rates["in"]
    };
    // A hundred a second.
    assert_eq!([rate(900, 9), rate(1000, 10)], [900, 1000]);
    assert_eq!(rate(12_000, 120), 6000);
}

#[test]
fn what_scripts_filter_out_is_no_loss() {
    let nodes = Nodes::default();
    nodes.told("web", raw("{}"), info(0, 0, 7), NOW);
    let mut second = info(0, 0, 7);
    let reasons = [(BY_SCRIPT, 100), (rf_core::node_info::SCRIPT_ERROR, 2), ("tooLarge", 1)];
    let source = second.sources.get_mut("in").unwrap();
    source.dropped = reasons.map(|(why, count)| (why.to_owned(), count)).into();
    second.sinks.get_mut("out").unwrap().dropped.insert(BY_SCRIPT.to_owned(), 10);
    nodes.told("web", raw("{}"), second.clone(), NOW + MINUTE);
    let past = nodes.all(NOW + MINUTE)[0].past.clone();
    assert_eq!(past.losses_since(NOW / 1000), (3, 0));
    assert_eq!(dropped(&second), 113, "it is told all the same");
}

#[test]
fn a_loss_is_known_for_as_long_as_it_counts_however_often_a_node_tells() {
    for (losses_for, every_ms) in [(15 * A_MINUTE, 1000), (180 * A_MINUTE, MINUTE)] {
        let nodes = Nodes::new(&[], Vec::new(), Absences::default(), losses_for);
        nodes.told("web", raw("{}"), info(0, 1, 7), NOW);
        let (lost_at, for_secs) = (NOW + every_ms, losses_for.as_secs());
        let mut now = lost_at;
        while now <= lost_at + for_secs * 1000 {
            nodes.told("web", raw("{}"), info(0, 4, 7), now);
            let past = nodes.all(now)[0].past.clone();
            let since = now / 1000 - for_secs;
            assert_eq!(past.losses_since(since), (3, 0), "{every_ms}: {}", now - lost_at);
            assert!(past.beats.len() <= MAX_BEATS);
            now += every_ms;
        }
        nodes.told("web", raw("{}"), info(0, 4, 7), now);
        let past = nodes.all(now)[0].past.clone();
        assert_eq!(past.losses_since(now / 1000 - for_secs), (0, 0), "{every_ms}");
    }
}

#[test]
fn what_another_version_has_kept_of_a_node_is_read() {
    let kept = br#"[{"id":{"host":"web","role":"proxy","instance":""},"raw":{},
        "past":{"first_seen_ms":1,"last_seen_ms":1700000040000,
            "beats":[{"at":1,"rate":2,"dropped":3,"dead":4}]}}]"#;
    let nodes = again(kept);
    assert_eq!(nodes.all(NOW)[0].past.beats, [Beat { at_secs: 1, rate: 2 }]);
}

#[test]
fn agents_of_one_host_are_told_apart() {
    let nodes = Nodes::default();
    nodes.told("web", raw("{}"), NodeInfo::default(), NOW);
    nodes.told("web", raw("{}"), info(1, 0, 7), NOW);
    let second = NodeInfo { instance: "2".to_owned(), ..info(1, 0, 7) };
    nodes.told("web", raw("{}"), second, NOW);
    assert_eq!(ids(&nodes, NOW), ["web/proxy", "web/proxy/2", "web"]);
}

/// A proxy of `web` that was started at `started` and tells now.
fn tell(nodes: &Nodes, instance: &str, started: u64, now: u64) {
    let info = NodeInfo { instance: instance.to_owned(), clock_ms: now, ..info(1, 0, started) };
    let text = serde_json::to_string(&info).unwrap();
    nodes.told("web", raw(&text), info, now);
}

#[test]
fn an_instance_is_shown_only_where_there_are_several() {
    let nodes = Nodes::default();
    tell(&nodes, "a", NOW - MINUTE, NOW);
    assert_eq!(ids(&nodes, NOW), ["web/proxy"]);
    tell(&nodes, "b", NOW - MINUTE, NOW);
    assert_eq!(ids(&nodes, NOW), ["web/proxy/a", "web/proxy/b"]);
    tell(&nodes, "a", NOW - MINUTE, NOW + MINUTE);
    assert_eq!(ids(&nodes, NOW + MINUTE), ["web/proxy/a", "web/proxy/b"]);
    // Over a restart of the relay, too.
    let kept = serde_json::to_vec(&nodes.kept()).unwrap();
    let again = again(&kept);
    assert_eq!(ids(&again, NOW + MINUTE), ["web/proxy/a", "web/proxy/b"]);
    tell(&again, "a", NOW - MINUTE, NOW + 30 * MINUTE);
    assert_eq!(ids(&again, NOW + 61 * MINUTE), ["web/proxy"], "the other is forgotten");
    tell(&again, "a", NOW - MINUTE, NOW + 62 * MINUTE);
    assert_eq!(ids(&again, NOW + 62 * MINUTE), ["web/proxy"], "no entry has become two");
}

#[test]
fn another_instance_that_was_started_later_is_the_next_life_of_a_silent_one() {
    // As an update from a version without instances, and a container without a disk of its own.
    for old in ["", "a"] {
        let nodes = Nodes::default();
        tell(&nodes, old, NOW - MINUTE, NOW);
        tell(&nodes, "b", NOW + 1, NOW + MINUTE);
        assert_eq!(ids(&nodes, NOW + MINUTE).len(), 2, "it may still tell");
        tell(&nodes, "b", NOW + 1, NOW + 3 * MINUTE);
        assert_eq!(ids(&nodes, NOW + 3 * MINUTE), ["web/proxy"]);
    }
    // One that was there before the other fell silent is another one, whatever is started again.
    let nodes = Nodes::default();
    tell(&nodes, "b", NOW - MINUTE, NOW - 1);
    tell(&nodes, "a", NOW - MINUTE, NOW);
    tell(&nodes, "b", NOW + 1, NOW + 3 * MINUTE);
    assert_eq!(ids(&nodes, NOW + 3 * MINUTE).len(), 2);
}

#[test]
fn silent_ones_are_forgotten_after_an_hour_unless_expected() {
    let expected = ["db".to_owned()];
    let nodes = Nodes::new(&expected, Vec::new(), Absences::default(), 15 * A_MINUTE);
    nodes.told("web", raw("{}"), NodeInfo::default(), NOW);
    nodes.told("db", raw("{}"), NodeInfo::default(), NOW);
    assert_eq!(ids(&nodes, NOW + 59 * MINUTE), ["db", "web"]);
    assert_eq!(ids(&nodes, NOW + 60 * MINUTE), ["db"]);
}

#[test]
fn the_table_is_bounded_in_bytes_and_absurd_names_are_left_out() {
    let nodes = Nodes::default();
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_NODE_INFO_BYTES - 8));
    for n in 0..65 {
        nodes.told(&format!("host-{n}"), raw(&large), NodeInfo::default(), NOW + n);
    }
    nodes.told(&"x".repeat(MAX_NAME_BYTES + 1), raw("{}"), NodeInfo::default(), NOW + 99);
    let ids = ids(&nodes, NOW + 100);
    assert_eq!(ids.len(), MAX_NODE_INFOS_BYTES / MAX_NODE_INFO_BYTES);
    assert!(!ids.contains(&"host-0".to_owned()) && ids.contains(&"host-1".to_owned()));
}

#[test]
fn the_table_is_bounded_in_sources_and_sinks() {
    let nodes = Nodes::default();
    for n in 0..=MAX_PARTS as u64 / 64 {
        let sinks = (0..64).map(|n| (format!("sink-{n}"), SinkInfo::default()));
        let info = NodeInfo { sinks: sinks.collect(), ..NodeInfo::default() };
        nodes.told(&format!("host-{n}"), raw("{}"), info, NOW + n);
    }
    let ids = ids(&nodes, NOW + MINUTE);
    assert_eq!(ids.len(), MAX_PARTS / 64);
    assert!(!ids.contains(&"host-0".to_owned()) && ids.contains(&"host-1".to_owned()));
}

#[test]
fn what_is_kept_comes_back() {
    let nodes = Nodes::default();
    for (n, received) in [(0, 5), (1, 65)] {
        let info = info(received, 0, 7);
        let text = serde_json::to_string(&info).unwrap();
        nodes.told("web", raw(&text), info, NOW + n * MINUTE);
    }
    let kept = serde_json::to_vec(&nodes.kept()).unwrap();
    let again = again(&kept);
    let (before, after) = (&nodes.all(NOW)[0], &again.all(NOW)[0]);
    assert_eq!((&after.info, &after.past), (&before.info, &before.past));
    assert_eq!(after.past.source_rates["in"], 60);
}

//! What proxies and players told of themselves, and since when they are silent.
//!
//! Promises: one entry for each host, role and instance; the instance is shown where a host has several of a role; the newest
//! message counts; one that has been silent for an
//! hour is forgotten, unless its host is expected; the table is bounded in entries and bytes, and at its bound the one
//! that has been silent for longest makes room. Nothing of this is on the way of an event.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rf_core::node_info::{BY_SCRIPT, NodeInfo, Role};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::absences::Absences;
use crate::losses::Losses;
use crate::stats::{MAX_NAME_BYTES, drop_stalest, is_recent};

/// So many nodes are remembered.
const MAX_NODES: usize = 1000;

/// Bytes of all that they told.
const MAX_NODE_INFOS_BYTES: usize = 16 * 1024 * 1024;

/// Messages of which rates are remembered: an hour of them where a node tells once a minute.
const MAX_BEATS: usize = 60;

/// An agent that has missed two messages may be the former life of another one.
const NEXT_LIFE_AFTER_MS: u64 = 2 * 60_000;

/// Which agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NodeId {
    pub(crate) host: String,
    pub(crate) role: Role,
    pub(crate) instance: String,
}

impl NodeId {
    /// The id in addresses and reports: the host alone where nothing more was told.
    pub(crate) fn text(&self) -> String {
        match (self.role, self.instance.as_str()) {
            (Role::Unknown, "") => self.host.clone(),
            (role, "") => format!("{}/{}", self.host, role.as_str()),
            (role, instance) => format!("{}/{}/{instance}", self.host, role.as_str()),
        }
    }
}

/// What an agent told last, and what followed from the messages before.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// As it is shown: without the instance where it is the only one of its host and role.
    pub(crate) id: NodeId,
    /// As it was written.
    pub(crate) raw: Box<RawValue>,
    pub(crate) info: NodeInfo,
    pub(crate) past: Past,
}

/// What is remembered of an agent besides its newest message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Past {
    /// Milliseconds since 1970, by the relay's clock.
    pub(crate) first_seen_ms: u64,
    pub(crate) last_seen_ms: u64,
    /// How far its clock is before the relay's.
    pub(crate) skew_ms: i64,
    /// Events a minute of each source, and of each sink.
    pub(crate) source_rates: BTreeMap<String, u64>,
    pub(crate) sink_rates: BTreeMap<String, u64>,
    pub(crate) beats: VecDeque<Beat>,
    /// Events dropped, and events that became dead letters.
    losses: Losses,
}

/// What one message said more than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Seconds since 1970, by the relay's clock.
    pub(crate) at: u64,
    /// Events a minute that came in, or where it has no source, that went out.
    pub(crate) rate: u64,
}

/// As it is kept on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptNode {
    id: NodeId,
    raw: Box<RawValue>,
    past: Past,
}

/// All agents that told of themselves.
/// Invariant: the keys have their instances, the ids of the nodes those that are shown.
#[derive(Debug)]
pub(crate) struct Nodes {
    table: Mutex<HashMap<NodeId, Arc<Node>>>,
    expected: HashSet<String>,
    absences: Absences,
    losses_for: Duration,
}

impl Nodes {
    /// Goes on from what was kept, after these absences of the relay; hosts in `expected` are not forgotten, and losses are
    /// remembered for `losses_for`.
    pub(crate) fn new(
        expected: &[String],
        kept: Vec<KeptNode>,
        absences: Absences,
        losses_for: Duration,
    ) -> Nodes {
        let node = |kept: KeptNode| {
            // What was bounded when it came is bounded again: the file may be of another version.
            let info = NodeInfo::parse(kept.raw.get().as_bytes()).ok()?;
            let node = Node { id: kept.id.clone(), raw: kept.raw, info, past: kept.past };
            Some((kept.id, Arc::new(node)))
        };
        let mut table = kept.into_iter().take(MAX_NODES).filter_map(node).collect();
        show_instances(&mut table);
        let expected = expected.iter().cloned().collect();
        Nodes { table: Mutex::new(table), expected, absences, losses_for }
    }

    /// What shall be kept.
    pub(crate) fn kept(&self) -> Vec<KeptNode> {
        let nodes: Vec<(NodeId, Arc<Node>)> =
            self.lock().iter().map(|(id, node)| (id.clone(), Arc::clone(node))).collect();
        let keep = |(id, node): (NodeId, Arc<Node>)| KeptNode {
            id,
            raw: node.raw.clone(),
            past: node.past.clone(),
        };
        nodes.into_iter().map(keep).collect()
    }

    /// An agent told of itself.
    pub(crate) fn told(&self, host: &str, raw: Box<RawValue>, info: NodeInfo, now_ms: u64) {
        if host.len() > MAX_NAME_BYTES {
            return;
        }
        let id = NodeId { host: host.to_owned(), role: info.role, instance: info.instance.clone() };
        let mut table = self.lock();
        let before: Option<&Node> = table.get(&id).map(AsRef::as_ref);
        let past = Past::after(before, &info, now_ms, self.losses_for);
        let shown = table.get(&id).map(|known| known.id.clone());
        let is_new = shown.is_none();
        let node = Node { id: shown.unwrap_or_else(|| id.clone()), raw, info, past };
        let before = life_before(&table, &id, &node, &self.absences);
        table.insert(id, Arc::new(node));
        if before.is_some_and(|before| table.remove(&before).is_some()) || is_new {
            show_instances(&mut table);
        }
        self.forget(&mut table, now_ms);
        let bytes = |table: &HashMap<NodeId, Arc<Node>>| {
            table.values().map(|node| node.raw.get().len()).sum::<usize>()
        };
        while table.len() > MAX_NODES || bytes(&table) > MAX_NODE_INFOS_BYTES {
            drop_stalest(&mut table, |node| node.past.last_seen_ms);
        }
    }

    /// All that are remembered, by id.
    pub(crate) fn all(&self, now_ms: u64) -> Vec<Arc<Node>> {
        let mut table = self.lock();
        self.forget(&mut table, now_ms);
        let mut nodes: Vec<Arc<Node>> = table.values().cloned().collect();
        drop(table);
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn forget(&self, table: &mut HashMap<NodeId, Arc<Node>>, now_ms: u64) {
        let before = table.len();
        table.retain(|id, node| {
            is_recent(self.absences.silence_ms(node.past.last_seen_ms, now_ms))
                || self.expected.contains(&id.host)
        });
        if table.len() < before {
            show_instances(table);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Node>>> {
        // A panic elsewhere leaves whole entries.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance says something only where a host has several agents of a role.
fn show_instances(table: &mut HashMap<NodeId, Arc<Node>>) {
    let mut counts: HashMap<(String, Role), usize> = HashMap::new();
    for id in table.keys() {
        *counts.entry((id.host.clone(), id.role)).or_default() += 1;
    }
    for (id, node) in table {
        let is_alone = counts.get(&(id.host.clone(), id.role)) == Some(&1);
        let instance = if is_alone { String::new() } else { id.instance.clone() };
        if node.id.instance != instance {
            Arc::make_mut(node).id.instance = instance;
        }
    }
}

/// The agent whose next life `node` is: of the same host and role, silent since before `node` was started and heard of for the
/// first time. Its data was thrown away with its instance, or one of the two versions knows of none.
fn life_before(
    table: &HashMap<NodeId, Arc<Node>>,
    id: &NodeId,
    node: &Node,
    absences: &Absences,
) -> Option<NodeId> {
    let Node { info, past, .. } = node;
    let now_ms = past.last_seen_ms;
    if info.clock_ms == 0 || info.started_at_ms == 0 {
        return None;
    }
    let started_ms = now_ms.saturating_sub(info.clock_ms.saturating_sub(info.started_at_ms));
    let is_before = |(other, known): &(&NodeId, &Arc<Node>)| {
        let last_ms = known.past.last_seen_ms;
        let is_silent = absences.silence_ms(last_ms, now_ms) > NEXT_LIFE_AFTER_MS;
        let is_other = *other != id && (&other.host, other.role) == (&id.host, id.role);
        is_other && is_silent && last_ms < started_ms.min(past.first_seen_ms)
    };
    table.iter().find(is_before).map(|(other, _)| other.clone())
}

impl Past {
    /// What follows when `info` comes after what was there before.
    fn after(before: Option<&Node>, info: &NodeInfo, now_ms: u64, losses_for: Duration) -> Past {
        let skew_ms = if info.clock_ms == 0 {
            0
        } else {
            info.clock_ms.cast_signed().saturating_sub(now_ms.cast_signed())
        };
        let mut past =
            Past { first_seen_ms: now_ms, last_seen_ms: now_ms, skew_ms, ..Past::default() };
        let Some(before) = before else { return past };
        past.first_seen_ms = before.past.first_seen_ms;
        past.beats.clone_from(&before.past.beats);
        past.losses.clone_from(&before.past.losses);
        // A start in between has set all counters back.
        let none = NodeInfo::default();
        let same_run = before.info.started_at_ms == info.started_at_ms;
        let old = if same_run { &before.info } else { &none };
        let minutes_ms = now_ms.saturating_sub(before.past.last_seen_ms).max(1);
        let rate = |more: u64| {
            u64::try_from(u128::from(more) * 60_000 / u128::from(minutes_ms)).unwrap_or(u64::MAX)
        };
        past.source_rates = rates(&info.sources, &old.sources, |source| source.received, rate);
        past.sink_rates = rates(
            &info.sinks,
            &old.sinks,
            |sink| sink.shipped.saturating_add(sink.delivered),
            rate,
        );
        let sum =
            |rates: &BTreeMap<String, u64>| rates.values().fold(0_u64, |a, b| a.saturating_add(*b));
        let (received, sent) = (sum(&past.source_rates), sum(&past.sink_rates));
        past.beats.push_back(Beat {
            at: now_ms / 1000,
            rate: if info.sources.is_empty() { sent } else { received },
        });
        while past.beats.len() > MAX_BEATS {
            past.beats.pop_front();
        }
        let lost = (
            lost(info).saturating_sub(lost(old)),
            dead_lettered(info).saturating_sub(dead_lettered(old)),
        );
        past.losses.note(now_ms / 1000, lost, losses_for);
        past
    }

    /// Events dropped, and events that became dead letters, in messages since `since`.
    pub(crate) fn losses_since(&self, since: u64) -> (u64, u64) {
        self.losses.since(since)
    }
}

fn rates<V>(
    new: &BTreeMap<String, V>,
    old: &BTreeMap<String, V>,
    count: impl Fn(&V) -> u64,
    rate: impl Fn(u64) -> u64,
) -> BTreeMap<String, u64> {
    let one = |(id, value): (&String, &V)| {
        let before = old.get(id).map_or(0, &count);
        (id.clone(), rate(count(value).saturating_sub(before)))
    };
    new.iter().map(one).collect()
}

/// All that its sources and sinks dropped since its start.
pub(crate) fn dropped(info: &NodeInfo) -> u64 {
    drops(info).fold(0, |sum, (_, count)| sum.saturating_add(count))
}

/// All that its sources and sinks dropped since its start and that nobody wanted to be dropped.
fn lost(info: &NodeInfo) -> u64 {
    drops(info).filter(|(why, _)| is_loss(why)).fold(0, |sum, (_, count)| sum.saturating_add(count))
}

/// Whether events that are gone for this reason are lost. What a script filters out is not.
pub(crate) fn is_loss(reason: &str) -> bool {
    reason != BY_SCRIPT
}

/// What its sources and sinks dropped since its start: the reason, and how many events.
pub(crate) fn drops(info: &NodeInfo) -> impl Iterator<Item = (&str, u64)> {
    let sources = info.sources.values().flat_map(|source| &source.dropped);
    let sinks = info.sinks.values().flat_map(|sink| &sink.dropped);
    sources.chain(sinks).map(|(reason, count)| (reason.as_str(), *count))
}

/// All of its events that became dead letters since its start.
pub(crate) fn dead_lettered(info: &NodeInfo) -> u64 {
    let sources = info.sources.values().map(|source| source.dead_lettered);
    let sinks = info.sinks.values().map(|sink| sink.dead_lettered);
    sources.chain(sinks).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use rf_core::node_info::{MAX_NODE_INFO_BYTES, SinkInfo, SourceInfo};

    use super::*;

    const NOW: u64 = 1_700_000_040_000;
    const MINUTE: u64 = 60_000;
    const A_MINUTE: Duration = Duration::from_secs(60);

    impl Default for Nodes {
        fn default() -> Nodes {
            Nodes::new(&[], Vec::new(), Absences::default(), 15 * A_MINUTE)
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
        let sink =
            SinkInfo { dropped: [("full".to_owned(), dropped)].into(), ..SinkInfo::default() };
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
        assert_eq!(nodes.all(NOW)[0].past.beats, [Beat { at: 1, rate: 2 }]);
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
}

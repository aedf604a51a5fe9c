//! What proxies and players told of themselves, and since when they are silent.
//!
//! Promises: one entry for each host, role and instance; the instance is shown where a host has several of a role; the newest
//! message counts; one that has been silent for an hour is forgotten, unless its host is expected; the table is bounded in
//! entries, bytes, sources and sinks, and at its bound the one that has been silent for longest makes room. Nothing of this
//! is on the way of an event.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::node_info::{BY_SCRIPT, NodeInfo, Role};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::absences::Absences;
use crate::losses::Losses;
use crate::stats::{MAX_NAME_BYTES, drop_stalest, is_recent};

/// So many nodes are remembered.
pub(crate) const MAX_NODES: usize = 1000;

/// Bytes of all that they told.
const MAX_NODE_INFOS_BYTES: usize = 16 * 1024 * 1024;

/// Sources and sinks of all of them: each is told in a few bytes, and has some dozens of series in the metrics.
const MAX_PARTS: usize = 16 * 1024;

/// Messages of which rates are remembered: an hour of them where a node tells once a minute.
const MAX_BEATS: usize = 60;

/// Messages that are closer to each other than any agent's `nodeInfoEvery` are of one round: the agent reaches the relay by two
/// names, or with two tokens. No rate follows from the time between them.
const ONE_ROUND_MS: u64 = 500;

/// An agent that has missed two messages may be the former life of another one.
const NEXT_LIFE_AFTER_MS: u64 = 2 * 60_000;

/// Which agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// As it is shown: without the instance where it is the only one of its host and role.
    pub(crate) id: NodeId,
    /// As it was written.
    pub(crate) raw: Box<RawValue>,
    pub(crate) info: NodeInfo,
    pub(crate) past: Past,
}

/// What is remembered of an agent besides its newest message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Seconds since 1970, by the relay's clock.
    #[serde(rename = "at")]
    pub(crate) at_secs: u64,
    /// Events a minute that came in, or where it has no source, that went out.
    pub(crate) rate: u64,
}

/// As it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    ) -> Self {
        let node = |kept: KeptNode| {
            // What was bounded when it came is bounded again: the file may be of another version.
            let info = NodeInfo::parse(kept.raw.get().as_bytes()).ok()?;
            let node = Node { id: kept.id.clone(), raw: kept.raw, info, past: kept.past };
            Some((kept.id, Arc::new(node)))
        };
        let mut table = kept.into_iter().take(MAX_NODES).filter_map(node).collect();
        show_instances(&mut table);
        let expected = expected.iter().cloned().collect();
        Self { table: Mutex::new(table), expected, absences, losses_for }
    }

    /// What shall be kept.
    pub(crate) fn kept(&self) -> Vec<KeptNode> {
        let nodes: Vec<(NodeId, Arc<Node>)> =
            self.table.lock().iter().map(|(id, node)| (id.clone(), Arc::clone(node))).collect();
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
        let mut table = self.table.lock();
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
        while is_too_large(&table) {
            drop_stalest(&mut table, |node| node.past.last_seen_ms);
        }
    }

    /// All that are remembered, by id.
    pub(crate) fn all(&self, now_ms: u64) -> Vec<Arc<Node>> {
        let mut table = self.table.lock();
        self.forget(&mut table, now_ms);
        let mut nodes: Vec<Arc<Node>> = table.values().cloned().collect();
        drop(table);
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }

    fn forget(&self, table: &mut HashMap<NodeId, Arc<Node>>, now_ms: u64) {
        // Heard by a clock that was ahead: until that time came, its silence would not be noticed. It begins now at the latest.
        for node in table.values_mut().filter(|node| node.past.last_seen_ms > now_ms) {
            Arc::make_mut(node).past.last_seen_ms = now_ms;
        }
        let before = table.len();
        table.retain(|id, node| {
            is_recent(self.absences.silence_ms(node.past.last_seen_ms, now_ms))
                || self.expected.contains(&id.host)
        });
        if table.len() < before {
            show_instances(table);
        }
    }
}

fn is_too_large(table: &HashMap<NodeId, Arc<Node>>) -> bool {
    let sum = |size: fn(&Node) -> usize| table.values().map(|node| size(node)).sum::<usize>();
    table.len() > MAX_NODES
        || sum(|node| node.raw.get().len()) > MAX_NODE_INFOS_BYTES
        || sum(|node| node.info.sources.len() + node.info.sinks.len()) > MAX_PARTS
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
    fn after(before: Option<&Node>, info: &NodeInfo, now_ms: u64, losses_for: Duration) -> Self {
        let skew_ms = if info.clock_ms == 0 {
            0
        } else {
            i64::try_from(info.clock_ms).unwrap_or(i64::MAX).saturating_sub(now_ms.cast_signed())
        };
        let mut past =
            Self { first_seen_ms: now_ms, last_seen_ms: now_ms, skew_ms, ..Self::default() };
        let Some(before) = before else { return past };
        past.first_seen_ms = before.past.first_seen_ms;
        past.beats.clone_from(&before.past.beats);
        past.losses.clone_from(&before.past.losses);
        // A start in between has set all counters back.
        let none = NodeInfo::default();
        let same_run = before.info.started_at_ms == info.started_at_ms;
        let old = if same_run { &before.info } else { &none };
        let elapsed_ms = now_ms.saturating_sub(before.past.last_seen_ms);
        if elapsed_ms < ONE_ROUND_MS {
            past.source_rates.clone_from(&before.past.source_rates);
            past.sink_rates.clone_from(&before.past.sink_rates);
        } else {
            past.beat(info, old, elapsed_ms);
        }
        let lost = (
            lost(info).saturating_sub(lost(old)),
            dead_lettered(info).saturating_sub(dead_lettered(old)),
        );
        past.losses.note(now_ms / 1000, lost, losses_for);
        past
    }

    /// The rates since the counters were `old`.
    fn beat(&mut self, info: &NodeInfo, old: &NodeInfo, elapsed_ms: u64) {
        let rate = |more: u64| {
            u64::try_from(u128::from(more) * 60_000 / u128::from(elapsed_ms)).unwrap_or(u64::MAX)
        };
        self.source_rates = rates(&info.sources, &old.sources, |source| source.received, rate);
        self.sink_rates = rates(
            &info.sinks,
            &old.sinks,
            |sink| sink.shipped.saturating_add(sink.delivered),
            rate,
        );
        let all = if info.sources.is_empty() { &self.sink_rates } else { &self.source_rates };
        let rate = all.values().fold(0_u64, |a, b| a.saturating_add(*b));
        self.beats.push_back(Beat { at_secs: self.last_seen_ms / 1000, rate });
        while self.beats.len() > MAX_BEATS {
            self.beats.pop_front();
        }
    }

    /// Events dropped, and events that became dead letters, in messages since `since_secs`.
    pub(crate) fn losses_since(&self, since_secs: u64) -> (u64, u64) {
        self.losses.since(since_secs)
    }
}

/// Events a minute of each; no more than there were since the agent's start, of which less than a minute may have passed.
fn rates<V>(
    new: &BTreeMap<String, V>,
    old: &BTreeMap<String, V>,
    count: impl Fn(&V) -> u64,
    rate: impl Fn(u64) -> u64,
) -> BTreeMap<String, u64> {
    let one = |(id, value): (&String, &V)| {
        let (now, before) = (count(value), old.get(id).map_or(0, &count));
        (id.clone(), rate(now.saturating_sub(before)).min(now))
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

/// All dead letters that it keeps: those of its sinks, and those of the scripts of its sources.
pub(crate) fn dead_letters(info: &NodeInfo) -> u64 {
    let sources = info.sources.values().map(|source| source.dead_letters);
    let sinks = info.sinks.values().map(|sink| sink.dead_letters);
    sources.chain(sinks).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;

//! What the relay counts: messages and queries of each bucket, environment and host, and what hosts tell of themselves.
//!
//! Promises: a minute's counts start anew each minute; a host that has been silent for an hour is forgotten; every
//! table is bounded, and at its bound the one that has been silent for longest makes room. Nothing here is on disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(test)]
use rf_core::node_info::MAX_NODE_INFO_BYTES;
use serde_json::value::RawValue;

use crate::bucket::BucketName;

/// Bytes of all that hosts told of themselves.
const MAX_NODE_INFOS_BYTES: usize = 16 * 1024 * 1024;

/// Environments, hosts: so many of each are counted.
const MAX_NAMES: usize = 1000;

/// A longer name is not counted: it comes from a header, and only its first sight would be bounded by that.
const MAX_NAME_BYTES: usize = 255;

/// A host that has been silent for so long is forgotten.
const FORGET_AFTER_SECONDS: u64 = 3600;

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who calls, as it says itself; empty where it does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) env: &'a str,
    pub(crate) hostname: &'a str,
}

/// All counters. The lock is held for a few additions, never across an await.
#[derive(Default)]
pub(crate) struct Stats {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    buckets: HashMap<BucketName, Counts>,
    envs: HashMap<String, Counts>,
    hostnames: HashMap<String, Counts>,
    nodes: HashMap<String, Node>,
}

struct Node {
    info: Box<RawValue>,
    last_seen: u64,
}

impl Stats {
    /// A batch of `messages` was stored in `buckets`.
    pub(crate) fn received(
        &self,
        caller: &Caller<'_>,
        buckets: &[BucketName],
        messages: u64,
        now: u64,
    ) {
        self.count(caller, buckets, now, |counts| {
            counts.rx_messages_minute += messages;
            counts.rx_messages_since_start += messages;
            counts.rx_queries_minute += 1;
            counts.rx_last = Some(now);
        });
    }

    /// `messages` of a bucket were handed out.
    pub(crate) fn sent(&self, caller: &Caller<'_>, bucket: &BucketName, messages: u64, now: u64) {
        self.count(caller, std::slice::from_ref(bucket), now, |counts| {
            counts.tx_messages_minute += messages;
            counts.tx_queries_minute += 1;
            counts.tx_last = Some(now);
        });
    }

    /// A host told of itself.
    pub(crate) fn told(&self, caller: &Caller<'_>, info: Box<RawValue>, now: u64) {
        if caller.hostname.len() > MAX_NAME_BYTES {
            return;
        }
        let mut tables = self.lock();
        let nodes = &mut tables.nodes;
        nodes.insert(caller.hostname.to_owned(), Node { info, last_seen: now });
        nodes.retain(|_, node| is_recent(node.last_seen, now));
        let bytes = |nodes: &HashMap<String, Node>| {
            nodes.values().map(|node| node.info.get().len()).sum::<usize>()
        };
        while nodes.len() > MAX_NAMES || bytes(nodes) > MAX_NODE_INFOS_BYTES {
            drop_stalest(nodes, |node| node.last_seen);
        }
    }

    /// The counts of a bucket.
    pub(crate) fn bucket(&self, bucket: &BucketName, now: u64) -> Counts {
        self.lock().buckets.get(bucket).map_or_else(Counts::default, |counts| counts.at(now))
    }

    /// The counts of all environments.
    pub(crate) fn envs(&self, now: u64) -> Vec<(String, Counts)> {
        self.lock().envs.iter().map(|(name, counts)| (name.clone(), counts.at(now))).collect()
    }

    /// The counts of all hosts of the last hour.
    pub(crate) fn hostnames(&self, now: u64) -> Vec<(String, Counts)> {
        let mut tables = self.lock();
        tables.hostnames.retain(|_, counts| is_recent(counts.last_seen, now));
        tables.hostnames.iter().map(|(name, counts)| (name.clone(), counts.at(now))).collect()
    }

    /// What hosts told of themselves within the last hour.
    pub(crate) fn nodes(&self, now: u64) -> Vec<(String, Box<RawValue>)> {
        let mut tables = self.lock();
        tables.nodes.retain(|_, node| is_recent(node.last_seen, now));
        tables.nodes.iter().map(|(name, node)| (name.clone(), node.info.clone())).collect()
    }

    fn count(
        &self,
        caller: &Caller<'_>,
        buckets: &[BucketName],
        now: u64,
        add: impl Fn(&mut Counts),
    ) {
        let mut tables = self.lock();
        for bucket in buckets {
            // Buckets are those of the configuration: bounded by it.
            tables.buckets.entry(bucket.clone()).or_default().update(now, &add);
        }
        count_name(&mut tables.envs, caller.env, now, &add);
        count_name(&mut tables.hostnames, caller.hostname, now, &add);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Counters are right enough at any time: a panic elsewhere is no reason to stop counting.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_name(
    table: &mut HashMap<String, Counts>,
    name: &str,
    now: u64,
    add: impl Fn(&mut Counts),
) {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return;
    }
    if let Some(counts) = table.get_mut(name) {
        return counts.update(now, add);
    }
    if table.len() >= MAX_NAMES {
        drop_stalest(table, |counts| counts.last_seen);
    }
    table.entry(name.to_owned()).or_default().update(now, add);
}

fn drop_stalest<V>(table: &mut HashMap<String, V>, last_seen: impl Fn(&V) -> u64) {
    let stalest =
        table.iter().min_by_key(|(_, value)| last_seen(value)).map(|(name, _)| name.clone());
    if let Some(name) = stalest {
        table.remove(&name);
    }
}

fn is_recent(last_seen: u64, now: u64) -> bool {
    now.saturating_sub(last_seen) < FORGET_AFTER_SECONDS
}

/// Counts of one bucket, environment or host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// The minute, counted since 1970, that the minute counts are of.
    minute: u64,
    last_seen: u64,
    pub(crate) rx_messages_minute: u64,
    pub(crate) rx_messages_last_minute: u64,
    pub(crate) rx_messages_since_start: u64,
    pub(crate) rx_queries_minute: u64,
    pub(crate) rx_last: Option<u64>,
    pub(crate) tx_messages_minute: u64,
    pub(crate) tx_queries_minute: u64,
    pub(crate) tx_last: Option<u64>,
}

impl Counts {
    fn update(&mut self, now: u64, add: impl Fn(&mut Counts)) {
        self.turn(now);
        self.last_seen = now;
        add(self);
    }

    fn at(&self, now: u64) -> Counts {
        let mut counts = self.clone();
        counts.turn(now);
        counts
    }

    /// Starts a new minute if there is one; also when the clock was set back.
    fn turn(&mut self, now: u64) {
        let minute = now / 60;
        if minute == self.minute {
            return;
        }
        let was_the_last = minute == self.minute + 1;
        self.rx_messages_last_minute = if was_the_last { self.rx_messages_minute } else { 0 };
        self.rx_messages_minute = 0;
        self.rx_queries_minute = 0;
        self.tx_messages_minute = 0;
        self.tx_queries_minute = 0;
        self.minute = minute;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of some minute.
    const NOW: u64 = 1_700_000_040;

    fn caller<'a>(env: &'a str, hostname: &'a str) -> Caller<'a> {
        Caller { env, hostname }
    }

    fn bucket() -> BucketName {
        BucketName::new("b").unwrap()
    }

    fn json(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
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
            let counts = stats.bucket(&bucket(), now);
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
        let since_start = stats.bucket(&bucket(), NOW + 600);
        assert_eq!((since_start.rx_messages_since_start, since_start.rx_last), (7, Some(NOW + 59)));
    }

    #[test]
    fn hosts_are_forgotten_after_an_hour_and_environments_are_not() {
        let stats = Stats::default();
        stats.received(&caller("prod", "old"), &[bucket()], 1, NOW);
        stats.told(&caller("prod", "old"), json("{}"), NOW);
        stats.received(&caller("prod", "new"), &[bucket()], 1, NOW + 100);
        assert_eq!(names(stats.hostnames(NOW + 3599)), ["new", "old"]);
        assert_eq!(names(stats.nodes(NOW + 3599)), ["old"]);
        assert_eq!(names(stats.hostnames(NOW + 3600)), ["new"]);
        assert_eq!(names(stats.nodes(NOW + 3600)), [""; 0]);
        assert_eq!(names(stats.envs(NOW + 99_999)), ["prod"]);
    }

    #[test]
    fn tables_are_bounded_and_the_stalest_makes_room() {
        let stats = Stats::default();
        let large = format!("\"{}\"", "x".repeat(MAX_NODE_INFO_BYTES - 2));
        for n in 0..MAX_NAMES as u64 + 1 {
            let hostname = format!("host-{n}");
            stats.received(&caller(&hostname, &hostname), &[bucket()], 1, NOW + n);
            if n < 65 {
                stats.told(&caller("", &hostname), json(&large), NOW + n);
            }
        }
        for table in [names(stats.hostnames(NOW)), names(stats.envs(NOW))] {
            assert_eq!(table.len(), MAX_NAMES);
            assert!(!table.contains(&"host-0".to_owned()) && table.contains(&"host-1".to_owned()));
        }
        let nodes = names(stats.nodes(NOW));
        assert_eq!(nodes.len(), MAX_NODE_INFOS_BYTES / MAX_NODE_INFO_BYTES);
        assert!(!nodes.contains(&"host-0".to_owned()) && nodes.contains(&"host-1".to_owned()));
    }

    #[test]
    fn absurd_names_are_not_counted() {
        let stats = Stats::default();
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        stats.received(&caller(&long, &long), &[bucket()], 1, NOW);
        stats.told(&caller("", &long), json("{}"), NOW);
        assert_eq!(
            (stats.envs(NOW).len(), stats.hostnames(NOW).len(), stats.nodes(NOW).len()),
            (0, 0, 0)
        );
    }
}

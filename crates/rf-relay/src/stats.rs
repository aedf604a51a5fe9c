//! What the relay counts: messages and queries of each bucket, environment and host, and who used which bucket.
//!
//! Promises: a minute's counts start anew each minute; a host that has been silent for an hour is forgotten; every
//! table is bounded, and at its bound the one that has been silent for longest makes room. The lock is held for a few
//! additions, or for a copy of counters; nothing is encoded or written under it. `persistence` writes it all to disk.

mod counts;
mod refused;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::absences::Absences;
use crate::bucket::BucketName;
use crate::store::Usage;
use counts::Counted;
pub(crate) use counts::{Chart, Counts, POINT_MINUTES, POINTS_PER_HOUR, Point, Recent, Totals};
pub(crate) use refused::RefusedCall;
use refused::RefusedCalls;

/// Environments, hosts: so many of each are counted.
pub(crate) const MAX_NAMES: usize = 1000;

/// Buckets of which one host's use is told apart; further ones are counted for the bucket and the host alone.
const MAX_FLOWS: usize = 64;

/// A longer name is not counted: it comes from a header, and only its first sight would be bounded by that.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A host that has been silent for so long is forgotten.
pub(crate) const FORGET_AFTER_SECS: u64 = 3600;

/// Who calls, as it says itself; empty where it does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller<'a> {
    pub(crate) env: Cow<'a, str>,
    pub(crate) hostname: Cow<'a, str>,
}

/// All counters.
#[derive(Default)]
pub(crate) struct Stats {
    tables: Mutex<Tables>,
    absences: Absences,
    /// Since the start.
    unauthorized: AtomicU64,
    refused_calls: RefusedCalls,
}

/// The tables, as they are kept on disk too.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tables {
    buckets: HashMap<String, BucketCounts>,
    envs: HashMap<String, Counts>,
    hostnames: HashMap<String, HostCounts>,
}

/// A bucket's counters and its last hours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BucketCounts {
    pub(crate) counts: Counts,
    pub(crate) chart: Chart,
    /// What was dropped before this start: a store counts from its opening.
    dropped_full_before: u64,
    dropped_age_before: u64,
    dropped_damaged_before: u64,
}

/// A host's counters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HostCounts {
    pub(crate) counts: Counts,
    pub(crate) env: String,
    pub(crate) flows: HashMap<String, Flow>,
}

/// What a host wrote to a bucket and read from it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Flow {
    pub(crate) written: u64,
    #[serde(rename = "written_at")]
    pub(crate) written_at_secs: Option<u64>,
    pub(crate) written_recently: Recent,
    pub(crate) read: u64,
    #[serde(rename = "read_at")]
    pub(crate) read_at_secs: Option<u64>,
    pub(crate) read_recently: Recent,
}

impl BucketCounts {
    /// Dropped because it was full, because of age, and lost with a damaged database; over all starts.
    pub(crate) fn dropped(&self, usage: &Usage) -> (u64, u64, u64) {
        (
            self.dropped_full_before + usage.dropped_full,
            self.dropped_age_before + usage.dropped_age,
            self.dropped_damaged_before + usage.dropped_damaged,
        )
    }

    pub(crate) fn totals(&self, usage: &Usage) -> Totals {
        let (full, age, damaged) = self.dropped(usage);
        Totals {
            rx: self.counts.rx_messages_since_start,
            tx: self.counts.tx_messages_since_start,
            dropped: full + age + damaged,
            refused: self.counts.refused,
        }
    }
}

impl Stats {
    /// Goes on from what was kept, after these absences of the relay.
    pub(crate) fn new(tables: Tables, absences: Absences) -> Self {
        let (unauthorized, refused_calls) = (AtomicU64::new(0), RefusedCalls::default());
        Self { tables: Mutex::new(tables), absences, unauthorized, refused_calls }
    }

    /// What shall be kept, with what the store has counted until now.
    pub(crate) fn to_tables(&self, usage: impl Fn(&str) -> Option<Usage>) -> Tables {
        let mut tables = self.tables.lock().clone();
        tables.buckets.retain(|name, bucket| match usage(name) {
            Some(usage) => {
                let (full, age, damaged) = bucket.dropped(&usage);
                (bucket.dropped_full_before, bucket.dropped_age_before) = (full, age);
                bucket.dropped_damaged_before = damaged;
                true
            }
            // A bucket that is not in the configuration any more.
            None => false,
        });
        tables
    }

    /// A batch of `messages` was stored in `buckets`.
    pub(crate) fn received(
        &self,
        caller: &Caller<'_>,
        buckets: &[BucketName],
        messages: u64,
        now_secs: u64,
    ) {
        self.count(caller, buckets, now_secs, Counted::Received(messages));
    }

    /// `messages` of a bucket were handed out.
    pub(crate) fn sent(
        &self,
        caller: &Caller<'_>,
        bucket: &BucketName,
        messages: u64,
        now_secs: u64,
    ) {
        self.count(caller, std::slice::from_ref(bucket), now_secs, Counted::Sent(messages));
    }

    /// A long poll for `bucket` begins; when it ends it is counted as [`Stats::sent`].
    pub(crate) fn asked(&self, caller: &Caller<'_>, bucket: &BucketName, now_secs: u64) {
        self.count(caller, std::slice::from_ref(bucket), now_secs, Counted::Asked);
    }

    /// A batch was refused because `bucket` is full.
    pub(crate) fn refused(&self, bucket: &BucketName, now_secs: u64) {
        self.bucket_mut(&mut self.tables.lock(), bucket).counts.update(now_secs, Counted::Refused);
    }

    /// A token was shown that does not open what was asked for.
    pub(crate) fn count_unauthorized(&self) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
    }

    /// The same of a call to the API in a host's name, and those of the buckets that it named that there are. True where the
    /// name may stand in the log.
    pub(crate) fn refused_call(
        &self,
        hostname: &str,
        buckets: Option<String>,
        now_secs: u64,
    ) -> bool {
        self.count_unauthorized();
        self.refused_calls.note(hostname, RefusedCall { at_secs: now_secs, buckets })
    }

    /// By host, the newest call of the last minutes that was refused so.
    pub(crate) fn refused_calls(&self, now_secs: u64) -> HashMap<String, RefusedCall> {
        self.refused_calls.lately(now_secs)
    }

    /// How often a token was shown that does not open what was asked for.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.unauthorized.load(Ordering::Relaxed)
    }

    /// Adds a point to each bucket's chart when its time has come; losses are remembered for `losses_for`.
    pub(crate) fn sample(
        &self,
        usages: &[(BucketName, Usage)],
        now_secs: u64,
        losses_for: Duration,
    ) {
        let mut tables = self.tables.lock();
        for (name, usage) in usages {
            let bucket = self.bucket_mut(&mut tables, name);
            let totals = bucket.totals(usage);
            bucket.chart.sample(now_secs, totals, usage, losses_for);
        }
    }

    /// A bucket's counters, with the minute's of `now_secs`.
    pub(crate) fn bucket(&self, bucket: &str, now_secs: u64) -> BucketCounts {
        let mut found = self.tables.lock().buckets.get(bucket).cloned().unwrap_or_default();
        found.counts = found.counts.at(now_secs);
        found
    }

    /// The counts of all environments.
    pub(crate) fn envs(&self, now_secs: u64) -> Vec<(String, Counts)> {
        self.tables
            .lock()
            .envs
            .iter()
            .map(|(name, counts)| (name.clone(), counts.at(now_secs)))
            .collect()
    }

    /// All hosts of the last hour.
    pub(crate) fn hostnames(&self, now_secs: u64) -> Vec<(String, HostCounts)> {
        let mut tables = self.tables.lock();
        tables.hostnames.retain(|_, host| {
            is_recent(self.absences.silence_ms(host.counts.last_seen_secs * 1000, now_secs * 1000))
        });
        let host = |(name, host): (&String, &HostCounts)| {
            (name.clone(), HostCounts { counts: host.counts.at(now_secs), ..host.clone() })
        };
        tables.hostnames.iter().map(host).collect()
    }

    fn count(&self, caller: &Caller<'_>, buckets: &[BucketName], now_secs: u64, what: Counted) {
        let mut tables = self.tables.lock();
        for bucket in buckets {
            self.bucket_mut(&mut tables, bucket).counts.update(now_secs, what);
        }
        if let Some(counts) = entry(&mut tables.envs, &caller.env, |counts| counts.last_seen_secs) {
            counts.update(now_secs, what);
        }
        let hosts = &mut tables.hostnames;
        if let Some(host) = entry(hosts, &caller.hostname, |host| host.counts.last_seen_secs) {
            host.counts.update(now_secs, what);
            if host.env != caller.env && caller.env.len() <= MAX_NAME_BYTES {
                (*caller.env).clone_into(&mut host.env);
            }
            buckets.iter().for_each(|bucket| host.flow(bucket, now_secs, what));
        }
    }

    /// Buckets are those of the configuration: bounded by it.
    fn bucket_mut<'a>(&self, tables: &'a mut Tables, bucket: &BucketName) -> &'a mut BucketCounts {
        if !tables.buckets.contains_key(bucket.as_str()) {
            tables.buckets.insert(bucket.to_string(), BucketCounts::default());
        }
        tables.buckets.get_mut(bucket.as_str()).expect("it was put there")
    }
}

impl HostCounts {
    fn flow(&mut self, bucket: &BucketName, now_secs: u64, what: Counted) {
        let known = self.flows.contains_key(bucket.as_str());
        if !known && self.flows.len() >= MAX_FLOWS {
            return;
        }
        if !known {
            self.flows.insert(bucket.to_string(), Flow::default());
        }
        let flow = self.flows.get_mut(bucket.as_str()).expect("it was put there");
        match what {
            Counted::Received(messages) => {
                flow.written += messages;
                flow.written_at_secs = Some(now_secs);
                flow.written_recently.add(messages, now_secs);
            }
            Counted::Sent(messages) => {
                flow.read += messages;
                flow.read_at_secs = Some(now_secs);
                flow.read_recently.add(messages, now_secs);
            }
            Counted::Asked => flow.read_at_secs = Some(now_secs),
            Counted::Refused => {}
        }
    }
}

/// The entry of a name, made if there is none; none for a name that is not counted.
fn entry<'a, V: Default>(
    table: &'a mut HashMap<String, V>,
    name: &str,
    last_seen: impl Fn(&V) -> u64,
) -> Option<&'a mut V> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return None;
    }
    if !table.contains_key(name) {
        if table.len() >= MAX_NAMES {
            drop_stalest(table, last_seen);
        }
        table.insert(name.to_owned(), V::default());
    }
    table.get_mut(name)
}

/// Makes room in a table that is full.
pub(crate) fn drop_stalest<K: Clone + Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    last_seen: impl Fn(&V) -> u64,
) {
    let stalest =
        table.iter().min_by_key(|(_, value)| last_seen(value)).map(|(name, _)| name.clone());
    if let Some(name) = stalest {
        table.remove(&name);
    }
}

/// Whether one that is silent for so long is still remembered.
pub(crate) fn is_recent(silence_ms: u64) -> bool {
    silence_ms < FORGET_AFTER_SECS * 1000
}

#[cfg(test)]
mod tests;

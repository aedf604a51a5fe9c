//! From counters, stores and what nodes told to a [`Report`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rf_core::node_info::Role;
use rf_core::trace::Journal;

use super::flows::{give_flows, take_reads, take_writes};
use super::{
    BucketReport, DiskRoom, FlowReport, Level, NodeReport, Presence, Report, SinkReport,
    SourceReport, Why, judge,
};
use crate::absences::Absences;
use crate::api::Holders;
use crate::bucket::BucketName;
use crate::config::{BucketConfig, Thresholds};
use crate::nodes::{Node, Nodes, dead_letters, dropped};
use crate::stats::{HostCounts, RefusedCall, Stats};
use crate::store::{BucketStore, Usage};

/// Everything that a report is made of.
pub(crate) struct RelayView {
    pub(crate) started_at_ms: u64,
    pub(crate) absences: Absences,
    pub(crate) data_dir: PathBuf,
    pub(crate) buckets: BTreeMap<BucketName, BucketConfig>,
    pub(crate) expected: Vec<String>,
    pub(crate) thresholds: Thresholds,
    pub(crate) store: Arc<dyn BucketStore>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) holders: Arc<Holders>,
    pub(crate) journal: Arc<Journal>,
}

impl RelayView {
    /// The system as it is now.
    pub(crate) fn report(&self, now_ms: u64) -> Report {
        let (buckets, nodes) = (self.bucket_reports(now_ms), self.node_reports(now_ms));
        let worst_bucket = buckets.iter().map(|bucket| bucket.level).max();
        let worst_node = nodes.iter().map(|node| node.level).max();
        let disk = DiskRoom::at(&self.data_dir);
        let why = judge::relay(disk.as_ref(), &self.thresholds);
        Report {
            at_ms: now_ms,
            started_at_ms: self.started_at_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: worst_bucket.max(worst_node).max(Some(worst(&why))).unwrap_or_default(),
            why,
            disk,
            buckets,
            nodes,
        }
    }

    /// The buckets of a report.
    pub(crate) fn bucket_reports(&self, now_ms: u64) -> Vec<BucketReport> {
        let holders = self.holders.by_bucket();
        let report = |(name, config): (&BucketName, &BucketConfig)| {
            let held = holders.get(name).copied().unwrap_or_default();
            self.bucket(name, config, held, now_ms)
        };
        self.buckets.iter().map(report).collect()
    }

    /// Every bucket's figures from the store.
    pub(crate) fn usages(&self) -> Vec<(BucketName, Usage)> {
        self.buckets.keys().map(|name| (name.clone(), self.store.usage(name))).collect()
    }

    fn bucket(
        &self,
        name: &BucketName,
        config: &BucketConfig,
        holders: u64,
        now_ms: u64,
    ) -> BucketReport {
        let now_secs = now_ms / 1000;
        let usage = self.store.usage(name);
        let stats = self.stats.bucket(name.as_str(), now_secs);
        let (dropped_full, dropped_age, dropped_damaged) = stats.dropped(&usage);
        let counts = &stats.counts;
        let mut report = BucketReport {
            name: name.to_string(),
            events: usage.events,
            used_bytes: usage.used_bytes,
            max_bytes: usage.max_bytes,
            events_max_bytes: usage.events_max_bytes,
            oldest_at_ms: usage.oldest_at_ms,
            ttl_secs: config.ttl.map_or(0, |ttl| ttl.as_secs()),
            rx_per_minute: counts.rx_per_minute(now_secs),
            tx_per_minute: counts.tx_per_minute(now_secs),
            received: counts.rx_messages_since_start,
            sent: counts.tx_messages_since_start,
            refused: counts.refused,
            dropped_full,
            dropped_age,
            dropped_damaged,
            holders,
            received_at_ms: counts.rx_last_secs.map(|at| at * 1000),
            asked_at_ms: counts.tx_last_secs.map(|at| at * 1000),
            is_closed: usage.is_closed,
            ..BucketReport::default()
        };
        let since_secs = now_secs.saturating_sub(self.thresholds.losses_for.as_secs());
        let facts = judge::BucketFacts {
            failure: usage.failure.as_deref(),
            trouble: usage.trouble.as_ref(),
            when_full: config.when_full,
            losses: stats.chart.losses_since(since_secs, stats.totals(&usage)),
            now_ms,
        };
        report.why = judge::bucket(&report, &facts, &self.thresholds);
        report.level = worst(&report.why);
        report
    }

    fn node_reports(&self, now_ms: u64) -> Vec<NodeReport> {
        let mut hosts: BTreeMap<String, HostCounts> =
            self.stats.hostnames(now_ms / 1000).into_iter().collect();
        let told = self.nodes.all(now_ms);
        let now_secs = now_ms / 1000;
        let report = |node: &Arc<Node>| node_report(node, now_ms, &self.thresholds, &self.absences);
        let mut reports: Vec<NodeReport> = told.iter().map(report).collect();
        give_flows(&mut reports, &mut hosts, now_secs);
        let names: BTreeSet<String> = told.iter().map(|node| node.id.host.clone()).collect();
        reports.extend(hosts.iter_mut().flat_map(|(name, host)| {
            let heard = names.contains(name);
            only_calls(name, host, heard, now_secs)
        }));
        let known: BTreeSet<String> = reports.iter().map(|node| node.host.clone()).collect();
        let missing = self.expected.iter().filter(|host| !known.contains(*host));
        // Over all runs: at a start only what could be heard since counts against nobody.
        let listened = Duration::from_millis(self.absences.silence_ms(0, now_ms));
        reports.extend(missing.map(|host| missing_node(host, listened, &self.thresholds)));
        let expected: BTreeSet<&String> = self.expected.iter().collect();
        let refused = self.stats.refused_calls(now_secs);
        for report in &mut reports {
            report.expected = expected.contains(&report.host);
            if report.expected && report.presence == Presence::CallsOnly {
                self.judge_caller(report, now_ms);
            }
            if let Some(call) = refused.get(&report.host) {
                self.judge_refused(report, call, now_ms);
            }
        }
        reports.sort_by(|a, b| a.id.cmp(&b.id));
        reports.dedup_by(|a, b| a.id == b.id);
        reports
    }

    /// An expected host of which only calls are known, as of an old program.
    fn judge_caller(&self, report: &mut NodeReport, now_ms: u64) {
        let last_seen_ms = report.last_seen_ms.unwrap_or_default();
        let silence = Duration::from_millis(self.absences.silence_ms(last_seen_ms, now_ms));
        if silence > self.thresholds.node_silent_after {
            report.presence = Presence::Silent;
            report.why = vec![judge::silent(silence, None)];
            report.level = worst(&report.why);
        }
    }

    /// A host in whose name somebody calls with a wrong token, and hardly with a right one: a node that still reports says
    /// itself which of its sinks is paused.
    fn judge_refused(&self, report: &mut NodeReport, call: &RefusedCall, now_ms: u64) {
        let flows = report.writes.iter().chain(&report.reads).filter_map(|flow| flow.at_ms);
        let taken_ms = flows.chain(report.last_seen_ms).max().unwrap_or_default();
        if is_outweighed(call, taken_ms) {
            return;
        }
        if report.presence == Presence::Silent {
            let last_seen_ms = report.last_seen_ms.unwrap_or_default();
            let silence = self.absences.silence_ms(last_seen_ms, now_ms);
            report.why = vec![judge::silent(Duration::from_millis(silence), Some(call))];
        } else {
            report.why.push(judge::refused(call));
            report.why.sort_by_key(|why| std::cmp::Reverse(why.level));
        }
        report.level = worst(&report.why);
    }
}

/// Whether a call that was accepted at `taken_ms` says more about a host than this refused one: a node reports once a minute.
pub(super) fn is_outweighed(call: &RefusedCall, taken_ms: u64) -> bool {
    const REPORTS_WITHIN_SECS: u64 = 75;
    taken_ms / 1000 + REPORTS_WITHIN_SECS > call.at_secs
}

pub(super) fn node_report(
    node: &Node,
    now_ms: u64,
    limits: &Thresholds,
    absences: &Absences,
) -> NodeReport {
    let info = &node.info;
    let silence = Duration::from_millis(absences.silence_ms(node.past.last_seen_ms, now_ms));
    let is_silent = silence > judge::silent_after(node, limits);
    let mut machine = [info.memory_host_used_pct, info.cpu_percent_host, info.disk_used_pct];
    let mut why = Vec::new();
    let mut sources: Vec<SourceReport> =
        info.sources.keys().map(|id| source_report(node, id, &mut why)).collect();
    let mut sinks: Vec<SinkReport> =
        info.sinks.keys().map(|id| sink_report(node, id, now_ms, limits, &mut why)).collect();
    why.extend(judge::node(node, now_ms, limits));
    if is_silent {
        // What it told before it fell silent is not so any more, or cannot be known.
        why = vec![judge::silent(silence, None)];
        sources.iter_mut().for_each(|source| source.per_minute = 0);
        sinks.iter_mut().for_each(|sink| sink.per_minute = 0);
        machine = [0.0; 3];
    }
    let [memory_percent, cpu_percent, disk_percent] = machine;
    why.sort_by_key(|why| std::cmp::Reverse(why.level));
    NodeReport {
        id: node.id.text(),
        host: node.id.host.clone(),
        env: info.env_name.clone(),
        role: node.id.role.as_str().to_owned(),
        version: info.version.clone(),
        level: worst(&why),
        why,
        presence: if is_silent { Presence::Silent } else { Presence::Here },
        last_seen_ms: Some(node.past.last_seen_ms),
        skew_ms: node.past.skew_ms,
        started_at_ms: info.started_at_ms,
        memory_process: info.memory_process,
        memory_percent,
        cpu_percent,
        disk_percent,
        per_minute: if is_silent { 0 } else { node.past.beats.back().map_or(0, |beat| beat.rate) },
        spark: node.past.beats.iter().map(|beat| beat.rate).collect(),
        queued: sinks.iter().fold(0, |sum, sink| u64::saturating_add(sum, sink.queued)),
        fill_percent: sinks.iter().map(|sink| sink.fill_percent).max().unwrap_or_default(),
        oldest_at_ms: sinks.iter().filter_map(|sink| sink.oldest_at_ms).min(),
        dropped: dropped(info),
        dead_letters: dead_letters(info),
        errors: info.error_count,
        sources,
        sinks,
        ..NodeReport::default()
    }
}

fn source_report(node: &Node, id: &str, why: &mut Vec<Why>) -> SourceReport {
    let source = &node.info.sources[id];
    let wrong = judge::source(id, source);
    let level = worst(&wrong);
    why.extend(wrong);
    SourceReport {
        id: id.to_owned(),
        kind: source.kind.clone(),
        level,
        sinks: source.sinks.clone(),
        buckets: source.wired_to.as_ref().map(|wiring| wiring.buckets.clone()).unwrap_or_default(),
        received: source.received,
        per_minute: node.past.source_rates.get(id).copied().unwrap_or_default(),
        dropped: sum(source.dropped.values()),
        dead_lettered: source.dead_lettered,
        dead_letters: source.dead_letters,
    }
}

fn sink_report(
    node: &Node,
    id: &str,
    now_ms: u64,
    limits: &Thresholds,
    why: &mut Vec<Why>,
) -> SinkReport {
    let sink = &node.info.sinks[id];
    // By the relay's clock, so that a clock that is wrong does not make events old.
    let oldest_at_ms =
        sink.queue.oldest_at_ms.map(|at| at.saturating_add_signed(-node.past.skew_ms));
    let per_minute = node.past.sink_rates.get(id).copied().unwrap_or_default();
    let facts = judge::SinkFacts { oldest_at_ms, per_minute, now_ms };
    let wrong = judge::sink(id, sink, &facts, limits);
    let level = worst(&wrong);
    why.extend(wrong);
    let quantile = |share| sink.latency.as_ref().and_then(|latency| latency.quantile_ms(share));
    SinkReport {
        id: id.to_owned(),
        kind: sink.kind.clone(),
        level,
        buckets: sink.wired_to.as_ref().map(|wiring| wiring.buckets.clone()).unwrap_or_default(),
        target: sink.target.clone(),
        delivered: sink.shipped.saturating_add(sink.delivered),
        per_minute,
        queued: sink.queue.events,
        queued_bytes: sink.queue.bytes,
        max_bytes: sink.queue.max_bytes,
        fill_percent: judge::fill(&sink.queue),
        oldest_at_ms,
        retried: sink.retried,
        dropped: sum(sink.dropped.values()),
        dead_lettered: sink.dead_lettered,
        dead_letters: sink.dead_letters,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        error: judge::standing(sink.last_error.as_ref(), sink.last_success_at_ms)
            .map(|error| error.text.clone()),
    }
}

/// A host that calls without telling of itself: one entry for what it writes, one for what it reads.
fn only_calls(name: &str, host: &mut HostCounts, heard: bool, now_secs: u64) -> Vec<NodeReport> {
    let writes = take_writes(host, now_secs, |_| true);
    let reads = take_reads(host, now_secs, |_| true);
    let is_both = !writes.is_empty() && !reads.is_empty();
    let one = |role: Role, writes: Vec<FlowReport>, reads: Vec<FlowReport>| {
        let flows = || writes.iter().chain(&reads);
        NodeReport {
            id: if heard || is_both {
                format!("{name}/{}", role.as_str())
            } else {
                name.to_owned()
            },
            host: name.to_owned(),
            env: host.env.clone(),
            role: role.as_str().to_owned(),
            presence: Presence::CallsOnly,
            last_seen_ms: flows().filter_map(|flow| flow.at_ms).max(),
            per_minute: flows().map(|flow| flow.per_minute).sum(),
            writes,
            reads,
            ..NodeReport::default()
        }
    };
    let mut nodes = Vec::new();
    if !writes.is_empty() {
        nodes.push(one(Role::Proxy, writes, Vec::new()));
    }
    if !reads.is_empty() {
        nodes.push(one(Role::Player, Vec::new(), reads));
    }
    nodes
}

/// Not wrong before somebody who tells would have been silent for long enough.
fn missing_node(host: &str, listened: Duration, limits: &Thresholds) -> NodeReport {
    let is_wrong = listened >= limits.node_silent_after;
    let why = if is_wrong { vec![judge::missing(listened)] } else { Vec::new() };
    NodeReport {
        id: host.to_owned(),
        host: host.to_owned(),
        role: Role::Unknown.as_str().to_owned(),
        level: worst(&why),
        why,
        presence: Presence::Missing,
        ..NodeReport::default()
    }
}

fn sum<'a>(counts: impl Iterator<Item = &'a u64>) -> u64 {
    counts.fold(0, |sum, count| sum.saturating_add(*count))
}

fn worst(why: &[Why]) -> Level {
    why.iter().map(|why| why.level).max().unwrap_or_default()
}

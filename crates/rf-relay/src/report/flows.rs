//! Which agent of a host a flow is of: the relay sees the host and the bucket only.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rf_core::node_info::Role;

use super::{FlowReport, NodeReport};
use crate::stats::{Flow, HostCounts, Recent};

/// Each agent of a host gets the flows of the buckets that it is wired to, and the last one what is left: one of an old
/// version, which does not say what it is wired to.
pub(super) fn give_flows(
    reports: &mut [NodeReport],
    hosts: &mut BTreeMap<String, HostCounts>,
    now_secs: u64,
) {
    for report in reports.iter_mut() {
        let writes = names(report.sinks.iter().map(|sink| &sink.buckets));
        let reads = names(report.sources.iter().map(|source| &source.buckets));
        let (is_written, is_read) =
            (|name: &str| writes.contains(name), |name: &str| reads.contains(name));
        take_flows(report, hosts, now_secs, is_written, is_read);
    }
    for report in reports.iter_mut().rev() {
        take_flows(report, hosts, now_secs, |_| true, |_| true);
    }
}

fn names<'a>(buckets: impl Iterator<Item = &'a Vec<String>>) -> BTreeSet<String> {
    buckets.flatten().cloned().collect()
}

/// A proxy does not read, and a player does not write.
fn take_flows(
    report: &mut NodeReport,
    hosts: &mut BTreeMap<String, HostCounts>,
    now_secs: u64,
    is_written: impl Fn(&str) -> bool,
    is_read: impl Fn(&str) -> bool,
) {
    let Some(host) = hosts.get_mut(&report.host) else { return };
    if report.role != Role::Player.as_str() {
        report.writes.extend(take_writes(host, now_secs, is_written));
        report.writes.sort_by(by_bucket);
    }
    if report.role != Role::Proxy.as_str() {
        report.reads.extend(take_reads(host, now_secs, is_read));
        report.reads.sort_by(by_bucket);
    }
}

/// Taken, so that of two agents of one host only one has them.
pub(super) fn take_writes(
    host: &mut HostCounts,
    now_secs: u64,
    is_taken: impl Fn(&str) -> bool,
) -> Vec<FlowReport> {
    take(host, now_secs, is_taken, |flow| {
        (&mut flow.written_at_secs, &flow.written_recently, flow.written)
    })
}

pub(super) fn take_reads(
    host: &mut HostCounts,
    now_secs: u64,
    is_taken: impl Fn(&str) -> bool,
) -> Vec<FlowReport> {
    take(host, now_secs, is_taken, |flow| (&mut flow.read_at_secs, &flow.read_recently, flow.read))
}

fn take(
    host: &mut HostCounts,
    now_secs: u64,
    is_taken: impl Fn(&str) -> bool,
    side: fn(&mut Flow) -> (&mut Option<u64>, &Recent, u64),
) -> Vec<FlowReport> {
    let flow = |(bucket, flow): (&String, &mut Flow)| {
        let (at_secs, recently, events) = side(flow);
        let at_secs = at_secs.take_if(|_| is_taken(bucket))?;
        let per_minute = recently.per_minute(now_secs);
        Some(FlowReport { bucket: bucket.clone(), per_minute, events, at_ms: Some(at_secs * 1000) })
    };
    let mut flows: Vec<FlowReport> = host.flows.iter_mut().filter_map(flow).collect();
    flows.sort_by(by_bucket);
    flows
}

fn by_bucket(a: &FlowReport, b: &FlowReport) -> Ordering {
    a.bucket.cmp(&b.bucket)
}

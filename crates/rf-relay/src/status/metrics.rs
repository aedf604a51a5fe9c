//! `/metrics`: the relay's own figures, and those that nodes told, so that one scrape sees the whole system.
//!
//! Promises: the number of series is bounded by the bounds of nodes, sources, sinks and buckets; a node that is silent
//! has no figures but `replayforge_node_up` 0, so that old figures are not taken for new ones.

mod families;

use std::collections::HashMap;

use rf_core::clock::unix_ms;
use rf_core::metrics::{Agent, Form, Kind, Label, Text, Value, agents};

use crate::nodes::Node;
use crate::report::{DiskRoom, Level, NodeReport, Presence, RelayView, Report};
use families::{BUCKETS, NODES};

const UNAUTHORIZED: &str = "replayforge_unauthorized_requests_total";

/// Of the relay's own disk: the name, the help, and the figure.
type OfDisk = (&'static str, &'static str, fn(&DiskRoom) -> u64);

const DISK: [OfDisk; 2] = [
    ("replayforge_relay_disk_bytes", "Bytes of the file system of the relay's dataDir.", |disk| {
        disk.total
    }),
    ("replayforge_relay_disk_free_bytes", "Free bytes of that file system.", |disk| disk.free),
];

/// The whole text.
pub(super) fn metrics(view: &RelayView, form: Form) -> String {
    let now_ms = unix_ms();
    let report = view.report(now_ms);
    let told = view.nodes.all(now_ms);
    let mut text = Text::new(form);
    relay(&mut text, &report, view.stats.unauthorized());
    for family in BUCKETS {
        text.family(family.name, family.kind, family.help);
        for bucket in &report.buckets {
            for (reason, value) in (family.values)(bucket, now_ms) {
                let labels = [("bucket", bucket.name.as_str()), ("reason", reason)];
                let known = if reason.is_empty() { 1 } else { 2 };
                text.sample(family.name, &labels[..known], value);
            }
        }
    }
    let told: HashMap<String, &Node> = told.iter().map(|node| (node.id.text(), &**node)).collect();
    let nodes: Vec<Seen<'_>> = report.nodes.iter().map(|node| Seen::new(node, &told)).collect();
    for family in NODES {
        text.family(family.name, family.kind, family.help);
        for seen in &nodes {
            if let Some(value) = (family.value)(seen.report) {
                text.sample(family.name, &seen.labels(), value);
            }
        }
    }
    let told: Vec<Agent<'_>> = nodes.iter().filter_map(|seen| seen.agent(now_ms)).collect();
    agents(&mut text, &told);
    text.finish()
}

fn relay(text: &mut Text, report: &Report, unauthorized: u64) {
    text.family("replayforge_build_info", Kind::Gauge, "The relay's version; always 1.");
    let labels = [("role", "relay"), ("version", report.version.as_str())];
    text.sample("replayforge_build_info", &labels, 1);
    let name = "replayforge_start_time_seconds";
    text.family(name, Kind::Gauge, "When the relay was started, in seconds since 1970.");
    text.sample(name, &[], Value::of_ms(report.started_at_ms));
    let name = "replayforge_troubles";
    text.family(name, Kind::Gauge, "Things that are wrong, by level.");
    let troubles = report.troubles();
    for level in [Level::Warn, Level::Bad] {
        let count = troubles.iter().filter(|trouble| trouble.why.level == level).count();
        text.sample(name, &[("level", level.as_str())], count);
    }
    for (name, help, value) in DISK {
        text.family(name, Kind::Gauge, help);
        if let Some(disk) = &report.disk {
            text.sample(name, &[], value(disk));
        }
    }
    text.family(
        UNAUTHORIZED,
        Kind::Counter,
        "Requests that were refused because of a wrong token or an unknown bucket.",
    );
    text.sample(UNAUTHORIZED, &[], unauthorized);
}

/// A node's report and, unless it is silent, what it told.
struct Seen<'a> {
    report: &'a NodeReport,
    node: Option<&'a Node>,
}

impl<'a> Seen<'a> {
    fn new(report: &'a NodeReport, told: &HashMap<String, &'a Node>) -> Seen<'a> {
        let node = told.get(&report.id).copied();
        Seen { report, node: node.filter(|_| report.presence == Presence::Here) }
    }

    fn labels(&self) -> [Label<'a>; 3] {
        let NodeReport { id, env, role, .. } = self.report;
        [("node", id), ("env", env), ("role", role)]
    }

    fn agent(&self, now_ms: u64) -> Option<Agent<'a>> {
        let node = self.node?;
        let skew_ms = node.past.skew_ms;
        Some(Agent { labels: self.labels(), info: &node.info, skew_ms, now_ms })
    }
}

#[cfg(test)]
mod tests;

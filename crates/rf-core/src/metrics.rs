//! Metrics for Prometheus: how they are written, and those of agents, their sources and sinks.
//!
//! An agent tells its own on its status port, a relay those of all agents that told it of themselves: with the same names
//! and labels, made of the same [`NodeInfo`], so that a dashboard fits both.

mod families;
mod text;

pub use families::{
    AGENTS, AgentFamily, ByReason, LATENCY, SINKS, SOURCES, SinkFamily, SourceFamily, Value,
    age_ms, one, one_seconds,
};
pub use text::{Form, Kind, Label, Text};

use crate::node_info::NodeInfo;
use families::{SinkFacts, latency_bound};

/// An agent, and who it is.
#[derive(Debug)]
pub struct Agent<'a> {
    /// `node`, `env` and `role`.
    pub labels: [Label<'a>; 3],
    /// What it tells.
    pub info: &'a NodeInfo,
    /// How far its clock is ahead of that of who writes.
    pub skew_ms: i64,
    /// By the clock of who writes.
    pub now_ms: u64,
}

impl<'a> Agent<'a> {
    /// The labels of one of its components, with a place for one more, which is there unless it is empty.
    fn labels_of(&self, component: [Label<'a>; 2], last: Label<'a>) -> Vec<Label<'a>> {
        let labels = self.labels.into_iter().chain(component).chain([last]);
        labels.filter(|(name, value)| *name != last.0 || !value.is_empty()).collect()
    }
}

/// Everything of these agents.
pub fn agents(text: &mut Text, agents: &[Agent<'_>]) {
    for family in AGENTS {
        text.family(family.name, family.kind, family.help);
        for agent in agents {
            text.sample(family.name, &agent.labels, (family.value)(agent.info));
        }
    }
    for family in SOURCES {
        text.family(family.name, family.kind, family.help);
        for agent in agents {
            for (id, source) in &agent.info.sources {
                for (reason, value) in (family.values)(source) {
                    let component = [("source", id.as_str()), ("type", source.kind.as_str())];
                    let labels = agent.labels_of(component, ("reason", reason));
                    text.sample(family.name, &labels, value);
                }
            }
        }
    }
    for family in SINKS {
        text.family(family.name, family.kind, family.help);
        for agent in agents {
            for (id, sink) in &agent.info.sinks {
                let facts = SinkFacts { sink, skew_ms: agent.skew_ms, now_ms: agent.now_ms };
                for (reason, value) in (family.values)(&facts) {
                    let component = [("sink", id.as_str()), ("type", sink.kind.as_str())];
                    let labels = agent.labels_of(component, ("reason", reason));
                    text.sample(family.name, &labels, value);
                }
            }
        }
    }
    latency(text, agents);
}

fn latency(text: &mut Text, agents: &[Agent<'_>]) {
    let (name, kind, help) = LATENCY;
    text.family(name, kind, help);
    for agent in agents {
        for (id, sink) in &agent.info.sinks {
            let Some(latency) = &sink.latency else { continue };
            let component = [("sink", id.as_str()), ("type", sink.kind.as_str())];
            let mut below = 0;
            for (at, count) in latency.counts.iter().enumerate() {
                below += count;
                let bound = latency_bound(at);
                let labels = agent.labels_of(component, ("le", &bound));
                text.sample(&format!("{name}_bucket"), &labels, below);
            }
            let labels = agent.labels_of(component, ("le", ""));
            text.sample(&format!("{name}_sum"), &labels, Value::of_ms(latency.sum_ms));
            text.sample(&format!("{name}_count"), &labels, below);
        }
    }
}

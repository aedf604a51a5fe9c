//! Everything that an agent can tell of itself, made when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rf_core::clock::unix_ms;
use rf_core::node_info::{
    BY_SCRIPT, LogLine, MAX_LOG_LINES, NodeInfo, QueueInfo, Role, SCRIPT_ERROR, SinkInfo,
    SourceInfo, Wiring,
};
use rf_core::recent_logs::{Part, RecentLogs};
use rf_core::trace::{Journal, TraceReport};
use rf_queue::{QueueId, QueueUsage, Store};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use super::StatsPlan;
use super::machine::Machine;
use super::meters::{SinkMeter, SourceMeter, by_reason};
use crate::agent::{PlannedSink, PlannedSource};
use crate::pipeline::Output;
use crate::script::{ScriptCounters, letters_queue};
use crate::sink::Traffic;
use crate::trace;

/// Why an event is gone that was a dead letter: newer ones pushed it out.
const DEAD_LETTER: &str = "deadLetter";

/// A source as it is told.
pub(crate) struct SeenSource {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// Ids of the sinks that it feeds.
    pub(crate) sinks: Vec<String>,
    pub(crate) wired_to: Option<Wiring>,
    pub(crate) meter: Arc<SourceMeter>,
    pub(crate) script: Option<Arc<ScriptCounters>>,
    /// Where the dead letters of its script are kept, if it has one.
    pub(crate) letters: Option<QueueId>,
}

/// A sink as it is told.
pub(crate) struct SeenSink {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) wired_to: Option<Wiring>,
    pub(crate) target: String,
    /// As the status page shows it.
    pub(crate) url: String,
    pub(crate) traffic: Option<Arc<Traffic>>,
    pub(crate) queue: QueueId,
    pub(crate) max_bytes: u64,
    pub(crate) meter: Arc<SinkMeter>,
    /// Told whenever its relay has answered somebody else of this agent.
    pub(crate) reached: Arc<Notify>,
}

/// Bytes of node-info.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// Everything that can be told.
pub(crate) struct Sight {
    pub(crate) role: Role,
    pub(crate) env_name: String,
    pub(crate) host_name: String,
    /// Tells it from others of its role on its host.
    pub(crate) instance: String,
    pub(crate) started: Instant,
    /// How often relays are told.
    pub(crate) every: Duration,
    pub(crate) started_at_ms: u64,
    pub(crate) store: Store,
    pub(crate) sources: Vec<SeenSource>,
    pub(crate) sinks: Vec<SeenSink>,
    pub(crate) logs: Arc<RecentLogs>,
    pub(crate) journal: Arc<Journal>,
    /// One event is looked for at a time: it reads through the store, on threads that others need.
    tracing: Semaphore,
    pub(crate) told: Told,
    pub(super) machine: Machine,
}

impl SeenSource {
    /// Events that were dropped, by reason.
    pub(super) fn dropped(&self, store: &Store) -> BTreeMap<String, u64> {
        let mut dropped = self.meter.losses.counts().by_reason();
        if let Some(script) = &self.script {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let said = script.dropped().values().sum::<u64>();
            let by_script = [
                (BY_SCRIPT, said + count(&script.filtered)),
                (SCRIPT_ERROR, count(&script.dropped_on_error)),
                (DEAD_LETTER, self.kept_letters(store).dropped_dead),
            ];
            dropped.extend(by_reason(&by_script));
        }
        dropped
    }

    /// Events that became dead letters: before they came to a queue, or by its script.
    pub(super) fn dead_lettered(&self) -> u64 {
        let script = self.script.as_ref().map(|script| &script.dead_lettered);
        let counters = [Some(&self.meter.dead_lettered), script];
        counters.into_iter().flatten().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// The queue of its script's dead letters.
    fn kept_letters(&self, store: &Store) -> QueueUsage {
        self.letters.map(|queue| store.usage(queue)).unwrap_or_default()
    }

    fn info(&self, store: &Store) -> SourceInfo {
        let meter = &self.meter;
        let stored = meter.stored.all();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let emitted = self.script.as_ref().map_or(stored, |script| count(&script.emitted));
        SourceInfo {
            kind: self.kind.clone(),
            sinks: self.sinks.clone(),
            wired_to: self.wired_to.clone(),
            received: stored + meter.losses.counts().total(),
            emitted,
            stored,
            refused: count(&meter.refused),
            dropped: self.dropped(store),
            dead_lettered: self.dead_lettered(),
            dead_letters: self.kept_letters(store).dead_letters,
            cut_lines: count(&meter.cut_lines),
            bytes: count(&meter.bytes),
            paused: meter.health.paused(),
            last_success_at_ms: meter.health.last_success_at_ms(),
            last_error: meter.health.last_error(),
            recent_logs: Vec::new(),
        }
    }
}

impl SeenSink {
    /// Bytes that it sent, and bytes that came back; where it does not count them, those of the events.
    pub(super) fn app_bytes(&self) -> (u64, u64) {
        match &self.traffic {
            Some(traffic) => {
                (traffic.sent.load(Ordering::Relaxed), traffic.received.load(Ordering::Relaxed))
            }
            None => (self.meter.bytes.load(Ordering::Relaxed), 0),
        }
    }

    /// Events that were dropped, by reason.
    pub(super) fn dropped(&self, usage: &QueueUsage) -> BTreeMap<String, u64> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        by_reason(&[
            ("full", usage.dropped_full),
            ("age", usage.dropped_age),
            ("damaged", usage.dropped_damaged),
            (BY_SCRIPT, count(&self.meter.dropped_by_script)),
            (SCRIPT_ERROR, count(&self.meter.dropped_on_error)),
            (DEAD_LETTER, usage.dropped_dead),
        ])
    }

    /// The queue, and the sink's figures.
    fn info(&self, store: &Store) -> SinkInfo {
        let meter = &self.meter;
        let usage = store.usage(self.queue);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let taken = meter.delivered.all();
        let (shipped, delivered) = if self.wired_to.is_some() { (taken, 0) } else { (0, taken) };
        SinkInfo {
            kind: self.kind.clone(),
            wired_to: self.wired_to.clone(),
            target: self.target.clone(),
            shipped,
            delivered,
            retried: count(&meter.retried),
            dropped: self.dropped(&usage),
            dead_lettered: count(&meter.dead_lettered),
            dead_letters: usage.dead_letters,
            bytes: count(&meter.bytes),
            queue: QueueInfo {
                events: usage.events,
                bytes: usage.bytes,
                max_bytes: self.max_bytes,
                oldest_at_ms: usage.oldest_at_ms,
            },
            paused: meter.health.paused(),
            last_success_at_ms: meter.health.last_success_at_ms(),
            last_error: meter.health.last_error(),
            latency: meter.latency(),
            recent_logs: Vec::new(),
        }
    }
}

impl Sight {
    /// Of an agent that is about to run.
    pub(crate) fn new(
        plan: StatsPlan,
        instance: String,
        (store, journal): (&Store, Arc<Journal>),
        sources: &[(PlannedSource, Output)],
        sinks: &[PlannedSink],
    ) -> Self {
        let source = |(planned, out): &(PlannedSource, Output)| {
            let script = out.script_counters();
            SeenSource {
                id: planned.id.clone(),
                kind: planned.kind.clone(),
                sinks: planned.feeds.clone(),
                wired_to: planned.source.wired_to(),
                meter: Arc::clone(out.meter()),
                letters: script.as_ref().and_then(|_| store.queue(&letters_queue(&planned.id))),
                script,
            }
        };
        let room = store.disk().events_max_bytes;
        let sink = |planned: &PlannedSink| {
            Some(SeenSink {
                id: planned.id.clone(),
                kind: planned.kind.clone(),
                wired_to: planned.sink.wired_to(),
                target: planned.sink.target(),
                url: planned.sink.url(),
                traffic: planned.sink.traffic(),
                queue: store.queue(&planned.id)?,
                max_bytes: planned.queue.max_bytes.unwrap_or_default().min(room),
                meter: Arc::default(),
                reached: Arc::default(),
            })
        };
        Self {
            role: plan.role,
            env_name: plan.env_name,
            host_name: plan.host_name,
            instance,
            started: Instant::now(),
            every: plan.every,
            started_at_ms: unix_ms(),
            store: store.clone(),
            sources: sources.iter().map(source).collect(),
            sinks: sinks.iter().filter_map(sink).collect(),
            logs: plan.logs,
            journal,
            tracing: Semaphore::new(1),
            told: Told::default(),
            machine: Machine::new(&plan.data_dir),
        }
    }

    /// The node-info of this moment, without log lines and `statuszInfo`.
    pub(crate) fn node_info(&self) -> NodeInfo {
        let mut info = NodeInfo {
            last_updated: super::statusz::date(Some(unix_ms())),
            warn_count: self.logs.warnings(),
            error_count: self.logs.errors(),
            app_bytes_sent_node_info: self.told.sent.load(Ordering::Relaxed),
            app_bytes_recv_node_info: self.told.received.load(Ordering::Relaxed),
            env_name: self.env_name.clone(),
            instance: self.instance.clone(),
            role: self.role,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            every_secs: self.every.as_secs(),
            sources: self
                .sources
                .iter()
                .map(|source| (source.id.clone(), source.info(&self.store)))
                .collect(),
            sinks: self
                .sinks
                .iter()
                .map(|sink| (sink.id.clone(), sink.info(&self.store)))
                .collect(),
            clock_ms: unix_ms(),
            ..NodeInfo::default()
        };
        info.app_bytes_sent_total = info.app_bytes_sent_node_info;
        info.app_bytes_recv_total = info.app_bytes_recv_node_info
            + info.sources.values().map(|source| source.bytes).sum::<u64>();
        for (sent, received) in self.sinks.iter().map(SeenSink::app_bytes) {
            info.app_bytes_sent_total += sent;
            info.app_bytes_recv_total += received;
        }
        self.machine.measure(&mut info);
        info
    }

    /// The same with what relays show: the newest log lines, and the page in the original's shape.
    pub(crate) fn told_info(&self) -> NodeInfo {
        let mut info = self.node_info();
        let lines = |part, id: &str| self.logs.of(part, id, MAX_LOG_LINES);
        for (id, source) in &mut info.sources {
            source.recent_logs = lines(Part::Source, id);
        }
        for (id, sink) in &mut info.sinks {
            sink.recent_logs = lines(Part::Sink, id);
        }
        info.statusz_info = super::statusz::statusz(self, &super::statusz::Filter::default(), 0);
        info
    }

    /// What is known of an event.
    pub(super) async fn trace(&self, id: Uuid) -> TraceReport {
        let _one_at_a_time = self.tracing.acquire().await;
        let report = trace::report(&self.journal, &self.store, id).await;
        TraceReport {
            role: self.role.as_str().to_owned(),
            host: self.host_name.clone(),
            clock_us: unix_ms() * 1000,
            ..report
        }
    }

    /// Log lines of a component, as texts.
    pub(super) fn log_texts(&self, part: Part, id: &str, most: usize) -> Vec<String> {
        let text = |line: LogLine| {
            format!("{} {} {}", super::statusz::date_of_line(line.at_ms), line.level, line.text)
        };
        self.logs.of(part, id, most).into_iter().map(text).collect()
    }

    /// What is wrong with sinks and sources now: changes of it are told at once.
    pub(crate) fn troubles(&self) -> BTreeMap<String, String> {
        let sources =
            self.sources.iter().map(|source| ("source", &source.id, &source.meter.health));
        let sinks = self.sinks.iter().map(|sink| ("sink", &sink.id, &sink.meter.health));
        let troubles = sources
            .chain(sinks)
            .filter_map(|(kind, id, health)| Some((format!("{kind} {id}"), health.trouble()?)));
        troubles.collect()
    }
}

#[cfg(test)]
mod tests {
    use rf_queue::{Commit, Letter, QueueOptions, StoreOptions};

    use super::*;

    #[tokio::test]
    async fn a_dead_letter_that_is_pushed_out_is_told_as_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let queues = vec![QueueOptions::new("sink")];
        let mut options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
        options.max_dead_letters = 2;
        let store = Store::open(options).unwrap().store;
        let queue = store.queue("sink").unwrap();
        let sink = SeenSink {
            id: "sink".to_owned(),
            kind: "http".to_owned(),
            wired_to: None,
            target: String::new(),
            url: String::new(),
            traffic: None,
            queue,
            max_bytes: 0,
            meter: Arc::default(),
            reached: Arc::default(),
        };
        let letter = Letter { queue, content: "bad".into(), reason: "refused".to_owned() };
        for expected in [0, 0, 1, 2] {
            let letters = vec![letter.clone()];
            store.commit(Commit { letters, ..Commit::default() }).await.unwrap();
            let info = sink.info(&store);
            assert_eq!(info.dropped.get("deadLetter").copied().unwrap_or(0), expected);
            assert_eq!(info.dropped.is_empty(), expected == 0);
        }
        assert_eq!(sink.info(&store).dead_letters, 2);
        store.close().await;
    }
}

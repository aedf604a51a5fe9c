//! The whole system at a glance, with what is wrong in words: what the page, `/statusz`, metrics, the command line and
//! alerts are all made of, so that they agree.
//!
//! `build` puts it together from counters, stores and what nodes told (`flows`: which agent uses which bucket); `judge` finds
//! what is wrong.

mod build;
mod disk;
mod flows;
mod judge;
mod words;

use serde::{Deserialize, Serialize};

pub(crate) use build::RelayView;
pub use disk::DiskRoom;
pub use words::{ago, bytes, count, span};

/// How something is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    #[default]
    Ok,
    /// It works, but not as it should: it may become trouble.
    Warn,
    /// Events are lost, stuck, or will soon be; or nobody knows.
    Bad,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What is wrong, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// How bad it is.
    pub level: Level,
    /// Names what is wrong, the same as long as it is: `silent`, `oldest`, `sink out paused`.
    pub key: String,
    /// A sentence for a person.
    pub text: String,
}

/// The relay and all that it knows of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// When it was made, milliseconds since 1970.
    pub at_ms: u64,
    /// When the relay was started.
    pub started_at_ms: u64,
    /// The relay's version.
    pub version: String,
    /// The worst of all.
    pub level: Level,
    /// What is wrong with the relay itself, worst first.
    pub why: Vec<Why>,
    /// The file system of its data folder, where that tells.
    pub disk: Option<DiskRoom>,
    /// Buckets, by name.
    pub buckets: Vec<BucketReport>,
    /// Nodes, by host.
    pub nodes: Vec<NodeReport>,
}

/// A bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BucketReport {
    /// Its name.
    pub name: String,
    /// The worst of `why`.
    pub level: Level,
    /// What is wrong, worst first.
    pub why: Vec<Why>,
    /// Events that wait.
    pub events: u64,
    /// Bytes in use, with the write-ahead log.
    pub used_bytes: u64,
    /// The limit of that.
    pub max_bytes: u64,
    /// Bytes up to which events are accepted; the rest is reserved for the work in a full bucket. 0 when it is not known.
    pub events_max_bytes: u64,
    /// When the oldest event was stored.
    pub oldest_at_ms: Option<u64>,
    /// Events older than this are dropped; 0: never.
    pub ttl_secs: u64,
    /// Events a minute that come in.
    pub rx_per_minute: u64,
    /// Events a minute that go out.
    pub tx_per_minute: u64,
    /// Events that came in, over all starts of the relay.
    pub received: u64,
    /// Events that went out.
    pub sent: u64,
    /// Batches that were refused because it was full.
    pub refused: u64,
    /// Events dropped by `dropOldest`.
    pub dropped_full: u64,
    /// Events dropped by `ttlSecs`.
    pub dropped_age: u64,
    /// Events lost with a database that was damaged.
    pub dropped_damaged: u64,
    /// Players that hold a lease.
    pub holders: u64,
    /// When something last came in.
    pub received_at_ms: Option<u64>,
    /// When somebody last asked for events.
    pub asked_at_ms: Option<u64>,
    /// Its database is not open: nothing is known of what is in it.
    #[serde(skip)]
    pub is_closed: bool,
}

impl BucketReport {
    /// How full it is for events, per cent.
    #[must_use]
    pub fn fill(&self) -> u64 {
        percent(self.used_bytes, self.events_limit())
    }

    /// Events that are gone, for whatever reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped_full + self.dropped_age + self.dropped_damaged
    }

    /// Bytes on disk up to which events are taken.
    #[must_use]
    pub fn events_limit(&self) -> u64 {
        if self.events_max_bytes == 0 { self.max_bytes } else { self.events_max_bytes }
    }
}

/// Used of a limit, per cent.
pub(crate) fn percent(used: u64, limit: u64) -> u64 {
    let percent = (u128::from(used) * 100).checked_div(u128::from(limit)).unwrap_or_default();
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Since when nothing was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Presence {
    /// It tells of itself.
    #[default]
    Here,
    /// It only calls, and has not told of itself: an old program, or one that was just started.
    CallsOnly,
    /// It told of itself, and does no more.
    Silent,
    /// It is expected, and was not heard of for an hour, or never; right after a start nothing is wrong with that.
    Missing,
}

impl Presence {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::CallsOnly => "calls only",
            Self::Silent => "silent",
            Self::Missing => "missing",
        }
    }
}

/// A proxy, a player, or whoever else calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Names it in addresses: host, role, instance.
    pub id: String,
    /// Its host.
    pub host: String,
    /// Its environment.
    pub env: String,
    /// `proxy`, `player`, or `unknown`.
    pub role: String,
    /// Its version, where it told.
    pub version: String,
    /// The worst of `why` and of its sources and sinks.
    pub level: Level,
    /// What is wrong, worst first.
    pub why: Vec<Why>,
    /// Since when nothing was heard.
    pub presence: Presence,
    /// Whether it is in `expectedNodes`.
    pub expected: bool,
    /// When it was last heard of.
    pub last_seen_ms: Option<u64>,
    /// How far its clock is before the relay's.
    pub skew_ms: i64,
    /// When it was started.
    pub started_at_ms: u64,
    /// Bytes of its memory.
    pub memory_process: u64,
    /// Per cent of the machine's memory in use.
    pub memory_percent: f64,
    /// Per cent of the machine's processors in use.
    pub cpu_percent: f64,
    /// Per cent of its file system in use.
    pub disk_percent: f64,
    /// Events a minute.
    pub per_minute: u64,
    /// The same at each of its last messages.
    pub spark: Vec<u64>,
    /// Events in the queues of its sinks.
    pub queued: u64,
    /// Per cent of the fullest queue.
    pub fill_percent: u64,
    /// When the oldest event of its queues was stored, by the relay's clock.
    pub oldest_at_ms: Option<u64>,
    /// Events dropped since its start.
    pub dropped: u64,
    /// Dead letters in the store.
    pub dead_letters: u64,
    /// Errors logged since its start.
    pub errors: u64,
    /// Its sources.
    pub sources: Vec<SourceReport>,
    /// Its sinks.
    pub sinks: Vec<SinkReport>,
    /// Buckets that it writes to, as the relay sees it.
    pub writes: Vec<FlowReport>,
    /// Buckets that it reads.
    pub reads: Vec<FlowReport>,
}

impl NodeReport {
    /// Tells it from the others of its role on its host; empty where it is the only one.
    #[must_use]
    pub fn instance(&self) -> &str {
        let of_role = self.id.strip_prefix(&self.host).and_then(|rest| rest.strip_prefix('/'));
        let rest = of_role.and_then(|rest| rest.strip_prefix(&self.role)?.strip_prefix('/'));
        rest.unwrap_or_default()
    }

    /// The word for its presence. One that is missing and may still come is awaited.
    #[must_use]
    pub fn presence_word(&self) -> &'static str {
        match (self.presence, self.level) {
            (Presence::Missing, Level::Ok) => "awaited",
            (presence, _) => presence.as_str(),
        }
    }
}

/// A source of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceReport {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// How it is.
    pub level: Level,
    /// Ids of the sinks that it feeds.
    pub sinks: Vec<String>,
    /// Buckets that it pulls from.
    pub buckets: Vec<String>,
    /// Events that came in.
    pub received: u64,
    /// Events a minute.
    pub per_minute: u64,
    /// Events that are gone.
    pub dropped: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Dead letters of its script in the store.
    pub dead_letters: u64,
}

/// A sink of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkReport {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// How it is.
    pub level: Level,
    /// Buckets that it ships to.
    pub buckets: Vec<String>,
    /// Where else it delivers to.
    pub target: String,
    /// Events shipped or delivered.
    pub delivered: u64,
    /// The same a minute.
    pub per_minute: u64,
    /// Events that wait.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// Per cent of it.
    pub fill_percent: u64,
    /// When the oldest was stored, by the relay's clock.
    pub oldest_at_ms: Option<u64>,
    /// Events tried again.
    pub retried: u64,
    /// Events that are gone.
    pub dropped: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Dead letters in the store.
    pub dead_letters: u64,
    /// Half of the events were here within so long of their capture.
    pub p50_ms: Option<u64>,
    /// 99 of 100 were.
    pub p99_ms: Option<u64>,
    /// What went wrong last, if nothing went well since.
    pub error: Option<String>,
}

/// How much a node writes to a bucket, or reads from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FlowReport {
    /// The bucket.
    pub bucket: String,
    /// Events a minute.
    pub per_minute: u64,
    /// Events in all.
    pub events: u64,
    /// When it last did.
    pub at_ms: Option<u64>,
}

impl Report {
    /// Everything that is wrong, worst first: what it is about (`node ID`, `bucket NAME` or `relay itself`), and why.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble<'_>> {
        let buckets = self.buckets.iter().flat_map(|bucket| {
            let of = |why| Trouble { subject: Subject::Bucket, id: &bucket.name, why };
            bucket.why.iter().map(of)
        });
        let nodes = self.nodes.iter().flat_map(|node| {
            let of = |why| Trouble { subject: Subject::Node, id: &node.id, why };
            node.why.iter().map(of)
        });
        let of = |why| Trouble { subject: Subject::Relay, id: ITSELF, why };
        let mut all: Vec<_> = self.why.iter().map(of).chain(buckets).chain(nodes).collect();
        all.sort_by_key(|trouble| std::cmp::Reverse(trouble.why.level));
        all
    }
}

/// The name of the relay among the subjects of its troubles.
pub(crate) const ITSELF: &str = "itself";

/// What a trouble is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// A bucket of this relay.
    Bucket,
    /// A proxy or player.
    Node,
    /// This relay.
    Relay,
}

impl Subject {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Node => "node",
            Self::Relay => "relay",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble<'a> {
    /// What it is about.
    pub subject: Subject,
    /// Its name.
    pub id: &'a str,
    /// Why.
    pub why: &'a Why,
}

#[cfg(test)]
mod tests;

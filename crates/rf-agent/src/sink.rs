//! Sinks: where events go. A sink is one file here and one line in [`SINKS`].
//!
//! A sink only knows how to write. Reading its queue, retrying, dead letters, rate limits and order are the worker's.

mod alert;
mod batch;
pub(crate) mod checkpoint;
#[cfg(test)]
mod contract;
mod db;
mod disk;
pub(crate) mod exec;
mod file;
mod http;
mod log;
pub(crate) mod notification;
mod prepared;
pub(crate) mod relay;
mod singles;
mod table;
pub(crate) mod template;
mod time_series;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use rf_core::config::{Node, Problems};
use rf_core::node_info::Wiring;
use rf_queue::{Checkpoint, Store};
use schemars::Schema;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::batch::SinkBatch;
use crate::pipeline::Output;

/// Why a batch was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinkError {
    /// May work later.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// The target's own word on when.
        after: Option<Duration>,
    },
    /// The target was not reached at all: no fault of the event, so it does not count towards its attempts.
    #[error("{0}")]
    Away(String),
    /// A person must act (a wrong token): tried again slowly, never given up, announced loudly.
    #[error("{0}")]
    Paused(String),
    /// Something between here and the target lets nothing so large pass. A smaller batch may; one event alone is kept as with
    /// [`SinkError::Paused`].
    #[error("{0}")]
    TooLarge(String),
    /// Will never work.
    #[error("{0}")]
    Permanent(String),
    /// A script of the sink wants nothing of it written, or failed over it with `onError: drop`: it leaves the queue, and counts
    /// as dropped.
    #[error("{reason}")]
    Dropped {
        /// Which of the two, for a person.
        reason: String,
        /// It was the second.
        failed: bool,
    },
}

/// How a sink wants to be fed.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// What one write takes.
    pub(crate) writes: Writes,
    /// After so many tries an event is a dead letter; `None`: never.
    pub(crate) max_attempts: Option<u32>,
    /// An event older than this that fails is a dead letter; `None`: never.
    pub(crate) max_age: Option<Duration>,
    /// First and longest pause between tries.
    pub(crate) backoff: (Duration, Duration),
    /// What may be sent in a time.
    pub(crate) rate: RateLimits,
}

impl Shape {
    /// Tried for as long as it takes, with the usual pauses between tries, at any rate.
    pub(crate) fn of(writes: Writes) -> Self {
        Self {
            writes,
            max_attempts: None,
            max_age: None,
            backoff: (Duration::from_millis(200), Duration::from_secs(60)),
            rate: RateLimits::default(),
        }
    }
}

/// What one write takes: the worker has a loop for each.
#[derive(Debug, Clone)]
pub(crate) enum Writes {
    /// A single event.
    Singles {
        /// Writes at a time. 1 keeps the order.
        concurrency: usize,
    },
    /// A batch, one after the other. It has the same id and the same events when it is repeated after a restart.
    Batches(Batching),
}

/// What makes a batch, and what may be done beside its write.
#[derive(Debug, Clone)]
pub(crate) struct Batching {
    /// Most events of a batch.
    pub(crate) max_events: usize,
    /// A batch is closed when its content reaches this.
    pub(crate) goal_bytes: usize,
    /// A single event above this is never written: it becomes a dead letter; `None`: none is too large.
    pub(crate) event_limit: Option<EventLimit>,
    /// So long an event may wait for others, until a batch is whole; zero: not at all.
    pub(crate) linger: Duration,
    /// How far the queue may be ahead of a write and behind it.
    pub(crate) overlap: Overlap,
}

/// Batches that are made ready before their turn for [`Overlap::RemovedTogether`], so that some are while the queue commits.
pub(crate) const READY_TOGETHER: usize = 4;

/// What the queue does beside a write, and so how much comes again after a kill, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// Nothing: a batch is out of the queue before the next is written. The last batch may come again.
    None,
    /// The next batch is made ready, and the one before removed. The last two may come again.
    Ahead,
    /// The next [`READY_TOGETHER`] batches are made ready. For a sink that knows by itself how far it is ([`Sink::progress`]):
    /// so many batches that are written, or up to twice as many where reads are slow, leave the queue in one commit, while
    /// more wait and there is room, and those that are ready are written meanwhile. All of those may come again.
    RemovedTogether(usize),
}

/// How large a single event may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventLimit {
    /// Most bytes of its content.
    pub(crate) bytes: usize,
    /// What the limit is, for the reason of a dead letter: "30000 bytes are more than NAME (20000)".
    pub(crate) name: &'static str,
}

/// Limits that delay and never drop; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RateLimits {
    /// Writes a minute.
    pub(crate) writes_per_minute: Option<f64>,
    /// Events a second.
    pub(crate) events_per_second: Option<f64>,
    /// Content bytes a second.
    pub(crate) bytes_per_second: Option<f64>,
}

/// Bytes of the bodies of requests that were answered, as they were sent, and of answers.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Sent.
    pub(crate) sent: AtomicU64,
    /// Received.
    pub(crate) received: AtomicU64,
}

/// A sink that is configured and checked.
pub(crate) trait Sink: Send + Sync {
    /// How it wants to be fed.
    fn shape(&self) -> &Shape;

    /// Writes a batch; `Ok` means that the target has all of it.
    ///
    /// # Errors
    /// [`SinkError`] says whether to try again. It is about the batch as a whole: the worker finds a single bad event by
    /// halving.
    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>>;

    /// This batch will be written after the one that is being written now: what can be done of it beforehand may begin. Called
    /// unless [`Overlap::None`] is wanted; the write may never come, or come for halves of the batch.
    fn prepare(&self, _batch: &SinkBatch) {}

    /// The relay and buckets that it ships to, if it does.
    fn wired_to(&self) -> Option<Wiring> {
        None
    }

    /// Where else it delivers to, for people: scheme, host and port; nothing secret.
    fn target(&self) -> String {
        String::new()
    }

    /// The same for its status page, which may have more of it: path, and names of the query.
    fn url(&self) -> String {
        self.target()
    }

    /// What it counts of its traffic; `None`: what is known are the bytes of events.
    fn traffic(&self) -> Option<Arc<Traffic>> {
        None
    }

    /// The file that no other sink may write, or the text that names its files; none: it writes none.
    fn file(&self) -> Option<PathBuf> {
        None
    }

    /// How far the sink is after a write that was `Ok`, for sinks with [`Writes::Batches`]: stored in the transaction that
    /// removes what was written, or before it where that takes several. So after a kill none of it is gone that the progress
    /// does not tell of, and what it tells of may come again.
    fn progress(&self) -> Option<Checkpoint> {
        None
    }

    /// Opens what the sink needs (a database, a file), so that a start fails before anything runs. What only the disk
    /// refuses for now is no reason: others have work to do, so it is opened with a later write. Called once, before
    /// [`Sink::write`] and [`Sink::run`].
    ///
    /// # Errors
    /// [`SinkStartError`], naming what cannot be opened.
    fn start<'a>(&'a self, _host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Scripts of the sink are to be loaded anew whenever this changes. Called once, before [`Sink::run`].
    fn reload_on(&self, _asked: watch::Receiver<u64>) {}

    /// The maintenance of the sink, until `stop`: retention, heartbeats, reloading a changed script.
    fn run(self: Arc<Self>, _stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Its HTTP API; paths begin below `/ID/` of the player's server.
    fn api(self: Arc<Self>) -> Option<Router> {
        None
    }

    /// Address and port of a listener of its own for [`Sink::api`], at the root and below `/ID/`.
    fn own_listener(&self) -> Option<(String, u16)> {
        None
    }
}

/// Why a sink cannot start.
#[derive(Debug, thiserror::Error)]
#[error("sink `{name}`: {reason}")]
pub struct SinkStartError {
    /// The sink's name.
    pub name: String,
    /// What happened.
    pub reason: String,
}

/// What a sink may use of the agent that it runs in.
#[derive(Clone)]
pub(crate) struct SinkHost {
    pub(crate) store: Store,
}

impl SinkHost {
    /// An output to the queue of another sink; `None` when there is no sink of that name.
    pub(crate) fn output(&self, sink: &str) -> Option<Output> {
        let queue = self.store.queue(sink)?;
        Some(Output::new(self.store.clone(), vec![queue]))
    }
}

/// What a sink is told of the agent that it is built for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SinkContext<'a> {
    /// Its name: what sources and scripts emit to; also the queue's.
    pub(crate) name: &'a str,
    /// The folder that relative paths begin in.
    pub(crate) data_dir: &'a Path,
    /// Names of all sinks of the agent.
    pub(crate) sinks: &'a [&'a str],
}

/// One kind of sink of a player's file.
pub(crate) struct SinkKind {
    /// The `type` in the file.
    pub(crate) name: &'static str,
    /// JSON Schema of its `params`.
    pub(crate) schema: fn() -> Schema,
    /// Builds it from its `params`; problems are reported at their place.
    pub(crate) build: fn(
        context: &SinkContext<'_>,
        params: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Arc<dyn Sink>>,
}

/// Every kind of sink that a player's file may name. Each is held to the contract by the tests that `contract/kinds.rs` lists.
pub(crate) const SINKS: &[SinkKind] = &[
    SinkKind { name: "http", schema: http::schema, build: http::build },
    SinkKind { name: "db", schema: db::schema, build: db::build },
    SinkKind { name: "time_series", schema: time_series::schema, build: time_series::build },
    SinkKind { name: "alert", schema: alert::schema, build: alert::build },
    SinkKind { name: "file", schema: file::schema, build: file::build },
    SinkKind { name: "exec", schema: exec::schema, build: exec::build },
    SinkKind { name: "log", schema: log::schema, build: log::build },
    SinkKind { name: "notification", schema: notification::schema, build: notification::build },
];

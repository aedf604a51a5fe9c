//! Sinks: where events go. A sink is one file here and one line in [`SINKS`].
//!
//! A sink only knows how to write. Reading its queue, retrying, dead letters, rate limits and order are the worker's.

pub mod http;
pub mod relay;

use std::time::Duration;

use futures_util::future::BoxFuture;
use rf_core::config::{Node, Problems};
use rf_queue::StoredEvent;
use schemars::Schema;

/// Events that are written together.
#[derive(Debug, Clone)]
pub struct SinkBatch {
    /// The same for every repeat of this batch, also after a restart where [`Shape::stable`] is set.
    pub id: String,
    /// In order; at least one.
    pub events: Vec<StoredEvent>,
}

/// Why a batch was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
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
    /// Will never work.
    #[error("{0}")]
    Permanent(String),
}

/// How a sink wants to be fed.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Most events in one write.
    pub max_events: usize,
    /// A batch is closed when its content reaches this.
    pub goal_bytes: usize,
    /// A single event above this is never written: it becomes a dead letter.
    pub max_event_bytes: usize,
    /// Writes at a time. 1 keeps the order.
    pub concurrency: usize,
    /// A batch must have the same id and the same events when it is repeated after a restart.
    pub stable: bool,
    /// After so many tries an event is a dead letter; `None`: never.
    pub max_attempts: Option<u32>,
    /// An event older than this that fails is a dead letter; `None`: never.
    pub max_age: Option<Duration>,
    /// First and longest pause between tries.
    pub backoff: (Duration, Duration),
    /// What may be sent in a time.
    pub rate: RateLimits,
}

/// Limits that delay and never drop; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimits {
    /// Writes a minute.
    pub writes_per_minute: Option<f64>,
    /// Events a second.
    pub events_per_second: Option<f64>,
    /// Content bytes a second.
    pub bytes_per_second: Option<f64>,
}

/// A sink that is configured and checked.
pub trait Sink: Send + Sync {
    /// How it wants to be fed.
    fn shape(&self) -> &Shape;

    /// Writes a batch; `Ok` means that the target has all of it.
    ///
    /// # Errors
    /// [`SinkError`] says whether to try again. It is about the batch as a whole: the worker finds a single bad event by
    /// halving.
    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>>;
}

/// One kind of sink of a player's file.
pub struct SinkKind {
    /// The `type` in the file.
    pub name: &'static str,
    /// JSON Schema of its `params`.
    pub schema: fn() -> Schema,
    /// Builds it from its `params`; problems are reported at their place.
    pub build: fn(id: &str, params: &Node<'_>, problems: &mut Problems) -> Option<Box<dyn Sink>>,
}

/// Every kind of sink that a player's file may name.
pub const SINKS: &[SinkKind] =
    &[SinkKind { name: "http", schema: http::schema, build: http::build }];

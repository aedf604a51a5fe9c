//! The queue on disk that a sink's `buffer` asks for.

use std::time::Duration;

use rf_core::config::{ByteSize, Interval, Node, Problems};
use rf_queue::{MAX_STORE_BYTES, MIN_STORE_BYTES, QueueOptions, WhenFull};
use schemars::JsonSchema;
use serde::Deserialize;

use super::at;

/// `buffer` of a sink: its queue on disk.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BufferConfig {
    /// Bytes that this sink adds to the store's files; default 10 MiB for a proxy's sink, 64 MiB for a player's.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// What happens when it is full: the source is refused, the oldest events go, or the source waits.
    #[serde(default)]
    pub when_full: WhenFullConfig,
    /// Events that wait longer are dropped and counted; default: never.
    #[serde(default)]
    pub max_age: Option<Interval>,
}

/// `whenFull`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFullConfig {
    /// New events are refused: an HTTP client gets 503.
    #[default]
    Reject,
    /// The oldest events make room.
    DropOldest,
    /// The source waits.
    Block,
}

impl BufferConfig {
    /// The sink's queue, with `default_bytes` where the file says nothing.
    pub(crate) fn queue(&self, sink: &str, default_bytes: u64) -> QueueOptions {
        QueueOptions {
            name: sink.to_owned(),
            max_bytes: Some(
                self.max_bytes.map_or(default_bytes, ByteSize::bytes).min(MAX_STORE_BYTES),
            ),
            max_age: self.max_age.map(Duration::from),
            when_full: match self.when_full {
                WhenFullConfig::Reject => WhenFull::Reject,
                WhenFullConfig::DropOldest => WhenFull::DropOldest,
                WhenFullConfig::Block => WhenFull::Block,
            },
        }
    }
}

/// Reports a buffer that is smaller than a store can be, and warns of one that is larger.
pub(crate) fn check_buffer(
    node: &Node<'_>,
    buffer: &BufferConfig,
    queue: &QueueOptions,
    problems: &mut Problems,
) {
    let place = at(&at(node, "buffer"), "maxBytes");
    if buffer.max_bytes.is_some_and(|asked| asked.bytes() > MAX_STORE_BYTES) {
        let message =
            format!("a database holds at most {MAX_STORE_BYTES} bytes: {MAX_STORE_BYTES} is used");
        problems.warn(&place, message);
    }
    if queue.max_bytes.is_some_and(|bytes| bytes < MIN_STORE_BYTES) {
        problems.error(&place, format!("expected at least {MIN_STORE_BYTES} bytes"));
    }
}

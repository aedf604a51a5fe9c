//! `limits` of a relay's file: what it takes from its clients at most.

use std::num::NonZeroUsize;

use rf_core::config::{ByteSize, Interval, Node, Problems, at_most};
use rf_core::protocol::MAX_PULLED_BYTES;
use rf_net::serve::{MAX_CONNECTIONS, ServerLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the relay takes from its clients at most.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Bytes of a body, as sent and as decoded; at most 64 MiB.
    pub max_body_bytes: ByteSize,
    /// Memory for all bodies that are being read or stored, as much again for those that are decompressed, and for
    /// answers.
    pub body_memory_bytes: ByteSize,
    /// Events of a batch.
    pub max_batch_events: NonZeroUsize,
    /// Connections at a time; further ones wait.
    pub max_connections: NonZeroUsize,
    /// The longest from the first byte of a request's head to its last.
    pub header_timeout: Interval,
    /// The longest that a client may be silent within a body.
    pub body_timeout: Interval,
    /// The longest that a connection may be kept without a request.
    pub idle_timeout: Interval,
}

impl Default for LimitsFile {
    fn default() -> Self {
        let server = ServerLimits::default();
        Self {
            max_body_bytes: ByteSize::mib(32),
            body_memory_bytes: ByteSize::mib(128),
            max_batch_events: NonZeroUsize::new(100_000).expect("100,000 is not zero"),
            max_connections: server.max_connections,
            header_timeout: server.header_timeout.into(),
            body_timeout: Interval::from_secs(30),
            idle_timeout: server.idle_timeout.into(),
        }
    }
}

impl LimitsFile {
    /// Reports what nothing could pass, and takes what is of no use down to what is.
    pub(super) fn check(&mut self, at: Node<'_>, problems: &mut Problems) {
        let place = |key: &str| at.get(key).unwrap_or(at);
        if self.max_body_bytes.bytes() == 0 {
            problems.error(&place("maxBodyBytes"), "expected a size above zero");
        }
        if self.max_body_bytes.as_usize() > MAX_PULLED_BYTES {
            let most = (MAX_PULLED_BYTES / (1024 * 1024)) as u64;
            // A body of one event that is larger could only hold what no player can pull.
            problems.warn(
                &place("maxBodyBytes"),
                format!("a player reads at most {most} MiB at once, so a larger event could never leave its bucket: {most}MiB is used"),
            );
            self.max_body_bytes = ByteSize::mib(most);
        }
        for (key, time) in [
            ("headerTimeout", self.header_timeout),
            ("bodyTimeout", self.body_timeout),
            ("idleTimeout", self.idle_timeout),
        ] {
            if time.as_duration().is_zero() {
                problems.error(&place(key), "expected a time above zero");
            }
        }
        let (asked, most) = (self.max_connections.get(), MAX_CONNECTIONS.get());
        let used = at_most(&place("maxConnections"), asked, most, problems);
        self.max_connections = NonZeroUsize::new(used).unwrap_or(MAX_CONNECTIONS);
    }
}

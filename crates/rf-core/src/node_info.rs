//! What an agent tells its relays of itself, each minute: the body of `POST /node-info`.
//!
//! The manual's page is `docs/reference/node-info.md`. Promises:
//! - an agent of the original is understood: its keys are here under its names, and every key may be missing;
//! - a value of another type than expected counts as missing, so that one odd key of a newer or older agent does not
//!   hide the rest;
//! - what was read is within bounds ([`NodeInfo::within_bounds`]), whoever sent it.

mod parts;
mod prune;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lenient::{lenient, number};
pub use parts::{
    LATENCY_BOUNDS_MS, LastError, Latency, LogLine, QueueInfo, SinkInfo, SourceInfo, Wiring,
};

/// The largest body of `POST /node-info` that a relay takes: an agent of the original sends 30 KB for each busy sink.
pub const MAX_NODE_INFO_BODY_BYTES: usize = 4 * 1024 * 1024;
/// The most that is kept of it ([`kept_part`]), and the largest body that an agent of ours sends.
pub const MAX_NODE_INFO_BYTES: usize = 256 * 1024;
/// How often an agent tells of itself, unless it says otherwise.
pub const DEFAULT_EVERY_SECS: u64 = 60;
/// Sources, and sinks, of one agent that are told and kept; further ones are left out.
pub const MAX_COMPONENTS: usize = 64;
/// Recent log lines of one source or sink; the oldest are left out.
pub const MAX_LOG_LINES: usize = 20;
/// Characters of an error or log line; the rest is cut off.
pub const MAX_TEXT_CHARS: usize = 300;
/// Characters of a name: version, kind, id, reason.
pub const MAX_NAME_CHARS: usize = 128;
/// Reasons by which drops are told apart, and buckets that one component names.
pub const MAX_LISTED: usize = 32;
/// Why events were dropped that a script did not want: that is its work, and no trouble.
pub const BY_SCRIPT: &str = "script";
/// Why events were dropped that a script failed over, with `onError: drop`.
pub const SCRIPT_ERROR: &str = "scriptError";

/// What is kept of a body, at most [`MAX_NODE_INFO_BYTES`]: the body itself, or where that is larger all of it but the oldest
/// lines of each `recentLogs`, else all but `statuszInfo`. `None` where that is not enough.
///
/// # Errors
/// When a body that is too large is not JSON.
pub fn kept_part(body: &[u8]) -> Result<Option<Cow<'_, [u8]>>, serde_json::Error> {
    if body.len() <= MAX_NODE_INFO_BYTES {
        return Ok(Some(Cow::Borrowed(body)));
    }
    Ok(prune::pruned(body)?.map(Cow::Owned))
}

/// Which program an agent is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Captures and ships.
    Proxy,
    /// Pulls and replays.
    Player,
    /// A program that does not say, as those of the original.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Role {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Proxy => "proxy",
            Role::Player => "player",
            Role::Unknown => "unknown",
        }
    }
}

/// What an agent tells of itself.
///
/// Counters count since the agent's start. Times are milliseconds since 1970 by the agent's clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// Bytes of memory that the agent has in use.
    #[serde(deserialize_with = "number")]
    pub memory_process: u64,
    /// Bytes of memory of the machine.
    #[serde(deserialize_with = "number")]
    pub memory_host_total: u64,
    /// Bytes of that which are free.
    #[serde(deserialize_with = "number")]
    pub memory_host_free: u64,
    /// Per cent in use.
    #[serde(deserialize_with = "lenient")]
    pub memory_host_used_pct: f64,
    /// Per cent of the machine's processors in use.
    #[serde(deserialize_with = "lenient")]
    pub cpu_percent_host: f64,
    /// Bytes of the file system of `dataDir`.
    #[serde(deserialize_with = "number")]
    pub disk_total: u64,
    /// Bytes of that which are free.
    #[serde(deserialize_with = "number")]
    pub disk_free: u64,
    /// Per cent in use.
    #[serde(deserialize_with = "lenient")]
    pub disk_used_pct: f64,
    /// When it was measured, RFC 3339.
    #[serde(deserialize_with = "lenient")]
    pub last_updated: String,
    /// Warnings logged.
    #[serde(deserialize_with = "number")]
    pub warn_count: u64,
    /// Errors logged.
    #[serde(deserialize_with = "number")]
    pub error_count: u64,
    /// The agent's own `/statusz`, in the original's shape, without `recentLogs`.
    pub statusz_info: Value,
    /// Bytes sent with `/node-info`.
    #[serde(deserialize_with = "number")]
    pub app_bytes_sent_node_info: u64,
    /// Bytes received in answers to it.
    #[serde(deserialize_with = "number")]
    pub app_bytes_recv_node_info: u64,
    /// Bytes sent in all.
    #[serde(deserialize_with = "number")]
    pub app_bytes_sent_total: u64,
    /// Bytes received in all.
    #[serde(deserialize_with = "number")]
    pub app_bytes_recv_total: u64,
    /// `envName` of its file.
    #[serde(deserialize_with = "lenient")]
    pub env_name: String,
    /// Its name in the tailnet, if it has one.
    #[serde(deserialize_with = "lenient")]
    pub ts_computed_name: String,

    /// Which program it is.
    #[serde(deserialize_with = "lenient")]
    pub role: Role,
    /// Its version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// Tells apart agents of one role on one host; the same over restarts. Empty where there is only one.
    #[serde(deserialize_with = "lenient")]
    pub instance: String,
    /// When it was started.
    #[serde(deserialize_with = "number")]
    pub started_at_ms: u64,
    /// Its clock when this was sent, so that the relay knows how far the two are apart; 0: not told.
    #[serde(deserialize_with = "number")]
    pub clock_ms: u64,
    /// How often it tells; 0: each minute.
    #[serde(deserialize_with = "number")]
    pub every_secs: u64,
    /// Its sources by id.
    #[serde(deserialize_with = "lenient")]
    pub sources: BTreeMap<String, SourceInfo>,
    /// Its sinks by id.
    #[serde(deserialize_with = "lenient")]
    pub sinks: BTreeMap<String, SinkInfo>,
}

impl NodeInfo {
    /// Reads a body; what is read is within bounds.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &[u8]) -> Result<NodeInfo, serde_json::Error> {
        // By way of an object, since serde would take an array for a struct too.
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
        let mut info: NodeInfo = serde_json::from_value(object.into())?;
        info.within_bounds();
        Ok(info)
    }

    /// The body, within bounds and at most [`MAX_NODE_INFO_BYTES`]: where that is not enough, log lines are left out first,
    /// then `statuszInfo`.
    #[must_use]
    pub fn to_body(mut self) -> Vec<u8> {
        self.within_bounds();
        let mut body = self.encode();
        if body.len() > MAX_NODE_INFO_BYTES {
            let sources = self.sources.values_mut().map(|source| &mut source.recent_logs);
            let sinks = self.sinks.values_mut().map(|sink| &mut sink.recent_logs);
            sources.chain(sinks).for_each(Vec::clear);
            body = self.encode();
        }
        if body.len() > MAX_NODE_INFO_BYTES {
            self.statusz_info = Value::Null;
            body = self.encode();
        }
        body
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and numbers are always JSON")
    }

    /// Leaves out and cuts off what is beyond the bounds of this module, and makes numbers of what are none.
    pub fn within_bounds(&mut self) {
        for percent in
            [&mut self.memory_host_used_pct, &mut self.cpu_percent_host, &mut self.disk_used_pct]
        {
            *percent = if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 0.0 };
        }
        for name in [
            &mut self.last_updated,
            &mut self.env_name,
            &mut self.ts_computed_name,
            &mut self.version,
            &mut self.instance,
        ] {
            parts::cut(name, MAX_NAME_CHARS);
        }
        parts::keep_first(&mut self.sources, MAX_COMPONENTS);
        parts::keep_first(&mut self.sinks, MAX_COMPONENTS);
        self.sources.values_mut().for_each(SourceInfo::within_bounds);
        self.sinks.values_mut().for_each(SinkInfo::within_bounds);
    }
}

#[cfg(test)]
mod tests;

//! What stands in a proxy's file: its keys, with what they mean where they are left out.
//!
//! Keys that several structs have, here and in [`crate::player`], stand in each: serde's `flatten` does not go together with
//! `deny_unknown_fields`, and a key that is misspelled must be told.

use std::path::PathBuf;

use rf_core::config::{ByteSize, Interval, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::script::config::{GrokPatternsConfig, OnErrorConfig, ScriptKeys, ScriptLimitsConfig};
use crate::settings::{
    BufferConfig, DurabilityConfig, default_node_info_every, default_trace_steps, loopback,
    working_directory,
};

/// A proxy's file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyFile {
    /// Where events come from.
    #[serde(default)]
    pub sources: Vec<ProxySourceFile>,
    /// Where events go.
    #[serde(default)]
    pub sinks: Vec<ProxySinkFile>,
    /// Told to the relay with every batch.
    #[serde(default)]
    pub env_name: String,
    /// Told to the relay with every batch; default: the machine's name.
    #[serde(default)]
    pub host_name: String,
    /// Folder for everything that is written; default: the working directory.
    #[serde(default = "working_directory")]
    pub data_dir: PathBuf,
    /// How long an acknowledgement lasts: `commit` survives loss of power, `process` a killed process.
    #[serde(default)]
    pub durability: DurabilityConfig,
    /// Name in the tailnet. Not in this version.
    #[serde(default)]
    pub tsnet_hostname: String,
    /// Port of the status page; none or 0: 5253 with `enableStatusZ`, else no page.
    #[serde(default, rename = "portStatusZ")]
    pub port_status_z: Option<u16>,
    /// Where the status page listens; loopback by default, since it asks for no token.
    #[serde(default = "loopback")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub status_address: String,
    /// Further names that the status page answers to on loopback.
    #[serde(default)]
    pub status_hosts: Vec<String>,
    /// Serve a status page; implied by a port.
    #[serde(default, rename = "enableStatusZ")]
    pub enable_status_z: bool,
    /// The original's profiler; accepted and without effect.
    #[serde(default)]
    pub enable_pprof: bool,
    /// How often the relay is told of this node; default 1m, 1s to 1h.
    #[serde(default = "default_node_info_every")]
    pub node_info_every: Interval,
    /// Steps of events that are remembered for `replayforge trace`; default 100000, 0: none.
    #[serde(default = "default_trace_steps")]
    pub trace_steps: usize,
    /// Log level: trace, debug, info, warn or error; the environment's `LOG_LEVEL` wins.
    #[serde(default)]
    pub verbosity_level: Option<Value>,
}

/// A source of a proxy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySourceFile {
    /// Unique name.
    pub id: String,
    /// Kind of source.
    #[serde(rename = "type")]
    pub kind: String,
    /// Settings of that kind.
    #[serde(default)]
    pub params: Option<Value>,
    /// Id of the sink that gets every event.
    #[serde(default)]
    pub target_sink: String,
    /// Path of a Lua script, in place of the key that names sinks.
    #[serde(default)]
    pub transform_script: String,
    /// What one call of the script may take.
    #[serde(default)]
    pub script_limits: ScriptLimitsConfig,
    /// What becomes of an event whose script failed.
    #[serde(default)]
    pub on_error: OnErrorConfig,
    /// The script may use `io` and `os.execute`.
    #[serde(default)]
    pub unsafe_scripts: bool,
    /// Grok patterns beside the stock ones: a folder, or an object of names and patterns.
    #[serde(default)]
    pub grok_patterns: GrokPatternsConfig,
    /// How often the script's `TimerHandler` runs.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub hook_interval: Option<Interval>,
}

/// A sink of a proxy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySinkFile {
    /// Unique name; also the queue's.
    pub id: String,
    /// Kind of sink.
    #[serde(rename = "type")]
    pub kind: ProxySinkKind,
    /// The relay's URL, or `:dbg>stdout:` to print events.
    pub url: String,
    /// Token of the buckets.
    #[serde(default)]
    pub auth_bearer: Secret,
    /// Buckets that every event goes to.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Not a relay: batches are posted to `url` as it stands.
    #[serde(default)]
    pub not_relay: bool,
    /// Batches a minute at the most; default 600, negative: unlimited. Delays, never drops.
    #[serde(default)]
    pub max_messages_per_minute: i64,
    /// Events a second at the most. Delays, never drops.
    #[serde(default)]
    pub max_events_per_second: Option<f64>,
    /// Content bytes a second at the most. Delays, never drops.
    #[serde(default)]
    pub max_bytes_per_second: Option<ByteSize>,
    /// Dial through the tailnet. Not in this version.
    #[serde(default)]
    pub use_tsnet: bool,
    /// Path of a Lua script, in place of the key that names sinks.
    #[serde(default)]
    pub transform_script: String,
    /// What one call of the script may take.
    #[serde(default)]
    pub script_limits: ScriptLimitsConfig,
    /// What becomes of an event whose script failed.
    #[serde(default)]
    pub on_error: OnErrorConfig,
    /// The script may use `io` and `os.execute`.
    #[serde(default)]
    pub unsafe_scripts: bool,
    /// Grok patterns beside the stock ones: a folder, or an object of names and patterns.
    #[serde(default)]
    pub grok_patterns: GrokPatternsConfig,
    /// Batches.
    #[serde(default)]
    pub config: BatchConfig,
    /// The queue on disk.
    #[serde(default)]
    pub buffer: BufferConfig,
    /// A PEM file of authorities to trust besides the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl ProxySourceFile {
    pub(super) fn script(&self) -> ScriptKeys<'_> {
        ScriptKeys {
            path: &self.transform_script,
            limits: self.script_limits,
            on_error: self.on_error,
            unsafe_scripts: self.unsafe_scripts,
            grok_patterns: &self.grok_patterns,
        }
    }
}

impl ProxySinkFile {
    pub(super) fn script(&self) -> ScriptKeys<'_> {
        ScriptKeys {
            path: &self.transform_script,
            limits: self.script_limits,
            on_error: self.on_error,
            unsafe_scripts: self.unsafe_scripts,
            grok_patterns: &self.grok_patterns,
        }
    }
}

/// `type` of a proxy's sink.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxySinkKind {
    /// Posts batches to a relay or an HTTP API.
    Http,
}

/// `config` of a proxy's sink. Zero takes the default, as in the original.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchConfig {
    /// A larger event is not sent but kept as a dead letter; default 5 MiB.
    #[serde(default)]
    pub max_payload_bytes: Option<ByteSize>,
    /// A batch is closed when it reaches this; default 4.25 MiB.
    #[serde(default)]
    pub batch_goal_bytes: Option<ByteSize>,
    /// Events in a batch at the most; default 1000.
    #[serde(default)]
    pub batch_max_events: usize,
    /// So long an event may wait for others, until a batch is whole; default: 5 s with `notRelay`, else a batch leaves as
    /// soon as the one before is answered.
    #[serde(default)]
    pub batch_timeout_secs: Option<Interval>,
}

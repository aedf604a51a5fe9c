//! What stands in a player's file: its keys, with what they mean where they are left out.

use std::path::PathBuf;

use rf_core::config::{Interval, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::script::config::{GrokPatternsConfig, OnErrorConfig, ScriptKeys, ScriptLimitsConfig};
use crate::settings::{
    BufferConfig, DurabilityConfig, default_node_info_every, default_trace_steps, loopback,
    working_directory,
};

/// A player's file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlayerFile {
    /// The relay's URL.
    pub relay_url: String,
    /// URL of the relay's status port, which the player's own server hands on below `/relay-proxy/`.
    #[serde(default)]
    pub relay_url_statusz: String,
    /// Token that the relay's status port asks for (the relay's `statusAuth`).
    #[serde(default)]
    pub relay_status_auth: Secret,
    /// Buckets to pull.
    #[serde(default)]
    pub sources: Vec<PlayerSourceFile>,
    /// Where events go.
    #[serde(default)]
    pub sinks: Vec<PlayerSinkFile>,
    /// Told to the relay with every question.
    #[serde(default)]
    pub env_name: String,
    /// Told to the relay with every question; default: the machine's name.
    #[serde(default)]
    pub host_name: String,
    /// Folder for everything that is written; default: the working directory.
    #[serde(default = "working_directory")]
    pub data_dir: PathBuf,
    /// How long an acknowledgement lasts: `commit` survives loss of power, `process` a killed process.
    #[serde(default)]
    pub durability: DurabilityConfig,
    /// A PEM file of authorities to trust besides the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Tailnet settings. Not in this version.
    #[serde(default)]
    pub tsnet: Option<TsnetFile>,
    /// Listen in the tailnet. Not in this version.
    #[serde(default)]
    pub listen_using_tailscale: bool,
    /// Serve the status page in the tailnet. Not in this version.
    #[serde(default)]
    pub use_tsnet_status_z: bool,
    /// Folder whose files the player's own server shows.
    #[serde(default)]
    pub static_folder_path: String,
    /// Port of the player's own server; none or 0: there is no server.
    #[serde(default)]
    pub exposed_port: Option<u16>,
    /// Address of the player's own server; default: loopback.
    #[serde(default)]
    pub listen_address: String,
    /// User that the server asks for; with `httpPassword`.
    #[serde(default)]
    pub http_username: String,
    /// Password of `httpUsername`, or a hash of it: bcrypt, SHA-crypt, Argon2.
    #[serde(default)]
    pub http_password: Option<Secret>,
    /// Tokens for `Authorization: Bearer`, or hashes of them.
    #[serde(default)]
    pub http_tokens: Vec<Secret>,
    /// Further names of this server, for browsers that reach it without credentials.
    #[serde(default)]
    pub http_hosts: Vec<String>,
    /// Port of the status page; none or 0: no page.
    #[serde(default, rename = "portStatusZ")]
    pub port_status_z: Option<u16>,
    /// How often the relay is told of this node; default 1m, 1s to 1h.
    #[serde(default = "default_node_info_every")]
    pub node_info_every: Interval,
    /// Steps of events that are remembered for `replayforge trace`; default 100000, 0: none.
    #[serde(default = "default_trace_steps")]
    pub trace_steps: usize,
    /// Where the status page listens; loopback by default, since it asks for no token.
    #[serde(default = "loopback")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub status_address: String,
    /// Further names that the status page answers to on loopback.
    #[serde(default)]
    pub status_hosts: Vec<String>,
}

/// Tailnet settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TsnetFile {
    /// Name in the tailnet.
    #[serde(default)]
    pub hostname: String,
}

/// A bucket to pull.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlayerSourceFile {
    /// The bucket.
    pub name: String,
    /// Its token.
    #[serde(default)]
    pub relay_authentication_bearer: Secret,
    /// Names of the sinks that get every event.
    #[serde(default)]
    pub sinks: Vec<String>,
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
    /// How often the script's `TimerHandler` runs; pause between questions to a relay of the original.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub hook_interval: Option<Interval>,
}

impl PlayerSourceFile {
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

/// A sink of a player.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlayerSinkFile {
    /// Unique name: what sources and scripts emit to; also the queue's.
    pub name: String,
    /// Kind of sink.
    #[serde(rename = "type")]
    pub kind: String,
    /// What URLs of the player's own server call it; default: its name.
    #[serde(default)]
    pub id: String,
    /// Settings of that kind.
    #[serde(default)]
    pub params: Option<Value>,
    /// For the user's own tools; shown, never read.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// The queue on disk.
    #[serde(default)]
    pub buffer: BufferConfig,
}

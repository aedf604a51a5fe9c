//! The user's file: [`RelayConfigFile`] is its shape, [`RelayConfig`] what is left when it makes sense.

mod alerts;
mod check;
mod limits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rf_core::config::{Document, Problems, Secret};
use rf_net::own_host::OwnHosts;
use rf_net::serve::ServerLimits;
use rf_notify::Target;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bucket::BucketName;
use crate::store::{STORES, StoreKind};
pub use alerts::{AlertLevel, AlertsConfig, AlertsFile, Thresholds};
pub use limits::LimitsFile;

/// The services that a relay's file names for its alerts.
pub fn notification_targets(document: &Document, problems: &mut Problems) -> Vec<Target> {
    let root = document.root();
    let Some(file) = root.decode::<RelayConfigFile>(problems) else { return Vec::new() };
    let (_thresholds, alerts) = file.alerts.check(root.get("alerts").unwrap_or(root), problems);
    alerts.notify
}

/// The configuration of a relay: the place where proxies leave events and players fetch them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfigFile {
    /// Where proxies and players connect.
    #[serde(default = "default_port")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub port: u16,
    /// The address to listen on; all of this machine by default.
    #[serde(default = "default_listen_address")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub listen_address: String,
    /// Where the status page, `/statusz`, `/metrics`, `/healthz` and `/readyz` are served. No status without it.
    #[serde(default)]
    pub port_status_z: Option<u16>,
    /// The address of the status page; only this machine by default.
    #[serde(default = "default_status_address")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub status_address: String,
    /// What the status page asks for: a bearer token, or the password of any user name. Required where the page can be
    /// reached from other machines.
    #[serde(default)]
    pub status_auth: Option<Secret>,
    /// Further names that the status page answers to without `statusAuth`, as behind a reverse proxy.
    #[serde(default)]
    pub status_hosts: Vec<String>,
    /// Hosts (`hostName` of their files) that are missing as long as they do not tell of themselves.
    #[serde(default)]
    pub expected_nodes: Vec<String>,
    /// From when on something is wrong.
    #[serde(default)]
    pub alerts: AlertsFile,
    /// Steps of events that are remembered for `replayforge trace`; default 100000, 0: none.
    #[serde(default = "default_trace_steps")]
    pub trace_steps: usize,
    /// Listen within a tailnet. Not in this version.
    #[serde(default)]
    pub use_tailnet: bool,
    /// The name of this relay within the tailnet. Not in this version.
    #[serde(default = "default_tailnet_hostname")]
    pub tailnet_hostname: String,
    /// The folder for everything that is written: a folder for each bucket.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Where buckets are kept: `embedded` is a database for each bucket under `dataDir`.
    #[serde(default = "default_store")]
    pub store: String,
    /// The buckets by name: no `/`, commas and control characters, no dot at the start, no blanks at the ends.
    #[serde(default)]
    pub buckets: BTreeMap<String, BucketFile>,
    /// What the relay takes from its clients at most.
    #[serde(default)]
    pub limits: LimitsFile,
}

/// One bucket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BucketFile {
    /// The token that proxies and players show for this bucket.
    pub auth: Secret,
    /// What the bucket takes on disk at most, in KiB; at least 1024.
    #[serde(default = "default_db_max_size_kb")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub db_max_size_kb: u64,
    /// Events older than this many seconds are dropped; 0: never. (`tls` is its name in the original.)
    #[serde(default, alias = "tls")]
    #[schemars(extend("x-aliases" = ["tls"]))]
    pub ttl_secs: u64,
    /// What happens to new events when the bucket is full.
    #[serde(default)]
    pub when_full: WhenFull,
    /// What an answered batch survives.
    #[serde(default)]
    pub durability: Durability,
}

/// What happens to new events when a bucket is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFull {
    /// They are refused, and the proxy keeps them until there is room.
    #[default]
    Reject,
    /// The oldest events of the bucket are dropped for them, and counted.
    DropOldest,
}

/// What an answered batch survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// A power loss.
    #[default]
    Commit,
    /// A killed relay, but not a power loss.
    Process,
}

fn default_port() -> u16 {
    8081
}

fn default_listen_address() -> String {
    "0.0.0.0".to_owned()
}

fn default_status_address() -> String {
    "127.0.0.1".to_owned()
}

fn default_trace_steps() -> usize {
    rf_core::trace::DEFAULT_STEPS
}

fn default_tailnet_hostname() -> String {
    "relay-forwarder".to_owned()
}

fn default_data_dir() -> PathBuf {
    ".".into()
}

fn default_store() -> String {
    STORES[0].name.to_owned()
}

fn default_db_max_size_kb() -> u64 {
    100 * 1024
}

/// A configuration that makes sense.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The address of the API.
    pub listen_address: String,
    /// The port of the API; 0: any free one.
    pub port: u16,
    /// Where the status page is, if there is one.
    pub status: Option<StatusAddress>,
    /// What it asks for.
    pub status_auth: Option<Secret>,
    /// Names that it answers to where it asks for nothing.
    pub status_hosts: OwnHosts,
    /// Hosts that are missing as long as they do not tell of themselves.
    pub expected_nodes: Vec<String>,
    /// From when on something is wrong.
    pub thresholds: Thresholds,
    /// Who is told.
    pub alerts: AlertsConfig,
    /// Steps of events that are remembered.
    pub trace_steps: usize,
    /// The folder for everything that is written.
    pub data_dir: PathBuf,
    /// The buckets.
    pub buckets: BTreeMap<BucketName, BucketConfig>,
    /// Limits of connections.
    pub server: ServerLimits,
    /// Limits of requests.
    pub requests: RequestLimits,
    pub(crate) store: &'static StoreKind,
    /// After so long without work a bucket's database is closed until it is used again.
    pub(crate) idle_close: Duration,
}

const IDLE_CLOSE: Duration = Duration::from_secs(30);

/// Where the status page is.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusAddress {
    /// The address to listen on.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// One bucket, checked.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// More than blanks.
    pub auth: Secret,
    /// On disk, from [`rf_queue::MIN_STORE_BYTES`] to [`rf_queue::MAX_STORE_BYTES`].
    pub max_bytes: u64,
    /// Events older than this are dropped.
    pub ttl: Option<Duration>,
    /// What happens to new events when it is full.
    pub when_full: WhenFull,
    /// What an answered batch survives.
    pub durability: Durability,
}

/// What a request may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestLimits {
    /// Bytes of a body, as sent and as decoded.
    pub max_body_bytes: usize,
    /// Bytes of all bodies at a time, as sent, and again as decoded; at least `max_body_bytes`.
    pub body_memory_bytes: usize,
    /// Events of a batch.
    pub max_batch_events: usize,
    /// The longest that a client may be silent within a body.
    pub body_timeout: Duration,
}

impl From<WhenFull> for rf_queue::WhenFull {
    fn from(when_full: WhenFull) -> rf_queue::WhenFull {
        match when_full {
            WhenFull::Reject => rf_queue::WhenFull::Reject,
            WhenFull::DropOldest => rf_queue::WhenFull::DropOldest,
        }
    }
}

impl From<Durability> for rf_queue::Durability {
    fn from(durability: Durability) -> rf_queue::Durability {
        match durability {
            Durability::Commit => rf_queue::Durability::Commit,
            Durability::Process => rf_queue::Durability::Process,
        }
    }
}

#[cfg(test)]
impl RelayConfig {
    /// Small buckets with the token `token`, and a status page.
    pub(crate) fn for_tests(data_dir: &std::path::Path, buckets: &[&str]) -> Self {
        let bucket = |name: &&str| {
            let config = BucketConfig {
                auth: Secret::new("token"),
                max_bytes: rf_queue::MIN_STORE_BYTES,
                ttl: None,
                when_full: WhenFull::Reject,
                durability: Durability::Process,
            };
            (BucketName::new(name).expect("a good name"), config)
        };
        Self {
            listen_address: "127.0.0.1".to_owned(),
            port: 0,
            status: None,
            status_auth: None,
            status_hosts: OwnHosts::default(),
            expected_nodes: Vec::new(),
            // Whatever disk the tests run on, it is well.
            thresholds: Thresholds { disk_percent: u8::MAX, ..Thresholds::default() },
            alerts: AlertsConfig::default(),
            trace_steps: 1000,
            data_dir: data_dir.to_owned(),
            buckets: buckets.iter().map(bucket).collect(),
            server: ServerLimits::default(),
            requests: RequestLimits {
                max_body_bytes: 1024 * 1024,
                body_memory_bytes: 4 * 1024 * 1024,
                max_batch_events: 1000,
                body_timeout: Duration::from_secs(30),
            },
            store: &STORES[0],
            idle_close: IDLE_CLOSE,
        }
    }
}

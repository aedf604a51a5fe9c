//! The user's file: [`RelayConfigFile`] is its shape, [`RelayConfig`] what is left when it makes sense.

mod alerts;
mod limits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use rf_core::config::{Document, Node, Problems, Secret, at_most, check_folder};
use rf_core::trace::MAX_STEPS;
use rf_net::address::{self, Listening, Place};
use rf_net::own_host::{OwnHosts, is_loopback};
use rf_net::serve::ServerLimits;
use rf_notify::Target;
use rf_queue::{MAX_STORE_BYTES, MIN_STORE_BYTES};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFull {
    /// They are refused, and the proxy keeps them until there is room.
    #[default]
    Reject,
    /// The oldest events of the bucket are dropped for them, and counted.
    DropOldest,
}

/// What an answered batch survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct StatusAddress {
    /// The address to listen on.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// One bucket, checked.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// More than blanks.
    pub auth: Secret,
    /// On disk, from [`MIN_STORE_BYTES`] to [`MAX_STORE_BYTES`].
    pub max_bytes: u64,
    /// Events older than this are dropped.
    pub ttl: Option<Duration>,
    /// What happens to new events when it is full.
    pub when_full: WhenFull,
    /// What an answered batch survives.
    pub durability: Durability,
}

/// What a request may hold.
#[derive(Clone, Debug, PartialEq)]
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

impl RelayConfig {
    /// Reads and checks a whole file; `None` if it has errors, which are in `problems` then, all of them.
    pub fn check(root: Node<'_>, problems: &mut Problems) -> Option<RelayConfig> {
        RelayConfig::check_on(root, None, problems)
    }

    /// The same for a relay that was told on its command line which port it has, whatever the file says.
    pub fn check_on(
        root: Node<'_>,
        port: Option<u16>,
        problems: &mut Problems,
    ) -> Option<RelayConfig> {
        let errors_before = problems.error_count();
        let mut file: RelayConfigFile = root.decode(problems)?;
        file.port = port.unwrap_or(file.port);
        let at = |key: &str| root.get(key).unwrap_or(root);
        check_folder(&at("dataDir"), &file.data_dir, problems);
        file.trace_steps = at_most(&at("traceSteps"), file.trace_steps, MAX_STEPS, problems);
        file.limits.check(at("limits"), problems);
        check_listening(&file, &at, problems);
        if file.use_tailnet {
            problems.error(
                &at("useTailnet"),
                "the relay does not join a tailnet by itself: remove the key, and use the host's Tailscale, see \
                 docs/guides/tailnet.md",
            );
        }
        let store = STORES.iter().find(|kind| kind.name == file.store);
        if store.is_none() {
            let known: Vec<&str> = STORES.iter().map(|kind| kind.name).collect();
            problems.error(
                &at("store"),
                format!("expected {}, found {}", known.join(" or "), at("store").shown()),
            );
        }
        if file.buckets.is_empty() {
            problems.warn(&at("buckets"), "there is no bucket, so nobody can leave an event");
        }
        let buckets = check_buckets(&file.buckets, at("buckets"), problems);
        let (thresholds, alerts) = file.alerts.check(at("alerts"), problems);
        check_status(&file, &at, problems);
        if problems.error_count() > errors_before {
            return None;
        }
        let limits = file.limits;
        let port = file.port_status_z.filter(|port| *port != 0);
        Some(RelayConfig {
            listen_address: file.listen_address,
            port: file.port,
            status_hosts: OwnHosts::new(file.status_hosts.iter().chain([&file.status_address])),
            status: port.map(|port| StatusAddress { address: file.status_address, port }),
            status_auth: file.status_auth.filter(|auth| !auth.is_empty()),
            expected_nodes: file.expected_nodes,
            thresholds,
            alerts,
            trace_steps: file.trace_steps,
            data_dir: file.data_dir,
            buckets,
            server: ServerLimits {
                max_connections: limits.max_connections,
                header_timeout: limits.header_timeout.into(),
                idle_timeout: limits.idle_timeout.into(),
                ..ServerLimits::default()
            },
            requests: RequestLimits {
                max_body_bytes: limits.max_body_bytes.as_usize(),
                body_memory_bytes: limits.body_memory_bytes.as_usize(),
                max_batch_events: limits.max_batch_events.get(),
                body_timeout: limits.body_timeout.into(),
            },
            store: store?,
            idle_close: IDLE_CLOSE,
        })
    }
}

fn check_listening<'a>(
    file: &RelayConfigFile,
    at: &impl Fn(&str) -> Node<'a>,
    problems: &mut Problems,
) {
    let part = |name: &str, place, (port, address)| Listening {
        name: name.to_owned(),
        places: vec![place],
        port_at: at(port),
        address_at: at(address),
    };
    let api = Place::tcp(&file.listen_address, file.port);
    let mut all = vec![part("the relay itself", api, ("port", "listenAddress"))];
    if let Some(port) = file.port_status_z.filter(|port| *port != 0) {
        let status = Place::tcp(&file.status_address, port);
        all.push(part("the status page", status, ("portStatusZ", "statusAddress")));
    }
    address::check_listening(&all, Node::shown, |at, text| problems.error(at, text));
}

/// More nodes than are remembered cannot be expected.
const MAX_EXPECTED_NODES: usize = 1000;

fn check_status<'a>(
    file: &RelayConfigFile,
    at: &impl Fn(&str) -> Node<'a>,
    problems: &mut Problems,
) {
    let has_page = file.port_status_z.is_some_and(|port| port != 0);
    let open = file.status_auth.as_ref().is_none_or(Secret::is_empty);
    if has_page && open && !is_loopback(&file.status_address) {
        problems.error(
            &at("statusAddress"),
            "the status page shows hosts and log lines: set statusAuth, or let it listen on 127.0.0.1",
        );
    }
    if file.expected_nodes.len() > MAX_EXPECTED_NODES {
        let text = format!("expected at most {MAX_EXPECTED_NODES} names");
        problems.error(&at("expectedNodes"), text);
    }
}

fn check_buckets(
    files: &BTreeMap<String, BucketFile>,
    at: Node<'_>,
    problems: &mut Problems,
) -> BTreeMap<BucketName, BucketConfig> {
    let mut buckets = BTreeMap::new();
    for (name, file) in files {
        let at = at.get(name).unwrap_or(at);
        match BucketName::new(name) {
            Ok(name) => drop(buckets.insert(name, check_bucket(file, at, problems))),
            Err(error) => problems.error(&at, error.to_string()),
        }
    }
    buckets
}

fn check_bucket(file: &BucketFile, at: Node<'_>, problems: &mut Problems) -> BucketConfig {
    if file.auth.expose().trim_ascii().is_empty() {
        problems.error(
            &at.get("auth").unwrap_or(at),
            "expected a token, found nothing: anybody could read the bucket",
        );
    } else if !can_be_shown(&file.auth) {
        problems.error(
            &at.get("auth").unwrap_or(at),
            "no header can carry this token: expected a text without line breaks and other control characters",
        );
    }
    let asked = file.db_max_size_kb.saturating_mul(1024);
    let size_at = at.get("dbMaxSizeKb").unwrap_or(at);
    if asked < MIN_STORE_BYTES {
        let least = MIN_STORE_BYTES / 1024;
        problems.warn(
            &size_at,
            format!("a bucket takes at least {least} KiB on disk: {least} is used"),
        );
    }
    if asked > MAX_STORE_BYTES {
        let most = MAX_STORE_BYTES / 1024;
        problems.warn(&size_at, format!("a database holds at most {most} KiB: {most} is used"));
    }
    BucketConfig {
        auth: file.auth.clone(),
        max_bytes: asked.clamp(MIN_STORE_BYTES, MAX_STORE_BYTES),
        ttl: (file.ttl_secs > 0).then(|| Duration::from_secs(file.ttl_secs)),
        when_full: file.when_full,
        durability: file.durability,
    }
}

/// Whether a request can show the token as `auth` reads it: blanks at its ends do not count there.
fn can_be_shown(token: &Secret) -> bool {
    HeaderValue::from_bytes(token.expose().as_bytes()).is_ok()
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
    pub(crate) fn for_tests(data_dir: &std::path::Path, buckets: &[&str]) -> RelayConfig {
        let bucket = |name: &&str| {
            let config = BucketConfig {
                auth: Secret::new("token"),
                max_bytes: MIN_STORE_BYTES,
                ttl: None,
                when_full: WhenFull::Reject,
                durability: Durability::Process,
            };
            (BucketName::new(name).expect("a good name"), config)
        };
        RelayConfig {
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

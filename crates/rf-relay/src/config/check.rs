//! From the shape of a relay's file to what makes sense, with all that is wrong in it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderValue;
use rf_core::config::{Node, Problems, Secret, at_most, check_folder};
use rf_core::trace::MAX_STEPS;
use rf_net::address::{self, Listening, Place};
use rf_net::own_host::{OwnHosts, is_loopback};
use rf_net::serve::ServerLimits;
use rf_queue::{MAX_STORE_BYTES, MIN_STORE_BYTES};

use super::{
    BucketConfig, BucketFile, IDLE_CLOSE, RelayConfig, RelayConfigFile, RequestLimits,
    StatusAddress,
};
use crate::bucket::BucketName;
use crate::nodes::MAX_NODES;
use crate::store::STORES;

impl RelayConfig {
    /// Reads and checks a whole file; `None` if it has errors, which are in `problems` then, all of them. A `port` from the
    /// command line goes before that of the file.
    pub fn check(root: Node<'_>, port: Option<u16>, problems: &mut Problems) -> Option<Self> {
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
            problems.warn(&at("buckets"), "there are no buckets, so the relay accepts no events");
        }
        let buckets = check_buckets(&file.buckets, at("buckets"), problems);
        let (thresholds, alerts) = file.alerts.check(at("alerts"), problems);
        check_status(&file, &at, problems);
        if problems.error_count() > errors_before {
            return None;
        }
        let limits = file.limits;
        let port = file.port_status_z.filter(|port| *port != 0);
        Some(Self {
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
    // More nodes than are remembered cannot be expected.
    if file.expected_nodes.len() > MAX_NODES {
        let text = format!("expected at most {MAX_NODES} names");
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

//! The configuration file of a player: the original's keys, and ours beside them. The keys stand in `file`; here they are
//! checked, and become a plan.

mod file;
mod sink_files;
#[cfg(test)]
mod tests;

pub use self::file::{PlayerFile, PlayerSinkFile, PlayerSourceFile, TsnetFile};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rf_core::config::{Document, Node, Problems, at_most, check_folder, did_you_mean};
use rf_core::node_info::Role;
use rf_core::trace::MAX_STEPS;
use rf_net::address::Place;
use rf_net::client::{Client, ClientOptions};
use rf_notify::Target;
use serde_json::Value;

use crate::agent::{Plan, PlannedSink, PlannedSource};
use crate::relay_client::{BucketKey, RelayClient};
use crate::server::{self, ServedSink, ServerPlan};
use crate::settings::{
    Listening, RouteKeys, at, check_buffer, check_ids, check_listening, check_named,
    check_node_info_every, check_relay_url, check_token, host_name, listens, no_tailnet, parse_url,
    reached, store_options,
};
use crate::sink::{SINKS, SinkContext, exec, notification};
use crate::source::relay::RelaySource;
use crate::stats::{StatsPlan, ToldRelay};

/// The store's file in `dataDir`.
const STORE_FILE: &str = "player.sqlite3";
const DEFAULT_BUFFER_BYTES: u64 = 64 * 1024 * 1024;
/// Pause between questions to a relay without long poll where the file says nothing.
const DEFAULT_POLL: Duration = Duration::from_secs(1);

/// Checks a player's file. Every problem is reported; `None` when there is an error.
pub fn check(document: &Document, problems: &mut Problems) -> Option<Plan> {
    let root = document.root();
    let mut file: PlayerFile = root.decode(problems)?;
    check_folder(&at(&root, "dataDir"), &file.data_dir, problems);
    file.trace_steps = at_most(&at(&root, "traceSteps"), file.trace_steps, MAX_STEPS, problems);
    check_node_info_every(&root, file.node_info_every, problems);
    no_tailnet(&root, "listenUsingTailscale", file.listen_using_tailscale, problems);
    no_tailnet(&root, "useTsnetStatusZ", file.use_tsnet_status_z, problems);
    let source_nodes = root.get("sources").map(|node| node.items()).unwrap_or_default();
    let sink_nodes = root.get("sinks").map(|node| node.items()).unwrap_or_default();
    check_ids(&source_nodes, "name", problems);
    check_ids(&sink_nodes, "name", problems);
    if file.sources.is_empty() {
        problems.warn(&root, "no sources: nothing is pulled");
    } else if file.sources.iter().all(|source| source.transform_script.is_empty()) {
        let named = file.sources.iter().flat_map(|source| &source.sinks);
        let named: Vec<&str> = named.map(String::as_str).collect();
        check_named(&sink_nodes, "name", &named, &named_by_sinks(&file), problems);
    }
    let client = relay_client(&file, &root, problems);
    let sinks: Vec<Option<PlannedSink>> = file
        .sinks
        .iter()
        .zip(&sink_nodes)
        .map(|(sink, node)| check_sink(&file, sink, node, problems))
        .collect();
    sink_files::check(&file.data_dir.join(STORE_FILE), &sinks, &sink_nodes, problems);
    let sources: Vec<Option<PlannedSource>> = file
        .sources
        .iter()
        .zip(&source_nodes)
        .map(|(source, node)| check_source(&file, source, client.as_ref(), node, problems))
        .collect();
    let sinks = sinks.into_iter().collect::<Option<Vec<_>>>()?;
    let sources = sources.into_iter().collect::<Option<Vec<_>>>()?;
    let served = file.sinks.iter().zip(&sinks).map(|(sink, planned)| served(sink, planned));
    let server = server::plan(&file, &root, served.collect(), problems)?;
    let listening = listening(&file, &root, &sinks, &sink_nodes, &server);
    check_listening(&listening, problems);
    check_urls(&root, &sink_nodes, &listening, problems);
    if problems.has_errors() {
        return None;
    }
    let store = store_options(file.data_dir.join(STORE_FILE), file.durability, &sinks, &sources);
    let stats = stats(&file, client);
    Some(Plan { store, sources, sinks, server: Some(server), stats })
}

/// All that listens.
fn listening<'a>(
    file: &PlayerFile,
    root: &Node<'a>,
    sinks: &[PlannedSink],
    nodes: &[Node<'a>],
    server: &ServerPlan,
) -> Vec<Listening<'a>> {
    let own = server
        .place()
        .map(|place| listens("the server", vec![place], root, ("exposedPort", "listenAddress")));
    let of_sink = |(sink, node): (&PlannedSink, &Node<'a>)| {
        let (address, port) = sink.sink.own_listener()?;
        let (name, params) = (format!("sink `{}`", sink.id), at(node, "params"));
        let keys = server::listener_keys(&params);
        Some(listens(name, vec![Place::tcp(&address, port)], &params, keys))
    };
    let status = file.port_status_z.filter(|port| *port > 0).map(|port| {
        let place = Place::tcp(&file.status_address, port);
        listens("the status page", vec![place], root, ("portStatusZ", "statusAddress"))
    });
    own.into_iter().chain(sinks.iter().zip(nodes).filter_map(of_sink)).chain(status).collect()
}

/// Warns of URLs that lead to the player itself, which neither keeps events for others nor takes any.
fn check_urls(
    root: &Node<'_>,
    sinks: &[Node<'_>],
    listening: &[Listening<'_>],
    problems: &mut Problems,
) {
    let is_http =
        |sink: &&Node<'_>| sink.get("type").and_then(|kind| kind.as_str()) == Some("http");
    let mut urls: Vec<Node<'_>> = root.get("relayUrl").into_iter().collect();
    for params in sinks.iter().filter(is_http).filter_map(|sink| sink.get("params")) {
        urls.extend(params.get("targetHost"));
        urls.extend(params.get("targetHosts").map(|hosts| hosts.items()).unwrap_or_default());
    }
    for url in &urls {
        if let Some(part) = url.as_str().and_then(|text| reached(listening, text)) {
            let text = format!("this leads back to the player itself: {} listens there", part.name);
            problems.warn(url, text);
        }
    }
}

/// What may name sinks that get events from another sink, as notifications of an `alert`.
fn named_by_sinks(file: &PlayerFile) -> Vec<&str> {
    let mut named = Vec::new();
    file.sinks.iter().filter_map(|sink| sink.params.as_ref()).for_each(|it| texts(it, &mut named));
    named
}

/// All texts of some params; which of their keys names a sink is the business of each kind.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(entries) => entries.values().for_each(|entry| texts(entry, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What the player tells of itself, and whom: its relay, by way of its first bucket.
fn stats(file: &PlayerFile, client: Option<Arc<RelayClient>>) -> StatsPlan {
    let told = client.zip(file.sources.first()).map(|(client, source)| {
        let token = source.relay_authentication_bearer.clone();
        ToldRelay { client, bucket: BucketKey { name: source.name.clone(), token } }
    });
    let port = file.port_status_z.filter(|port| *port > 0);
    StatsPlan {
        role: Role::Player,
        env_name: file.env_name.clone(),
        host_name: host_name(&file.host_name),
        trace_steps: file.trace_steps,
        every: file.node_info_every.into(),
        data_dir: file.data_dir.clone(),
        status: port.map(|port| (file.status_address.clone(), port)),
        status_hosts: file.status_hosts.clone(),
        relays: told.into_iter().collect(),
        logs: Arc::default(),
    }
}

/// The sink as the player's server shows it.
fn served(sink: &PlayerSinkFile, planned: &PlannedSink) -> ServedSink {
    ServedSink {
        id: url_id(sink).to_owned(),
        name: sink.name.clone(),
        kind: sink.kind.clone(),
        metadata: sink.metadata.clone(),
        sink: Arc::clone(&planned.sink),
    }
}

fn url_id(sink: &PlayerSinkFile) -> &str {
    if sink.id.is_empty() { &sink.name } else { &sink.id }
}

fn relay_client(
    file: &PlayerFile,
    root: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<RelayClient>> {
    let wanted = "expected the relay's URL, such as https://relay.example.com/";
    let url_at = at(root, "relayUrl");
    check_relay_url(&url_at, &file.relay_url, "first-batch", problems);
    let slash = if file.relay_url.ends_with('/') { "" } else { "/" };
    let uri = parse_url(&format!("{}{slash}", file.relay_url), wanted)
        .map_err(|reason| problems.error(&url_at, reason))
        .ok()?;
    let client =
        Client::new(&ClientOptions { ca_file: file.ca_file.clone(), ..ClientOptions::default() });
    let client =
        client.map_err(|error| problems.error(&at(root, "caFile"), error.to_string())).ok()?;
    let made = RelayClient::new(uri, client, &file.env_name, &host_name(&file.host_name));
    made.map(Arc::new).map_err(|reason| problems.error(root, reason)).ok()
}

fn check_source(
    file: &PlayerFile,
    source: &PlayerSourceFile,
    client: Option<&Arc<RelayClient>>,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<PlannedSource> {
    let sink_nodes = node.get("sinks").map(|sinks| sinks.items()).unwrap_or_default();
    let keys = RouteKeys {
        source: &source.name,
        sink_key: "name",
        expected: "sinks, a list of names of sinks",
        sinks: source.sinks.iter().map(String::as_str).zip(sink_nodes).collect(),
        script: source.script(),
        hook_interval: source.hook_interval,
    };
    let sinks = file.sinks.iter().map(|sink| sink.name.clone()).collect();
    let routes = keys.check(sinks, node, problems);
    let token = &source.relay_authentication_bearer;
    let nothing = "a relay hands out nothing";
    check_token(node, "relayAuthenticationBearer", token, nothing, problems);
    let bearer = format!("Bearer {}", token.expose());
    if HeaderValue::try_from(bearer).is_err() {
        let text = "this cannot be sent as a header: expected a token without line breaks";
        problems.error(&at(node, "relayAuthenticationBearer"), text);
    }
    let built = RelaySource {
        id: source.name.clone(),
        bucket: BucketKey { name: source.name.clone(), token: token.clone() },
        client: Arc::clone(client?),
        poll: source.hook_interval.map_or(DEFAULT_POLL, Duration::from),
    };
    Some(routes.plan(&source.name, "relay", Box::new(built)))
}

fn check_sink(
    file: &PlayerFile,
    sink: &PlayerSinkFile,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<PlannedSink> {
    let queue = sink.buffer.queue(&sink.name, DEFAULT_BUFFER_BYTES);
    check_buffer(node, &sink.buffer, &queue, problems);
    let sinks: Vec<&str> = file.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let context = SinkContext { name: &sink.name, data_dir: &file.data_dir, sinks: &sinks };
    let params = node.object("params");
    let built = match SINKS.iter().find(|kind| kind.name == sink.kind) {
        Some(kind) => (kind.build)(&context, &params, problems),
        None => exec::of_type(&sink.kind, &context, &params, problems).unwrap_or_else(|reason| {
            let known: Vec<&str> = SINKS.iter().map(|kind| kind.name).collect();
            let meant = did_you_mean(&sink.kind, known.iter().copied());
            let message = format!(
                "there is no sink type `{}`{meant}; known: {}; {reason}",
                sink.kind,
                known.join(", ")
            );
            problems.error(&at(node, "type"), message);
            None
        }),
    }?;
    Some(PlannedSink { id: sink.name.clone(), kind: sink.kind.clone(), sink: built, queue })
}

/// Where the dead letters of a player with this file lie.
pub fn store_path(document: &Document, problems: &mut Problems) -> Option<PathBuf> {
    let file: PlayerFile = document.root().decode(problems)?;
    Some(file.data_dir.join(STORE_FILE))
}

/// The services of each `notification` sink of a file, with the sink's name.
pub fn notification_targets(
    document: &Document,
    problems: &mut Problems,
) -> Vec<(String, Vec<Target>)> {
    let root = document.root();
    let Some(file) = root.decode::<PlayerFile>(problems) else { return Vec::new() };
    let nodes = root.get("sinks").map(|node| node.items()).unwrap_or_default();
    let named = file.sinks.iter().zip(&nodes).filter(|(sink, _)| sink.kind == "notification");
    let mut found = Vec::new();
    for (sink, node) in named {
        if let Some(targets) = notification::targets(&node.object("params"), problems) {
            found.push((sink.name.clone(), targets));
        }
    }
    found
}

/// JSON Schema of a player's file, with the `params` of each type of sink.
pub fn schema() -> schemars::Schema {
    let kinds = SINKS.iter().map(|kind| (kind.name, (kind.schema)()));
    crate::settings::with_params(
        rf_core::config::schema_of::<PlayerFile>(),
        "PlayerSinkFile",
        kinds,
    )
}

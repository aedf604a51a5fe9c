//! The relay put together.
//!
//! The order of a stop: no new connections; long polls and requests in flight are answered; then the buckets are
//! closed, so that nothing that was answered is still on its way to the disk.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::service::TowerToHyperService;
use rf_core::clock::unix_ms;
use rf_core::lifecycle::Tasks;
use rf_core::trace::Journal;
use rf_net::client::{Client, ClientOptions};
use rf_net::listen::listen;
use rf_net::serve::{ServeReport, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::alerts::{self, Alerts, Teller};
use crate::api::{Answers, Holders, Left, Relay, Shares, noted, router};
use crate::auth::Tokens;
use crate::config::{AlertsConfig, RelayConfig};
use crate::data_dir_lock::DataDirLock;
use crate::nodes::Nodes;
use crate::persistence::StatusFile;
use crate::report::RelayView;
use crate::sampler::Sampler;
use crate::stats::Stats;
use crate::status::{self, Access, StatusPort};
use crate::store::BucketStore;

/// What tasks may take longer to end than the requests in flight that they wait for.
const GRACE_BEYOND_DRAIN: Duration = Duration::from_secs(5);

/// The sockets of a relay.
#[derive(Debug)]
pub struct Listeners {
    /// For proxies and players.
    pub api: TcpListener,
    /// For the status page, if there shall be one.
    pub status: Option<TcpListener>,
}

impl Listeners {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// When a port cannot be had; the text names the configuration keys.
    pub fn bind(config: &RelayConfig) -> anyhow::Result<Self> {
        let api = listen(&config.listen_address, config.port);
        let status = config.status.as_ref().map(|status| listen(&status.address, status.port));
        Ok(Self {
            api: api.context("relay port (keys listenAddress, port)")?,
            status: status.transpose().context("status port (keys statusAddress, portStatusZ)")?,
        })
    }
}

/// Runs a relay until `stop`; returns when all its tasks have ended and its buckets are closed.
///
/// # Errors
/// When the data folder cannot be had, as while another relay has it, or a task fails.
pub async fn run(
    config: RelayConfig,
    listeners: Listeners,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let folder = config.data_dir.clone();
    // Given back at the end, when nothing of this relay is in the folder any longer.
    let _lock = tokio::task::spawn_blocking(move || DataDirLock::take(&folder)).await??;
    let journal = Arc::new(Journal::new(config.trace_steps));
    let store = (config.store.open)(&config, &journal);
    run_with(store, journal, config, listeners, stop).await
}

/// Runs a relay over a store, which it closes at the end; both note what happens to events.
pub(crate) async fn run_with(
    store: Arc<dyn BucketStore>,
    journal: Arc<Journal>,
    config: RelayConfig,
    listeners: Listeners,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let status_file = StatusFile::new(&config.data_dir);
    let loading = status_file.clone();
    let kept = tokio::task::spawn_blocking(move || loading.load()).await?;
    let tasks = Tasks::new(stop.child_token());
    let stop = tasks.stop_token().clone();
    let started_at_ms = unix_ms();
    let absences = kept.absences_until(started_at_ms);
    let losses_for = config.thresholds.losses_for;
    let view = Arc::new(RelayView {
        started_at_ms,
        absences: absences.clone(),
        data_dir: config.data_dir.clone(),
        buckets: config.buckets.clone(),
        expected: config.expected_nodes.clone(),
        thresholds: config.thresholds.clone(),
        store: Arc::clone(&store),
        stats: Arc::new(Stats::new(kept.stats, absences.clone())),
        nodes: Arc::new(Nodes::new(&config.expected_nodes, kept.nodes, absences, losses_for)),
        holders: Arc::new(Holders::default()),
        journal,
    });
    let tokens = Tokens::new(config.buckets.iter().map(|(name, bucket)| (name, &bucket.auth)));
    let requests = &config.requests;
    let body_memory = || Shares::new(&tokens, requests.body_memory_bytes, requests.max_body_bytes);
    let relay = Relay {
        tokens: tokens.clone(),
        store: Arc::clone(&store),
        stats: Arc::clone(&view.stats),
        nodes: Arc::clone(&view.nodes),
        holders: Arc::clone(&view.holders),
        taps: Arc::default(),
        left: Left::default(),
        journal: Arc::clone(&view.journal),
        body_memory: body_memory(),
        decoding_memory: body_memory(),
        answers: Answers::new(&tokens, requests.body_memory_bytes),
        limits: config.requests.clone(),
        stop: stop.clone(),
    };
    let access =
        Access { auth: config.status_auth.clone(), own_hosts: config.status_hosts.clone() };
    let status = StatusPort::new(Arc::clone(&view), access, tokens, stop.clone())
        .context("a thread for the status")?;
    let grace = config.server.drain + GRACE_BEYOND_DRAIN;
    tracing::info!(address = %listeners.api.local_addr()?, buckets = config.buckets.len(), "relay started");

    let (working, stop_working) = (Arc::clone(&store), stop.clone());
    tasks.spawn("bucket store", async move { working.work(stop_working).await });
    let AlertsConfig { after, least, .. } = config.alerts;
    let alerts = Arc::new(Alerts::new(after, least, kept.alerts));
    let sampler =
        Arc::new(Sampler { view: Arc::clone(&view), alerts: Arc::clone(&alerts), status_file });
    tasks.spawn("relay sampler", Arc::clone(&sampler).run(stop.clone()));
    spawn_alerts(&tasks, &config.alerts, view, alerts)?;
    if let Some(listener) = listeners.status {
        tracing::info!(address = %listener.local_addr()?, "status page started");
        tasks.spawn("relay status", serve_status(listener, status, config.clone(), stop.clone()));
    }
    tasks.spawn("relay api", serve_api(listeners.api, relay, config, stop));

    let ended = tasks.join(grace).await;
    sampler.keep().await;
    store.close().await;
    tracing::info!("relay stopped");
    Ok(ended?)
}

/// Who looks, who is told, and who hears the heartbeat.
fn spawn_alerts(
    tasks: &Tasks,
    config: &AlertsConfig,
    view: Arc<RelayView>,
    alerts: Arc<Alerts>,
) -> anyhow::Result<()> {
    let stop = tasks.stop_token();
    let mut tellers = Vec::new();
    for target in &config.notify {
        let (teller, messages) = Teller::new(target.name());
        tellers.push(teller);
        let name = format!("alerts to {}", target.name());
        tasks.spawn(name, alerts::tell(target.clone(), messages, stop.clone()));
    }
    if let Some(url) = &config.heartbeat_url {
        let client = Client::new(&ClientOptions::default())?;
        let (url, every) = (url.clone(), config.heartbeat_every);
        let beat = alerts::beat(Arc::clone(&view), url, every, client, stop.clone());
        tasks.spawn("relay heartbeat", beat);
    }
    tasks.spawn("relay alerts", alerts::run(view, alerts, tellers, stop.clone()));
    Ok(())
}

async fn serve_api(
    listener: TcpListener,
    relay: Relay,
    config: RelayConfig,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let relay = Arc::new(relay);
    let router = router(Arc::clone(&relay));
    let service_for = |peer| noted(peer, Arc::clone(&relay), router.clone());
    report("relay api", &serve(listener, service_for, config.server, stop).await);
    Ok(())
}

async fn serve_status(
    listener: TcpListener,
    status: StatusPort,
    config: RelayConfig,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let router = status::router(Arc::new(status));
    let service_for = |_peer| TowerToHyperService::new(router.clone());
    report("relay status", &serve(listener, service_for, config.server, stop).await);
    Ok(())
}

fn report(server: &str, report: &ServeReport) {
    let ServeReport { accepted, accept_errors, panics, cut } = *report;
    tracing::info!(server, accepted, accept_errors, panics, cut, "server stopped");
}

//! An agent: its store, its sources and its sinks, from start to stop.
//!
//! Order of the stop: sources first (what they have taken in hand is stored and answered), then the workers (writes under
//! way are finished, what is queued is flushed while that works), then the server, then the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rf_core::lifecycle::{TaskFailure, Tasks};
use rf_core::trace::Journal;
use rf_net::listen::ListenError;
use rf_queue::{
    Checkpoint, Commit, OpenError, QueueOptions, Store, StoreOptions, StoredEvent, may_pass,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::pipeline::Output;
use crate::script::handle::ScriptHandle;
use crate::script::{ScriptPlan, ScriptStartError};
use crate::server::{Server, ServerError, ServerPlan};
use crate::sink::{Sink, SinkHost, SinkStartError};
use crate::source::{Listening, Source, SourceError};
use crate::stats::{Sight, StatsPlan, StatusPort, Telling, ToldRelay, notify_systemd, tell};
use crate::trace::{Trace, watch_drops};
use crate::worker::Worker;

/// Enough to tell a few agents of one host apart, and short enough to read.
const INSTANCE_CHARS: usize = 8;

/// Told of every delivery: the sink's id and the event.
pub type Observer = Arc<dyn Fn(&str, &StoredEvent) + Send + Sync>;

/// A source with its id and the ids of the sinks that it feeds.
pub(crate) struct PlannedSource {
    /// As in the file.
    pub(crate) id: String,
    /// Its `type`.
    pub(crate) kind: String,
    /// Ids of sinks that get every event, where no script decides.
    pub(crate) routes: Vec<String>,
    /// Ids of sinks that may get events: those of `routes`, or all that its script can name.
    pub(crate) feeds: Vec<String>,
    /// The source.
    pub(crate) source: Box<dyn Source>,
    /// What decides where its events go; `None`: to all of `routes`.
    pub(crate) script: Option<ScriptPlan>,
}

/// A sink with its id and its queue.
pub(crate) struct PlannedSink {
    /// As in the file; also the queue's name.
    pub(crate) id: String,
    /// Its `type`; `relay` where a proxy ships to a relay.
    pub(crate) kind: String,
    /// The sink.
    pub(crate) sink: Arc<dyn Sink>,
    /// Its queue.
    pub(crate) queue: QueueOptions,
}

/// A checked configuration: everything but ports and files.
pub struct Plan {
    /// How the store is opened; its queues are the sinks'.
    pub store: StoreOptions,
    /// The sources.
    pub(crate) sources: Vec<PlannedSource>,
    /// The sinks.
    pub(crate) sinks: Vec<PlannedSink>,
    /// What shows the sinks to others; a proxy has none.
    pub(crate) server: Option<ServerPlan>,
    /// What it tells of itself.
    pub stats: StatsPlan,
}

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The queue's database cannot be opened.
    #[error("the queue cannot be opened: {0}")]
    Store(#[from] OpenError),
    /// A source cannot start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A source's script cannot start.
    #[error(transparent)]
    Script(#[from] ScriptStartError),
    /// A sink cannot start.
    #[error(transparent)]
    Sink(#[from] SinkStartError),
    /// The server's port cannot be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The folder for the files cannot be made.
    #[error("dataDir {path}: {source}")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The status port cannot be had.
    #[error("portStatusZ: {0}")]
    Status(#[from] ListenError),
    /// A task failed or did not stop in time.
    #[error(transparent)]
    Task(#[from] TaskFailure),
    /// The store can no longer keep its promise.
    #[error("the queue failed: {0}")]
    StoreFailed(String),
}

/// An agent that has its store open and its ports bound, and does nothing yet.
pub struct Agent {
    store: Store,
    sources: Vec<(PlannedSource, Output)>,
    scripts: Vec<Arc<ScriptHandle>>,
    sinks: Vec<PlannedSink>,
    server: Option<Server>,
    status: Option<StatusPort>,
    sight: Arc<Sight>,
    told: Vec<ToldRelay>,
    observer: Option<Observer>,
}

impl Agent {
    /// Opens the store and claims the ports.
    ///
    /// # Errors
    /// [`AgentError`]; nothing runs then.
    pub async fn start(mut plan: Plan) -> Result<Self, AgentError> {
        let journal = Arc::new(Journal::new(plan.stats.trace_steps));
        plan.store.drops = journal.is_on().then(|| watch_drops(&journal));
        let store = open_store(plan.store).await?;
        let host = SinkHost { store: store.clone() };
        for planned in &plan.sinks {
            planned.sink.start(&host).await?;
        }
        let server = plan.server.map(Server::bind).transpose()?;
        let status = plan.stats.status.as_ref();
        let status = status
            .map(|(address, port)| StatusPort::bind(address, *port, &plan.stats.status_hosts))
            .transpose()?;
        let (mut sources, mut scripts) = (Vec::new(), Vec::new());
        for mut planned in plan.sources {
            for Listening { address, protocol } in planned.source.start()? {
                tracing::info!(source = planned.id, %address, protocol, "listening");
            }
            let routes: Vec<_> =
                planned.routes.iter().filter_map(|sink| store.queue(sink)).collect();
            let trace = Trace::new(&journal, &planned.id);
            let script = match planned.script.take() {
                Some(script) => {
                    let (id, trace) = (&planned.id, trace.clone());
                    Some(ScriptHandle::start(id, script, &routes, store.clone(), trace).await?)
                }
                None => None,
            };
            scripts.extend(script.clone());
            let out = Output::new(store.clone(), routes).through(script).traced(trace);
            sources.push((planned, out));
        }
        let (stats, told) = plan.stats.apart();
        let instance = instance(&store).await;
        let sight = Sight::new(stats, instance, (&store, journal), &sources, &plan.sinks);
        let sight = Arc::new(sight);
        let sinks = plan.sinks;
        Ok(Self { store, sources, scripts, sinks, server, status, sight, told, observer: None })
    }

    /// Has every delivery told to `observer`.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Runs until `stop`, or until all sources have ended by themselves, then stops within `grace`. Scripts are loaded anew
    /// whenever `reload` changes.
    ///
    /// # Errors
    /// [`AgentError`], naming the task that failed or is stuck.
    pub async fn run(
        self,
        stop: CancellationToken,
        reload: watch::Receiver<u64>,
        grace: Duration,
    ) -> Result<(), AgentError> {
        let (intake_stop, delivery_stop) = (stop.child_token(), CancellationToken::new());
        let intake = Tasks::new(intake_stop.clone());
        let delivery = Tasks::new(delivery_stop.clone());
        let serving = Tasks::new(CancellationToken::new());
        if let Some(server) = self.server {
            server.spawn(&serving);
        }
        if let Some(status) = self.status {
            status.spawn(&serving, Arc::clone(&self.sight));
        }
        spawn_telling(&serving, &self.sight, self.told);
        for script in &self.scripts {
            spawn_script(&intake, script, &intake_stop, &reload);
        }
        spawn_sources(&intake, self.sources, &intake_stop);
        for (planned, seen) in self.sinks.into_iter().zip(&self.sight.sinks) {
            planned.sink.reload_on(reload.clone());
            let trace = Trace::new(&self.sight.journal, &planned.id);
            let worker = Worker {
                id: planned.id,
                sink: planned.sink,
                store: self.store.clone(),
                queue: seen.queue,
                stop: delivery_stop.clone(),
                meter: Arc::clone(&seen.meter),
                reached: Arc::clone(&seen.reached),
                trace,
                notes: <_>::default(),
                observer: self.observer.clone(),
            };
            spawn_sink(&delivery, worker);
        }
        let failed = tokio::select! {
            reason = self.store.failed() => Some(AgentError::StoreFailed(reason)),
            () = intake_stop.cancelled() => None,
            () = delivery_stop.cancelled() => None,
            () = serving.stop_token().cancelled() => None,
        };
        intake_stop.cancel();
        let stopping = Instant::now();
        let intake = intake.join(grace).await;
        let scripts = ScriptHandle::close_all(self.scripts, grace, stopping).await;
        delivery_stop.cancel();
        let delivery = delivery.join(grace.saturating_sub(stopping.elapsed())).await;
        serving.stop_token().cancel();
        let serving = serving.join(grace.saturating_sub(stopping.elapsed())).await;
        self.store.close().await;
        failed.map_or(Ok(()), Err)?;
        Ok(intake.and(scripts).and(delivery).and(serving)?)
    }
}

/// After the last source has ended by itself, as at the end of standard input, nothing more can come: intake is stopped.
fn spawn_sources(
    intake: &Tasks,
    sources: Vec<(PlannedSource, Output)>,
    intake_stop: &CancellationToken,
) {
    let open = Arc::new(AtomicUsize::new(sources.len()));
    for (planned, out) in sources {
        let running = planned.source.run(out, intake_stop.clone());
        let (open, intake_stop) = (Arc::clone(&open), intake_stop.clone());
        intake.spawn(format!("source {}", planned.id), async move {
            running.await?;
            if open.fetch_sub(1, Ordering::Relaxed) == 1 && !intake_stop.is_cancelled() {
                tracing::info!("all sources have ended; delivering what is still queued");
                intake_stop.cancel();
            }
            Ok::<(), SourceError>(())
        });
    }
}

/// A sink's worker, and its maintenance.
fn spawn_sink(delivery: &Tasks, worker: Worker) {
    let name = format!("sink {}", worker.id);
    let maintenance = Arc::clone(&worker.sink).run(worker.stop.clone());
    delivery.spawn(format!("{name} maintenance"), async move {
        maintenance.await;
        Ok::<(), SourceError>(())
    });
    delivery.spawn(name, async move {
        worker.run().await;
        Ok::<(), SourceError>(())
    });
}

/// Node-info for relays, and systemd.
fn spawn_telling(serving: &Tasks, sight: &Arc<Sight>, relays: Vec<ToldRelay>) {
    let telling = Telling { sight: Arc::clone(sight), relays };
    let (sight, stop) = (Arc::clone(sight), serving.stop_token().clone());
    let stop_telling = stop.clone();
    serving.spawn("node-info", async move {
        tell(telling, stop_telling).await;
        Ok::<(), SourceError>(())
    });
    serving.spawn("systemd", async move {
        notify_systemd(sight, stop).await;
        Ok::<(), SourceError>(())
    });
}

/// What goes on around a script: its timer, retried letters, reload.
fn spawn_script(
    intake: &Tasks,
    script: &Arc<ScriptHandle>,
    stop: &CancellationToken,
    reload: &watch::Receiver<u64>,
) {
    let name = script.name();
    let (timer, redo, script) = (Arc::clone(script), Arc::clone(script), Arc::clone(script));
    let asked = reload.clone();
    let (stop_timer, stop_redo, stop) = (stop.clone(), stop.clone(), stop.clone());
    intake.spawn(format!("{name} timer"), async move {
        timer.tick(stop_timer).await;
        Ok::<(), SourceError>(())
    });
    intake.spawn(format!("{name} letters"), async move {
        redo.redo(stop_redo).await;
        Ok::<(), SourceError>(())
    });
    intake.spawn(format!("{name} reload"), async move {
        script.reload(asked, stop).await;
        Ok::<(), SourceError>(())
    });
}

/// Where the instance is kept.
const INSTANCE: &str = "instance";

/// What tells this agent from others of its role on its host: drawn at the first start, the same from then on.
async fn instance(store: &Store) -> String {
    let stored = store.checkpoint(INSTANCE).await.ok().flatten();
    if let Some(known) = stored.and_then(|known| String::from_utf8(known).ok()) {
        return known;
    }
    let drawn = Uuid::new_v4().simple().to_string();
    let instance = drawn.get(..INSTANCE_CHARS).unwrap_or(&drawn).to_owned();
    let value = Some(instance.clone().into_bytes());
    let checkpoints = vec![Checkpoint { key: INSTANCE.to_owned(), value }];
    if let Err(error) = store.commit(Commit { checkpoints, ..Commit::default() }).await {
        // Good for this run; relays take the next one for its next life.
        tracing::warn!(%error, "the name of this instance cannot be stored");
    }
    instance
}

/// On a disk that does not let the store be opened now the agent starts all the same: traffic passes, sources wait or
/// refuse, and the opening is tried again until it is done.
async fn open_store(options: StoreOptions) -> Result<Store, AgentError> {
    let path = options.path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        if let Some(folder) = options.path.parent()
            && let Err(source) = std::fs::create_dir_all(folder)
            && !may_pass(&source)
        {
            return Err(AgentError::Folder { path: folder.to_owned(), source });
        }
        Store::open_when_possible(options).map_err(AgentError::from)
    });
    let opened = opened.await.map_err(|error| AgentError::StoreFailed(error.to_string()))??;
    for notice in &opened.notices {
        if notice.is_loss() {
            tracing::error!(path = %path.display(), "{notice}");
        } else {
            tracing::warn!(path = %path.display(), "{notice}");
        }
    }
    Ok(opened.store)
}

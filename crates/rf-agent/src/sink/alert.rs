//! `alert` sink of a player: events become rows, and too many bad ones, or none at all, are told to a notification sink.
//!
//! Exactly once: rows, the state of every table and the notices that follow from them are one transaction; a notice is
//! handed to the other sink's queue under an id that the queue knows. See `table`.

mod alert_api;
mod alerts;
mod config;
mod outbox;
mod scope;
mod scripts;
mod silence;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use futures_util::future::{BoxFuture, Fuse, FusedFuture, FutureExt};
use rf_core::config::{Node, Problems, schema_of};
use schemars::Schema;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::config::AlertSinkConfig;
use self::outbox::Waiting;
use self::scope::Scope;
use self::state::State;
use super::table::database::{self, Database};
use super::table::identifier::Identifier;
use super::{Shape, Sink, SinkBatch, SinkContext, SinkError, SinkHost, SinkStartError};
use crate::pipeline::{Batch, Output, Rejected};
use crate::settings::{Port, at};

/// Pause between two looks at the time: no alarm comes later by more.
const TICK: Duration = Duration::from_millis(500);

/// JSON Schema of [`AlertSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<AlertSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: AlertSinkConfig = params.decode(problems)?;
    let target = config.notification_sink.as_str();
    if target == context.name || (!target.is_empty() && !context.sinks.contains(&target)) {
        let known: Vec<&str> =
            context.sinks.iter().copied().filter(|sink| *sink != context.name).collect();
        let known = match known.as_slice() {
            [] => "there is no other sink".to_owned(),
            known => format!("known: {}", known.join(", ")),
        };
        problems.error(
            &at(params, "notification_sink"),
            format!("no other sink has the name `{target}`; {known}"),
        );
    }
    let tables_at = at(params, "scripts");
    check_tables(config.scripts.keys(), &tables_at, problems);
    let mut paths = BTreeMap::new();
    for (table, entry) in &config.scripts {
        let node = at(&tables_at, table);
        entry.check(&node, problems);
        let first = config.scripts.keys().find(|other| other.eq_ignore_ascii_case(table));
        if let Some(path) = entry.script_path.as_ref().filter(|_| first == Some(table)) {
            let path = context.data_dir.join(path);
            let script_at = at(&node, "scriptPath");
            match scripts::load(path.clone()) {
                Ok(_works) => {
                    for warning in scripts::warnings(&path) {
                        problems.warn(&script_at, warning);
                    }
                    paths.insert(table.to_ascii_lowercase(), path);
                }
                Err(reason) => problems.error(&script_at, reason),
            }
        }
    }
    let database = Database::new(context, &config.database, config.max_bytes);
    Some(Arc::new(AlertSink {
        config: Arc::new(config),
        paths,
        shape: database::shape(),
        database,
        output: OnceLock::new(),
        written: Notify::new(),
        reload: OnceLock::new(),
    }))
}

/// Reports names that no table can have, and two entries for one table, of which the first counts.
fn check_tables<'a>(
    tables: impl Iterator<Item = &'a String>,
    tables_at: &Node<'_>,
    problems: &mut Problems,
) {
    let mut named: Vec<Identifier> = Vec::new();
    for table in tables {
        let node = at(tables_at, table);
        let name = match Identifier::table(table) {
            Ok(name) => name,
            Err(error) => {
                problems.error(&node, error.to_string());
                continue;
            }
        };
        if let Some(other) = named.iter().find(|other| **other == name) {
            let other = other.as_str();
            let text = format!(
                "`{other}` and `{table}` are one table, since case does not matter: only the entry `{other}` counts"
            );
            problems.warn(&node, text);
        }
        named.push(name);
    }
}

struct AlertSink {
    config: Arc<AlertSinkConfig>,
    /// Scripts by table, in lower case.
    paths: BTreeMap<String, PathBuf>,
    shape: Shape,
    database: Database<State>,
    /// The notification sink's queue.
    output: OnceLock<Output>,
    /// Wakes the one who hands notices over.
    written: Notify,
    /// Changes when the scripts are to be loaded anew.
    reload: OnceLock<watch::Receiver<u64>>,
}

impl Sink for AlertSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.database.path().to_owned())
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        if let Some(output) = host.output(&self.config.notification_sink) {
            self.output.get_or_init(|| output);
        }
        let scope = Scope::of(&self.database.name);
        let (config, paths) = (Arc::clone(&self.config), self.paths.clone());
        Box::pin(self.database.start(move |path| State::open(path, &scope, &config, &paths)))
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.database.write(batch).await?;
            self.written.notify_one();
            Ok(())
        })
    }

    fn prepare(&self, batch: &SinkBatch) {
        self.database.prepare(batch);
    }

    fn reload_on(&self, asked: watch::Receiver<u64>) {
        self.reload.get_or_init(|| asked);
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let retained = self.database.retain(self.config.row_ttl_sec, &stop, State::remove_old);
            tokio::join!(self.watch(&stop), self.reload_scripts(&stop), retained);
        })
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        Some(alert_api::router(self))
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.config.exposed_port.map(|Port(port)| (self.config.listen_addr.clone(), port))
    }
}

impl AlertSink {
    /// Lets time pass and hands notices over beside that, until `stop`: a notification sink whose full queue blocks holds
    /// back neither. What waits then is handed over after the next start, also what was just on its way.
    async fn watch(&self, stop: &CancellationToken) {
        let mut handing_over = pin!(Fuse::terminated());
        while !stop.is_cancelled() {
            match self.database.call(State::tick).await {
                Ok(Ok(waiting)) => {
                    if handing_over.is_terminated() {
                        handing_over.set(self.hand_over(waiting).fuse());
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(sink = self.database.name, %error, "alarms cannot be stored, trying again");
                }
                Err(error) => {
                    tracing::warn!(sink = self.database.name, %error, "alarms cannot be evaluated, trying again");
                }
            }
            let handed_over = async {
                handing_over.as_mut().await;
                // What it left waits for the next look, so that a refusal is not answered with one try after the other.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.written.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                () = handed_over => {}
            }
        }
    }

    /// Loads the scripts anew whenever that is asked, until `stop`.
    async fn reload_scripts(&self, stop: &CancellationToken) {
        let Some(mut asked) = self.reload.get().cloned() else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = asked.changed() => if changed.is_err() { return },
            }
            let name = self.database.name.clone();
            if let Err(error) = self.database.call(move |state| state.reload(&name)).await {
                tracing::error!(sink = self.database.name, %error, "scripts cannot be reloaded");
            }
        }
    }

    /// Puts notices into the other sink's queue, oldest first, as far as it takes them. May be dropped at any time: a notice
    /// that the queue has by then is passed over when it comes again.
    async fn hand_over(&self, waiting: Vec<Waiting>) {
        let Some(output) = self.output.get() else { return };
        for Waiting { seq, id, content } in waiting {
            let id = format!("alert:{}:{id}", self.database.name);
            match output.send_once(id, Batch::of(vec![content])).await {
                Ok(()) => {}
                Err(error @ Rejected::TooLarge { .. }) => {
                    tracing::error!(sink = self.database.name, %error, "notice dropped, it can never fit into the queue of the notification sink");
                }
                Err(error) => {
                    tracing::warn!(sink = self.database.name, %error, "notice cannot be handed over, trying again");
                    return;
                }
            }
            let removed = self.database.call(move |state| state.handed_over(seq)).await;
            if !matches!(removed, Ok(Ok(()))) {
                // It is handed over again under the same id, and the queue passes it over.
                tracing::warn!(
                    sink = self.database.name,
                    "notice handed over but not removed; it is handed over again under the same id"
                );
                return;
            }
        }
    }
}

//! `db` sink of a player: JSON objects become rows of a SQLite database that is served for queries.
//!
//! Exactly once: a batch is one transaction, and a repeat of it changes nothing. See `table`.

mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::table::api_error::ApiError;
use super::table::listener::Port;
use super::table::reader::Reader;
use super::table::writer::Writer;
use super::table::{api, retention, row_api};
use super::{RateLimits, Shape, Sink, SinkBatch, SinkContext, SinkError, SinkHost, SinkStartError};
use crate::server::files::StaticFolder;
use crate::settings::at;
use state::State;

/// `params` of a `db` sink; the keys are spelled as in the original.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct DbSinkConfig {
    /// Path of the SQLite database; relative paths begin in `dataDir`.
    pub database: PathBuf,
    /// Rows that were not written for so many seconds are removed; 0: never.
    #[serde(default)]
    pub row_ttl_sec: u64,
    /// The database's file may grow to this; then writing pauses, and events wait in the sink's queue. None: no bound.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// Port of a listener of the sink's own for its queries; none: the player's server only.
    #[serde(default)]
    listen_port: Option<Port>,
    /// Address of that listener.
    #[serde(default = "localhost")]
    pub listen_host: String,
    /// Folder whose files are served below `static/`; none: no files.
    #[serde(default)]
    pub static_dir: Option<PathBuf>,
}

fn localhost() -> String {
    "localhost".to_owned()
}

/// JSON Schema of [`DbSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<DbSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: DbSinkConfig = params.decode(problems)?;
    let folder = config.static_dir.as_ref().map(|folder| {
        StaticFolder::open(&context.data_dir.join(folder)).map_err(|error| {
            problems.error(&at(params, "static_dir"), format!("{}: {error}", folder.display()));
        })
    });
    let folder = folder.transpose().ok()?;
    Some(Arc::new(DbSink::new(context, config, folder)))
}

/// How the sinks with tables are fed: one batch after the other, each repeated as it was, for as long as it takes.
pub(super) fn table_shape() -> Shape {
    Shape {
        max_events: 1000,
        goal_bytes: 4 * 1024 * 1024,
        max_event_bytes: usize::MAX,
        concurrency: 1,
        stable: true,
        max_attempts: None,
        max_age: None,
        backoff: (Duration::from_millis(200), Duration::from_secs(60)),
        rate: RateLimits::default(),
    }
}

/// The files below `static/`.
fn static_files(folder: StaticFolder) -> Router {
    Router::new().fallback(async move |request: Request| {
        let (head, _) = request.into_parts();
        match folder.serve(head.uri.path(), &head).await {
            Some(response) => response,
            None => ApiError::NotFound("no such file".to_owned()).into_response(),
        }
    })
}

struct DbSink {
    name: String,
    path: PathBuf,
    config: DbSinkConfig,
    shape: Shape,
    reader: Arc<Reader>,
    writer: OnceLock<Writer<State>>,
    folder: Option<StaticFolder>,
}

impl DbSink {
    fn new(context: &SinkContext<'_>, config: DbSinkConfig, folder: Option<StaticFolder>) -> Self {
        let path = context.data_dir.join(&config.database);
        Self {
            name: context.name.to_owned(),
            reader: Reader::new(path.clone()),
            path,
            config,
            shape: table_shape(),
            writer: OnceLock::new(),
            folder,
        }
    }
}

impl Sink for DbSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn start<'a>(&'a self, _host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        Box::pin(async move {
            let (path, max_bytes) = (self.path.clone(), self.config.max_bytes.map(ByteSize::bytes));
            let open = move || State::open(&path, max_bytes);
            let started = Writer::start(self.name.clone(), open).await;
            let writer =
                started.map_err(|reason| SinkStartError { name: self.name.clone(), reason })?;
            self.writer.get_or_init(|| writer);
            Ok(())
        })
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let writer = self.writer.get().expect("a sink is started before it is written to");
            let (batch, name) = (batch.clone(), self.name.clone());
            let written = writer.call(move |state| state.write(&name, &batch)).await;
            let ignored = written
                .map_err(|error| SinkError::Retry { reason: error.to_string(), after: None })??;
            if ignored > 0 {
                tracing::warn!(
                    sink = self.name,
                    ignored,
                    "only POST, PUT and DELETE say something to a database"
                );
            }
            Ok(())
        })
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let row_ttl = Duration::from_secs(self.config.row_ttl_sec);
            if let (Some(writer), false) = (self.writer.get(), row_ttl.is_zero()) {
                retention::run(writer, &self.name, row_ttl, &stop, State::remove_old).await;
            }
        })
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        let router = row_api::router(Arc::clone(&self.reader));
        let router = match &self.folder {
            Some(folder) => router.nest_service("/static", static_files(folder.clone())),
            None => router,
        };
        Some(router.fallback(api::no_such_path))
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.config.listen_port.map(|Port(port)| (self.config.listen_host.clone(), port))
    }
}

//! `db` sink of a player: JSON objects become rows of a SQLite database that is served for queries.
//!
//! Exactly once: a batch is one transaction, and a repeat of it changes nothing. See `table`.

mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::table::api_error::ApiError;
use super::table::database::{self, Database};
use super::table::listener::Port;
use super::table::{api, row_api};
use super::{Shape, Sink, SinkBatch, SinkContext, SinkError, SinkHost, SinkStartError};
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
    let database = Database::new(context, &config.database);
    Some(Arc::new(DbSink { config, shape: database::shape(), database, folder }))
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
    config: DbSinkConfig,
    shape: Shape,
    database: Database<State>,
    folder: Option<StaticFolder>,
}

impl Sink for DbSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn start<'a>(&'a self, _host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        let max_bytes = self.config.max_bytes.map(ByteSize::bytes);
        Box::pin(self.database.start(move |path| State::open(path, max_bytes)))
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.database.write(batch))
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.database.retain(self.config.row_ttl_sec, &stop, State::remove_old).await;
        })
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        let router = row_api::router(Arc::clone(&self.database.reader));
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

//! `db` sink of a player: JSON objects become rows of a SQLite database that is served for queries.
//!
//! Exactly once: a batch is one transaction, and a repeat of it changes nothing. See `table`.

mod state;
#[cfg(test)]
pub(super) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::table::api_error::ApiError;
use super::table::database::{self, Database};
use super::table::defaults::localhost;
use super::table::row_api;
use super::table::table_sink::TableSink;
use super::{Sink, SinkContext};
use crate::server::files::StaticFolder;
use crate::server::refused::method_not_allowed;
use crate::settings::{Port, at};
use state::State;

/// `params` of a `db` sink; the keys are spelled as in the original.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) struct DbSinkConfig {
    /// Path of the SQLite database; relative paths begin in `dataDir`.
    pub(crate) database: PathBuf,
    /// Rows that were not written for so many seconds are removed; 0: never.
    #[serde(default)]
    pub(crate) row_ttl_sec: u64,
    /// The database's file may grow to this; then writing pauses, and events wait in the sink's queue. None: no bound.
    #[serde(default)]
    pub(crate) max_bytes: Option<ByteSize>,
    /// Port of a listener of the sink's own for its queries; none: the player's server only.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    listen_port: Option<Port>,
    /// Address of that listener.
    #[serde(default = "localhost")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) listen_host: String,
    /// Folder whose files are served below `static/`; relative paths begin in `dataDir`. None: no files.
    #[serde(default)]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) static_dir: Option<PathBuf>,
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
    let folder = match &config.static_dir {
        Some(folder) => {
            let place = at(params, "static_dir");
            let folder = context.data_dir.join(folder);
            StaticFolder::configured(&folder, context.data_dir, &place, problems)?
        }
        None => None,
    };
    let database: Database<State> = Database::new(context, &config.database, config.max_bytes);
    let router = row_api::router(Arc::clone(&database.reader));
    let (router, files) = match folder {
        Some(folder) => (router.nest_service("/static", static_files(folder)), ", static/PATH"),
        None => (router, ""),
    };
    let router = router
        .fallback(async move || no_such_path(files))
        .method_not_allowed_fallback(method_not_allowed);
    Some(Arc::new(TableSink {
        database,
        shape: database::shape(),
        row_ttl_sec: config.row_ttl_sec,
        listener: config.listen_port.map(|Port(port)| (config.listen_host, port)),
        router,
    }))
}

/// What is answered where no endpoint is; `files` names the one of the files, where there are any.
fn no_such_path(files: &str) -> ApiError {
    ApiError::NotFound(format!("no such path; there are {}{files}", row_api::PATHS))
}

/// The files below `static/`.
fn static_files(folder: StaticFolder) -> Router {
    let files: MethodRouter = get(async move |request: Request| {
        let (head, _) = request.into_parts();
        match folder.serve(head.uri.path(), &head).await {
            Some(response) => response,
            None => ApiError::NotFound("no such file".to_owned()).into_response(),
        }
    });
    Router::new().fallback_service(files.fallback(method_not_allowed))
}

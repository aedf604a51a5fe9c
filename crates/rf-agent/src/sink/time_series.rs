//! `time_series` sink of a player: points become series, put together over intervals, and served for charts.
//!
//! Exactly once: a batch is one transaction, and a point that comes twice counts once. See `table`.

mod bucket;
mod delta;
mod name;
mod point;
mod range;
mod series;
mod series_api;
mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::state::State;
use super::table::database::{self, Database};
use super::table::listener::Port;
use super::{Shape, Sink, SinkBatch, SinkContext, SinkError, SinkHost, SinkStartError};

/// `params` of a `time_series` sink; the keys are spelled as in the original.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct TimeSeriesSinkConfig {
    /// Path of the SQLite database; relative paths begin in `dataDir`.
    pub database: PathBuf,
    /// Rows so many seconds older than the newest of their table are removed; 0: never.
    #[serde(default = "day")]
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
}

fn localhost() -> String {
    "localhost".to_owned()
}

fn day() -> u64 {
    24 * 3600
}

/// JSON Schema of [`TimeSeriesSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<TimeSeriesSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: TimeSeriesSinkConfig = params.decode(problems)?;
    let database = Database::new(context, &config.database);
    Some(Arc::new(TimeSeriesSink { config, shape: database::shape(), database }))
}

struct TimeSeriesSink {
    config: TimeSeriesSinkConfig,
    shape: Shape,
    database: Database<State>,
}

impl Sink for TimeSeriesSink {
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
        Some(series_api::router(Arc::clone(&self.database.reader)))
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.config.listen_port.map(|Port(port)| (self.config.listen_host.clone(), port))
    }
}

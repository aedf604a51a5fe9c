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
pub(super) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use rf_core::config::{ByteSize, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use self::state::State;
use super::table::database::{self, Database};
use super::table::defaults::localhost;
use super::table::table_sink::TableSink;
use super::{Sink, SinkContext};
use crate::settings::Port;

/// `params` of a `time_series` sink; the keys are spelled as in the original.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) struct TimeSeriesSinkConfig {
    /// Path of the SQLite database; relative paths begin in `dataDir`.
    pub(crate) database: PathBuf,
    /// Rows so many seconds older than the newest of their table are removed; 0: never.
    #[serde(default = "day")]
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
    let database: Database<State> = Database::new(context, &config.database, config.max_bytes);
    Some(Arc::new(TableSink {
        shape: database::shape(),
        row_ttl_sec: config.row_ttl_sec,
        listener: config.listen_port.map(|Port(port)| (config.listen_host, port)),
        router: series_api::router(Arc::clone(&database.reader)),
        database,
    }))
}

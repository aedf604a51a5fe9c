//! A sink that is a database, its queries and nothing else: what `db` and `time_series` are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::database::{Database, State};
use super::failure::OpenError;
use super::retention::Step;
use crate::sink::{Shape, Sink, SinkBatch, SinkError, SinkHost, SinkStartError};

/// What such a sink's writer thread owns.
pub(crate) trait Tables: State + Sized {
    /// Opens the database. `max_bytes` bounds its file.
    ///
    /// # Errors
    /// What stands in the way, naming the file.
    fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, OpenError>;

    /// One step of retention.
    ///
    /// # Errors
    /// What the database says.
    fn remove_old(&mut self, row_ttl: Duration) -> rusqlite::Result<Step>;
}

/// The sink.
pub(crate) struct TableSink<S: State> {
    pub(crate) database: Database<S>,
    pub(crate) shape: Shape,
    /// Life of a row in seconds; 0: without end.
    pub(crate) row_ttl_sec: u64,
    /// Address and port of its own.
    pub(crate) listener: Option<(String, u16)>,
    /// Its queries.
    pub(crate) router: Router,
}

impl<S: Tables> Sink for TableSink<S> {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.database.path().to_owned())
    }

    fn start<'a>(&'a self, _host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        let max_bytes = self.database.max_bytes();
        Box::pin(self.database.start(move |path| S::open(path, max_bytes)))
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.database.write(batch))
    }

    fn prepare(&self, batch: &SinkBatch) {
        self.database.prepare(batch);
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.database.retain(self.row_ttl_sec, &stop, S::remove_old).await })
    }

    fn api(self: Arc<Self>) -> Option<Router> {
        Some(self.router.clone())
    }

    fn own_listener(&self) -> Option<(String, u16)> {
        self.listener.clone()
    }
}

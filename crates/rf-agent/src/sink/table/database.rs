//! The database of a sink: the thread that writes to it, and the queries that read it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::config::ByteSize;
use rf_queue::{FileNumber, file_number, is_at};
use tokio_util::sync::CancellationToken;

use super::batch::Reading;
use super::call::{Body, Call};
use super::failure::{OpenError, WriteError};
use super::reader::Reader;
use super::retention::{self, Step};
use super::writer::{NotDone, Writer};
use crate::sink::prepared::Prepared;
use crate::sink::{
    Batching, Overlap, Shape, SinkBatch, SinkContext, SinkError, SinkStartError, Writes,
};

/// What the writer thread owns.
pub(crate) trait State: 'static {
    /// What is read of a body.
    type Body: Body;

    /// Writes a batch in one transaction, each of its events once.
    fn write(&mut self, reading: Reading<'_, Self::Body>) -> Result<(), WriteError>;
}

/// A sink's database.
pub(crate) struct Database<S: State> {
    /// The sink's name.
    pub(crate) name: String,
    /// Its queries.
    pub(crate) reader: Arc<Reader>,
    path: PathBuf,
    /// Bound of its file.
    max_bytes: Option<u64>,
    /// The file that the writer has open.
    opened: Arc<Mutex<Option<FileNumber>>>,
    writer: OnceLock<Writer<S>>,
    /// Reads its events.
    prepared: Prepared<Result<Vec<Call<S::Body>>, WriteError>>,
}

/// A batch is closed at so many bytes.
const GOAL_BYTES: usize = 4 * 1024 * 1024;

/// How the sinks with tables are fed: one batch after the other, each repeated as it was, for as long as it takes.
pub(crate) fn shape() -> Shape {
    Shape::of(Writes::Batches(Batching {
        max_events: 1000,
        goal_bytes: GOAL_BYTES,
        event_limit: None,
        linger: Duration::ZERO,
        overlap: Overlap::Ahead,
    }))
}

impl<S: State> Database<S> {
    /// The database at a path of the configuration, whose file may grow to `max_bytes`; nothing is opened yet.
    pub(crate) fn new(context: &SinkContext<'_>, path: &Path, max_bytes: Option<ByteSize>) -> Self {
        let path = context.data_dir.join(path);
        Self {
            name: context.name.to_owned(),
            reader: Reader::new(path.clone()),
            path,
            max_bytes: max_bytes.map(ByteSize::bytes),
            opened: Arc::default(),
            writer: OnceLock::new(),
            prepared: Prepared::new(1, GOAL_BYTES),
        }
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bound of its file.
    pub(crate) fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// Starts the writer thread, and opens the database there: now, or later where the disk does not let it now.
    ///
    /// # Errors
    /// What `open` says that will not pass by itself.
    pub(crate) async fn start(
        &self,
        open: impl Fn(&Path) -> Result<S, OpenError> + Send + 'static,
    ) -> Result<(), SinkStartError> {
        let (path, opened) = (self.path.clone(), Arc::clone(&self.opened));
        let open = move || {
            let state = open(&path)?;
            *opened.lock() = file_number(&path);
            Ok(state)
        };
        let writer = Writer::start(self.name.clone(), open).await;
        let writer = writer.map_err(|reason| SinkStartError { name: self.name.clone(), reason })?;
        self.writer.get_or_init(|| writer);
        Ok(())
    }

    /// Reads the events of the next batch, while another one is written.
    pub(crate) fn prepare(&self, batch: &SinkBatch) {
        self.prepared.begin(batch, Call::read_all);
    }

    /// Has the thread write a batch.
    ///
    /// # Errors
    /// What it means for the batch that it was not written.
    pub(crate) async fn write(&self, batch: &SinkBatch) -> Result<(), SinkError> {
        let prepared = self.prepared.take(batch).await;
        let is_prepared = prepared.is_some();
        let (batch, name) = (batch.clone(), self.name.clone());
        let write = move |state: &mut S| {
            let calls = prepared.unwrap_or_else(|| Call::read_all(&batch.events))?;
            state.write(Reading { sink: &name, batch: &batch, calls: &calls })?;
            Ok::<_, WriteError>(is_prepared.then_some(calls))
        };
        let written = self.call(write).await?.map_err(|error| match error {
            full if full.is_full() => SinkError::Paused(self.room_wanted(&full)),
            other => other.into(),
        });
        if let Some(calls) = written? {
            // What another thread has read is freed by another one: it is thousands of pieces of memory, under a lock of the
            // allocator that who reads the next batch needs as well. The thread that writes would wait for it.
            drop(tokio::task::spawn_blocking(move || drop(calls)));
        }
        Ok(())
    }

    /// What a person is told of a file that has no room.
    fn room_wanted(&self, error: &WriteError) -> String {
        let path = self.path.display();
        match self.max_bytes {
            None => format!("{path}: {error}: make room on the disk, or set row_ttl_sec"),
            Some(most) => format!(
                "{path}: {error}, or the file has reached max_bytes ({most}): make room on the disk, raise max_bytes or set row_ttl_sec"
            ),
        }
    }

    /// Has the thread do something else.
    ///
    /// # Errors
    /// [`NotDone`].
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (path, opened) = (self.path.clone(), Arc::clone(&self.opened));
        let job = move |state: &mut S| {
            let file = *opened.lock();
            // What is written to a file that was removed is gone once it is closed, and nobody finds it in one that was moved.
            if file.is_some_and(|file| !is_at(&path, file)) {
                return Err(NotDone::Gone(path));
            }
            Ok(job(state))
        };
        self.writer().call(job).await?
    }

    /// Removes old rows, until `stop`; a life of zero is without end.
    pub(crate) async fn retain(
        &self,
        row_ttl_sec: u64,
        stop: &CancellationToken,
        step: fn(&mut S, Duration) -> rusqlite::Result<Step>,
    ) {
        let row_ttl = Duration::from_secs(row_ttl_sec);
        if !row_ttl.is_zero() {
            retention::run(self.writer(), &self.name, row_ttl, stop, step).await;
        }
    }

    fn writer(&self) -> &Writer<S> {
        self.writer.get().expect("a sink is started before it is used")
    }
}

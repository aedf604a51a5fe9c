//! `file` sink: appends events to files, exactly once.
//!
//! Promises, for a process that is killed at any point and with `fsync: batch` also for a loss of power:
//! - no event is torn, lost or doubled;
//! - a finished file appears under its name when it is whole, and so does its compressed form.
//!
//! How that is kept: the good length of every file that is being written, and up to which event that is, are stored with the
//! removal of the batch from the queue ([`Sink::progress`]), never after it. What stands behind the good length is cut at the
//! next start, and the batches behind it, a dozen at the most, are written again; events before it that come again are
//! passed over. A file is known to the database before its first byte is written, and again before it is renamed: whatever
//! a start finds is either known and whole, or cut, or empty, or not there.
//!
//! Batches are written while the removal of earlier ones is being stored, and a file may be begun or renamed meanwhile. So
//! what the sink stores by itself has a key of its own, and the newer of both counts (`Progress::version`).

mod config;
mod finished;
mod format;
mod render;
mod rotation;
mod spare;
#[cfg(test)]
pub(super) mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use rf_queue::Checkpoint;
use schemars::Schema;
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

pub(crate) use self::config::FileSinkConfig;
pub(crate) use self::finished::Compress;
pub(crate) use self::format::FileFormat;
pub(crate) use self::writer::Fsync;

use self::config::path_of;
use self::finished::Finished;
use self::render::Renderer;
use self::spare::Spare;
use self::writer::{Appended, Chunk, FileError, Progress, Tracked, Writer};
use super::prepared::Prepared;
use super::template::plain_name;
use super::{
    Batching, Overlap, READY_TOGETHER, Shape, Sink, SinkBatch, SinkContext, SinkError, SinkHost,
    SinkStartError, Writes, checkpoint,
};
use crate::pipeline::{Batch, Output};
use crate::settings::at;

const MAX_BATCH: usize = 2000;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Batches that one commit takes out of the queue while many wait: a commit is a second sync beside that of the file.
const REMOVED_TOGETHER: usize = 4;
/// How long a start waits for an earlier run to let go of the files.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_LOOK: Duration = Duration::from_millis(5);
/// The key, also where another sink makes its settings into ours.
const MAX_TOTAL_BYTES: &str = "maxTotalBytes";

/// JSON Schema of [`FileSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<FileSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: FileSinkConfig = params.decode(problems)?;
    let keys = Keys { path: "path", rotate_bytes: "rotateBytes" };
    of_config(context, config, &keys, params, problems)
}

/// What the `params` of a sink call what is checked here.
pub(super) struct Keys {
    pub(super) path: &'static str,
    pub(super) rotate_bytes: &'static str,
}

/// As [`build`], for settings that another sink has made of its own keys.
pub(super) fn of_config(
    context: &SinkContext<'_>,
    config: FileSinkConfig,
    keys: &Keys,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let Keys { path, rotate_bytes: rotate } = keys;
    let path = path_of(&config.path, context.data_dir)
        .map_err(|reason| problems.error(&at(params, path), reason))
        .ok()?;
    let rotate_bytes = config.rotate_bytes.bytes();
    if rotate_bytes == 0 {
        problems.error(&at(params, rotate), "expected a size above zero");
        return None;
    }
    let max_total = config.max_total_bytes.map(ByteSize::bytes).filter(|bytes| *bytes > 0);
    if let Some(most) = max_total.filter(|most| *most < rotate_bytes) {
        let least = format!("{rotate} ({rotate_bytes} bytes): only finished files are removed");
        let text = if params.get(MAX_TOTAL_BYTES).is_some() {
            format!("expected at least {least}")
        } else {
            format!(
                "{MAX_TOTAL_BYTES} is {} by default and must be at least {least}",
                ByteSize::new(most)
            )
        };
        problems.error(&at(params, MAX_TOTAL_BYTES), text);
        return None;
    }
    Some(Arc::new(FileSink {
        name: context.name.to_owned(),
        data_dir: context.data_dir.to_owned(),
        renderer: Arc::new(Renderer {
            path,
            format: config.format,
            spare: Spare::new(READY_TOGETHER + 1, 2 * BATCH_BYTES),
        }),
        prepared: Prepared::new(READY_TOGETHER, BATCH_BYTES),
        max_total,
        shape: Shape::of(Writes::Batches(Batching {
            max_events: MAX_BATCH,
            goal_bytes: BATCH_BYTES,
            event_limit: None,
            linger: Duration::ZERO,
            overlap: Overlap::RemovedTogether(REMOVED_TOGETHER),
        })),
        config,
        own_queue: OnceLock::new(),
        opened: OnceCell::new(),
        progress: Mutex::default(),
        versions: AtomicU64::new(0),
        work: Notify::new(),
    }))
}

struct FileSink {
    name: String,
    data_dir: PathBuf,
    /// What its events look like in which files.
    renderer: Arc<Renderer>,
    /// The next batches as they are to stand in their files.
    prepared: Prepared<Result<Vec<Chunk>, String>>,
    max_total: Option<u64>,
    shape: Shape,
    config: FileSinkConfig,
    /// Set at the start.
    own_queue: OnceLock<Output>,
    /// Not yet where the disk refused it at the start.
    opened: OnceCell<Opened>,
    /// What is whole; written by [`Sink::write`] alone, of which one runs at a time.
    progress: Mutex<Progress>,
    /// The newest version of it.
    versions: AtomicU64,
    /// There may be finished files to compress or remove.
    work: Notify,
}

struct Opened {
    /// Locked on blocking threads only, by one call of [`Sink::write`] at a time.
    writer: Arc<Mutex<Writer>>,
    finished: Arc<Finished>,
    /// The files are what the progress says: not yet where the disk refused at the start.
    is_recovered: AtomicBool,
}

impl Sink for FileSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.data_dir.join(&self.config.path))
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        Box::pin(async move {
            self.open(host)
                .await
                .map_err(|reason| SinkStartError { name: self.name.clone(), reason })
        })
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let opened = self.opened().await?;
            let before = self.progress.lock().clone();
            let written = batch.events.partition_point(|event| event.id <= before.through);
            let fresh = &batch.events[written..];
            let Some(last) = fresh.last() else { return Ok(()) };
            let prepared = if written == 0 { self.prepared.take(batch).await } else { None };
            let chunks = prepared.unwrap_or_else(|| self.renderer.chunks(fresh));
            let chunks = chunks.map_err(SinkError::Permanent)?;
            self.append(opened, before, last.id, chunks).await
        })
    }

    fn prepare(&self, batch: &SinkBatch) {
        let renderer = Arc::clone(&self.renderer);
        self.prepared.begin(batch, move |events| renderer.chunks(events));
    }

    fn progress(&self) -> Option<Checkpoint> {
        let value = serde_json::to_vec(&*self.progress.lock());
        let value = value.expect("progress of texts and numbers is always JSON");
        Some(Checkpoint { key: self.key(), value: Some(value) })
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.work.notified() => {}
                }
                self.tidy(&stop).await;
            }
        })
    }
}

impl FileSink {
    fn key(&self) -> String {
        format!("file:{}", self.name)
    }

    /// Of what the sink stores by itself, between two batches.
    fn own_key(&self) -> String {
        format!("files-of:{}", self.name)
    }

    /// What was stored last.
    async fn stored(&self) -> Result<Progress, String> {
        let mut newest = Progress::default();
        for key in [self.key(), self.own_key()] {
            let stored = self.own_queue().checkpoint(&key).await;
            let stored = stored.map_err(|error| error.to_string())?;
            let consequence =
                "the last events written may be incomplete or duplicated in their file";
            let stored: Option<Progress> = stored
                .and_then(|stored| checkpoint::decode(&self.name, &key, &stored, consequence));
            newest = stored.filter(|stored| stored.version >= newest.version).unwrap_or(newest);
        }
        Ok(newest)
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn open(&self, host: &SinkHost) -> Result<(), String> {
        let own_queue = host.output(&self.name).ok_or("it has no queue")?;
        self.own_queue.set(own_queue).map_err(|_second| "it was started twice".to_owned())?;
        match self.opened().await {
            Ok(_opened) => {}
            Err(error @ SinkError::Paused(_)) => {
                tracing::error!(sink = self.name, %error, "the sink's files cannot be opened; its events wait until they can be");
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn own_queue(&self) -> &Output {
        self.own_queue.get().expect("a sink is started before it is used")
    }

    /// What writes the files, which are what the stored progress says of them. What the disk refuses is tried again with the
    /// next call.
    async fn opened(&self) -> Result<&Opened, SinkError> {
        let opened = self.opened.get_or_try_init(|| self.lock_and_list()).await?;
        self.recover(opened).await?;
        Ok(opened)
    }

    async fn lock_and_list(&self) -> Result<Opened, SinkError> {
        let beside =
            |ending: &str| self.data_dir.join(format!("file-{}.{ending}", plain_name(&self.name)));
        let writer = self.lock(beside("lock")).await?;
        let list = beside("finished");
        let finished = Finished::open(list.clone(), self.config.compress, self.max_total)
            .map_err(FileError::of(&list.to_string_lossy()))?;
        Ok(Opened { writer, finished: Arc::new(finished), is_recovered: AtomicBool::new(false) })
    }

    /// Makes the files what the stored progress says of them, once in a run.
    async fn recover(&self, opened: &Opened) -> Result<(), SinkError> {
        if opened.is_recovered.load(Ordering::Relaxed) {
            return Ok(());
        }
        let before = self.stored().await.map_err(|error| {
            SinkError::Paused(format!("the progress of the files cannot be read: {error}"))
        })?;
        self.versions.store(before.version, Ordering::Relaxed);
        let mut progress = before.clone();
        let (mut progress, notices) = on_writer(&opened.writer, move |writer| {
            let notices = writer.recover(&mut progress)?;
            Ok((progress, notices))
        })
        .await?;
        for notice in notices {
            tracing::warn!(sink = self.name, "{notice}");
        }
        if progress != before {
            let stored = self.store(&mut progress).await;
            stored.map_err(|error| SinkError::Paused(error.to_string()))?;
        }
        *self.progress.lock() = progress;
        opened.is_recovered.store(true, Ordering::Relaxed);
        // What an earlier run has finished may have to be compressed.
        self.work.notify_one();
        Ok(())
    }

    async fn lock(&self, lock: PathBuf) -> Result<Arc<Mutex<Writer>>, SinkError> {
        let begun = tokio::time::Instant::now();
        let path = lock.to_string_lossy();
        loop {
            let locked = Writer::lock(&self.data_dir, &lock, self.config.format, self.config.fsync);
            match locked.map_err(FileError::of(&path))? {
                Some(writer) => return Ok(Arc::new(Mutex::new(writer))),
                None if begun.elapsed() > LOCK_WAIT => {
                    let reason = format!("{path}: another process writes these files");
                    return Err(SinkError::Retry { reason, after: None });
                }
                None => tokio::time::sleep(LOCK_LOOK).await,
            }
        }
    }

    async fn append(
        &self,
        opened: &Opened,
        mut progress: Progress,
        through: u64,
        chunks: Vec<Chunk>,
    ) -> Result<(), SinkError> {
        let now = unix_ms();
        self.finish_due(opened, &mut progress, &chunks, now).await?;
        let known = progress.clone();
        let (looked, mut appended, mut chunks) = on_writer(&opened.writer, move |writer| {
            let looked = look(writer, &known, &chunks, now)?;
            let is_known = looked.is_empty();
            let appended = if is_known { writer.append(&known, &chunks)? } else { Vec::new() };
            Ok((looked, appended, chunks))
        })
        .await?;
        if !looked.is_empty() {
            progress.files.extend(looked);
            self.store(&mut progress).await?;
            *self.progress.lock() = progress.clone();
            let known = progress.clone();
            (appended, chunks) = on_writer(&opened.writer, move |writer| {
                let appended = writer.append(&known, &chunks)?;
                Ok((appended, chunks))
            })
            .await?;
        }
        for (chunk, Appended { good, tail }) in chunks.iter().zip(appended) {
            if let Some(tracked) = progress.files.get_mut(&chunk.path) {
                let tail = Some(tail);
                *tracked = Tracked { good, last_ms: now, tail, inode: None, ..*tracked };
            }
        }
        self.give_back(chunks);
        progress.through = through;
        progress.version = self.next_version();
        *self.progress.lock() = progress;
        self.check_total(opened);
        Ok(())
    }

    /// Keeps the memory of what is written for as long as more batches are ready.
    fn give_back(&self, written: Vec<Chunk>) {
        if self.prepared.is_empty() {
            self.renderer.spare.clear();
            return;
        }
        written.into_iter().for_each(|chunk| self.renderer.spare.give(chunk.bytes));
    }

    /// Stores it as the newest.
    async fn store(&self, progress: &mut Progress) -> Result<(), SinkError> {
        progress.version = self.next_version();
        let not_stored = |error: String| SinkError::Retry {
            reason: format!("the progress of the files was not stored: {error}"),
            after: None,
        };
        let value = serde_json::to_vec(progress).map_err(|error| not_stored(error.to_string()))?;
        let checkpoints = vec![Checkpoint { key: self.own_key(), value: Some(value) }];
        let stored = self.own_queue().send(Batch { events: Vec::new(), checkpoints }).await;
        stored.map_err(|error| not_stored(error.to_string()))
    }
}

/// Files of the batch that are not known yet, or are no longer what they were.
fn look(
    writer: &mut Writer,
    progress: &Progress,
    chunks: &[Chunk],
    now: u64,
) -> Result<Vec<(String, Tracked)>, FileError> {
    let mut found = Vec::new();
    for Chunk { path, .. } in chunks {
        if let Some(tracked) = writer.look(path, progress.files.get(path), now)? {
            found.push((path.clone(), tracked));
        }
    }
    Ok(found)
}

/// Works on the files, away from the async threads. Dropped before its end, the work is still done to its end, and the lock
/// of the files is held until then.
async fn on_writer<T: Send + 'static>(
    writer: &Arc<Mutex<Writer>>,
    work: impl FnOnce(&mut Writer) -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    let writer = Arc::clone(writer);
    let done = tokio::task::spawn_blocking(move || work(&mut writer.lock()));
    done.await.map_err(|error| SinkError::Retry { reason: error.to_string(), after: None })?
}

//! The loop: read a batch while the one before is being stored, wait when there is nothing to read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::record::{self, Record};
use super::settings::Settings;
use super::tailer::{Broken, Prepared, Tailer};
use super::watch::{News, Watcher};
use crate::pipeline::{Batch, Kept, Output, Rejected};
use crate::source::hand_over::BURIED;
use crate::source::{Source, SourceError};
use crate::stats::Loss;

/// Lines that come one by one are gathered for so long after a batch: a commit costs as much for one as for many.
const GATHER: Duration = Duration::from_millis(50);
/// Pauses between tries while a queue has no room, or the database fails.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Looking which files there are takes no more than one part in so many of the time.
const SCAN_SHARE: u32 = 50;

/// The source, before it runs.
pub(super) struct LogfileSource {
    settings: Arc<Settings>,
}

impl LogfileSource {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl Source for LogfileSource {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let reading = read(Arc::clone(&self.settings), &out);
            tokio::select! {
                // What is not stored is read again: a batch under way may be left alone at any point.
                () = stop.cancelled() => Ok(()),
                ended = reading => ended,
            }
        })
    }
}

/// The tailer between its uses; it is away while a blocking thread works with it.
struct Desk {
    settings: Arc<Settings>,
    tailer: Option<Tailer>,
    watcher: Watcher,
    next_scan: Instant,
}

async fn read(settings: Arc<Settings>, out: &Output) -> Result<(), SourceError> {
    let stored = load(&settings, out).await;
    let tailer = Tailer::new(Arc::clone(&settings), stored);
    let watcher = Watcher::new(&settings.id);
    let mut desk = Desk { settings, tailer: Some(tailer), watcher, next_scan: Instant::now() };
    let mut ready: Option<Prepared> = None;
    loop {
        let batch = match ready.take() {
            Some(batch) => batch,
            None => desk.prepare(true).await?,
        };
        if batch.is_empty() {
            if !batch.more {
                desk.wait(batch.due).await;
            }
            continue;
        }
        let more = batch.more;
        let stored = if more {
            let settings = Arc::clone(&desk.settings);
            let storing = store(&settings, out, &batch);
            let (stored, ahead) = tokio::join!(storing, desk.prepare(false));
            let ahead = ahead?;
            match stored {
                Stored::Yes => ready = Some(ahead),
                Stored::TooLarge => {
                    tracing::debug!(
                        source = settings.id,
                        events = batch.events.len(),
                        "batch does not fit into the queue, trying smaller ones"
                    );
                    desk.tailer()?.rewind(ahead);
                }
            }
            stored
        } else {
            store(&desk.settings, out, &batch).await
        };
        match stored {
            Stored::Yes => desk.tailer()?.committed(&batch),
            Stored::TooLarge => desk.tailer()?.rewind(batch),
        }
        if !more {
            sleep(GATHER).await;
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    /// More than one event, and they do not fit together.
    TooLarge,
}

/// Tries until the batch is stored; nothing else is read meanwhile but the batch after it.
async fn store(settings: &Settings, out: &Output, batch: &Prepared) -> Stored {
    let mut pause = FIRST_PAUSE;
    loop {
        let checkpoints = batch.records.iter();
        let checkpoints = checkpoints
            .map(|(key, record)| record::checkpoint(&settings.id, *key, record.as_ref()))
            .collect();
        match out.send_or_bury(Batch { events: batch.events.clone(), checkpoints }).await {
            Ok(Kept::Queued) => break,
            Ok(Kept::Buried) => {
                let files: Vec<_> =
                    batch.records.values().flatten().map(|record| record.path.display()).collect();
                let bytes = batch.events.first().map_or(0, Bytes::len);
                tracing::error!(source = settings.id, ?files, bytes, "{BURIED}");
                break;
            }
            Err(Rejected::TooLarge { .. }) => return Stored::TooLarge,
            Err(error) => {
                tracing::warn!(source = settings.id, %error, "lines cannot be stored now, reading is paused");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if batch.truncated > 0 {
        out.meter().cut(batch.truncated);
        tracing::warn!(
            source = settings.id,
            lines = batch.truncated,
            limit = settings.max_line,
            "lines longer than maxLineBytes were cut"
        );
    }
    for Broken { path, offset, reason } in &batch.broken {
        out.meter().losses.count(Loss::Damaged, 1);
        tracing::error!(source = settings.id, file = %path.display(), offset, reason, "compressed file cannot be decompressed to its end: what comes before the damage is sent, the rest is lost");
    }
    Stored::Yes
}

/// What the runs before have stored.
async fn load(settings: &Settings, out: &Output) -> Vec<(u64, Record)> {
    loop {
        match out.checkpoints(&record::prefix(&settings.id)).await {
            Ok(stored) => return record::parse(&settings.id, stored),
            Err(error) => {
                tracing::error!(source = settings.id, %error, "the checkpoints cannot be read, trying again");
            }
        }
        sleep(LONGEST_PAUSE).await;
    }
}

impl Desk {
    fn tailer(&mut self) -> Result<&mut Tailer, SourceError> {
        let id = &self.settings.id;
        self.tailer.as_mut().ok_or_else(|| SourceError {
            id: id.clone(),
            reason: "its files are in use".to_owned(),
        })
    }

    /// Reads the next batch on a blocking thread.
    async fn prepare(&mut self, settled: bool) -> Result<Prepared, SourceError> {
        let fail = |reason: String| SourceError { id: self.settings.id.clone(), reason };
        let Some(mut tailer) = self.tailer.take() else {
            return Err(fail("its files are in use".to_owned()));
        };
        let is_due = self.next_scan <= Instant::now();
        let work = move || {
            let began = Instant::now();
            let folders: Option<Vec<PathBuf>> = is_due.then(|| tailer.scan());
            let took = began.elapsed();
            let prepared = tailer.prepare(settled);
            (tailer, prepared, folders, took)
        };
        let worked = tokio::task::spawn_blocking(work).await;
        let (tailer, prepared, folders, took) = worked.map_err(|error| fail(error.to_string()))?;
        self.tailer = Some(tailer);
        if let Some(folders) = folders {
            let is_told_of = !self.watcher.watch(&folders);
            let pause = if is_told_of { self.settings.poll } else { Duration::ZERO };
            self.next_scan = Instant::now() + pause.max(took * SCAN_SHARE);
        }
        Ok(prepared)
    }

    /// Until there may be something to read.
    async fn wait(&mut self, due: Option<Duration>) {
        let until = due.map_or(self.next_scan, |due| self.next_scan.min(Instant::now() + due));
        let news = tokio::select! {
            () = sleep_until(until) => News::Content,
            news = self.watcher.news() => news,
        };
        if news == News::Names {
            self.next_scan = Instant::now();
        }
    }
}

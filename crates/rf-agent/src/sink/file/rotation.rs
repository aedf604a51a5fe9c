//! When files are finished, and what becomes of finished ones.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::config::check_names;
use super::finished::Active;
use super::writer::{Chunk, Progress, Tracked};
use super::{FileSink, Opened, on_writer};
use crate::sink::SinkError;

/// Files that are being written at the most, besides those of one batch: the one that was not written for the longest time
/// is finished.
const MAX_TRACKED: usize = 256;
/// A file whose path has times or fields is finished when it was not written for so long.
const IDLE_MS: u64 = 3600 * 1000;

impl FileSink {
    /// Renames the files that are due. Before that, the database knows what is whole in them; after it, that they are gone.
    pub(super) async fn finish_due(
        &self,
        opened: &Opened,
        progress: &mut Progress,
        chunks: &[Chunk],
        now: u64,
    ) -> Result<(), SinkError> {
        let due = self.due(progress, chunks, now);
        if due.is_empty() {
            return Ok(());
        }
        self.store(progress).await?;
        let stamp = Timestamp::from_millisecond(i64::try_from(now).unwrap_or_default());
        let stamp = stamp.unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string();
        let (finished, paths, known) =
            (Arc::clone(&opened.finished), due.clone(), progress.clone());
        on_writer(&opened.writer, move |writer| {
            writer.repair(&known)?;
            for path in &paths {
                let full = writer.full(path);
                // Earlier versions wrote names that no finished file can have: such a file stays as it is.
                if full.exists() && check_names(path).is_ok() {
                    finished.add(&full, &stamp, |to| writer.finish(path, to))?;
                }
            }
            Ok(())
        })
        .await?;
        progress.files.retain(|path, _| !due.contains(path));
        self.store(progress).await?;
        *self.progress.lock() = progress.clone();
        self.work.notify_one();
        Ok(())
    }

    fn due(&self, progress: &Progress, chunks: &[Chunk], now: u64) -> Vec<String> {
        let rotate_ms = self.config.rotate_after.map(|after| after.as_duration().as_millis());
        let adds = |path: &str| {
            chunks.iter().find(|chunk| chunk.path == path).map(|chunk| chunk.bytes.len() as u64)
        };
        let mut due = Vec::new();
        let mut idle = Vec::new();
        for (path, tracked) in progress.files.iter().filter(|(_, tracked)| tracked.good > 0) {
            let is_full = adds(path)
                .is_some_and(|added| tracked.good + added > self.config.rotate_bytes.bytes());
            let age = now.saturating_sub(tracked.since_ms);
            let is_old = rotate_ms.is_some_and(|most| u128::from(age) >= most);
            let silence = now.saturating_sub(tracked.last_ms);
            let is_idle = self.renderer.path.fixed().is_none() && silence > IDLE_MS;
            if is_full || is_old || (is_idle && adds(path).is_none()) {
                due.push(path.clone());
            } else if adds(path).is_none() {
                idle.push((tracked.last_ms, path));
            }
        }
        idle.sort_unstable();
        let over = (progress.files.len() - due.len()).saturating_sub(MAX_TRACKED);
        due.extend(idle.into_iter().take(over).map(|(_, path)| path.clone()));
        due
    }

    /// Has finished files removed where those that are being written have grown too large beside them.
    pub(super) fn check_total(&self, opened: &Opened) {
        let active = self.progress.lock().bytes();
        if opened.finished.is_above(active) {
            self.work.notify_one();
        }
    }

    fn active(&self) -> Active {
        let progress = self.progress.lock();
        let there = |(path, tracked): (&String, &Tracked)| (self.data_dir.join(path), tracked.good);
        Active { files: progress.files.iter().map(there).collect(), fsync: self.config.fsync }
    }

    /// Compresses and removes finished files.
    pub(super) async fn tidy(&self, stop: &CancellationToken) {
        let Some(opened) = self.opened.get() else { return };
        let active = self.active();
        let (finished, stopping) = (Arc::clone(&opened.finished), stop.clone());
        let tidied = tokio::task::spawn_blocking(move || finished.tidy(&active, &stopping)).await;
        match tidied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(sink = self.name, %error, "finished files were not compressed or removed");
            }
            Err(error) => {
                tracing::error!(sink = self.name, %error, "finished files were not compressed or removed");
            }
        }
        // A batch that was written meanwhile was held against what had been found before.
        self.check_total(opened);
    }
}

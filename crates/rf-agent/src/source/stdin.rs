//! `stdin`: each line of standard input is an event.
//!
//! Promise: a line is taken from memory only when it is stored; while a queue is full nothing more is read, so whoever
//! writes the pipe waits. At the end of the input the source ends; an agent without another source then delivers what it
//! has and ends, too.
//!
//! Standard input may be a terminal, a file or a pipe that others have open as well, so it is read on a thread of its own,
//! as it is.

#[cfg(test)]
pub(super) mod contract;

use std::io::{PipeReader, PipeWriter};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, schema_of};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::defaults::{default_max_line, root_path};
use super::hand_over::HandOver;
use super::local_event::line_event;
use super::{Listening, Source, SourceContext, SourceError};
use crate::lines::{Line, Splitter};
use crate::pipeline::Output;

/// How much is read at once. Up to three times as much is in memory: read, waiting, being stored.
const READ_BYTES: usize = 64 * 1024;

/// A process has one standard input; two sources would tear its lines.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// `params` of a `stdin` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StdinSourceConfig {
    /// Path of the events.
    #[serde(default = "root_path")]
    pub(crate) path: String,
    /// A longer line is cut here.
    #[serde(default = "default_max_line")]
    pub(crate) max_line_bytes: ByteSize,
}

/// JSON Schema of [`StdinSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<StdinSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: StdinSourceConfig = params.decode(problems)?;
    Some(Box::new(Stdin { id: context.id.to_owned(), config, has_input: false }))
}

struct Stdin {
    id: String,
    config: StdinSourceConfig,
    has_input: bool,
}

impl Drop for Stdin {
    fn drop(&mut self) {
        if self.has_input {
            IS_TAKEN.store(false, Ordering::Relaxed);
        }
    }
}

impl Source for Stdin {
    fn start(&mut self) -> Result<Vec<Listening>, SourceError> {
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            let reason = "another source already reads standard input".to_owned();
            return Err(SourceError { id: self.id.clone(), reason });
        }
        self.has_input = true;
        Ok(Vec::new())
    }

    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            self.read(&out, &stop).await.map_err(|error| SourceError {
                id: self.id.clone(),
                reason: format!("standard input cannot be read: {error}"),
            })
        })
    }
}

impl Stdin {
    async fn read(&self, out: &Output, stop: &CancellationToken) -> std::io::Result<()> {
        let (pieces, mut received) = mpsc::channel(1);
        // The thread ends when this end of the pipe is dropped, wherever this future ends.
        let (ended, end): (PipeReader, PipeWriter) = std::io::pipe()?;
        std::thread::Builder::new()
            .name("rf-stdin".to_owned())
            .spawn(move || read_stdin(&ended, &pieces))?;
        let mut splitter = Splitter::new(self.config.max_line_bytes.as_usize());
        let hand_over = HandOver::new(&self.id, out, stop).losing("lines");
        loop {
            let piece = tokio::select! {
                piece = received.recv() => piece,
                () = stop.cancelled() => break,
            };
            let Some(piece) = piece else {
                tracing::info!(source = self.id, "standard input has ended");
                let last = splitter.finish();
                self.store(last.into_iter().collect(), &hand_over).await;
                return Ok(());
            };
            self.store_all(&mut splitter, &piece?, &hand_over).await;
        }
        // What the thread has read already is stored as well; what is left of a line can only be sent as a piece.
        drop(end);
        while let Some(piece) = received.recv().await {
            self.store_all(&mut splitter, &piece?, &hand_over).await;
        }
        let last = splitter.finish().map(|line| Line { is_cut: true, ..line });
        self.store(last.into_iter().collect(), &hand_over).await;
        Ok(())
    }

    async fn store_all(&self, splitter: &mut Splitter, piece: &[u8], hand_over: &HandOver<'_>) {
        splitter.push(piece);
        loop {
            let lines = splitter.take();
            if lines.is_empty() {
                return;
            }
            self.store(lines, hand_over).await;
        }
    }

    async fn store(&self, lines: Vec<Line>, hand_over: &HandOver<'_>) {
        let events: Vec<Bytes> =
            lines.iter().map(|line| line_event(&self.config.path, line)).collect();
        if events.is_empty() {
            return;
        }
        hand_over.note_cut(&lines);
        // What is lost is told in the end.
        let _handed_over = hand_over.store(events).await;
    }
}

/// Reads until the end of the input, or until nobody wants more of it.
fn read_stdin(ended: &PipeReader, pieces: &mpsc::Sender<std::io::Result<Bytes>>) {
    let input = rustix::stdio::stdin();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut watched =
            [PollFd::new(&input, PollFlags::IN), PollFd::new(ended, PollFlags::empty())];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return report(pieces, error),
            Ok(_) if !watched[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        match rustix::io::read(input, &mut buffer[..]) {
            Ok(0) => return,
            Ok(count) => {
                let piece = Bytes::copy_from_slice(&buffer[..count]);
                if pieces.blocking_send(Ok(piece)).is_err() {
                    return;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return report(pieces, error),
        }
    }
}

fn report(pieces: &mpsc::Sender<std::io::Result<Bytes>>, error: Errno) {
    // When nobody listens any more the source has ended already.
    drop(pieces.blocking_send(Err(error.into())));
}

//! `exec`: a program of the user's own is the source. It writes an event a line, and is told of each when it is stored.
//!
//! Promise: `{"ack": ID}` is written only after the event is durable in every sink's queue; a program that keeps an event
//! until then loses none, and one that brings unacknowledged events again after a restart delivers each at least once.

mod protocol;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use rf_core::config::{ByteSize, Node, Problems, Secret, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::protocol::{Answer, Id, parse};
use super::defaults::{default_max_line, root_path};
use super::hand_over::{HandOver, HandedOver};
use super::keep_running::{Restarts, drain_stderr, read_until_end};
use super::{Source, SourceContext, SourceError};
use crate::child::{ChildCommand, CommandLine, Input};
use crate::lines::{Line, LineReader};
use crate::pipeline::Output;

/// A program that leaves so much of its answers unread is taken for stuck, and started again.
const MAX_UNREAD_BYTES: usize = 1024 * 1024;

/// `params` of an `exec` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExecSourceConfig {
    /// Program and arguments as a list; with `shell` a line for `/bin/sh`.
    pub(crate) command: CommandLine,
    /// `command` is a line for the shell.
    #[serde(default)]
    pub(crate) shell: bool,
    /// The folder that the program starts in; default: the agent's own.
    #[serde(default)]
    pub(crate) working_dir: Option<PathBuf>,
    /// Variables for the program, besides those of the agent.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Secret>,
    /// Path of events that name none.
    #[serde(default = "root_path")]
    pub(crate) path: String,
    /// A longer line is refused.
    #[serde(default = "default_max_line")]
    pub(crate) max_line_bytes: ByteSize,
}

/// JSON Schema of [`ExecSourceConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<ExecSourceConfig>()
}

/// Checks the configuration and makes the source.
pub(super) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let config: ExecSourceConfig = params.decode(problems)?;
    let ExecSourceConfig { command, working_dir, env, .. } = config;
    let child =
        ChildCommand { command, working_dir, env }.checked(config.shell, params, problems)?;
    Some(Box::new(ExecSource {
        id: context.id.to_owned(),
        child,
        path: config.path,
        max_line_bytes: config.max_line_bytes.as_usize(),
    }))
}

struct ExecSource {
    id: String,
    child: ChildCommand,
    path: String,
    max_line_bytes: usize,
}

impl Source for ExecSource {
    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let mut restarts = Restarts::new();
            loop {
                let started = Instant::now();
                let ended = self.live(&out, &stop).await;
                if !restarts.pause(&self.id, started, ended, &stop).await {
                    return Ok(());
                }
            }
        })
    }
}

/// Lines of one read, taken apart.
#[derive(Debug, Default)]
struct Taken {
    events: Vec<Bytes>,
    /// One for each event.
    ids: Vec<Option<Id>>,
    /// To lines that are no events.
    answers: Vec<Answer>,
}

impl ExecSource {
    async fn live(&self, out: &Output, stop: &CancellationToken) -> std::io::Result<i32> {
        let mut child = self.child.spawn(Input::Piped)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talking = async {
            tokio::join!(self.talk(stdin, stdout, out, stop), drain_stderr(&self.id, stderr)).0
        };
        self.child.ran(read_until_end(talking, &mut child, stop).await?)
    }

    /// Until the program closes its output and has its answers, or does not read them. It is heard while it stops, too.
    async fn talk(
        &self,
        stdin: Option<ChildStdin>,
        stdout: Option<ChildStdout>,
        out: &Output,
        stop: &CancellationToken,
    ) -> std::io::Result<()> {
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Ok(()) };
        let mut lines = LineReader::new(stdout, self.max_line_bytes);
        let hand_over = HandOver::new(&self.id, out, stop);
        // Answers wait here, and are written while lines are read: a program may write all it has before it reads any.
        let mut unread = BytesMut::new();
        let mut reads_answers = true;
        loop {
            // Both arms are cancel-safe: what was not read or written stays.
            tokio::select! {
                lines = lines.next() => {
                    let Some(lines) = lines? else { break };
                    let answers = self.store(&lines, &hand_over).await;
                    if reads_answers {
                        answers.iter().for_each(|answer| answer.write(&mut unread));
                    }
                }
                written = stdin.write(&unread), if !unread.is_empty() => match written {
                    Ok(count) => unread.advance(count),
                    // It does not want to hear; its events are taken all the same.
                    Err(_closed) => {
                        reads_answers = false;
                        unread.clear();
                    }
                },
            }
            if unread.len() > MAX_UNREAD_BYTES {
                return Err(std::io::Error::other("the program does not read its answers"));
            }
        }
        // It has said all, and may wait for what became of it. One that closes its input, or ends, does not want to hear.
        drop(stdin.write_all(&unread).await);
        Ok(())
    }

    /// Stores what the lines bring; the answers. Events that could not be stored before the stop have none.
    async fn store(&self, lines: &[Line], hand_over: &HandOver<'_>) -> Vec<Answer> {
        let Taken { events, ids, mut answers } = self.take(lines);
        if events.is_empty() {
            return answers;
        }
        match hand_over.store(events).await {
            HandedOver::Stored { refused } => {
                for (place, id) in ids.into_iter().enumerate() {
                    let Some(id) = id else { continue };
                    answers.push(if refused.contains(&place) {
                        Answer::refused(
                            Some(id),
                            "the event can never fit into the queue; it is kept as a dead letter",
                        )
                    } else {
                        Answer::Ack(id)
                    });
                }
            }
            HandedOver::Stopped(events) => {
                tracing::info!(
                    source = self.id,
                    events,
                    "events were not stored before the stop; the program gets no answer for them"
                );
            }
        }
        answers
    }

    fn take(&self, lines: &[Line]) -> Taken {
        let mut taken = Taken::default();
        for line in lines.iter().filter(|line| !line.bytes.is_empty()) {
            let parsed = if line.is_cut {
                let limit = self.max_line_bytes;
                Err((None, format!("the line is longer than maxLineBytes, {limit}")))
            } else {
                parse(&line.bytes, &self.path)
            };
            match parsed {
                Ok((id, event)) => {
                    taken.ids.push(id);
                    taken.events.push(event);
                }
                Err((id, reason)) => {
                    tracing::warn!(
                        source = self.id,
                        reason,
                        "a line printed by the program is not an event"
                    );
                    taken.answers.push(Answer::refused(id, reason));
                }
            }
        }
        taken
    }
}

#[cfg(test)]
pub(super) mod tests;

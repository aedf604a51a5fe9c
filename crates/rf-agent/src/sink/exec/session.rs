//! The lives of the program: events in, answers out.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use rf_core::backoff::Backoff;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::pending::{Answer, Pending, tell};
use crate::child::{Child, ChildCommand, Input};
use crate::lines::{Line, LineReader};
use crate::sink::SinkError;

/// First and longest pause before a program that has ended is started again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A program that has run for so long starts over with the first pause.
const STEADY: Duration = Duration::from_secs(60);
/// After the stop the program is kept for so long after the last event, since the queue is still being emptied.
const QUIET: Duration = Duration::from_millis(500);
/// But not for longer than this.
pub(super) const LAST_EVENTS: Duration = Duration::from_secs(6);
/// How long the output of a program that has ended may still be read.
const REST_OF_OUTPUT: Duration = Duration::from_secs(1);
/// An answer is longer than this only by mistake; the rest of the line is passed over.
const MAX_ANSWER_BYTES: usize = 4096;
const MAX_STDERR_LINE: usize = 4096;

/// An event for the program, and where its answer goes.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) line: Bytes,
    pub(super) answer: Answer,
}

/// What the lives have in common.
pub(super) struct Session<'a> {
    pub(super) name: &'a str,
    pub(super) child: &'a ChildCommand,
    pub(super) stop: &'a CancellationToken,
    /// A program that owes an answer and gives none for so long hangs.
    pub(super) timeout: Duration,
}

/// Why no more is said to the program.
enum Over {
    /// One side of it is closed, or the sink stops.
    Closed,
    /// It hangs.
    Silent,
}

impl Session<'_> {
    /// Until the stop, and the last events after it.
    pub(super) async fn go_on(&self, jobs: &mut mpsc::Receiver<Job>) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let ended = self.live(jobs).await;
            if self.stop.is_cancelled() {
                return;
            }
            if started.elapsed() >= STEADY {
                backoff.reset();
            }
            let pause = backoff.next_delay();
            // A number: lines that differ in nothing else are muted as the same.
            let pause_ms = pause.as_millis();
            let why = match ended {
                Ok(why) => {
                    tracing::warn!(
                        sink = self.name,
                        pause_ms,
                        "{why}, and is started again; LOG_LEVEL=debug shows its standard error"
                    );
                    why
                }
                Err(error) => {
                    tracing::warn!(sink = self.name, %error, pause_ms, "the program is started again");
                    error.to_string()
                }
            };
            self.rest(jobs, pause, &why).await;
        }
    }

    /// Until the next life begins, events are told that there is nobody.
    async fn rest(&self, jobs: &mut mpsc::Receiver<Job>, pause: Duration, why: &str) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.stop.cancelled() => {}
            () = turn_away(jobs, why) => {}
        }
    }

    /// One life of the program, until it ends; how it ended.
    async fn live(&self, jobs: &mut mpsc::Receiver<Job>) -> std::io::Result<String> {
        let mut child = self.child.spawn(Input::Piped)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(std::io::Error::other("the program has no standard input and output"));
        };
        // As many are waited for at a time as the channel has places.
        let mut pending = Pending::new(jobs.max_capacity());
        let mut answers = LineReader::new(stdout, MAX_ANSWER_BYTES);
        let exchange = async {
            let ended = tokio::select! {
                over = self.talk(jobs, stdin, &mut answers, &mut pending) => Err(over),
                code = child.wait() => Ok(code),
            };
            let hung = matches!(ended, Err(Over::Silent)).then(|| no_answer_within(self.timeout));
            if let Some(why) = &hung {
                pending.give_up(self.timeout, why);
            }
            let ending = async {
                match ended {
                    Ok(code) => code,
                    Err(_over) => tokio::select! {
                        code = end(&mut child) => code,
                        code = turn_away(jobs, "the program is ending") => code,
                    },
                }
            };
            let code = self.hear_out(ending, &mut answers, &mut pending).await;
            let ended = |code: i32| format!("the program ended with exit code {code}");
            let code = code.and_then(|code| self.child.ran(code));
            code.map(|code| hung.unwrap_or_else(|| ended(code)))
        };
        // Read until the end of the life, but no reason for it to go on.
        let draining = async {
            drain(self.name, stderr).await;
            std::future::pending::<std::io::Result<String>>().await
        };
        let how = tokio::select! {
            how = exchange => how,
            how = draining => how,
        };
        pending.tell_all(|| {
            let reason = "the program ended before it answered".to_owned();
            Err(SinkError::Retry { reason, after: None })
        });
        how
    }

    /// Takes the answers that the program gives while it ends, and those that it has left in its output; its exit code.
    async fn hear_out(
        &self,
        ending: impl Future<Output = std::io::Result<i32>>,
        answers: &mut LineReader<ChildStdout>,
        pending: &mut Pending,
    ) -> std::io::Result<i32> {
        let mut ending = pin!(ending);
        let code = loop {
            tokio::select! {
                code = &mut ending => break code,
                lines = answers.next() => match lines {
                    Ok(Some(lines)) => self.take(&lines, pending),
                    Ok(None) | Err(_) => return ending.await,
                },
            }
        };
        // Whoever else holds the output open, as what runs on as another user, is not waited for.
        let deadline = Instant::now() + REST_OF_OUTPUT;
        while !pending.is_empty()
            && let Ok(Ok(Some(lines))) = timeout_at(deadline, answers.next()).await
        {
            self.take(&lines, pending);
        }
        code
    }

    /// Hands events over and takes answers, until one side of the program is closed, it hangs, or the last events after the
    /// stop are answered. Returning closes the program's standard input.
    async fn talk(
        &self,
        jobs: &mut mpsc::Receiver<Job>,
        mut stdin: ChildStdin,
        answers: &mut LineReader<ChildStdout>,
        pending: &mut Pending,
    ) -> Over {
        // Written from here, so that a program that answers before it reads on does not block both sides.
        let mut unwritten = Bytes::new();
        let mut stopped_at = None;
        let mut last_event = Instant::now();
        loop {
            if self.stop.is_cancelled() {
                let stopped = *stopped_at.get_or_insert_with(Instant::now);
                let is_quiet = pending.is_empty() && last_event.elapsed() >= QUIET;
                if is_quiet || stopped.elapsed() >= LAST_EVENTS {
                    return Over::Closed;
                }
            }
            let hangs_at = pending.silent_since().map(|since| since + self.timeout);
            // Looked at here: whichever branch comes first below, no further event goes to a program that hangs.
            if hangs_at.is_some_and(|at| at <= Instant::now()) && stopped_at.is_none() {
                return Over::Silent;
            }
            tokio::select! {
                // Cancel-safe: what was written is known by what is left.
                written = stdin.write(&unwritten), if !unwritten.is_empty() => match written {
                    Ok(count) => drop(unwritten.split_to(count)),
                    Err(_broken_pipe) => return Over::Closed,
                },
                job = jobs.recv(), if unwritten.is_empty() => {
                    let Some(job) = job else { return Over::Closed };
                    last_event = Instant::now();
                    pending.insert(job.id, job.answer);
                    unwritten = job.line;
                }
                lines = answers.next() => match lines {
                    Ok(Some(lines)) => self.take(&lines, pending),
                    Ok(None) | Err(_) => return Over::Closed,
                },
                () = self.stop.cancelled(), if stopped_at.is_none() => {}
                () = sleep(QUIET), if stopped_at.is_some() => {}
                () = until(hangs_at), if stopped_at.is_none() => {}
            }
        }
    }

    fn take(&self, lines: &[Line], pending: &mut Pending) {
        lines.iter().for_each(|line| self.take_one(&line.text(), pending));
    }

    fn take_one(&self, line: &str, pending: &mut Pending) {
        let mut words = line.trim().splitn(3, ' ');
        let (word, id) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let reason = words.next().unwrap_or("the program gave no reason").to_owned();
        let outcome = match word {
            "ok" => Ok(()),
            "retry" => Err(SinkError::Retry { reason, after: None }),
            "reject" => Err(SinkError::Permanent(reason)),
            _ => {
                tracing::warn!(
                    sink = self.name,
                    "the program printed a line that is not an answer: expected ok, retry or reject and an id"
                );
                return;
            }
        };
        // An answer that comes too late is for nobody: the event was handed over again, under the same id.
        if let Ok(id) = id.parse() {
            pending.tell(id, outcome);
        }
    }
}

/// Tells events that there is nobody, for as long as it is polled: it never has a result.
async fn turn_away<T>(jobs: &mut mpsc::Receiver<Job>, why: &str) -> T {
    while let Some(job) = jobs.recv().await {
        tell(job.answer, Err(SinkError::Away(why.to_owned())));
    }
    std::future::pending().await
}

/// What becomes of an event that is not answered in time, and of a program that answers nothing.
pub(super) fn no_answer_within(timeout: Duration) -> String {
    format!("the program gave no answer within {timeout:?}")
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Its standard input is closed: a program that reads to the end ends by itself.
async fn end(child: &mut Child) -> std::io::Result<i32> {
    if let Ok(code) = tokio::time::timeout(QUIET, child.wait()).await {
        return code;
    }
    child.terminate();
    child.wait().await
}

/// Reads standard error to its end, so that the program never waits there. Shown to those alone who ask for it.
async fn drain(name: &str, stderr: Option<ChildStderr>) {
    let Some(stderr) = stderr else { return };
    let mut reader = LineReader::new(stderr, MAX_STDERR_LINE);
    // A pipe that breaks has ended.
    while let Ok(Some(lines)) = reader.next().await {
        for line in lines {
            tracing::debug!(sink = name, stderr = %line.text(), "the program says");
        }
    }
}

//! Runs of a command, one after the other.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;
use crate::child::{Child, ChildCommand, Input};
use crate::lines::{Line, Splitter};
use crate::pipeline::Output;
use crate::source::hand_over::{HandOver, HandedOver};
use crate::source::local_event::{json_event, line_event};

/// How long output may still come after the end of the program, from what it started as another user.
const REST_OF_OUTPUT: Duration = Duration::from_secs(1);

/// A command that is run again and again.
pub(super) struct Runs {
    pub(super) id: String,
    pub(super) child: ChildCommand,
    pub(super) schedule: Schedule,
    /// One event a line, not one a run.
    pub(super) is_lines: bool,
    pub(super) timeout: Duration,
    pub(super) path: String,
    pub(super) max_output_bytes: usize,
    pub(super) max_line_bytes: usize,
}

/// What a run came to.
#[derive(Debug)]
struct Finished {
    exit_code: i32,
    took: Duration,
    timed_out: bool,
    stdout: Captured,
    stderr: Captured,
}

/// The body of a run's event.
#[derive(Debug, Serialize)]
struct RunBody<'a> {
    exit_code: i32,
    duration_ms: u64,
    stdout: &'a str,
    stderr: &'a str,
    timed_out: bool,
    /// There when one of the outputs was longer, and is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl Runs {
    pub(super) async fn go_on(&self, out: &Output, stop: &CancellationToken) {
        let what = if self.is_lines { "lines of a run" } else { "runs" };
        let hand_over = HandOver::new(&self.id, out, stop).losing(what);
        let mut last = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.schedule.wait(last) => {}
            }
            last = Some(Instant::now());
            let finished = match self.run_once(stop).await {
                Ok(Some(finished)) => finished,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(source = self.id, %error, "the command cannot be started");
                    continue;
                }
            };
            if let Err(error) = self.child.ran(finished.exit_code) {
                tracing::warn!(source = self.id, %error, "the command could not be run");
            }
            if finished.timed_out {
                tracing::warn!(source = self.id, timeout = ?self.timeout, "the command took too long and was ended");
            }
            if let HandedOver::Stopped(_) = self.store(&finished, &hand_over).await {
                return;
            }
        }
    }

    /// `None` when the agent stopped, and the run with it.
    async fn run_once(&self, stop: &CancellationToken) -> std::io::Result<Option<Finished>> {
        let started = Instant::now();
        let mut child = self.child.spawn(Input::Empty)?;
        let (mut stdout, mut stderr) =
            (Captured::new(self.max_output_bytes), Captured::new(self.max_output_bytes));
        let pipes = (child.stdout.take(), child.stderr.take());
        let ending = {
            // Output is read while the program runs, or the program would wait for room in its pipe.
            let reading =
                async { tokio::join!(stdout.read_all(pipes.0), stderr.read_all(pipes.1)) };
            let mut reading = std::pin::pin!(reading);
            let mut ending = std::pin::pin!(end_in_time(&mut child, self.timeout, stop));
            let ended = tokio::select! {
                ended = &mut ending => Some(ended),
                _ = &mut reading => None,
            };
            match ended {
                Some(ended) => {
                    if timeout(REST_OF_OUTPUT, reading).await.is_err() {
                        tracing::debug!(
                            source = self.id,
                            "an output is open after the end of the command"
                        );
                    }
                    ended
                }
                None => ending.await,
            }
        };
        let (exit_code, why) = ending?;
        let timed_out = why == Ending::TimedOut;
        if why == Ending::Stopped {
            return Ok(None);
        }
        Ok(Some(Finished { exit_code, took: started.elapsed(), timed_out, stdout, stderr }))
    }

    async fn store(&self, run: &Finished, hand_over: &HandOver<'_>) -> HandedOver {
        if !self.is_lines {
            return hand_over.store(vec![self.run_event(run)]).await;
        }
        if run.exit_code != 0 && !run.timed_out {
            tracing::warn!(source = self.id, exit_code = run.exit_code, "the command failed");
        }
        if run.stdout.is_cut {
            let limit = self.max_output_bytes;
            tracing::warn!(source = self.id, limit, "lines beyond maxOutputBytes are dropped");
        }
        let mut lost = 0;
        for lines in self.lines(run) {
            let events = lines.iter().map(|line| line_event(&self.path, line)).collect();
            hand_over.note_cut(&lines);
            if let HandedOver::Stopped(events) = hand_over.store(events).await {
                lost += events;
            }
        }
        if lost == 0 {
            HandedOver::Stored { refused: Vec::new() }
        } else {
            HandedOver::Stopped(lost)
        }
    }

    fn run_event(&self, run: &Finished) -> Bytes {
        let body = RunBody {
            exit_code: run.exit_code,
            duration_ms: u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
            stdout: &String::from_utf8_lossy(&run.stdout.bytes),
            stderr: &String::from_utf8_lossy(&run.stderr.bytes),
            timed_out: run.timed_out,
            truncated: run.stdout.is_cut || run.stderr.is_cut,
        };
        json_event(&self.path, &body)
    }

    /// A bounded number of lines at a time: short ones take far more room as events.
    fn lines(&self, run: &Finished) -> impl Iterator<Item = Vec<Line>> {
        let mut splitter = Splitter::new(self.max_line_bytes);
        splitter.push(&run.stdout.bytes);
        let is_cut = run.stdout.is_cut;
        std::iter::from_fn(move || {
            let lines = splitter.take();
            if !lines.is_empty() {
                return Some(lines);
            }
            let mut last = splitter.finish()?;
            last.is_cut |= is_cut;
            Some(vec![last])
        })
    }
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    ByItself,
    TimedOut,
    Stopped,
}

async fn end_in_time(
    child: &mut Child,
    time: Duration,
    stop: &CancellationToken,
) -> std::io::Result<(i32, Ending)> {
    let why = tokio::select! {
        code = child.wait() => return Ok((code?, Ending::ByItself)),
        () = tokio::time::sleep(time) => Ending::TimedOut,
        () = stop.cancelled() => Ending::Stopped,
    };
    child.terminate();
    Ok((child.wait().await?, why))
}

/// The head of an output.
#[derive(Debug)]
struct Captured {
    bytes: Vec<u8>,
    max_bytes: usize,
    is_cut: bool,
}

impl Captured {
    fn new(max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), max_bytes, is_cut: false }
    }

    /// Reads to the end, and keeps as much as it may. A pipe that breaks has ended.
    async fn read_all(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut piece = vec![0; 16 * 1024];
        loop {
            match pipe.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let kept = count.min(self.max_bytes - self.bytes.len());
                    self.bytes.extend_from_slice(&piece[..kept]);
                    self.is_cut |= kept < count;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rf_core::config::Secret;
    use rf_core::event::ReplayRequest;
    use serde_json::{Value, json};

    use super::*;
    use crate::child::CommandLine;

    fn runs(script: &str, is_lines: bool) -> Runs {
        let line: CommandLine = serde_json::from_value(json!(script)).expect("a line");
        let child = ChildCommand {
            command: line.checked(true).expect("a shell line"),
            working_dir: Some("/tmp".into()),
            env: BTreeMap::from([("GREETING".to_owned(), Secret::new("hello"))]),
        };
        Runs {
            id: "c".to_owned(),
            child,
            schedule: Schedule::Every(Duration::from_secs(60)),
            is_lines,
            timeout: Duration::from_secs(60),
            path: "/x".to_owned(),
            max_output_bytes: 100,
            max_line_bytes: 8,
        }
    }

    async fn run(runs: &Runs) -> Finished {
        runs.run_once(&CancellationToken::new()).await.expect("starts").expect("ends")
    }

    async fn body(runs: &Runs) -> Value {
        let event = runs.run_event(&run(runs).await);
        let replay = ReplayRequest::parse(&event).expect("an event");
        serde_json::from_slice(&replay.body).expect("a JSON body")
    }

    #[tokio::test]
    async fn a_run_is_one_event() {
        let runs = runs("echo $GREETING; pwd; echo oh >&2; exit 3", false);
        let mut body = body(&runs).await;
        assert!(body["duration_ms"].take().is_u64());
        let expected = json!({ "exit_code": 3, "duration_ms": null, "stdout": "hello\n/tmp\n", "stderr": "oh\n", "timed_out": false });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn more_output_than_is_kept_is_read_and_cut() {
        let body = body(&runs("yes | head -c 1000000; echo done >&2", false)).await;
        assert_eq!(body["stdout"], "y\n".repeat(50));
        assert_eq!((&body["stderr"], &body["truncated"]), (&json!("done\n"), &json!(true)));
    }

    #[tokio::test]
    async fn a_run_falls_into_lines() {
        let runs = runs("printf 'a\\n\\n123456789\\nlast'", true);
        let run = run(&runs).await;
        let lines: Vec<Line> = runs.lines(&run).flatten().collect();
        let found: Vec<_> = lines.iter().map(|line| (line.text(), line.is_cut)).collect();
        let expected = [("a", false), ("", false), ("12345678", true), ("last", false)];
        assert_eq!(found, expected.map(|(text, is_cut)| (text.into(), is_cut)));
    }
}

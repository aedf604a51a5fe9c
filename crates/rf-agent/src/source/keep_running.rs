//! Programs that are meant to run as long as the agent does.

use std::time::Duration;

use rf_core::backoff::Backoff;
use tokio::process::ChildStderr;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::hand_over::LAST_WAIT;
use crate::child::Child;
use crate::lines::LineReader;

/// First and longest pause before a program that has ended is started again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A program that has run for so long starts over with the first pause.
const STEADY: Duration = Duration::from_secs(60);
/// How long an output may still be read after the program was ended with the agent: longer than a queue is waited for, so
/// that what no queue takes is at least counted.
const REST_OF_OUTPUT: Duration = LAST_WAIT.saturating_add(Duration::from_secs(1));
/// Of a line on standard error so much goes into the log.
const MAX_STDERR_LINE: usize = 4096;

/// The pauses between the lives of a program.
#[derive(Debug)]
pub(crate) struct Restarts {
    backoff: Backoff,
}

impl Restarts {
    pub(crate) fn new() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1) }
    }

    /// Told of the end of a life that began at `started`; waits until the next may begin. False when the agent stops.
    pub(crate) async fn pause(
        &mut self,
        id: &str,
        started: Instant,
        ended: std::io::Result<i32>,
        stop: &CancellationToken,
    ) -> bool {
        if stop.is_cancelled() {
            return false;
        }
        if started.elapsed() >= STEADY {
            self.backoff.reset();
        }
        let pause = self.backoff.next_delay();
        // A number: lines that differ in nothing else are muted as the same.
        let pause_ms = pause.as_millis();
        match ended {
            Ok(exit_code) => tracing::warn!(
                source = id,
                exit_code,
                pause_ms,
                "the program has ended and is started again; LOG_LEVEL=debug shows its standard error"
            ),
            Err(error) => {
                tracing::warn!(source = id, %error, pause_ms, "the program is started again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => false,
            () = sleep(pause) => true,
        }
    }
}

/// Runs `reading` to its end beside the child, and the child to its end, which comes at once when `reading` fails; the
/// child's code.
///
/// # Errors
/// When an output cannot be read, or the child not be waited for.
pub(crate) async fn read_until_end(
    reading: impl Future<Output = std::io::Result<()>>,
    child: &mut Child,
    stop: &CancellationToken,
) -> std::io::Result<i32> {
    let end_now = stop.child_token();
    let mut reading = std::pin::pin!(reading);
    let mut ending = std::pin::pin!(child.end(&end_now));
    let code = tokio::select! {
        read = &mut reading => {
            if read.is_err() {
                end_now.cancel();
            }
            let code = ending.await;
            return read.and(code);
        }
        code = &mut ending => code?,
    };
    tokio::select! {
        read = reading => read?,
        // What runs as another user cannot be ended from here; it finds its output closed now.
        () = async { stop.cancelled().await; sleep(REST_OF_OUTPUT).await } => {}
    }
    Ok(code)
}

/// Reads standard error to its end, so that the program never waits there. Programs print secrets there (a URL, a header),
/// so it is shown to those alone who ask for it.
pub(crate) async fn drain_stderr(id: &str, stderr: Option<ChildStderr>) {
    let Some(stderr) = stderr else { return };
    let mut reader = LineReader::new(stderr, MAX_STDERR_LINE);
    // A pipe that breaks has ended.
    while let Ok(Some(lines)) = reader.next().await {
        for line in lines {
            tracing::debug!(source = id, stderr = %line.text(), "the program says");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timer may be late by this.
    const TICK: Duration = Duration::from_millis(2);

    /// How long the pause after a life is.
    async fn pause_after(life: Duration, restarts: &mut Restarts) -> Duration {
        let started = Instant::now();
        sleep(life).await;
        let ended = Instant::now();
        assert!(restarts.pause("s", started, Ok(1), &CancellationToken::new()).await);
        ended.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_keeps_ending_is_started_less_and_less_often() {
        let mut restarts = Restarts::new();
        let brief = Duration::from_millis(10);
        for most in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = pause_after(brief, &mut restarts).await;
            assert!(pause <= Duration::from_secs(most) + TICK, "{pause:?}, not {most} s");
        }
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            longest = longest.max(pause_after(brief, &mut restarts).await);
        }
        assert!(longest > PAUSE.1 / 3 && longest <= PAUSE.1 + TICK, "{longest:?}");
        // One that has run for a while is no such program.
        for _ in 0..10 {
            let pause = pause_after(STEADY, &mut restarts).await;
            assert!(pause <= PAUSE.0 + TICK, "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let mut restarts = Restarts::new();
        let stop = CancellationToken::new();
        let pausing = restarts.pause("s", Instant::now(), Ok(0), &stop);
        let (goes_on, ()) = tokio::join!(pausing, async { stop.cancel() });
        assert!(!goes_on);
    }
}

//! A command that goes on; its lines are events as they come.

use tokio::process::ChildStdout;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::child::{ChildCommand, Input};
use crate::lines::LineReader;
use crate::pipeline::Output;
use crate::source::hand_over::HandOver;
use crate::source::keep_running::{Restarts, drain_stderr, read_until_end};
use crate::source::local_event::line_event;

/// A long-running command.
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) child: ChildCommand,
    pub(super) path: String,
    pub(super) max_line_bytes: usize,
}

impl Stream {
    pub(super) async fn go_on(&self, out: &Output, stop: &CancellationToken) {
        let mut restarts = Restarts::new();
        loop {
            let started = Instant::now();
            let ended = self.live(out, stop).await;
            if !restarts.pause(&self.id, started, ended, stop).await {
                return;
            }
        }
    }

    async fn live(&self, out: &Output, stop: &CancellationToken) -> std::io::Result<i32> {
        let mut child = self.child.spawn(Input::Empty)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // The child is read on while it ends, so that its last words are not lost.
        let reading =
            async { tokio::join!(self.read(stdout, out, stop), drain_stderr(&self.id, stderr)).0 };
        self.child.ran(read_until_end(reading, &mut child, stop).await?)
    }

    /// Until the child closes its output. A full queue leaves the output unread, so that the child waits.
    async fn read(
        &self,
        stdout: Option<ChildStdout>,
        out: &Output,
        stop: &CancellationToken,
    ) -> std::io::Result<()> {
        let Some(stdout) = stdout else { return Ok(()) };
        let mut lines = LineReader::new(stdout, self.max_line_bytes);
        let hand_over = HandOver::new(&self.id, out, stop).losing("lines");
        while let Some(lines) = lines.next().await? {
            let events = lines.iter().map(|line| line_event(&self.path, line)).collect();
            hand_over.note_cut(&lines);
            // To the end of the output even when they are lost: so all of them are counted.
            let _handed_over = hand_over.store(events).await;
        }
        Ok(())
    }
}

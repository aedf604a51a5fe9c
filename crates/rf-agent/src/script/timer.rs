//! `TimerHandler`, every `hookInterval`.

use std::time::Duration;

use rf_queue::CommitError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::handle::ScriptHandle;
use super::runner::Input;
use super::waiting::Waiting;

/// Pause before what a timer emitted is offered to a full queue again.
const FULL_PAUSE: Duration = Duration::from_millis(250);

impl ScriptHandle {
    /// Ticks until `stop`. While a queue has no room for what a tick emitted, the next tick waits: nobody else keeps it.
    pub(crate) async fn tick(&self, stop: CancellationToken) {
        let mut timer = tokio::time::interval(self.plan.timer);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of an interval comes at once.
        timer.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            match self.begin(Input::Tick, 0, true) {
                Ok(waiting) => self.offer(waiting, &stop).await,
                // The script is busy with events: this tick is left out.
                Err(error) => {
                    tracing::warn!(source = self.source, %error, "TimerHandler cannot be called now, this tick is skipped");
                }
            }
        }
    }

    async fn offer(&self, mut waiting: Waiting<'_>, stop: &CancellationToken) {
        loop {
            let Err(error) = waiting.answer().await else {
                return self.stored(waiting.settle());
            };
            let lost = match &error {
                CommitError::TooLarge { .. } | CommitError::Closed => true,
                CommitError::Full { .. } | CommitError::Failed(_) => tokio::select! {
                    () = stop.cancelled() => true,
                    () = tokio::time::sleep(FULL_PAUSE) => false,
                },
            };
            if lost {
                let events = waiting.kept_events();
                waiting.take_back().await;
                tracing::error!(source = self.source, %error, events, "events emitted by TimerHandler are lost");
                return;
            }
            tracing::warn!(source = self.source, %error, "events emitted by TimerHandler cannot be stored now, trying again");
            waiting.again();
        }
    }
}

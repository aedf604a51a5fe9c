//! Dead letters of a script that a person has retried: they lie in the queue `script:SOURCE`, and go through the script again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rf_queue::{Budget, Bury, Commit, CommitError, StoreError};
use tokio_util::sync::CancellationToken;

use super::handle::ScriptHandle;
use super::runner::Input;

/// Letters that go through the script in one commit, where the store can remove so many in one.
const BUDGET: Budget = Budget { events: 100, bytes: 1024 * 1024 };
/// Pause before a refused commit, or a look that failed, is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl ScriptHandle {
    /// Redoes what is retried, until `stop`. A letter leaves its queue in the commit of what the script makes of it.
    pub(crate) async fn redo(&self, stop: CancellationToken) {
        let mut available = self.store.watch(self.letters);
        let usual = Budget { events: BUDGET.events.min(self.store.removes_at_once()), ..BUDGET };
        let mut budget = usual;
        loop {
            // Registered before looking, so that a retry in between is not missed.
            available.mark_unchanged();
            let letters = match self.store.read(self.letters, 0, budget).await {
                Ok(letters) => letters,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(source = self.source, %error, "dead letters to be retried cannot be read, trying again");
                    // Nothing announces that they can be read again.
                    if pause(&stop).await {
                        return;
                    }
                    continue;
                }
            };
            if letters.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = available.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let only = (letters.len() == 1).then(|| letters[0].id);
            let bytes = letters.iter().map(|letter| letter.content.len()).sum();
            let stored = tokio::select! {
                // A call may wait for room for ever, where a queue blocks. If it is refused, its letters are still there.
                () = stop.cancelled() => return,
                stored = self.call(Input::Letters(letters), bytes) => stored,
            };
            let error = match stored {
                Ok(()) => {
                    budget.events = usual.events.min(2 * budget.events);
                    continue;
                }
                Err(CommitError::Closed) => return,
                Err(error) => error,
            };
            match (error, only) {
                // One by one: there may be room for one, and its place is free then; and only what cannot be stored is buried.
                (CommitError::TooLarge { .. } | CommitError::Full { .. }, None) => {
                    budget.events = 1;
                    continue;
                }
                (error @ CommitError::TooLarge { .. }, Some(id)) => {
                    self.bury_again(id, &error).await;
                }
                (error, _) => {
                    tracing::warn!(source = self.source, %error, "retried dead letters cannot be stored now, trying again");
                }
            }
            if pause(&stop).await {
                return;
            }
        }
    }

    /// What the script makes of a letter can never be stored.
    async fn bury_again(&self, id: u64, error: &CommitError) {
        let reason = format!("what the script makes of it is too large: {error}");
        let bury = Bury { queue: self.letters, id, reason: reason.clone(), attempts: 1 };
        match self.store.commit(Commit { dead: vec![bury], ..Commit::default() }).await {
            Ok(_) => {
                self.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
                let source = &self.source;
                tracing::error!(source, reason, "event moved to the dead letters");
            }
            Err(error) => {
                tracing::error!(source = self.source, %error, "event cannot be moved back to the dead letters");
            }
        }
    }
}

/// True when the agent stops meanwhile.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(PAUSE) => false,
    }
}

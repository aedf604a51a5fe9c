//! The script of a sink that posts batches: `TransformBatch`, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use rf_queue::{Checkpoint, Commit, CommitError, Store};
use rf_script::{KvChange, LoadError, OnError, Request, ScriptOptions, Session, Transformed};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::config::Hook;
use super::copies::Copies;
use super::kv_prefix;
use super::mailbox::{Mailbox, Refused};
use super::reload::{Watcher, next_reload, tried};
use super::thread::{self, Memory};
use super::work::add_changes;

enum Job {
    Transform { messages: Vec<Bytes>, reply: oneshot::Sender<Result<Transformed, String>> },
    Replace { text: Vec<u8>, done: oneshot::Sender<Result<(), LoadError>> },
}

/// What is posted instead of a batch.
pub(crate) enum Posted {
    /// These, there.
    Messages(Vec<Bytes>, Request),
    /// Nothing: the script left nothing over, or failed and `onError` is `drop`.
    Nothing {
        /// Which of the two, for a person.
        reason: String,
        /// It was the second.
        failed: bool,
    },
}

/// Why a batch was not transformed.
pub(crate) enum TransformError {
    /// The script failed over it; the worker finds the event that is to blame.
    Script(String),
    /// What the script remembered cannot be stored now.
    Store(String),
}

/// A sink's script: checked, and running once it was started.
pub(crate) struct BatchScript {
    sink: String,
    options: Arc<ScriptOptions>,
    running: OnceLock<Running>,
    asked: OnceLock<watch::Receiver<u64>>,
}

struct Running {
    mailbox: Arc<Mailbox<Job>>,
    store: Store,
    /// What the script has remembered and the store has not taken yet, by key.
    unsaved: Mutex<BTreeMap<String, KvChange>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl BatchScript {
    pub(crate) fn new(sink: &str, options: Arc<ScriptOptions>) -> Self {
        Self { sink: sink.to_owned(), options, running: OnceLock::new(), asked: OnceLock::new() }
    }

    /// The sink's id.
    pub(crate) fn sink(&self) -> &str {
        &self.sink
    }

    /// Loads the script on its thread, with what it remembered, once the store can be read.
    ///
    /// # Errors
    /// What is wrong with the script or its file.
    pub(crate) async fn start(&self, store: Store) -> Result<(), String> {
        let memory = Memory { store: store.clone(), prefix: kv_prefix("kv-sink", &self.sink) };
        let mailbox = Arc::new(Mailbox::new());
        thread::start(Arc::clone(&self.options), memory, Arc::clone(&mailbox), serve).await?;
        // Started once; a second start would only have made a thread that ends with its mailbox.
        drop(self.running.set(Running { mailbox, store, unsaved: Mutex::default() }));
        Ok(())
    }

    /// What is to be posted instead of these contents. What a relay is to get has copies of an event told apart; to an API it
    /// goes as the script has made it.
    ///
    /// # Errors
    /// [`TransformError`].
    pub(crate) async fn transform(
        &self,
        messages: Vec<Bytes>,
        is_relay: bool,
    ) -> Result<Posted, TransformError> {
        let refused = |refused: Refused| TransformError::Store(refused.to_string());
        let running = self.running.get().ok_or(Refused::Closed).map_err(refused)?;
        let (reply, answer) = oneshot::channel();
        let job = Job::Transform { messages: messages.clone(), reply };
        running.mailbox.push_urgent(job).map_err(refused)?;
        match answer.await.map_err(|_dropped| refused(Refused::Closed))? {
            Ok(mut transformed) => {
                self.remember(running, std::mem::take(&mut transformed.kv)).await?;
                if is_relay {
                    let mut copies = Copies::of(&messages);
                    for message in &mut transformed.messages {
                        copies.tell_apart(0, message);
                    }
                }
                if transformed.messages.is_empty() {
                    let reason = "the script left nothing of the batch".to_owned();
                    return Ok(Posted::Nothing { reason, failed: false });
                }
                Ok(Posted::Messages(transformed.messages, transformed.request))
            }
            Err(reason) => match self.options.on_error {
                OnError::DeadLetter => Err(TransformError::Script(reason)),
                OnError::Pass => {
                    tracing::warn!(sink = self.sink, reason, "script failed, batch sent unchanged");
                    Ok(Posted::Messages(messages, Request::default()))
                }
                OnError::Drop => {
                    let events = messages.len();
                    tracing::warn!(
                        sink = self.sink,
                        reason,
                        events,
                        "script failed, batch dropped"
                    );
                    let reason = format!("the script failed: {reason}");
                    Ok(Posted::Nothing { reason, failed: true })
                }
            },
        }
    }

    /// Stores what the script remembers, before the batch is sent. What the store has not taken is stored with the next batch:
    /// the script knows it, and does not set it again.
    async fn remember(
        &self,
        running: &Running,
        changes: Vec<KvChange>,
    ) -> Result<(), TransformError> {
        let prefix = kv_prefix("kv-sink", &self.sink);
        let checkpoints: Vec<Checkpoint> = {
            let mut unsaved = running.unsaved.lock();
            add_unsaved(&mut unsaved, changes);
            let point = |change: &KvChange| Checkpoint {
                key: format!("{prefix}{}", change.key),
                value: change.value.clone(),
            };
            unsaved.values().map(point).collect()
        };
        if checkpoints.is_empty() {
            return Ok(());
        }
        let commit = Commit { checkpoints, within_limit: true, ..Commit::default() };
        match running.store.commit(commit).await {
            // One batch comes after the other, so these are the same still.
            Ok(_) => running.unsaved.lock().clear(),
            // Only what is sent makes room.
            Err(error @ (CommitError::Full { .. } | CommitError::TooLarge { .. })) => {
                tracing::warn!(sink = self.sink, %error, "what the script has set with kv_set cannot be stored, trying again with the next batch");
            }
            Err(error) => {
                // A disk that has failed may have stored them all the same.
                for change in running.unsaved.lock().values_mut().filter(|own| own.before.is_none())
                {
                    change.before.clone_from(&change.value);
                }
                return Err(TransformError::Store(error.to_string()));
            }
        }
        Ok(())
    }

    /// Has the script reloaded whenever this changes.
    pub(crate) fn reload_on(&self, asked: watch::Receiver<u64>) {
        // Said once, before the sink runs.
        drop(self.asked.set(asked));
    }

    /// Reloads the script whenever its file changes or it is asked to, until `stop`.
    pub(crate) async fn reload(&self, stop: CancellationToken) {
        let Some(mut asked) = self.asked.get().cloned() else { return };
        let mut watcher = Watcher::new(&self.options.path);
        while next_reload(&mut watcher, &mut asked, &stop).await.is_some() {
            let script = self.options.path.display();
            match self.replaced().await {
                Ok(()) => {
                    tracing::info!(sink = self.sink, %script, state = "up", "script reloaded");
                }
                Err(reason) => tracing::error!(
                    sink = self.sink,
                    reason,
                    state = "down",
                    "script not reloaded, its previous version stays in use"
                ),
            }
        }
    }

    async fn replaced(&self) -> Result<(), String> {
        let text = tried(Arc::clone(&self.options), Hook::TransformBatch).await?;
        let (done, replaced) = oneshot::channel();
        let refused = |refused: Refused| refused.to_string();
        let running = self.running.get().ok_or(Refused::Closed).map_err(refused)?;
        running.mailbox.push_urgent(Job::Replace { text, done }).map_err(refused)?;
        let ended = |_dropped| refused(Refused::Closed);
        replaced.await.map_err(ended)?.map_err(|error| error.to_string())
    }
}

/// Adds what is to be stored later. What was set and removed in between never was in the store: so a script that takes ever
/// new keys leaves no trace of those that it has given up.
fn add_unsaved(unsaved: &mut BTreeMap<String, KvChange>, changes: Vec<KvChange>) {
    add_changes(unsaved, changes);
    unsaved.retain(|_, change| change.value.is_some() || change.before.is_some());
}

fn serve(mut session: Session, mailbox: &Mailbox<Job>) {
    // By `init`, until a batch takes it along: many a VM may come and go before one succeeds.
    let mut set = BTreeMap::new();
    while let Some(jobs) = mailbox.take() {
        for job in jobs {
            // Of a VM that may be replaced now.
            add_unsaved(&mut set, session.take_init_changes());
            match job {
                Job::Transform { messages, reply } => {
                    let mut outcome = match session.transform_batch(&messages) {
                        Ok(outcome) => outcome.map_err(|error| error.to_string()),
                        Err(error) => Err(format!("script cannot be reloaded: {error}")),
                    };
                    if let Ok(transformed) = &mut outcome {
                        add_unsaved(&mut set, session.take_init_changes());
                        // What `init` has remembered was there first.
                        add_unsaved(&mut set, std::mem::take(&mut transformed.kv));
                        transformed.kv = std::mem::take(&mut set).into_values().collect();
                    }
                    drop(reply.send(outcome));
                }
                Job::Replace { text, done } => drop(done.send(session.replace(text))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with what is to be stored, after changes of the key `k` from one of these to the next.
    #[track_caller]
    fn check(values: &[Option<&str>], expected: &[Option<&str>]) {
        let bytes = |value: Option<&str>| value.map(|value| value.as_bytes().to_vec());
        let mut unsaved = BTreeMap::new();
        for pair in values.windows(2) {
            let (before, value) = (bytes(pair[0]), bytes(pair[1]));
            add_unsaved(&mut unsaved, vec![KvChange { key: "k".to_owned(), value, before }]);
        }
        let values: Vec<_> = unsaved.into_values().map(|change| change.value).collect();
        assert_eq!(values, expected.iter().copied().map(bytes).collect::<Vec<_>>());
    }

    #[test]
    fn of_a_key_that_was_never_stored_nothing_is_left_once_it_is_removed() {
        check(&[None, Some("one")], &[Some("one")]);
        check(&[None, Some("one"), Some("two"), None], &[]);
        check(&[Some("stored"), Some("new"), None], &[None]);
        check(&[None, Some("one"), None, Some("two")], &[Some("two")]);
    }
}

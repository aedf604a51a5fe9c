//! The script of a sink that posts batches: `TransformBatch`, on a thread of its own.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rf_queue::{Checkpoint, Commit, Store};
use rf_script::{LoadError, OnError, Request, ScriptOptions, Session, Transformed};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::copies::Copies;
use super::mailbox::Mailbox;
use super::reload::{Watcher, next_reload, tried};
use super::{kv_prefix, thread};

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

    /// Loads the script on its thread, with what it remembered.
    ///
    /// # Errors
    /// What is wrong with the script, its file or the store.
    pub(crate) async fn start(&self, store: Store) -> Result<(), String> {
        let kv = thread::remembered(&store, &kv_prefix("kv-sink", &self.sink)).await?;
        let mailbox = Arc::new(Mailbox::new());
        thread::start(Arc::clone(&self.options), kv, Arc::clone(&mailbox), serve).await?;
        // Started once; a second start would only have made a thread that ends with its mailbox.
        drop(self.running.set(Running { mailbox, store }));
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
        let ended = || TransformError::Store("the script's thread has ended".to_owned());
        let running = self.running.get().ok_or_else(ended)?;
        let (reply, answer) = oneshot::channel();
        let job = Job::Transform { messages: messages.clone(), reply };
        running.mailbox.push_urgent(job).map_err(|_closed| ended())?;
        match answer.await.map_err(|_dropped| ended())? {
            Ok(mut transformed) => {
                self.remember(running, &transformed).await?;
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

    async fn remember(&self, running: &Running, done: &Transformed) -> Result<(), TransformError> {
        if done.kv.is_empty() {
            return Ok(());
        }
        let prefix = kv_prefix("kv-sink", &self.sink);
        let checkpoints = done.kv.iter().map(|change| Checkpoint {
            key: format!("{prefix}{}", change.key),
            value: change.value.clone(),
        });
        let commit = Commit { checkpoints: checkpoints.collect(), ..Commit::default() };
        let stored = running.store.commit(commit).await;
        stored.map(drop).map_err(|error| TransformError::Store(error.to_string()))
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
                Ok(()) => tracing::info!(sink = self.sink, %script, "script reloaded"),
                Err(reason) => tracing::error!(
                    sink = self.sink,
                    reason,
                    "script not reloaded, its previous version stays in use"
                ),
            }
        }
    }

    async fn replaced(&self) -> Result<(), String> {
        let text = tried(Arc::clone(&self.options)).await?;
        let (done, replaced) = oneshot::channel();
        let ended = || "the script's thread has ended".to_owned();
        let running = self.running.get().ok_or_else(ended)?;
        running.mailbox.push_urgent(Job::Replace { text, done }).map_err(|_closed| ended())?;
        replaced.await.map_err(|_dropped| ended())?.map_err(|error| error.to_string())
    }
}

fn serve(mut session: Session, mailbox: &Mailbox<Job>) {
    while let Some(jobs) = mailbox.take() {
        for job in jobs {
            match job {
                Job::Transform { messages, reply } => {
                    let mut outcome = match session.transform_batch(&messages) {
                        Ok(outcome) => outcome.map_err(|error| error.to_string()),
                        Err(error) => Err(format!("script cannot be reloaded: {error}")),
                    };
                    if let Ok(transformed) = &mut outcome {
                        // What `init` has remembered was there first.
                        let changes = std::mem::take(&mut transformed.kv);
                        transformed.kv = session.take_init_changes();
                        transformed.kv.extend(changes);
                    }
                    drop(reply.send(outcome));
                }
                Job::Replace { text, done } => drop(done.send(session.replace(text))),
            }
        }
    }
}

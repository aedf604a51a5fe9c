//! A thread that owns a script.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rf_queue::{Store, StoreError};
use rf_script::{LoadError, ScriptOptions, Session, read_script};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::mailbox::Mailbox;

/// Pause before a store that could not be read is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Closes a mailbox when its thread ends, however that happens: nobody may wait for a thread that is gone.
struct CloseAtEnd<J>(Arc<Mailbox<J>>);

impl<J> Drop for CloseAtEnd<J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a script's thread panicked; its events are refused until a restart");
        }
        self.0.close();
    }
}

/// Where the values of a script lie.
pub(super) struct Memory {
    pub(super) store: Store,
    pub(super) prefix: String,
}

impl Memory {
    /// What the script remembered, by key.
    async fn read(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let stored = self.store.checkpoints(&self.prefix).await?;
        let entry = |stored: rf_queue::Checkpoint| {
            Some((stored.key.strip_prefix(&self.prefix)?.to_owned(), stored.value?))
        };
        Ok(stored.into_iter().filter_map(entry).collect())
    }
}

/// Starts the thread, which loads the script and then does `serve` until the mailbox is closed; returns once it is loaded.
/// What it returns resolves when the thread has let go of everything. Where the store cannot be read now, the script is only
/// tried: the mailbox takes jobs once it is loaded with what it remembered.
pub(super) async fn start<J: Send + 'static>(
    options: Arc<ScriptOptions>,
    memory: Memory,
    mailbox: Arc<Mailbox<J>>,
    serve: impl FnOnce(Session, &Mailbox<J>) + Send + 'static,
) -> Result<oneshot::Receiver<()>, String> {
    let kv = match memory.read().await {
        Ok(kv) => Some(kv),
        Err(error @ StoreError::Closed) => return Err(error.to_string()),
        Err(error) => {
            let script = options.path.display();
            tracing::warn!(%script, %error, state = "down", "what the script remembers cannot be read: its events are refused until it can be");
            None
        }
    };
    let runtime = Handle::current();
    let (loaded, load) = oneshot::channel();
    let (alive, ended) = oneshot::channel();
    let body = move || {
        let mailbox = CloseAtEnd(mailbox);
        let is_known = kv.is_some();
        match load_with(&options, kv.unwrap_or_default()) {
            Ok(session) => {
                if is_known {
                    mailbox.0.open();
                }
                drop(loaded.send(Ok(())));
                let later = || load_later(&options, &memory, &runtime, &mailbox.0);
                let session = is_known.then_some(session).or_else(later);
                // Whoever waits for the end of the thread may then open the store anew.
                drop(memory);
                if let Some(session) = session {
                    serve(session, &mailbox.0);
                }
            }
            Err(error) => {
                drop(memory);
                drop(loaded.send(Err(error.to_string())));
            }
        }
        drop(alive);
    };
    let thread = std::thread::Builder::new().name("rf-script".to_owned());
    thread.spawn(body).map_err(|error| format!("cannot start the script's thread: {error}"))?;
    load.await.map_err(|_dropped| "the script's thread ended while loading".to_owned())??;
    Ok(ended)
}

fn load_with(
    options: &Arc<ScriptOptions>,
    kv: BTreeMap<String, Vec<u8>>,
) -> Result<Session, LoadError> {
    Session::new(Arc::clone(options), kv, read_script(&options.path)?)
}

/// The script with what it remembered, once that can be read; `None` when the agent stops before.
fn load_later<J>(
    options: &Arc<ScriptOptions>,
    memory: &Memory,
    runtime: &Handle,
    mailbox: &Mailbox<J>,
) -> Option<Session> {
    let script = options.path.display();
    while !mailbox.is_closed_within(PAUSE) {
        let kv = match runtime.block_on(memory.read()) {
            Ok(kv) => kv,
            Err(StoreError::Closed) => return None,
            // The store tells what is wrong with it.
            Err(StoreError::Failed(_)) => continue,
        };
        match load_with(options, kv) {
            Ok(session) => {
                tracing::info!(%script, state = "up", "what the script remembers is read");
                mailbox.open();
                return Some(session);
            }
            Err(error) => {
                tracing::error!(%script, %error, "script cannot be loaded, its events are refused; trying again");
            }
        }
    }
    None
}

//! A thread that owns a script.

use std::collections::BTreeMap;
use std::sync::Arc;

use rf_queue::Store;
use rf_script::{ScriptOptions, Session, read_script};
use tokio::sync::oneshot;

use super::mailbox::Mailbox;

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

/// What a script remembered, by key.
pub(super) async fn remembered(
    store: &Store,
    prefix: &str,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let stored = store.checkpoints(prefix).await.map_err(|error| error.to_string())?;
    let entry = |stored: rf_queue::Checkpoint| {
        Some((stored.key.strip_prefix(prefix)?.to_owned(), stored.value?))
    };
    Ok(stored.into_iter().filter_map(entry).collect())
}

/// Starts the thread, which loads the script and then does `serve` until the mailbox is closed; returns once it is loaded.
/// What it returns resolves when the thread has let go of everything.
pub(super) async fn start<J: Send + 'static>(
    options: Arc<ScriptOptions>,
    kv: BTreeMap<String, Vec<u8>>,
    mailbox: Arc<Mailbox<J>>,
    serve: impl FnOnce(Session, &Mailbox<J>) + Send + 'static,
) -> Result<oneshot::Receiver<()>, String> {
    let (loaded, load) = oneshot::channel();
    let (alive, ended) = oneshot::channel();
    let body = move || {
        let mailbox = CloseAtEnd(mailbox);
        let text = read_script(&options.path);
        match text.and_then(|text| Session::new(options, kv, text)) {
            Ok(session) => {
                drop(loaded.send(Ok(())));
                serve(session, &mailbox.0);
            }
            Err(error) => drop(loaded.send(Err(error.to_string()))),
        }
        drop(alive);
    };
    let thread = std::thread::Builder::new().name("rf-script".to_owned());
    thread.spawn(body).map_err(|error| format!("cannot start the script's thread: {error}"))?;
    load.await.map_err(|_dropped| "the script's thread ended while loading".to_owned())??;
    Ok(ended)
}

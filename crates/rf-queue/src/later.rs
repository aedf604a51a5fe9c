//! A store whose disk does not let it be opened now: everything is refused, and it is opened as soon as it can be.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::errors::{Notice, OpenError, StoreError};
use crate::mailbox::{Lock, Mailbox};
use crate::open;
use crate::shared::Shared;
use crate::types::StoreOptions;
use crate::writer::Writer;

/// The pause before the second try; each further one is twice as long, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The first opening, in a folder that may have to be made.
pub(crate) fn open(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    lock: &Lock,
) -> Result<(Writer, Vec<Notice>), OpenError> {
    if let Some(folder) = options.path.parent() {
        let io = |source| OpenError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
    }
    open::first(options, shared, mailbox, lock)
}

/// Stands in for the writer until there is one. `None` when the store was closed before, or when it turns out that it can
/// never be opened: then the store has failed.
pub(crate) fn wait(
    mut error: OpenError,
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    lock: &Lock,
) -> Option<Writer> {
    let path = &options.path;
    tracing::error!(path = %path.display(), %error, state = "down", "the database cannot be opened: everything is refused until it can be");
    let mut pause = FIRST_PAUSE;
    loop {
        shared.disk_fails(&format!("it cannot be opened now: {error}"), options.clock.as_ref());
        refuse_for(pause, &error, shared, mailbox);
        if mailbox.is_closed() {
            return None;
        }
        match open(options, shared, mailbox, lock) {
            Ok((writer, notices)) => {
                announce(path, &notices);
                shared.is_waiting.store(false, Ordering::Relaxed);
                return Some(writer);
            }
            Err(next) if next.may_pass() => error = next,
            Err(next) => {
                mailbox.close();
                shared.fatal.send_replace(Some(next.to_string()));
                shared.announce_room();
                return None;
            }
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Nobody else hears of them any more: whoever opened the store has gone on.
fn announce(path: &Path, notices: &[Notice]) {
    for notice in notices {
        if notice.is_loss() {
            tracing::error!(path = %path.display(), "{notice}");
        } else {
            tracing::warn!(path = %path.display(), "{notice}");
        }
    }
    tracing::info!(path = %path.display(), state = "up", "the database is open");
}

fn refuse_for(pause: Duration, error: &OpenError, shared: &Shared, mailbox: &Mailbox) {
    let refusal = StoreError::Failed(format!("it cannot be opened now: {error}"));
    let until = Instant::now() + pause;
    while !mailbox.is_closed() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let taken = mailbox.take(left);
        taken.ops.into_iter().for_each(|op| op.refuse(&refusal));
        if taken.turned_away {
            shared.announce_room();
        }
    }
}

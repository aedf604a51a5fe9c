//! The thread of a store's writer, from one opening of the files to the next.

use std::sync::Arc;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::errors::{OpenError, StoreError};
use crate::mailbox::Mailbox;
use crate::shared::Shared;
use crate::types::StoreOptions;
use crate::writer::Writer;
use crate::{aside, open};

/// For this thread, and for the checkpoint thread that it starts.
pub(crate) fn give_way(niceness: i32) {
    if niceness != 0
        && let Err(error) = setpriority_process(Some(gettid()), niceness)
    {
        tracing::debug!(%error, "the store works at the priority of everything else");
    }
}

/// The life of a writer thread: until it hibernates or the store is closed.
pub(crate) fn live(
    mut writer: Option<Writer>,
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
) {
    loop {
        match writer.take().map_or_else(|| open::reopen(options, shared, mailbox), Ok) {
            Ok(writer) => {
                if !writer.disk_full {
                    shared.disk_works();
                }
                writer.run();
            }
            Err(error) => return stay_closed(&error, options, shared, mailbox),
        }
        // Only now, with the files closed, the thread counts as gone.
        if mailbox.retire() {
            return;
        }
    }
}

/// The files cannot be opened again. The next request tries it anew, but damage ends the store, as it does while it runs.
fn stay_closed(error: &OpenError, options: &StoreOptions, shared: &Shared, mailbox: &Mailbox) {
    tracing::error!(%error, "the store cannot be opened again");
    shared.disk_fails(&format!("it cannot be opened again: {error}"), options.clock.as_ref());
    if error.is_damage_of(&options.path) {
        aside::mark(&options.path);
        mailbox.close();
        let text = format!("{error}; it is set aside and salvaged at the next start");
        shared.fatal.send_replace(Some(text));
        shared.announce_room();
    }
    mailbox.refuse_waiting(&StoreError::Failed(error.to_string()));
}

/// A panic of the writer ends the store: what it had in hand is unknown, so nothing more may be promised.
pub(crate) fn guard(mailbox: &Mailbox, shared: &Shared, run: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
        mailbox.close();
        mailbox.abandon();
        shared.fatal.send_replace(Some("the writer of the store panicked".to_owned()));
        shared.announce_room();
    }
}

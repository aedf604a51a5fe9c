//! What calls of a script have done whose commits have not ended yet.
//!
//! While a commit is under way, later calls have seen what its call remembered, and have gone on from there. Any of them may be
//! refused, and they are told so in any order. So the calls that are open are known: if one is taken back, a later one that has
//! changed the same key would be taken back to what was there before both. Nor does a call that had to wait for room store a
//! value over that of a later one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rf_queue::Commit;
use rf_script::KvChange;

use super::handle::Tally;

/// Fewer calls are not looked through for those that have ended.
const MIN_PRUNED: usize = 64;

/// What a call did, until its commit has ended.
#[derive(Default)]
pub(super) struct Note(Mutex<Done>);

#[derive(Default)]
pub(super) struct Done {
    /// What it remembered, by key.
    pub(super) changes: Vec<KvChange>,
    /// To be tried again, with what is to be remembered of `changes`.
    pub(super) commit: Option<Commit>,
    pub(super) tally: Tally,
}

impl Note {
    pub(super) fn put(&self, done: Done) {
        *self.lock() = done;
    }

    /// The commit has ended.
    pub(super) fn take(&self) -> Done {
        std::mem::take(&mut self.lock())
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.lock().changes.is_empty()
    }

    /// Whether the commit was kept, so that it can be tried again.
    pub(super) fn is_kept(&self) -> bool {
        self.lock().commit.is_some()
    }

    /// What is to be tried again.
    pub(super) fn kept(&self) -> Option<(Commit, Vec<KvChange>)> {
        let done = self.lock();
        Some((done.commit.clone()?, done.changes.clone()))
    }

    fn has_changed(&self, key: &str) -> bool {
        self.lock().changes.iter().any(|own| own.key == key)
    }

    /// Whether the call has gone on from a change; `None` where it has not changed that key.
    fn goes_on_from(&self, change: &KvChange) -> Option<bool> {
        let done = self.lock();
        let own = done.changes.iter().find(|own| own.key == change.key)?;
        Some(own.before == change.value)
    }

    /// Whether the call has gone on from a change that is taken back; then it would be taken back to before that.
    fn inherits(&self, undone: &KvChange) -> bool {
        let mut done = self.lock();
        let goes_on = |own: &&mut KvChange| own.key == undone.key && own.before == undone.value;
        let Some(own) = done.changes.iter_mut().find(goes_on) else { return false };
        own.before.clone_from(&undone.before);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Done> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that have remembered something, in their order, until their commits have ended.
#[derive(Default)]
pub(super) struct OpenCalls {
    notes: Vec<Arc<Note>>,
    prune_at: usize,
}

impl OpenCalls {
    pub(super) fn add(&mut self, note: &Arc<Note>) {
        if !note.has_changes() {
            return;
        }
        if self.notes.len() >= self.prune_at {
            self.notes.retain(|note| note.has_changes());
            self.prune_at = MIN_PRUNED.max(2 * self.notes.len());
        }
        self.notes.push(Arc::clone(note));
    }

    /// Whether a call that is open has changed the key. The newest are the likeliest.
    pub(super) fn have_changed(&self, key: &str) -> bool {
        self.notes.iter().rev().any(|open| open.has_changed(key))
    }

    /// Whether the next call that has changed the key of an open one's change has gone on from it, and is open as well.
    pub(super) fn go_on_from(&self, note: &Arc<Note>, change: &KvChange) -> bool {
        let own = self.notes.iter().position(|open| Arc::ptr_eq(open, note));
        let later = own.and_then(|own| self.notes.get(own + 1..)).unwrap_or_default();
        later.iter().find_map(|call| call.goes_on_from(change)).unwrap_or(false)
    }

    /// A call was refused: what is to be taken back now. The rest has been changed by a later call.
    pub(super) fn refused(&mut self, note: &Arc<Note>) -> Vec<KvChange> {
        let mut changes = note.take().changes;
        if let Some(place) = self.notes.iter().position(|open| Arc::ptr_eq(open, note)) {
            self.notes.remove(place);
            let later = &self.notes[place..];
            changes.retain(|change| !later.iter().any(|call| call.inherits(change)));
        }
        changes
    }
}

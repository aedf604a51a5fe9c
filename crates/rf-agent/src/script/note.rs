//! What calls of a script have done whose commits have not ended yet.
//!
//! While a commit is under way, later calls have seen what its call remembered, and have gone on from there. Any of them may be
//! refused, and they are told so in any order. So the calls that are open are known: if one is taken back, a later one that has
//! changed the same key would be taken back to what was there before both. Nor does a call that had to wait for room store a
//! value over that of a later one. Which call has changed a key last is known by their order, not by the values: two may be
//! equal. Only `init` of a newer VM is no call: what it sets as it has found it, `kv_set('n', kv_get('n') or 0)`, is taken back
//! with the call that it is of, or else the repeat of that call's event would find its own mark.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rf_queue::{Commit, CommitReply};
use rf_script::KvChange;

use super::handle::Tally;

/// Fewer calls are not looked through for those that have ended.
const MIN_PRUNED: usize = 64;

/// What a call did, until its commit has ended.
#[derive(Default)]
pub(super) struct Note {
    done: Mutex<Done>,
    /// Set by the store.
    stored: Arc<AtomicBool>,
}

#[derive(Default)]
pub(super) struct Done {
    /// What it remembered, by key; but for keys that a later call has changed and stored.
    pub(super) changes: Vec<KvChange>,
    /// To be tried again, with what is to be remembered of `changes`.
    pub(super) commit: Option<Commit>,
    pub(super) tally: Tally,
    /// It is stored, and whoever waited for that knows. Of `changes` only the keys are left.
    pub(super) is_settled: bool,
}

impl Note {
    pub(super) fn put(&self, done: Done) {
        *self.done.lock() = done;
    }

    /// The commit was refused for good.
    fn take(&self) -> Done {
        std::mem::take(&mut self.done.lock())
    }

    /// The commit is stored.
    pub(super) fn settle(&self) -> Tally {
        let mut done = self.done.lock();
        done.is_settled = true;
        done.commit = None;
        for change in &mut done.changes {
            (change.value, change.before) = (None, None);
        }
        std::mem::take(&mut done.tally)
    }

    /// For a try of the commit.
    pub(super) fn marked(&self, reply: CommitReply) -> CommitReply {
        reply.marking(Arc::clone(&self.stored))
    }

    /// Whether the commit is stored, even if nobody has been told of it.
    pub(super) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Acquire)
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.done.lock().changes.is_empty()
    }

    /// Whether the commit was kept, so that it can be tried again.
    pub(super) fn is_kept(&self) -> bool {
        self.done.lock().commit.is_some()
    }

    /// What is to be tried again.
    pub(super) fn kept(&self) -> Option<(Commit, Vec<KvChange>)> {
        let done = self.done.lock();
        Some((done.commit.clone()?, done.changes.clone()))
    }

    /// Events of the commit that was kept.
    pub(super) fn kept_events(&self) -> usize {
        let done = self.done.lock();
        let appends = done.commit.iter().flat_map(|commit| &commit.appends);
        appends.map(|append| append.events.len()).sum()
    }

    fn has_changed(&self, key: &str) -> bool {
        self.done.lock().changes.iter().any(|own| own.key == key)
    }

    fn is_settled(&self) -> bool {
        self.done.lock().is_settled
    }

    /// The call has gone on from a change that is taken back, if it has changed that key; then it would be taken back to
    /// before that.
    fn inherits(&self, undone: &KvChange) -> bool {
        let mut done = self.done.lock();
        let Some(own) = done.changes.iter_mut().find(|own| own.key == undone.key) else {
            return false;
        };
        own.before.clone_from(&undone.before);
        true
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
            self.prune();
            self.prune_at = MIN_PRUNED.max(2 * self.notes.len());
        }
        self.notes.push(Arc::clone(note));
    }

    /// Lets go of the calls that are settled: their values stand, so for their keys nothing of the calls before them is stored
    /// any more, nor taken back.
    pub(super) fn prune(&mut self) {
        let mut settled = BTreeSet::new();
        for note in self.notes.iter().rev() {
            let mut done = note.done.lock();
            if done.is_settled {
                settled.extend(done.changes.drain(..).map(|change| change.key));
            } else if !settled.is_empty() {
                done.changes.retain(|change| !settled.contains(&change.key));
            }
        }
        self.notes.retain(|note| note.has_changes());
    }

    /// Whether a call that is open has changed the key. The newest are the likeliest.
    pub(super) fn have_changed(&self, key: &str) -> bool {
        self.notes.iter().rev().any(|call| !call.is_settled() && call.has_changed(key))
    }

    /// Whether one of the later calls that have changed the key is stored; `None` where there are none.
    pub(super) fn is_overtaken(&self, note: &Arc<Note>, key: &str) -> Option<bool> {
        let own = self.notes.iter().position(|open| Arc::ptr_eq(open, note))?;
        let later = self.notes.get(own + 1..).unwrap_or_default();
        let mut changed = later.iter().filter(|call| call.has_changed(key)).peekable();
        changed.peek()?;
        Some(changed.any(|call| call.is_stored()))
    }

    /// A call was refused: what is to be taken back now. The rest has been changed by a later call.
    pub(super) fn refused(&mut self, note: &Arc<Note>) -> Vec<KvChange> {
        self.prune();
        let mut changes = note.take().changes;
        if let Some(place) = self.notes.iter().position(|open| Arc::ptr_eq(open, note)) {
            self.notes.remove(place);
            let later = &self.notes[place..];
            changes.retain(|change| !later.iter().any(|call| call.inherits(change)));
        }
        changes
    }
}

//! What goes ahead of a commit, in as many transactions as it takes: removes and burials that the WAL may not take at once,
//! before these the values that stand before anything leaves, and old dead letters that make room for new ones.
//!
//! Invariant: what goes ahead is still in the request when it is answered. If its transaction is undone, the request is
//! applied once more from its beginning, on a full disk, and nothing counts as done that is not. What was committed before
//! is passed over then, since it is gone, and [`Early`] has its number.

use crate::admit::{Cost, removed_ids_pages};
use crate::errors::CommitError;
use crate::group::Tx;
use crate::limits::{removal_pages, stored_bytes};
use crate::rows::runs;
use crate::types::{Bury, Checkpoint, Commit, Remove};
use crate::writer::Writer;

/// Events removed by one step of the age limit, of dropping the oldest, or of a large remove.
pub(crate) const REMOVAL_STEP: u64 = 500;

/// Events that the commit at hand has removed ahead of its rest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Early {
    kept: u64,
    open: u64,
}

impl Early {
    /// Before a try, when earlier ones have removed so many.
    pub(crate) fn after(kept: u64) -> Self {
        Self { kept, open: 0 }
    }

    /// In transactions that are committed.
    pub(crate) fn kept(self) -> u64 {
        self.kept
    }

    /// In the open transaction.
    pub(crate) fn open(self) -> u64 {
        self.open
    }

    pub(crate) fn commit(&mut self) {
        self.kept += std::mem::take(&mut self.open);
    }

    pub(crate) fn undo(&mut self) {
        self.open = 0;
    }
}

/// Taken out of a commit for as long as its rest is applied.
pub(crate) struct Ahead {
    first: Vec<Checkpoint>,
    removes: Vec<Remove>,
    dead: Vec<Bury>,
}

impl Ahead {
    pub(crate) fn give_back(self, commit: &mut Commit) {
        commit.first.extend(self.first);
        commit.removes.extend(self.removes);
        commit.dead.extend(self.dead);
    }
}

impl Writer {
    /// Removes that might take the WAL over its cap, and burials if there are several: each needs room for itself only. What
    /// was delivered must not be left when others are buried, so removes never stay behind burials. But those of a commit that
    /// puts something into the store stay with it, also of one that sets values within the limit: what they remove may be what
    /// it puts there, and it may be refused.
    pub(crate) fn take_ahead(&self, commit: &mut Commit) -> Ahead {
        let ids: u64 = commit.removes.iter().map(|remove| remove.ids.len() as u64).sum();
        let many = commit.dead.len() > 1;
        let large = many || removed_ids_pages(ids) > self.limits.step_pages();
        let puts = !commit.appends.is_empty() || !commit.letters.is_empty() || commit.within_limit;
        let delivered = large && !puts;
        Ahead {
            first: if large { std::mem::take(&mut commit.first) } else { Vec::new() },
            removes: if delivered { std::mem::take(&mut commit.removes) } else { Vec::new() },
            dead: if many { std::mem::take(&mut commit.dead) } else { Vec::new() },
        }
    }

    pub(crate) fn go_ahead(&mut self, ahead: &Ahead) -> rusqlite::Result<Result<(), CommitError>> {
        if !ahead.first.is_empty() {
            let values = Commit { checkpoints: ahead.first.clone(), ..Commit::default() };
            if let Err(refused) = self.apply_rest(&values)? {
                return Ok(Err(refused));
            }
        }
        for remove in &ahead.removes {
            for (first, last) in runs(&remove.ids) {
                self.remove_in_steps(remove.queue.0, first, last)?;
            }
        }
        for bury in &ahead.dead {
            let one = Commit { dead: vec![bury.clone()], ..Commit::default() };
            if let Err(refused) = self.apply_rest(&one)? {
                return Ok(Err(refused));
            }
            self.spare_the_disk()?;
        }
        Ok(Ok(()))
    }

    fn remove_in_steps(&mut self, queue: usize, first: u64, last: u64) -> rusqlite::Result<()> {
        let most = self.limits.step_pages();
        // Also where no row is written, since all is passed.
        self.make_wal_room(&Cost::pages(self.lease_pages(queue, first, last)))?;
        let mut group = self.group()?;
        if let Some(there) = group.state.queues[queue].sizes.of(first, last)
            && group.passes(queue, first)?
        {
            let removed = group.remove_measured(queue, (first, last), there)?;
            self.early.open += removed;
            return Ok(());
        }
        let (mut from, mut step) = (first, REMOVAL_STEP);
        while from <= last {
            let to = last.min(from + step - 1);
            let mut group = self.group()?;
            let there = group.measure(queue, from, to)?;
            let pages = if group.passes(queue, from)? {
                0
            } else {
                removal_pages(there.events, there.stored, group.tx.room.pages)
            };
            if pages > most && step > 1 {
                step /= 2;
                continue;
            }
            let leases = self.lease_pages(queue, from, to);
            if !self.make_wal_room(&Cost::pages(pages + leases))? {
                // In a new transaction it may be another matter.
                continue;
            }
            let removed = self.group()?.remove_measured(queue, (from, to), there)?;
            self.early.open += removed;
            self.spare_the_disk()?;
            from = to + 1;
        }
        Ok(())
    }

    /// Pages of leases that removing `first..=last` dirties: all ranges there go, or become shorter.
    fn lease_pages(&self, queue: usize, first: u64, last: u64) -> u64 {
        let ranges = self.state.queues[queue].book.count();
        self.limits.lease_pages(ranges.min(last - first + 2), ranges)
    }

    /// Pushes old letters out until those of a commit are within the bounds; true when there were any. One large letter may
    /// push out more small ones than a transaction can take.
    pub(crate) fn drop_letters_for(&mut self, commit: &Commit) -> rusqlite::Result<bool> {
        if commit.dead.is_empty() && commit.letters.is_empty() {
            return Ok(false);
        }
        let letters = self.small_group()?.letters_of(commit)?;
        let mut any = false;
        loop {
            let group = self.small_group()?;
            if group.has_place_for(&letters)? {
                return Ok(any);
            }
            let Some(oldest) = group.oldest_letter()? else { return Ok(any) };
            let pages = removal_pages(1, stored_bytes(oldest.bytes), group.tx.room.pages);
            self.make_wal_room(&Cost::pages(pages))?;
            let mut group = self.group()?;
            if let Some(oldest) = group.oldest_letter()? {
                group.drop_letter(&oldest)?;
            }
            self.spare_the_disk()?;
            any = true;
        }
    }

    /// A full disk has no more room than the reserve had: what was done is written back after each step.
    fn spare_the_disk(&mut self) -> rusqlite::Result<()> {
        let written = self.tx.as_ref().map_or(0, Tx::dirty);
        if !self.disk_full || written <= self.limits.step_pages() / 2 {
            return Ok(());
        }
        self.cut_group()?;
        self.empty_wal()
    }
}

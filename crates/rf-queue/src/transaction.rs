//! The writer's transactions: room in the WAL before BEGIN, answers after COMMIT, and what happens when either fails.
//!
//! Invariant: outside of a transaction the [`crate::state::State`] in memory is what the database says. A transaction
//! that is undone is followed by loading the state again, whoever began it.

use std::fs;

use crate::admit::{Cost, Room};
use crate::answers::Answers;
use crate::errors::StoreError;
use crate::failure::{self, Kind};
use crate::group::{Group, Tx};
use crate::limits::{FIXED_PAGES, PAGE};
use crate::mailbox::Op;
use crate::space::free_bytes;
use crate::step::reached;
use crate::writer::{Writer, answer};

impl Writer {
    /// The open transaction; begins one when there is none.
    pub(crate) fn group(&mut self) -> rusqlite::Result<Group<'_>> {
        if self.tx.is_none() {
            self.begin()?;
        }
        Ok(Group {
            conn: &self.conn,
            state: &mut self.state,
            limits: &self.limits,
            max_dead: self.options.max_dead_letters,
            tx: self.tx.get_or_insert_default(),
        })
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // From here on nobody else writes.
        self.tx = Some(Tx::default());
        reached("begun");
        let version =
            self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.data_version != Some(version) {
            self.data_version = Some(version);
            self.room = None;
            self.wal.distrust();
        }
        let room =
            if let Some(room) = self.room { room } else { Room::look(&self.conn, <_>::default())? };
        self.file_pages = self.file_pages.max(room.pages);
        let clock = &self.options.clock;
        self.tx = Some(Tx {
            room,
            file_pages: self.file_pages,
            disk_pages: fs::metadata(&self.options.path).map_or(0, |meta| meta.len() / PAGE),
            wal_len: self.wal.len(),
            wal_frames: self.wal.frames(),
            wal_exact: self.wal.is_exact(),
            wall_ms: clock.wall_ms(),
            mono_ms: clock.mono_ms(),
            ..Tx::default()
        });
        Ok(())
    }

    /// Opens a transaction that the WAL can take `cost` in, ending the one that is open if need be; false when it did
    /// so, and whoever was admitted by the look of the old one must ask again.
    pub(crate) fn make_wal_room(&mut self, cost: &Cost) -> rusqlite::Result<bool> {
        if self.takes(cost)? {
            return Ok(true);
        }
        if !self.applied.is_empty() || self.tx.as_ref().is_some_and(Tx::has_written) {
            self.cut_group()?;
            self.begin_with_room(cost)?;
            return Ok(false);
        }
        self.begin_with_room(cost).map(|()| true)
    }

    pub(crate) fn takes(&mut self, cost: &Cost) -> rusqlite::Result<bool> {
        let group = self.group()?;
        let tables = group.tables();
        Ok(group.tx.takes(group.limits, cost, tables))
    }

    /// With nothing written in the open transaction: restarts the WAL if that is enough, else empties it.
    fn begin_with_room(&mut self, cost: &Cost) -> rusqlite::Result<()> {
        if self.takes(cost)? {
            return Ok(());
        }
        self.roll_back();
        if self.wal.restart(&self.conn)? {
            self.file_pages = 0;
            if self.takes(cost)? {
                return Ok(());
            }
            self.roll_back();
        }
        // An empty WAL is as good as it gets; what was admitted fits.
        self.empty_wal()
    }

    pub(crate) fn empty_wal(&mut self) -> rusqlite::Result<()> {
        if !self.wal.truncate(&self.conn)? {
            return Err(failure::wal_held());
        }
        self.file_pages = 0;
        Ok(())
    }

    /// Commits the open transaction and answers everybody in it.
    pub(crate) fn end_group(&mut self) {
        match self.end_transaction() {
            Ok(()) => self.answer_applied(),
            Err(error) => self.recover(&error),
        }
    }

    /// As [`Self::end_group`], in the middle of a request. What it has done in that transaction is done only now; when that
    /// fails it fails as well, while the others have been answered.
    pub(crate) fn cut_group(&mut self) -> rusqlite::Result<()> {
        let ended = self.end_transaction();
        match &ended {
            Ok(()) => self.answer_applied(),
            Err(error) => self.recover(error),
        }
        ended
    }

    /// Nothing is open: what was applied has been committed.
    pub(crate) fn answer_applied(&mut self) {
        if self.applied.is_empty() && !self.state.has_dropped() {
            return;
        }
        let removed = self.state.has_dropped() || self.applied.iter().any(|(op, _)| op.removes());
        self.publish();
        let mut commits = Answers::default();
        for (op, outcome) in self.applied.drain(..) {
            answer(op, outcome, &mut commits, &self.mailbox);
        }
        commits.send();
        if removed {
            self.shared.announce_room();
        }
        if self.wal.frames_to_copy() > self.limits.checkpoint_frames() {
            self.checkpointer.wake();
        } else if let Err(error) = self.wal.restart_if_cheap(&self.conn) {
            tracing::debug!(%error, "the WAL is restarted later");
        }
    }

    /// COMMIT; when it returns, what was applied is as durable as configured.
    pub(crate) fn end_transaction(&mut self) -> rusqlite::Result<()> {
        if self.tx.is_none() {
            return Ok(());
        }
        self.state.save(&self.conn, self.options.clock.as_ref())?;
        self.room = Some(Room::look(&self.conn, <_>::default())?);
        reached("before commit");
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        reached("after commit");
        self.early.commit();
        if let Some(tx) = self.tx.take() {
            self.check_estimate(&tx);
        }
        Ok(())
    }

    /// The byte bound stands on estimates from above.
    fn check_estimate(&self, tx: &Tx) {
        let frames = self.wal.frames();
        let written = frames.checked_sub(tx.wal_frames).unwrap_or(frames);
        debug_assert!(
            !tx.wal_exact || written <= tx.dirty(),
            "{written} frames written, {} expected: {tx:?}",
            tx.dirty()
        );
    }

    /// Undoes the open transaction, in which nothing was applied, or after which [`Writer::undo`] loads the state again.
    pub(crate) fn roll_back(&mut self) {
        if self.tx.take().is_some()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            // SQLite rolls back by itself on a full disk and on I/O errors.
            tracing::debug!(%error, "nothing to roll back");
        }
    }

    /// After an error: nothing of the transaction stands, neither on disk nor in memory.
    pub(crate) fn undo(&mut self, error: &rusqlite::Error) -> Kind {
        self.roll_back();
        self.early.undo();
        // What a failed commit has left in the files is not known.
        self.data_version = None;
        self.stop_if_damaged(error);
        if !self.stopped {
            match self.load_again() {
                // What was committed in the middle of a request has not been shown.
                Ok(()) => self.publish(),
                Err(error) => {
                    // With wrong counters nothing can be promised any more.
                    self.roll_back();
                    let path = self.options.path.display();
                    self.stop(format!("{path}: counters cannot be read again: {error}"));
                }
            }
        }
        failure::kind(error)
    }

    fn load_again(&mut self) -> rusqlite::Result<()> {
        self.state.reload(&self.conn, &self.options, &self.limits)?;
        if !self.parts_left {
            return Ok(());
        }
        self.remove_left_parts().or_else(|error| {
            self.roll_back();
            if failure::kind(&error) == Kind::DiskFull && self.make_room_on_disk(&error) {
                return self.remove_left_parts();
            }
            Err(error)
        })
    }

    /// On a full disk the removals in the undone transaction are tried again without the appends; everything else is
    /// answered with the error.
    pub(crate) fn recover(&mut self, error: &rusqlite::Error) {
        debug_assert!(
            self.tx.is_some() || self.applied.len() <= 1,
            "what was committed has been answered"
        );
        let ops: Vec<Op> = self.applied.drain(..).map(|(op, _)| op).collect();
        let kind = self.undo(error);
        if kind == Kind::DiskFull {
            self.make_room_on_disk(error);
            // In the middle of a request, what that has done is not forgotten for the others.
            let early = std::mem::take(&mut self.early);
            ops.into_iter().for_each(|op| self.serve_alone(op));
            self.early = early;
            return;
        }
        let path = self.options.path.display();
        tracing::error!(%path, %error, requests = ops.len(), "transaction refused by the database");
        let text = error.to_string();
        self.shared.request_failed(&text, self.options.clock.as_ref());
        let refusal = StoreError::Failed(text);
        ops.into_iter().for_each(|op| op.refuse(&refusal));
    }

    /// One request in a transaction of its own, without a second try.
    fn serve_alone(&mut self, mut op: Op) {
        if self.stopped {
            return op.refuse(&StoreError::Closed);
        }
        let result =
            self.apply(&mut op).and_then(|outcome| self.end_transaction().map(|()| outcome));
        match result {
            Ok(outcome) => {
                self.applied.push((op, outcome));
                self.answer_applied();
            }
            Err(error) => {
                self.undo(&error);
                op.refuse(&StoreError::Failed(error.to_string()));
            }
        }
    }

    /// Going on with a damaged file could make it worse, and could answer Ok for what cannot be read back.
    pub(crate) fn stop_if_damaged(&mut self, error: &rusqlite::Error) {
        if self.stopped || failure::kind(error) != Kind::Damaged {
            return;
        }
        crate::aside::mark(&self.options.path);
        let path = self.options.path.display();
        self.stop(format!("{path}: {error}; it is set aside and salvaged at the next start"));
    }

    fn stop(&mut self, text: String) {
        tracing::error!("{text}");
        self.stopped = true;
        self.mailbox.close();
        self.shared.fatal.send_replace(Some(text));
        self.shared.announce_room();
    }

    /// Gives up the reserve and empties the WAL into its place; false when even that failed.
    pub(crate) fn make_room_on_disk(&mut self, error: &rusqlite::Error) -> bool {
        let free = free_bytes(&self.options.path);
        let has_room = free.is_some_and(|free| free > self.limits.reserve());
        let freed = self.reserve.give_up();
        self.disk_fails(&failure::disk_reason(error, freed, has_room, self.wanted_on_disk()));
        let emptied = self.empty_wal();
        if let Err(error) = &emptied {
            tracing::error!(path = %self.options.path.display(), %error, "the WAL cannot be emptied");
        }
        emptied.is_ok()
    }

    /// The disk turned out to have no room.
    pub(crate) fn disk_is_full(&mut self) {
        self.disk_fails(&failure::full_disk(self.wanted_on_disk()));
    }

    /// From now on appends are refused, until the disk takes writes again.
    pub(crate) fn disk_fails(&mut self, reason: &str) {
        if self.disk_full {
            return;
        }
        self.disk_full = true;
        tracing::error!(path = %self.options.path.display(), state = "down", "new events are refused: {reason}");
        self.shared.disk_fails(reason, self.options.clock.as_ref());
    }

    /// Whether the disk has room for the WAL of this and for what the database grows by; asked only when the reserve could
    /// not pay for it.
    pub(crate) fn disk_takes(&self, cost: &Cost) -> bool {
        let pages = cost.rows.pages();
        if pages <= self.limits.reserve_pages() {
            return true;
        }
        // A disk that does not say is not asked.
        free_bytes(&self.options.path).is_none_or(|free| free > 2 * (pages + FIXED_PAGES) * PAGE)
    }
}

impl Tx {
    pub(crate) fn has_written(&self) -> bool {
        self.appended != <_>::default() || self.other > 0 || self.leases > 0
    }
}

impl Op {
    /// Whether it may have made room for blocked appends.
    fn removes(&self) -> bool {
        matches!(self, Self::Commit(commit, _) if commit.takes_out() > 0)
    }
}

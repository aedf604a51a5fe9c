//! The writer thread: takes what waits, applies it in one transaction, syncs once, answers everybody.
//!
//! One thread owns the connection and the [`State`]; nobody else writes to the event tables. Its loop:
//!
//! 1. take all requests that wait (sleeping only when there are none);
//! 2. do what is due: leases that ran out, events that are too old (see [`crate::housekeeping`]);
//! 3. BEGIN, apply as many as the WAL has room for, COMMIT, which syncs (see [`crate::transaction`]);
//! 4. only then answer, publish the counters and wake readers;
//! 5. with nothing waiting: keep house, and hibernate.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

use crate::admit::{Admission, Cost, Room};
use crate::ahead::Early;
use crate::answers::Answers;
use crate::clock::millis;
use crate::errors::{CommitError, FullReason, StoreError};
use crate::group::{Group, Tx};
use crate::handed::Handed;
use crate::housekeeping::Housekeeping;
use crate::limits::{LEASE_CHANGE, Limits};
use crate::mailbox::{Mailbox, Op};
use crate::rows::{self, Found, read};
use crate::shared::Shared;
use crate::space::{Checkpointer, FileNumber, Reserve, Wal};
use crate::sql;
use crate::state::State;
use crate::types::{Checkpoint, Commit, LeaseNote, Leased, Receipt, StoreOptions};

/// Requests answered by one transaction at the most.
const MAX_GROUP_OPS: usize = 2048;

/// The thread's belongings; made by [`crate::open`], run by [`Writer::run`].
pub(crate) struct Writer {
    pub(crate) conn: Connection,
    pub(crate) state: State,
    pub(crate) limits: Limits,
    pub(crate) options: StoreOptions,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) wal: Wal,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) reserve: Reserve,
    /// Set while the disk has no room, or cannot be written: appends are refused until it takes a write again.
    pub(crate) disk_full: bool,
    /// An append was refused because it alone is more than the disk has room for: whoever waits is to try again.
    pub(crate) disk_refused: bool,
    /// `PRAGMA data_version` at the last BEGIN: it moves when the command line writes. What is known of the files by
    /// counting holds only while it stands still.
    pub(crate) data_version: Option<i64>,
    /// Pages of the file at the last COMMIT.
    pub(crate) room: Option<Room>,
    /// The file that is open.
    pub(crate) file: Option<FileNumber>,
    /// Most pages that the database had since all of the WAL was last written back: the file is cut only then.
    pub(crate) file_pages: u64,
    /// An append in parts has failed, and its rows are still there.
    pub(crate) parts_left: bool,
    /// Nothing can be promised any more: everything is refused until the thread ends.
    pub(crate) stopped: bool,
    pub(crate) housekeeping: Housekeeping,
    /// The open transaction.
    pub(crate) tx: Option<Tx>,
    /// Requests applied in the open transaction, answered after its commit.
    pub(crate) applied: Vec<(Op, Outcome)>,
    /// What the commit at hand has removed ahead of its rest.
    pub(crate) early: Early,
}

/// What a request led to, once its transaction is committed.
pub(crate) enum Outcome {
    Commit(Result<Receipt, CommitError>),
    Leased(Leased),
    Released(u64),
    Extended(bool),
    Done,
}

impl Writer {
    /// Serves until the store is closed or hibernates. When it returns, the files are closed.
    pub(crate) fn run(mut self) {
        loop {
            let taken = self.mailbox.take(self.patience());
            let idle = taken.ops.is_empty();
            self.do_what_is_due(&taken.ops);
            self.serve(taken.ops);
            if taken.turned_away {
                self.shared.announce_room();
            }
            self.keep_house(idle);
            if idle && self.wants_to_retire() {
                return self.retire();
            }
        }
    }

    fn retire(mut self) {
        if !self.stopped
            && let Err(error) = self.wal.truncate(&self.conn)
        {
            tracing::debug!(%error, "WAL left for the next start");
        }
        self.checkpointer.stop();
        // The next start needs a little room as well.
        if self.disk_full {
            self.fill_reserve();
        } else {
            self.keep_reserve();
        }
    }

    fn serve(&mut self, ops: Vec<Op>) {
        if self.stopped {
            return ops.into_iter().for_each(|op| op.refuse(&StoreError::Closed));
        }
        let (reads, writes): (Vec<Op>, Vec<Op>) = ops.into_iter().partition(Op::is_read);
        for op in writes {
            if self.applied.len() >= MAX_GROUP_OPS {
                self.end_group();
            }
            self.serve_write(op);
        }
        self.end_group();
        // After the commits: a reader may see everything that is durable by now, and nothing that is not.
        reads.into_iter().for_each(|op| self.answer_read(op));
    }

    /// Applies one request in the open transaction. When that fails, the whole transaction is undone and everybody in it
    /// is told; what was answered before was committed before.
    fn serve_write(&mut self, mut op: Op) {
        if self.stopped {
            return op.refuse(&StoreError::Closed);
        }
        match self.apply(&mut op) {
            Ok(outcome) => {
                self.applied.push((op, outcome));
                if self.tx.is_none() {
                    // Committed already: what fails from here on is none of its business.
                    self.answer_applied();
                }
            }
            Err(error) => {
                self.applied.push((op, Outcome::Done));
                self.recover(&error);
            }
        }
        if self.tx.as_ref().is_some_and(|tx| tx.dirty() > self.limits.group_pages()) {
            self.end_group();
        }
    }

    pub(crate) fn apply(&mut self, op: &mut Op) -> rusqlite::Result<Outcome> {
        match op {
            Op::Commit(commit, reply) => {
                self.apply_commit(commit, &mut reply.removed).map(Outcome::Commit)
            }
            Op::Lease { queue, budget, ttl, note, .. } => {
                let mut group = self.lease_group(queue.0, budget.events as u64)?;
                let leased = group.lease(queue.0, *budget, millis(*ttl))?;
                group.count_leases();
                // Left in the request: on a full disk it is applied once more.
                if let Some(LeaseNote { key, name }) =
                    note.as_ref().filter(|_| !leased.events.is_empty())
                {
                    let value = Some(format!("{} {name}", leased.token).into_bytes());
                    group.checkpoint(&Checkpoint { key: key.clone(), value })?;
                }
                Ok(Outcome::Leased(leased))
            }
            Op::Release { queue, ids, .. } => {
                let mut group = self.lease_group(queue.0, 3 * ids.len() as u64)?;
                let released = group.release(queue.0, ids);
                group.count_leases();
                Ok(Outcome::Released(released))
            }
            Op::Extend { queue, token, ttl, .. } => {
                let mut group = self.lease_group(queue.0, 0)?;
                let extended = group.extend(queue.0, *token, millis(*ttl));
                group.count_leases();
                Ok(Outcome::Extended(extended))
            }
            _ => Ok(Outcome::Done),
        }
    }

    /// `removed` is what earlier tries have removed for good.
    fn apply_commit(
        &mut self,
        commit: &mut Commit,
        removed: &mut u64,
    ) -> rusqlite::Result<Result<Receipt, CommitError>> {
        if self.small_group()?.is_repeat(commit)? {
            return Ok(Ok(Receipt { duplicate: true, removed: 0 }));
        }
        self.early = Early::after(*removed);
        let ahead = self.take_ahead(commit);
        let result = match self.go_ahead(&ahead) {
            Ok(Ok(())) => self.apply_rest(commit),
            Ok(Err(refused)) => Ok(Err(refused)),
            Err(error) => Err(error),
        };
        // Left in the request: on a full disk it is applied once more.
        ahead.give_back(commit);
        let early = std::mem::take(&mut self.early);
        *removed = early.kept();
        if *removed > 0 {
            self.shared.announce_room();
        }
        let total =
            |receipt: Receipt| Receipt { removed: receipt.removed + early.open(), ..receipt };
        result.map(|outcome| outcome.map(total))
    }

    /// Applies an admitted commit, but for what goes ahead of it.
    pub(crate) fn apply_rest(
        &mut self,
        commit: &Commit,
    ) -> rusqlite::Result<Result<Receipt, CommitError>> {
        let (mut shrunk, mut tidied) = (false, false);
        loop {
            if self.disk_full && !commit.appends.is_empty() {
                return Ok(Err(self.full(commit, FullReason::Disk)));
            }
            match self.small_group()?.admit(commit)? {
                Admission::Refuse(error) => return Ok(Err(error)),
                Admission::DropOldest(queue, bytes) => {
                    self.drop_oldest(queue, bytes)?;
                    (shrunk, tidied) = (false, false);
                }
                Admission::InParts => return self.apply_in_parts(commit).map(Ok),
                Admission::Tidy if tidied => {
                    return Ok(Err(self.full(commit, FullReason::Store)));
                }
                Admission::Tidy => {
                    self.tidy_all()?;
                    tidied = true;
                }
                Admission::Shrink if shrunk => {
                    return Ok(Err(self.full(commit, FullReason::Store)));
                }
                Admission::Shrink => {
                    self.shrink_for_wal()?;
                    shrunk = true;
                }
                Admission::Now(cost) if !self.disk_takes(&cost) => {
                    self.disk_refused = true;
                    return Ok(Err(self.full(commit, FullReason::Disk)));
                }
                Admission::Now(cost) => {
                    if self.drop_letters_for(commit)? {
                        // There are new pages to give back.
                        shrunk = false;
                    } else if self.make_wal_room(&cost)? {
                        return self.group()?.apply(commit).map(Ok);
                    }
                }
            }
        }
    }

    fn full(&self, commit: &Commit, reason: FullReason) -> CommitError {
        let queue =
            commit.appends.first().map(|append| self.state.queues[append.queue.0].name.clone());
        CommitError::Full { queue: queue.unwrap_or_default(), reason }
    }

    fn answer_read(&mut self, op: Op) {
        if self.stopped {
            return op.refuse(&StoreError::Closed);
        }
        match op {
            Op::Read { queue, after, budget, reply } => {
                let state = &mut self.state.queues[queue.0];
                let pieces = state.pieces(after.saturating_add(1), u64::MAX);
                let found = read(&self.conn, pieces, budget, true);
                if let Some((span, there)) = found.as_ref().ok().and_then(Found::measured) {
                    state.sizes.remember(span, there);
                }
                send(
                    reply,
                    found.map(|found| found.events).map_err(|error| self.read_failed(&error)),
                );
            }
            Op::Checkpoint { key, reply } => {
                let found = self
                    .conn
                    .prepare_cached(sql::GET_CHECKPOINT)
                    .and_then(|mut select| select.query_row([key], |row| row.get(0)).optional());
                send(reply, found.map_err(|error| self.read_failed(&error)));
            }
            Op::Checkpoints { prefix, reply } => {
                let found = rows::checkpoints(&self.conn, &prefix);
                send(reply, found.map_err(|error| self.read_failed(&error)));
            }
            other => self.serve_write(other),
        }
    }

    fn read_failed(&mut self, error: &rusqlite::Error) -> StoreError {
        self.stop_if_damaged(error);
        let text = error.to_string();
        self.shared.request_failed(&text, self.options.clock.as_ref());
        StoreError::Failed(text)
    }

    pub(crate) fn publish(&mut self) {
        let pages = self.room.map_or(0, |room| room.used());
        let passed: u64 = self.state.queues.iter().map(|queue| queue.segments.passed()).sum();
        let now = self.options.clock.mono_ms();
        // What has been passed makes room as soon as that is needed.
        let used = (pages * crate::limits::PAGE).saturating_sub(passed);
        self.state.publish(&self.shared, &self.options.path, used, now);
        for queue in &mut self.state.queues {
            queue.tell_of_clock(&self.options.path);
        }
        if let Some(watch) = &self.options.drops {
            for queue in &mut self.state.queues {
                for (why, picked) in queue.picked.drain(..) {
                    (watch.tell)(&queue.name, why, &picked);
                }
            }
        }
    }

    /// A transaction with room for changing each range of a queue's leases, and so many more.
    pub(crate) fn lease_group(&mut self, queue: usize, more: u64) -> rusqlite::Result<Group<'_>> {
        let ranges = self.state.queues[queue].book.count();
        let leases = self.limits.lease_pages(more.saturating_add(ranges), ranges);
        let pages = SMALL_CHANGE.max(leases + LEASE_CHANGE);
        self.make_wal_room(&Cost::growing(pages, self.limits.lease_growth(more)))?;
        self.group()
    }

    /// A transaction with room for a change of a few rows.
    pub(crate) fn small_group(&mut self) -> rusqlite::Result<Group<'_>> {
        self.make_wal_room(&Cost::pages(SMALL_CHANGE))?;
        self.group()
    }
}

/// Pages of a lease with its note, a release, an extension, a batch id that is remembered anew.
const SMALL_CHANGE: u64 = 8;

pub(crate) fn answer(op: Op, outcome: Outcome, commits: &mut Answers, mailbox: &Arc<Mailbox>) {
    match (op, outcome) {
        (Op::Commit(_, reply), Outcome::Commit(result)) => {
            let earlier = reply.removed;
            let total =
                |receipt: Receipt| Receipt { removed: receipt.removed + earlier, ..receipt };
            commits.add(reply, result.map(total));
        }
        (Op::Lease { queue, reply, .. }, Outcome::Leased(leased)) => {
            send(reply, Ok(Handed::new(leased, queue, mailbox)));
        }
        (Op::Release { reply, .. }, Outcome::Released(count)) => send(reply, Ok(count)),
        (Op::Extend { reply, .. }, Outcome::Extended(found)) => send(reply, Ok(found)),
        (Op::Poke(reply), _) => send(reply, Ok(())),
        (op, _) => op.refuse(&StoreError::Failed("answered out of order".to_owned())),
    }
}

/// Nobody may be waiting any more; what was done stays done.
fn send<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

#[cfg(test)]
mod tests;

//! What the writer does besides answering: leases that ran out, the age limit, room for new events, dead letters that are
//! to be tried again, giving space back, and deciding when to sleep.

use std::time::Duration;

use rusqlite::OptionalExtension;

use crate::admit::{Admission, Cost, Room};
use crate::clock::millis;
use crate::failure::Kind;
use crate::limits::{PAGE, removal_pages, stored_bytes};
use crate::mailbox::Op;
use crate::queue_state::QueueState;
use crate::schema::count_try;
use crate::space::{free_bytes, is_at, is_worth_shrinking, shrink_step};
use crate::sql;
use crate::tidy::first_rows;
use crate::types::{Commit, Dropped, QueueId};
use crate::writer::Writer;

/// How often the writer looks for work that nobody announces: dead letters marked by the command line, a disk that has
/// room again, free pages.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Why nothing is put into a file that is not where it was.
const FILE_GONE: &str = "the database's file was removed, or another one is in its place: put it back, or restart once all that waits is delivered";
/// Idle this long, the place of what has left is given back, and the WAL is emptied, so that its file shrinks.
const SETTLE_AFTER_MS: u64 = 5_000;

/// When things were last done.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    looked_at_ms: u64,
    idle_since_ms: Option<u64>,
    /// `PRAGMA data_version` when dead letters were last looked at.
    letters_seen_at: Option<i64>,
    /// What is done once in an idle time has been done.
    settled: bool,
    /// The latest requests only read: they did not wait until the place of what has left was given back.
    is_untidy: bool,
    reserved: bool,
    reserve_tried: bool,
    failed: bool,
}

impl Writer {
    /// How long the writer may sleep when nothing waits.
    pub(crate) fn patience(&self) -> Duration {
        let clock = &self.options.clock;
        let lease = self.state.next_lease_expiry().map(|at| at.saturating_sub(clock.mono_ms()));
        let age = self.state.queues.iter().filter_map(QueueState::age_due).min();
        let age = age.map(|at| at.saturating_sub(clock.wall_ms()));
        let due = [lease, age].into_iter().flatten().min().unwrap_or(u64::MAX);
        let due = Duration::from_millis(due).min(LOOK_AROUND);
        // What could not be done just now is not tried again at once.
        if self.housekeeping.failed { LOOK_AROUND } else { due }
    }

    pub(crate) fn wants_to_retire(&self) -> bool {
        if self.mailbox.is_closed() {
            return true;
        }
        let idle = self
            .housekeeping
            .idle_since_ms
            .map(|since| self.options.clock.mono_ms().saturating_sub(since));
        let quiet = self.state.next_lease_expiry().is_none() && !self.disk_full;
        matches!((idle, self.options.idle_close), (Some(idle), Some(limit)) if quiet && idle >= millis(limit))
    }

    /// Returns leases that ran out and drops events that are too old: one step of each queue, so that nobody waits for a
    /// large backlog to go. When poked, all of them, and dead letters are tried again without waiting for an idle time. The
    /// place of what has left is given back with the next write, or when there is time for it: who only reads would wait for
    /// that, and for a sync. Behind reads without a pause it is looked at once in a while.
    pub(crate) fn do_what_is_due(&mut self, ops: &[Op]) {
        if self.stopped {
            return;
        }
        let poked = ops.iter().any(|op| matches!(op, Op::Poke(_)));
        let is_read = !ops.is_empty() && ops.iter().all(Op::is_read);
        let mut result = self.return_leases().and_then(|()| self.drop_aged(poked));
        if poked && result.is_ok() {
            result = self.retry_dead_letters();
        }
        self.housekeeping.is_untidy = is_read;
        if !is_read {
            result = result.and_then(|()| self.tidy());
        }
        self.housekeeping.failed = result.is_err();
        self.put_off(result);
    }

    /// What nobody waits for.
    pub(crate) fn keep_house(&mut self, idle: bool) {
        if self.stopped {
            return;
        }
        let now = self.options.clock.mono_ms();
        if !idle {
            self.housekeeping.idle_since_ms = None;
            self.housekeeping.settled = false;
            // The first event is not long without a reserve, in case that the disk fills up in its first moments.
            if !self.housekeeping.reserve_tried {
                self.keep_reserve();
            }
            // A store that is never idle is looked at all the same.
            if now.saturating_sub(self.housekeeping.looked_at_ms) < millis(LOOK_AROUND) {
                return;
            }
        }
        self.housekeeping.looked_at_ms = now;
        let since = if idle { *self.housekeeping.idle_since_ms.get_or_insert(now) } else { now };
        self.check_file();
        self.keep_reserve();
        if std::mem::take(&mut self.disk_refused) {
            // Nobody says when others have made room on the disk. Whoever finds none is refused once more.
            self.shared.announce_room();
        }
        let result = self
            .retry_dead_letters()
            .and_then(|()| self.tidy_behind_reads())
            .and_then(|()| self.give_space_back(now.saturating_sub(since)));
        self.put_off(result);
    }

    /// Where requests only read, and come without a pause, nothing else gives the place of what has left back.
    fn tidy_behind_reads(&mut self) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.housekeeping.is_untidy) {
            self.tidy()?;
            self.end_transaction()?;
        }
        Ok(())
    }

    /// What is put into a file that was removed is lost with the end of the process: no new events are accepted. Those in it
    /// are still delivered.
    fn check_file(&mut self) {
        if !self.has_its_file() {
            self.disk_fails(FILE_GONE);
        }
    }

    fn has_its_file(&self) -> bool {
        self.file.is_none_or(|file| is_at(&self.options.path, file))
    }

    /// What failed is undone and met again at the next turn.
    fn put_off(&mut self, result: rusqlite::Result<()>) {
        let Err(error) = result else { return };
        tracing::warn!(path = %self.options.path.display(), %error, "housekeeping failed, trying again later");
        if self.undo(&error) == Kind::DiskFull {
            self.make_room_on_disk(&error);
        }
    }

    /// A store that has never held an event needs no reserve; one whose disk was full takes appends again once it is back.
    pub(crate) fn keep_reserve(&mut self) {
        let wanted = self.disk_full || self.state.queues.iter().any(|queue| queue.events > 0);
        if !wanted || (self.housekeeping.reserved && !self.disk_full) {
            return;
        }
        self.housekeeping.reserve_tried = true;
        if self.disk_full {
            self.try_disk();
        } else {
            self.housekeeping.reserved = self.fill_reserve();
        }
    }

    /// Makes the reserve, if there is room for it.
    pub(crate) fn fill_reserve(&self) -> bool {
        let filled = self.reserve.fill();
        if let Err(error) = &filled {
            tracing::debug!(path = %self.options.path.display(), %error, "no room for the reserve");
        }
        filled.is_ok()
    }

    /// Takes events again once the disk takes writes, and has some room for them.
    fn try_disk(&mut self) {
        if let Err(reason) = self.write_to_disk() {
            tracing::debug!(path = %self.options.path.display(), reason, "the disk still accepts no writes");
            return;
        }
        tracing::info!(path = %self.options.path.display(), state = "up", "the disk accepts writes again, and new events are accepted");
        self.disk_full = false;
        self.shared.disk_works();
        self.shared.announce_room();
    }

    fn write_to_disk(&mut self) -> Result<(), String> {
        if !self.has_its_file() {
            return Err(FILE_GONE.to_owned());
        }
        // What has been removed since may have made room, once the files follow.
        self.empty_wal().map_err(|error| error.to_string())?;
        let wanted = self.wanted_on_disk();
        if free_bytes(&self.options.path).is_some_and(|free| free < wanted) {
            return Err(format!("less than {wanted} bytes are free"));
        }
        self.reserve.fill().map_err(|error| error.to_string())?;
        // A disk that may only be read has the reserve, and room.
        self.write_something().map_err(|error| {
            self.undo(&error);
            drop(self.reserve.give_up());
            error.to_string()
        })
    }

    /// Bytes that a full disk must have free before events are taken again: with room for the reserve alone the next few
    /// would fill it again. Even where as much leaves as comes, the WAL takes half of the reserve's size before the checkpoint
    /// thread is woken ([`crate::limits::Limits::checkpoint_frames`]), and goes on growing until it is done.
    pub(crate) fn wanted_on_disk(&self) -> u64 {
        let reserve = self.limits.reserve();
        if self.reserve.exists() { reserve } else { 2 * reserve }
    }

    fn write_something(&mut self) -> rusqlite::Result<()> {
        let group = self.small_group()?;
        count_try(group.conn)?;
        group.tx.other += 2;
        self.end_transaction()
    }

    fn return_leases(&mut self) -> rusqlite::Result<()> {
        let now = self.options.clock.mono_ms();
        if self.state.next_lease_expiry().is_none_or(|at| at > now) {
            return Ok(());
        }
        for queue in 0..self.state.queues.len() {
            if self.state.queues[queue].book.next_expiry().is_some_and(|at| at <= now) {
                self.lease_group(queue, 0)?.expire(queue, now);
            }
        }
        self.end_transaction()?;
        self.publish();
        Ok(())
    }

    fn drop_aged(&mut self, all: bool) -> rusqlite::Result<()> {
        let wall = self.options.clock.wall_ms();
        for index in 0..self.state.queues.len() {
            while self.state.queues[index].age_due().is_some_and(|due| due <= wall) {
                let max_age = self.state.queues[index].max_age_ms.unwrap_or(0);
                self.drop_step(index, (wall.saturating_sub(max_age), u64::MAX), Dropped::Aged)?;
                self.end_transaction()?;
                self.publish();
                self.shared.announce_room();
                if !all {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes room for an append, in the append's own transaction unless that needs their place.
    pub(crate) fn drop_oldest(&mut self, index: usize, bytes: u64) -> rusqlite::Result<()> {
        self.drop_step(index, (u64::MAX, bytes), Dropped::Full)
    }

    /// Removes the oldest events, up to a bounded step: those stored at or before `most.0`, until `most.1` bytes are free.
    fn drop_step(&mut self, index: usize, most: (u64, u64), why: Dropped) -> rusqlite::Result<()> {
        let pages = self.limits.step_pages();
        let pick = self.options.drops.as_ref().map(|watch| watch.pick);
        self.make_wal_room(&Cost::pages(pages))?;
        let mut group = self.group()?;
        let pieces = group.state.queues[index].pieces(0, u64::MAX);
        let first_and_last = first_rows(group.conn, pieces, most, pages, group.tx.room.pages)?;
        if let Some((first, last)) = first_and_last {
            if let Some(pick) = pick {
                let picked = group.pick(index, (first, last), pick)?;
                group.state.queues[index].picked.push((why, picked));
            }
            let dropped = group.remove_run(index, first, last)?;
            group.state.queues[index].count_dropped(why, dropped);
        } else {
            // A head or counters that speak of events that are not there would be waited for for ever.
            group.state.queues[index].look_again(group.conn)?;
        }
        Ok(())
    }

    /// Moves dead letters that the command line marked back into their queues, one commit each, as far as there is room.
    fn retry_dead_letters(&mut self) -> rusqlite::Result<()> {
        let version: i64 =
            self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.housekeeping.letters_seen_at == Some(version) {
            return Ok(());
        }
        let (mut after, mut all) = (0i64, true);
        loop {
            let found: Option<(i64, String)> = self
                .conn
                .prepare_cached(sql::NEXT_RETRY)?
                .query_row([after], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, queue)) = found else { break };
            after = id;
            if !self.mailbox.is_empty() {
                all = false;
                break;
            }
            all &= self.retry_dead_letter(id, &queue)?;
        }
        self.state.count_dead(&self.conn)?;
        self.publish();
        // Letters that were purged have made room.
        self.shared.announce_room();
        self.housekeeping.letters_seen_at = all.then_some(version);
        Ok(())
    }

    /// False when there was no room for it.
    fn retry_dead_letter(&mut self, id: i64, queue: &str) -> rusqlite::Result<bool> {
        let Some(index) = self.state.queues.iter().position(|q| q.name == queue) else {
            tracing::warn!(queue, id, "dead letter cannot be retried: no such queue is configured");
            return Ok(true);
        };
        // Read within the transaction: the command line may be editing it.
        let Some(content) = self.marked_letter(id)? else { return Ok(true) };
        let commit = Commit::append(QueueId(index), vec![content.clone().into()]);
        match self.group()?.admit(&commit)? {
            Admission::Now(cost) if !self.disk_full => {
                let pages = self.room.map_or(0, |room| room.pages);
                let freed = removal_pages(1, stored_bytes(content.len() as u64), pages);
                self.make_wal_room(&cost.plus_pages(freed))?;
            }
            Admission::Shrink => return self.shrink_for_wal().map(|()| false),
            Admission::Tidy => return self.tidy_all().map(|()| false),
            _ => {
                self.roll_back();
                return Ok(false);
            }
        }
        // Making room may have begun a new transaction.
        if self.marked_letter(id)?.as_ref() != Some(&content) {
            self.roll_back();
            return Ok(false);
        }
        let mut group = self.group()?;
        group.apply(&commit)?;
        group.conn.prepare_cached(sql::DELETE_DEAD)?.execute([id])?;
        self.end_transaction()?;
        Ok(true)
    }

    fn marked_letter(&mut self, id: i64) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut select = self.small_group()?.conn.prepare_cached(sql::GET_RETRY)?;
        select.query_row([id], |row| row.get(0)).optional()
    }

    fn give_space_back(&mut self, idle_ms: u64) -> rusqlite::Result<()> {
        let is_idle = idle_ms >= SETTLE_AFTER_MS && !self.housekeeping.settled;
        if is_idle {
            self.tidy_up()?;
        }
        let room = Room::look(&self.conn, <_>::default())?;
        // At work, an emptied segment or two are about to be filled again.
        let kept = if is_idle { 0 } else { 2 * self.segment_bytes().div_ceil(PAGE) };
        if is_worth_shrinking(room.pages, room.free.saturating_sub(kept)) {
            // One step at a time, so that a request that comes meanwhile waits for one step only.
            while self.shrink_one_step()? && self.mailbox.is_empty() {}
            self.empty_wal()?;
        }
        if is_idle {
            if self.wal.frames() > 0 {
                self.empty_wal()?;
            }
            self.housekeeping.settled = true;
            // What was cached of events that have left is of no use.
            self.conn.execute_batch("PRAGMA shrink_memory")?;
        }
        Ok(())
    }

    /// Gives all free pages of the file back, because the WAL needs their place.
    pub(crate) fn shrink_for_wal(&mut self) -> rusqlite::Result<()> {
        self.cut_group()?;
        while self.shrink_one_step()? {}
        self.empty_wal()
    }

    /// False when no page is free.
    fn shrink_one_step(&mut self) -> rusqlite::Result<bool> {
        let large = Cost::pages(self.limits.group_pages());
        let step = if self.takes(&large)? { large } else { Cost::pages(self.limits.step_pages()) };
        self.make_wal_room(&step)?;
        let group = self.group()?;
        let before = group.look()?.free;
        // A page that moves is written, and so are its parent and the map of both.
        shrink_step(group.conn, step.other.div_ceil(4))?;
        group.tx.other += step.other;
        let after = group.look()?.free;
        self.end_transaction()?;
        Ok(after > 0 && after < before)
    }
}

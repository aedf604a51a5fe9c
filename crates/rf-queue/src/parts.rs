//! Appends that the WAL cannot take at once.
//!
//! A WAL has to hold a whole transaction, so one that is as large as half of the store could never be committed. Such an
//! append is written in parts: the rows get the ids that come next, in as many transactions as it takes, and a last one
//! moves the counters over them, together with everything else in the commit. Until then the rows do not count: an id
//! from `next_id` on is nobody's.
//!
//! Invariant: whenever requests are served, no row has an id from its queue's `next_id` on. The writer serves nobody
//! between the parts; rows that a failed or killed append left are removed before it serves again.

use bytes::Bytes;
use rusqlite::params;

use crate::admit::Cost;
use crate::limits::{PageEstimate, stored_bytes};
use crate::rows::sql_id;
use crate::step::reached;
use crate::types::{Commit, Receipt};
use crate::writer::Writer;

/// Rows without a count removed by one statement.
const REMOVED_AT_ONCE: u64 = 8;

impl Writer {
    /// Applies an admitted commit; the answer is as durable as any when it returns.
    pub(crate) fn apply_in_parts(&mut self, commit: &Commit) -> rusqlite::Result<Receipt> {
        self.cut_group()?;
        let result = self.write_parts(commit).and_then(|times| self.count_parts(commit, &times));
        if result.is_err() {
            // The error goes to the caller, who undoes the open transaction; the parts before it stand.
            self.roll_back();
            self.parts_left = true;
        }
        result
    }

    /// The rows, in parts; the time that those of each append were given.
    fn write_parts(&mut self, commit: &Commit) -> rusqlite::Result<Vec<u64>> {
        let wall = self.options.clock.wall_ms();
        let mut times = Vec::new();
        let mut next_ids: Vec<u64> = self.state.queues.iter().map(|queue| queue.next_id).collect();
        for append in &commit.appends {
            let queue = append.queue.0;
            let at = self.state.queues[queue].time_of_next(wall);
            times.push(at);
            let mut rest = &append.events[..];
            while !rest.is_empty() {
                let (cost, count) = self.next_part(rest);
                let (part, later) = rest.split_at(count);
                self.write_part(queue, (next_ids[queue], at), (part, &cost))?;
                next_ids[queue] += count as u64;
                rest = later;
            }
        }
        Ok(times)
    }

    /// As many events as fit beside a database of any size, and at least one.
    fn next_part(&self, events: &[Bytes]) -> (Cost, usize) {
        let file_pages = self.room.map_or(0, |room| room.pages);
        let mut rows = PageEstimate::of_row(events[0].len() as u64);
        let mut count = 1;
        for event in &events[1..] {
            let mut more = rows;
            more.add_row(event.len() as u64);
            if more.dirty_pages(file_pages) > self.limits.step_pages() {
                break;
            }
            (rows, count) = (more, count + 1);
        }
        (Cost::of_rows(rows, 0), count)
    }

    fn write_part(
        &mut self,
        queue: usize,
        first: (u64, u64),
        part: (&[Bytes], &Cost),
    ) -> rusqlite::Result<()> {
        let ((id, at), (events, cost)) = (first, part);
        self.make_wal_room(cost)?;
        let group = self.group()?;
        group.tx.appended = cost.rows;
        let mut insert =
            group.conn.prepare_cached(&group.state.queues[queue].segments.newest().insert)?;
        for (id, event) in (id..).zip(events) {
            insert.execute(params![sql_id(id), sql_id(at), &event[..]])?;
        }
        drop(insert);
        reached("part written");
        self.end_transaction()
    }

    fn count_parts(&mut self, commit: &Commit, times: &[u64]) -> rusqlite::Result<Receipt> {
        let rest = Commit { appends: Vec::new(), ..commit.clone() };
        self.drop_letters_for(&rest)?;
        let cost = self.small_group()?.cost(&rest)?;
        self.make_wal_room(&cost)?;
        let mut group = self.group()?;
        let receipt = group.apply(&rest)?;
        let appends = commit.appends.iter().zip(times);
        for (append, &at) in appends.filter(|(append, _)| !append.events.is_empty()) {
            let queue = &mut group.state.queues[append.queue.0];
            for event in &append.events {
                queue.count_in(queue.next_id, at, event.len() as u64);
                queue.segments.grow(stored_bytes(event.len() as u64));
            }
            (queue.last_at, queue.dirty, queue.announce) = (at, true, true);
        }
        self.end_transaction()?;
        self.publish();
        Ok(receipt)
    }

    /// Removes rows that no counter speaks of.
    pub(crate) fn remove_left_parts(&mut self) -> rusqlite::Result<()> {
        for queue in 0..self.state.queues.len() {
            let from = self.state.queues[queue].next_id;
            let ends = self.state.queues[queue].segments.newest().ends.clone();
            let newest: Option<u64> =
                self.conn.prepare_cached(&ends)?.query_row([], |row| row.get(1))?;
            let Some(mut last) = newest.filter(|&newest| newest >= from) else { continue };
            tracing::info!(
                queue = self.state.queues[queue].name,
                "rows of an unfinished append are removed"
            );
            // From the end, so that a kill leaves no gap that would be taken for the end.
            while last >= from {
                let first = from.max((last + 1).saturating_sub(REMOVED_AT_ONCE));
                let pages = self.limits.step_pages();
                let step = Cost::pages(pages);
                if !self.takes(&step)? {
                    // Not left to making room: that undoes what fails, which would come here again, and again.
                    self.end_transaction()?;
                }
                self.make_wal_room(&step)?;
                let group = self.group()?;
                group
                    .conn
                    .prepare_cached(&group.state.queues[queue].segments.newest().delete)?
                    .execute([sql_id(first), sql_id(last)])?;
                group.tx.other += pages;
                last = first - 1;
            }
        }
        self.parts_left = false;
        self.end_transaction()
    }
}

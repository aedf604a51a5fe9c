//! How events leave a queue: at its front a counter passes them, elsewhere their rows are deleted (see [`crate::segments`]).

use rusqlite::params;

use crate::group::Group;
use crate::limits::removal_pages;

/// Rows of a range of ids, as counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
}

impl Group<'_> {
    pub(crate) fn remove_run(
        &mut self,
        queue: usize,
        first: u64,
        last: u64,
    ) -> rusqlite::Result<u64> {
        let known = self.state.queues[queue].sizes.of(first, last);
        let there = known.map_or_else(|| self.measure(queue, first, last), Ok)?;
        self.remove_measured(queue, (first, last), there)
    }

    /// Removes `span`, which holds `there`.
    pub(crate) fn remove_measured(
        &mut self,
        queue: usize,
        span: (u64, u64),
        there: Measure,
    ) -> rusqlite::Result<u64> {
        self.forget_leases(queue, span);
        if there.events == 0 {
            return Ok(0);
        }
        if self.passes(queue, span.0)? {
            self.pass(queue, span, there)?;
        } else {
            self.delete(queue, span, there)?;
        }
        Ok(there.events)
    }

    /// Whether events from `first` on, which are there, are passed when they leave, which costs no page, rather than deleted.
    pub(crate) fn passes(&mut self, queue: usize, first: u64) -> rusqlite::Result<bool> {
        let is_tight = self.limits.is_tight(self.tx.room.used());
        Ok(!is_tight && self.state.queues[queue].is_front(self.conn, first)?)
    }

    /// Moves the front of the queue behind `span`.
    fn pass(&mut self, queue: usize, span: (u64, u64), there: Measure) -> rusqlite::Result<()> {
        let last = span.1.min(self.state.queues[queue].next_id - 1);
        // What lies in earlier segments is emptied with them.
        let in_last = self.state.queues[queue].pieces(span.0, last).last();
        let from = in_last.map_or(span.0, |piece| piece.first);
        let bytes =
            if from <= span.0 { there.stored } else { self.measure(queue, from, last)?.stored };
        let state = &mut self.state.queues[queue];
        state.segments.pass(last, bytes);
        state.count_out(span.0, last, there);
        state.removed = last;
        Ok(())
    }

    pub(crate) fn delete(
        &mut self,
        queue: usize,
        span: (u64, u64),
        there: Measure,
    ) -> rusqlite::Result<()> {
        let state = &mut self.state.queues[queue];
        for piece in state.pieces(span.0, span.1) {
            self.conn.prepare_cached(&piece.sql.delete)?.execute(piece.span())?;
        }
        state.count_out(span.0, span.1, there);
        self.tx.other += removal_pages(there.events, there.stored, self.tx.room.pages);
        Ok(())
    }

    /// Events among `first..=last`.
    pub(crate) fn measure(&self, queue: usize, first: u64, last: u64) -> rusqlite::Result<Measure> {
        let mut all = Measure::default();
        for piece in self.state.queues[queue].pieces(first, last) {
            let mut select = self.conn.prepare_cached(&piece.sql.measure)?;
            let part = select.query_row(piece.span(), |row| {
                Ok(Measure { events: row.get(0)?, bytes: row.get(1)?, stored: row.get(2)? })
            })?;
            all.events += part.events;
            all.bytes += part.bytes;
            all.stored += part.stored;
        }
        Ok(all)
    }

    /// What a watch wants to remember of `span`, which is about to be dropped.
    pub(crate) fn pick(
        &self,
        queue: usize,
        span: (u64, u64),
        pick: fn(&[u8]) -> Option<u128>,
    ) -> rusqlite::Result<Vec<u128>> {
        let mut picked = Vec::new();
        for piece in self.state.queues[queue].pieces(span.0, span.1) {
            let [first, last] = piece.span();
            let mut select = self.conn.prepare_cached(&piece.sql.read)?;
            let mut rows = select.query(params![first, last, i64::MAX])?;
            while let Some(row) = rows.next()? {
                picked.extend(pick(row.get_ref(2)?.as_bytes()?));
            }
        }
        Ok(picked)
    }
}

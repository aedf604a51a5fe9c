//! One batch in one transaction, each of its events once.
//!
//! A batch for which the file has no room is written as far as it fits: in halves, each in a transaction with its mark of
//! progress, down to a single event.

use std::ops::Range;

use rusqlite::{Connection, TransactionBehavior};

use super::applied::{self, Seen};
use super::call::{Call, Verb};
use super::failure::WriteError;
use crate::sink::SinkBatch;

/// What a batch's events do to the tables.
pub(crate) trait Apply {
    /// Called first in the transaction: another program may have changed the schema.
    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError>;

    /// One event that is new. An error of the database is the event's, unless it is of [`WriteError::Own`].
    fn apply(&mut self, conn: &Connection, call: Call, now_us: i64) -> Result<(), WriteError>;

    /// Called last in the transaction.
    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError>;

    /// The transaction was rolled back: what is remembered of it is wrong.
    fn forget(&mut self);

    /// What of the events was not stored as it came, for people. Asked once, after the transaction.
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A batch for a sink, and what its events say.
pub(crate) struct Reading<'a> {
    pub(crate) sink: &'a str,
    pub(crate) batch: &'a SinkBatch,
    /// One for each event, in their order.
    pub(crate) calls: Vec<Call>,
}

/// Writes a batch; `Ok` says how many of its events were of a method that says nothing to a table.
pub(crate) fn write(
    conn: &mut Connection,
    to: &mut impl Apply,
    Reading { sink, batch, calls }: Reading<'_>,
    now_us: i64,
) -> Result<u64, WriteError> {
    let ignored = calls.iter().filter(|call| call.verb == Verb::Nothing).count() as u64;
    let mut writing = Writing { conn, to, sink, batch, now_us };
    match writing.part(0..batch.events.len(), calls) {
        Err(error) if error.is_full() => writing.halves(error)?,
        written => written?,
    }
    Ok(ignored)
}

/// A batch on its way into the tables.
struct Writing<'a, A> {
    conn: &'a mut Connection,
    to: &'a mut A,
    sink: &'a str,
    batch: &'a SinkBatch,
    now_us: i64,
}

impl<A: Apply> Writing<'_, A> {
    /// Writes as much as there is room for. The whole has failed with `error`, and has been rolled back.
    fn halves(&mut self, error: WriteError) -> Result<(), WriteError> {
        let (sink, batch) = (self.sink, self.batch);
        let through = applied::through(self.conn, sink, batch)?;
        let is_written = |id: u64| through.is_some_and(|through| id <= through);
        let events = &batch.events;
        let first = events.partition_point(|event| is_written(event.id));
        let mut parts = in_half(first..events.len()).ok_or(error)?;
        while let Some(part) = parts.pop() {
            // What was read of these events went with the transaction that failed.
            let calls = Call::read_all(&events[part.clone()])?;
            let Err(error) = self.part(part.clone(), calls) else { continue };
            if !error.is_full() {
                return Err(error);
            }
            parts.extend(in_half(part).ok_or(error)?);
        }
        Ok(())
    }

    /// Writes a part of the events in a transaction of its own.
    fn part(&mut self, part: Range<usize>, calls: Vec<Call>) -> Result<(), WriteError> {
        let written = self.transact(part, calls);
        if written.is_err() {
            self.to.forget();
        }
        written
    }

    fn transact(&mut self, part: Range<usize>, calls: Vec<Call>) -> Result<(), WriteError> {
        let (sink, batch, now_us) = (self.sink, self.batch, self.now_us);
        // Immediate, so that a second writer is waited for here and not in the middle.
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.to.begin(&transaction)?;
        let through = applied::through(&transaction, sink, batch)?;
        let mut seen = Seen::load(&transaction)?;
        let events = &batch.events[part];
        for (event, call) in events.iter().zip(calls) {
            if through.is_some_and(|through| event.id <= through) || call.verb == Verb::Nothing {
                continue;
            }
            if seen.is_new(call.key.as_ref())? {
                self.to.apply(&transaction, call, now_us).map_err(WriteError::of_event)?;
            }
        }
        self.to.finish(&transaction)?;
        // A half of a batch may come again when more than that was written: the mark never goes back.
        let last = events.last().map(|event| event.id).max(through);
        seen.note(&transaction, sink, batch, last.unwrap_or(0))?;
        transaction.commit()?;
        for notice in self.to.notices() {
            tracing::warn!(sink, "{notice}");
        }
        Ok(())
    }
}

/// Both halves, the front one last; `None` for what has no halves.
fn in_half(part: Range<usize>) -> Option<Vec<Range<usize>>> {
    let middle = part.start.midpoint(part.end);
    (part.len() > 1).then(|| vec![middle..part.end, part.start..middle])
}

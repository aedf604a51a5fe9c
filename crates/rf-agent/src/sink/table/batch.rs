//! One batch in one transaction, each of its events once.

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
    reading: Reading<'_>,
    now_us: i64,
) -> Result<u64, WriteError> {
    let written = transact(conn, to, reading, now_us);
    if written.is_err() {
        to.forget();
    }
    written
}

fn transact(
    conn: &mut Connection,
    to: &mut impl Apply,
    Reading { sink, batch, calls }: Reading<'_>,
    now_us: i64,
) -> Result<u64, WriteError> {
    // Immediate, so that a second writer is waited for here and not in the middle.
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    to.begin(&transaction)?;
    let through = applied::through(&transaction, sink, batch)?;
    let mut seen = Seen::load(&transaction)?;
    let mut ignored = 0;
    for (event, call) in batch.events.iter().zip(calls) {
        if through.is_some_and(|through| event.id <= through) {
            continue;
        }
        if call.verb == Verb::Nothing {
            ignored += 1;
        } else if seen.is_new(call.key.as_ref())? {
            to.apply(&transaction, call, now_us).map_err(WriteError::of_event)?;
        }
    }
    to.finish(&transaction)?;
    seen.note(&transaction, sink, batch)?;
    transaction.commit()?;
    Ok(ignored)
}

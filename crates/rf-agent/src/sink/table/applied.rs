//! What was written already: a batch that is repeated, and an event that comes a second time, count once.
//!
//! Two marks, both in the transaction of the rows. *Progress*: how far a sink got in the batch that it wrote last; the
//! worker repeats no other batch after a kill. *Events*: the keys of the last [`KEPT_EVENTS`] events, for an event that a
//! sender delivers twice. One that comes again after so many others counts again.

use rusqlite::{Connection, OptionalExtension, params};

use super::call::EventKey;
use super::failure::WriteError;
use crate::sink::SinkBatch;

/// Events whose repeats are known: some 16 MiB of the database, and an hour at 55 events a second.
pub(crate) const KEPT_EVENTS: i64 = 200_000;

pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_progress (
  sink TEXT PRIMARY KEY,
  batch TEXT NOT NULL,
  through INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _rpf_events (
  seq INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE
) STRICT;
";
const GET_PROGRESS: &str = "SELECT through FROM _rpf_progress WHERE sink = ?1 AND batch = ?2";
const PUT_PROGRESS: &str =
    "INSERT OR REPLACE INTO _rpf_progress (sink, batch, through) VALUES (?1, ?2, ?3)";
const PUT_EVENT: &str = "INSERT OR IGNORE INTO _rpf_events (key) VALUES (?1)";
const PRUNE_EVENTS: &str =
    "DELETE FROM _rpf_events WHERE seq <= (SELECT max(seq) FROM _rpf_events) - ?1";

/// The id of the batch that this one is a part of: halves of a batch have its id and a suffix.
fn whole(batch: &SinkBatch) -> &str {
    batch.id.split_once('.').map_or(&*batch.id, |(whole, _)| whole)
}

/// The last event of this batch that an earlier try has written, by its id in the queue.
pub(crate) fn through(
    conn: &Connection,
    sink: &str,
    batch: &SinkBatch,
) -> rusqlite::Result<Option<u64>> {
    conn.prepare_cached(GET_PROGRESS)?.query_row([sink, whole(batch)], |row| row.get(0)).optional()
}

/// Notes that all of this batch is written.
pub(crate) fn note(conn: &Connection, sink: &str, batch: &SinkBatch) -> Result<(), WriteError> {
    let last = batch.events.last().map_or(0, |event| event.id);
    conn.prepare_cached(PUT_PROGRESS)?.execute(params![sink, whole(batch), last])?;
    conn.prepare_cached(PRUNE_EVENTS)?.execute([KEPT_EVENTS])?;
    Ok(())
}

/// Notes an event; false when it was noted before.
pub(crate) fn is_new(conn: &Connection, key: Option<&EventKey>) -> rusqlite::Result<bool> {
    let Some(key) = key else { return Ok(true) };
    Ok(conn.prepare_cached(PUT_EVENT)?.execute([key.as_slice()])? == 1)
}

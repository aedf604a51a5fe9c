//! What was written already: a batch that is repeated, and an event that comes a second time, count once.
//!
//! Two marks, both in the transaction of the rows. *Progress*: how far a sink got in the two batches that it wrote last; the
//! worker repeats no others after a kill. *Events*: the keys of the last events, at least [`KEPT_EVENTS`] of them, for
//! an event that a sender delivers twice; one that comes again after more others counts again.
//!
//! Keys are kept in two generations. New ones go into the current generation; once it is full the other one, which has the
//! older keys, is emptied as a whole and becomes the current one. Removing keys one by one would double the cost of a batch.

use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::call::EventKey;
use super::failure::WriteError;
use crate::sink::SinkBatch;

/// Events whose repeats are known, at least; at most twice as many are kept, in some 16 MiB.
pub(crate) const KEPT_EVENTS: i64 = 200_000;

pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_progress (
  sink TEXT PRIMARY KEY,
  batch TEXT NOT NULL,
  through INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _rpf_events_0 (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _rpf_events_1 (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _rpf_generation (
  id INTEGER PRIMARY KEY CHECK (id = 0),
  current INTEGER NOT NULL,
  events INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO _rpf_generation (id, current, events) VALUES (0, 0, 0);
";
/// The batch before stands under the sink's name behind a unit separator.
const GET_PROGRESS: &str =
    "SELECT through FROM _rpf_progress WHERE sink IN (?1, char(31) || ?1) AND batch = ?2";
const KEEP_PROGRESS: &str = "INSERT OR REPLACE INTO _rpf_progress (sink, batch, through)
  SELECT char(31) || sink, batch, through FROM _rpf_progress WHERE sink = ?1 AND batch <> ?2";
const PUT_PROGRESS: &str =
    "INSERT OR REPLACE INTO _rpf_progress (sink, batch, through) VALUES (?1, ?2, ?3)";
const GET_GENERATION: &str = "SELECT current, events FROM _rpf_generation";
const PUT_GENERATION: &str = "UPDATE _rpf_generation SET current = ?1, events = ?2";
/// By generation.
const HAS_EVENT: [&str; 2] =
    ["SELECT 1 FROM _rpf_events_0 WHERE key = ?1", "SELECT 1 FROM _rpf_events_1 WHERE key = ?1"];
const PUT_EVENTS: [&str; 2] = [
    "INSERT OR IGNORE INTO _rpf_events_0 (key) VALUES ",
    "INSERT OR IGNORE INTO _rpf_events_1 (key) VALUES ",
];
/// Keys that one statement puts, of many: with one for each, keys would cost as much as the rows of a small table. What is
/// left is put one by one, so that there are two statements, whatever the number.
const PUT_TOGETHER: usize = 50;
/// Of an empty one NULL.
const NEWEST: [&str; 2] =
    ["SELECT max(key) FROM _rpf_events_0", "SELECT max(key) FROM _rpf_events_1"];
const EMPTY: [&str; 2] = ["DELETE FROM _rpf_events_0", "DELETE FROM _rpf_events_1"];

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

/// The events that were written, within one transaction.
pub(crate) struct Seen<'conn> {
    conn: &'conn Connection,
    /// 0 or 1.
    current: usize,
    /// Keys in the current generation.
    events: i64,
    /// By generation.
    generations: [Generation<'conn>; 2],
    /// Told apart from what other sinks have written to the same database.
    sink: [u8; 8],
}

struct Generation<'conn> {
    /// The greatest key. Ids grow with time, so that what is new is mostly beyond it, and need not be looked up.
    newest: Option<EventKey>,
    has: CachedStatement<'conn>,
}

impl<'conn> Generation<'conn> {
    fn load(conn: &'conn Connection, number: usize) -> rusqlite::Result<Self> {
        let newest = conn.prepare_cached(NEWEST[number])?.query_row([], |row| row.get(0))?;
        Ok(Self { newest, has: conn.prepare_cached(HAS_EVENT[number])? })
    }

    fn has(&mut self, key: &EventKey) -> rusqlite::Result<bool> {
        Ok(self.newest.is_some_and(|newest| *key <= newest) && self.has.exists([key.as_slice()])?)
    }
}

impl<'conn> Seen<'conn> {
    /// As the database has it, for the sink of this name.
    pub(crate) fn load(conn: &'conn Connection, sink: &str) -> rusqlite::Result<Self> {
        let (current, events) = conn
            .prepare_cached(GET_GENERATION)?
            .query_row([], |row| Ok((usize::from(row.get::<_, i64>(0)? == 1), row.get(1)?)))?;
        let generations = [Generation::load(conn, 0)?, Generation::load(conn, 1)?];
        let mut mark = [0; 8];
        mark.copy_from_slice(&Sha256::digest(sink)[..8]);
        Ok(Self { conn, current, events, generations, sink: mark })
    }

    /// Notes the events with these keys. For each, whether it is new: it was not noted before, nor stands here twice, nor has
    /// no key.
    pub(crate) fn note(&mut self, keys: &[Option<EventKey>]) -> rusqlite::Result<Vec<bool>> {
        let mut fresh = BTreeSet::new();
        let mut is_new = Vec::with_capacity(keys.len());
        for key in keys {
            is_new.push(match *key {
                None => true,
                Some(mut key) => {
                    // Behind the event's id, by which keys grow.
                    key[16..].iter_mut().zip(self.sink).for_each(|(byte, mark)| *byte ^= mark);
                    let [one, other] = &mut self.generations;
                    !one.has(&key)? && !other.has(&key)? && fresh.insert(key)
                }
            });
        }
        self.put(&fresh.into_iter().collect::<Vec<_>>())?;
        Ok(is_new)
    }

    /// Puts new keys, which are in their order, into the current generation.
    fn put(&mut self, keys: &[EventKey]) -> rusqlite::Result<()> {
        self.events += i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let newest = &mut self.generations[self.current].newest;
        *newest = keys.last().copied().max(*newest);
        let many = keys.chunks_exact(PUT_TOGETHER);
        for keys in many.clone().chain(many.remainder().chunks(1)) {
            let sql = format!("{}{}", PUT_EVENTS[self.current], vec!["(?)"; keys.len()].join(", "));
            let keys = keys.iter().map(EventKey::as_slice);
            self.conn.prepare_cached(&sql)?.execute(params_from_iter(keys))?;
        }
        Ok(())
    }

    /// Notes that this batch is written up to the event `through`, and begins a new generation when this one is full.
    pub(crate) fn end(
        mut self,
        sink: &str,
        batch: &SinkBatch,
        through: u64,
    ) -> Result<(), WriteError> {
        if self.events >= KEPT_EVENTS {
            self.current = 1 - self.current;
            self.events = 0;
            self.conn.prepare_cached(EMPTY[self.current])?.execute([])?;
        }
        let conn = self.conn;
        let current = i64::from(self.current == 1);
        conn.prepare_cached(PUT_GENERATION)?.execute([current, self.events])?;
        conn.prepare_cached(KEEP_PROGRESS)?.execute([sink, whole(batch)])?;
        conn.prepare_cached(PUT_PROGRESS)?.execute(params![sink, whole(batch), through])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: i64) -> EventKey {
        let mut key = [0; 24];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn the_last_two_batches_are_known_by_sink() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        let batch = |id: &str| SinkBatch::new(id.to_owned(), []);
        let note = |sink: &str, id: &str, through: u64| {
            Seen::load(&conn, sink).unwrap().end(sink, &batch(id), through).unwrap();
        };
        let check = |sink: &str, expected: [Option<u64>; 4]| {
            let known = ["a", "b", "c.0", "d"].map(|id| through(&conn, sink, &batch(id)));
            assert_eq!(known.map(Result::unwrap), expected, "{sink}");
        };
        note("one", "a", 10);
        note("one", "b", 20);
        check("one", [Some(10), Some(20), None, None]);
        // A half, the other half, and then a repeat of the one before: the order of repeats does not matter.
        note("one", "c.0", 25);
        note("one", "c.1", 30);
        note("two", "d", 99);
        check("one", [None, Some(20), Some(30), None]);
        note("one", "b", 20);
        check("one", [None, Some(20), Some(30), None]);
        check("two", [None, None, None, Some(99)]);
    }

    /// Events come in batches; each is known for as long as no more than [`KEPT_EVENTS`] others came behind it.
    #[test]
    fn the_last_events_are_known_and_their_number_is_bounded() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        let batch = SinkBatch::new("b", []);
        let size = KEPT_EVENTS / 4;
        for number in 0..10 {
            let mut seen = Seen::load(&conn, "sink").unwrap();
            let first = number * size;
            let events: Vec<_> = (first..first + size).map(|event| Some(key(event))).collect();
            assert!(seen.note(&events).unwrap().into_iter().all(|is_new| is_new), "{number}");
            seen.end("sink", &batch, 0).unwrap();
            let mut seen = Seen::load(&conn, "sink").unwrap();
            let repeats =
                [first, (first + size - KEPT_EVENTS).max(0)].map(|event| Some(key(event)));
            assert_eq!(seen.note(&repeats).unwrap(), [false, false], "{number}");
            seen.end("sink", &batch, 0).unwrap();
            let count = "SELECT (SELECT count(*) FROM _rpf_events_0) + (SELECT count(*) FROM _rpf_events_1)";
            let kept: i64 = conn.query_row(count, [], |row| row.get(0)).unwrap();
            assert!(kept <= 2 * KEPT_EVENTS, "{kept}");
        }
    }

    #[test]
    fn each_sink_of_a_database_counts_an_event_once() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        for is_new in [true, false] {
            for sink in ["rows", "checks"] {
                let mut seen = Seen::load(&conn, sink).unwrap();
                assert_eq!(seen.note(&[Some(key(7))]).unwrap(), [is_new], "{sink}");
            }
        }
    }

    /// What lies before the newest of the older generation is looked for, and only found when it is there.
    #[test]
    fn an_event_between_older_ones_is_new_once() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        let batch = SinkBatch::new("b", []);
        let mut seen = Seen::load(&conn, "sink").unwrap();
        let events: Vec<_> = (0..KEPT_EVENTS).map(|event| Some(key(event * 2))).collect();
        assert!(seen.note(&events).unwrap().into_iter().all(|is_new| is_new));
        seen.end("sink", &batch, 0).unwrap();
        let mut seen = Seen::load(&conn, "sink").unwrap();
        let newest = (KEPT_EVENTS - 1) * 2;
        let among = [(0, false), (1, true), (1, false), (newest, false), (newest + 1, true)];
        let (events, is_new): (Vec<_>, Vec<_>) =
            among.into_iter().map(|(event, is_new)| (Some(key(event)), is_new)).unzip();
        assert_eq!(seen.note(&events).unwrap(), is_new);
        assert_eq!(seen.note(&events).unwrap(), [false; 5], "within one transaction, too");
        assert_eq!(seen.note(&[None, None]).unwrap(), [true, true]);
    }
}

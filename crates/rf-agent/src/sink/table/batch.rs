//! One batch in one transaction, each of its events once.
//!
//! A batch for which the file has no room is written as far as it fits: in halves, each in a transaction with its mark of
//! progress, down to a single event. While there is none for the next event either, a try costs no more than that event.

use std::ops::Range;

use rf_queue::StoredEvent;
use rusqlite::{Connection, TransactionBehavior};

use super::applied::{self, Seen};
use super::call::{Body, Call, EventKey, Verb};
use super::failure::WriteError;
use crate::sink::SinkBatch;

/// What a batch's events do to the tables.
pub(crate) trait Apply {
    /// What is read of a body.
    type Body: Body;

    /// Called first in the transaction: another program may have changed the schema.
    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError>;

    /// One event that is new. An error of the database is the event's, unless it is of [`WriteError::Own`].
    fn apply(
        &mut self,
        conn: &Connection,
        call: &Call<Self::Body>,
        now_us: i64,
    ) -> Result<(), WriteError>;

    /// Called last in the transaction.
    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError>;

    /// The transaction was rolled back: what is remembered of it is wrong.
    fn forget(&mut self);

    /// The transaction is in the file: what it has done may be told.
    fn committed(&mut self) {}

    /// What of the events was not stored as it came, for people. Asked once, after the transaction.
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A batch for a sink, and what its events say.
pub(crate) struct Reading<'a, B> {
    pub(crate) sink: &'a str,
    pub(crate) batch: &'a SinkBatch,
    /// One for each event, in their order.
    pub(crate) calls: &'a [Call<B>],
}

/// What is known of the file from one try to the next.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// There was none for a single event.
    is_full: bool,
}

/// Writes a batch.
pub(crate) fn write<A: Apply>(
    conn: &mut Connection,
    to: &mut A,
    room: &mut Room,
    reading: Reading<'_, A::Body>,
    now_us: i64,
) -> Result<(), WriteError> {
    let sink = reading.sink;
    let (ignored, written) = counted(conn, to, room, reading, now_us);
    if ignored > 0 {
        tracing::warn!(sink, ignored, "events dropped: the sink accepts only POST, PUT and DELETE");
    }
    written
}

/// Besides says how many events were passed over for good: those of a method that says nothing to a table.
fn counted<A: Apply>(
    conn: &mut Connection,
    to: &mut A,
    room: &mut Room,
    Reading { sink, batch, calls }: Reading<'_, A::Body>,
    now_us: i64,
) -> (u64, Result<(), WriteError>) {
    let mut writing = Writing { conn, to, sink, batch, now_us, ignored: 0 };
    let written = if room.is_full { writing.one_and_the_rest(calls) } else { writing.whole(calls) };
    room.is_full = written.as_ref().is_err_and(WriteError::is_full);
    (writing.ignored, written)
}

/// A batch on its way into the tables.
struct Writing<'a, A> {
    conn: &'a mut Connection,
    to: &'a mut A,
    sink: &'a str,
    batch: &'a SinkBatch,
    now_us: i64,
    /// Events of no use in what is committed.
    ignored: u64,
}

impl<A: Apply> Writing<'_, A> {
    /// Writes all events at once, or as much as there is room for.
    fn whole(&mut self, calls: &[Call<A::Body>]) -> Result<(), WriteError> {
        match self.part(0..self.batch.events.len(), calls) {
            Err(error) if error.is_full() => {
                let parts = in_half(self.unwritten()?).ok_or(error)?;
                self.parts(parts)
            }
            written => written,
        }
    }

    /// Looks first whether there is room for one event again.
    fn one_and_the_rest(&mut self, calls: &[Call<A::Body>]) -> Result<(), WriteError> {
        let Range { start, end } = self.unwritten()?;
        if end - start < 2 {
            return self.whole(calls);
        }
        self.parts(vec![start + 1..end, start..start + 1])
    }

    /// The events that no earlier try has written.
    fn unwritten(&self) -> rusqlite::Result<Range<usize>> {
        let through = applied::through(self.conn, self.sink, self.batch)?;
        let is_written = |id: u64| through.is_some_and(|through| id <= through);
        let events = &self.batch.events;
        Ok(events.partition_point(|event| is_written(event.id))..events.len())
    }

    /// Writes these parts, the last one first, and in halves where there is no room for one.
    fn parts(&mut self, mut parts: Vec<Range<usize>>) -> Result<(), WriteError> {
        while let Some(part) = parts.pop() {
            // What was read of these events may have gone with a transaction that failed.
            let calls = Call::read_all(&self.batch.events[part.clone()])?;
            let Err(error) = self.part(part.clone(), &calls) else { continue };
            if !error.is_full() {
                return Err(error);
            }
            parts.extend(in_half(part).ok_or(error)?);
        }
        Ok(())
    }

    /// Writes a part of the events in a transaction of its own.
    fn part(&mut self, part: Range<usize>, calls: &[Call<A::Body>]) -> Result<(), WriteError> {
        let written = self.transact(part, calls);
        if written.is_err() {
            self.to.forget();
        }
        written
    }

    fn transact(&mut self, part: Range<usize>, calls: &[Call<A::Body>]) -> Result<(), WriteError> {
        let (sink, batch, now_us) = (self.sink, self.batch, self.now_us);
        // Immediate, so that a second writer is waited for here and not in the middle.
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.to.begin(&transaction)?;
        let through = applied::through(&transaction, sink, batch)?;
        let mut seen = Seen::load(&transaction, sink)?;
        let events = &batch.events[part];
        let is_unwritten = |event: &StoredEvent| through.is_none_or(|through| event.id > through);
        let unwritten = events.iter().zip(calls).filter(|(event, _)| is_unwritten(event));
        let (calls, of_no_use): (Vec<_>, Vec<_>) =
            unwritten.map(|(_, call)| call).partition(|call| !matches!(call.verb, Verb::Nothing));
        let keys: Vec<Option<EventKey>> = calls.iter().map(|call| call.key).collect();
        for (call, is_new) in calls.into_iter().zip(seen.note(&keys)?) {
            if is_new {
                self.to.apply(&transaction, call, now_us).map_err(WriteError::of_event)?;
            }
        }
        self.to.finish(&transaction)?;
        // A half of a batch may come again when more than that was written: the mark never goes back.
        let last = events.last().map(|event| event.id).max(through);
        seen.end(sink, batch, last.unwrap_or(0))?;
        transaction.commit()?;
        self.ignored += of_no_use.len() as u64;
        self.to.committed();
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

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::sink::table::rig::event;

    /// A file with room for so many events.
    #[derive(Default)]
    struct Small {
        most: usize,
        tries: usize,
        open: Vec<String>,
        /// By transaction.
        stored: Vec<Vec<String>>,
    }

    impl Apply for Small {
        type Body = Map<String, Value>;

        fn begin(&mut self, _conn: &Connection) -> Result<(), WriteError> {
            let left = std::mem::take(&mut self.open);
            let why = || WriteError::Refused(format!("{left:?} was neither stored nor forgotten"));
            left.is_empty().then_some(()).ok_or_else(why)
        }

        fn apply(
            &mut self,
            _: &Connection,
            call: &Call<Self::Body>,
            _now_us: i64,
        ) -> Result<(), WriteError> {
            self.tries += 1;
            if self.stored.iter().flatten().count() + self.open.len() >= self.most {
                let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
                return Err(WriteError::Database(rusqlite::Error::SqliteFailure(full, None)));
            }
            self.open.push(call.table.as_str().to_owned());
            Ok(())
        }

        fn finish(&mut self, _conn: &Connection) -> Result<(), WriteError> {
            Ok(())
        }

        fn forget(&mut self) {
            self.open.clear();
        }

        fn committed(&mut self) {
            self.stored.push(std::mem::take(&mut self.open));
        }
    }

    #[test]
    fn a_full_file_costs_little_and_nothing_is_told_twice() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(applied::TABLES).unwrap();
        let (mut room, mut small) = (Room::default(), Small { most: 3, ..Small::default() });
        let events = (0..8).map(|number| {
            let method = if [1, 6].contains(&number) { "GET" } else { "POST" };
            let content = event(method, &format!("/t{number}"), "{}").into();
            StoredEvent { id: number + 10, at_ms: 0, attempts: 0, content }
        });
        let batch = SinkBatch::new("a", events.collect::<Vec<_>>());
        let mut check = |most: usize, expected: (u64, bool), tries: usize| {
            (small.most, small.tries) = (most, 0);
            let calls = Call::read_all(&batch.events).unwrap();
            let reading = Reading { sink: "s", batch: &batch, calls: &calls };
            let (ignored, written) = counted(&mut conn, &mut small, &mut room, reading, 0);
            assert!(written.as_ref().err().is_none_or(WriteError::is_full), "{written:?}");
            assert_eq!((ignored, written.is_ok(), small.tries), (expected.0, expected.1, tries));
            small.stored.clone()
        };
        let first = vec!["t0".to_owned(), "t2".to_owned(), "t3".to_owned()];
        // All of it, both halves, and the second one down to its first event.
        assert_eq!(check(3, (1, false), 4 + 3 + 1 + 1 + 1), std::slice::from_ref(&first));
        for _ in 0..3 {
            assert_eq!(check(3, (0, false), 1), std::slice::from_ref(&first));
        }
        let all = [first, vec!["t4".to_owned()], vec!["t5".to_owned(), "t7".to_owned()]];
        assert_eq!(check(100, (1, true), 3), all);
        // As after an answer that was lost: a transaction with nothing in it.
        assert_eq!(check(100, (0, true), 0).split_last().unwrap(), (&Vec::new(), &all[..]));
    }
}

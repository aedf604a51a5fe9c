//! Taking over what can still be read of a damaged database, which was set aside before (see [`crate::aside`]).
//!
//! Reading goes from both ends of each queue towards the damage, so that one bad page costs the events of that page.
//!
//! Errors of the new database, and those that say nothing of the damaged one, are the outer ones here: the opening fails, and is
//! gone on with when it is tried again. Those of the damaged one are the inner ones.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, Statement, params_from_iter};

use crate::admit::Cost;
use crate::adopt::{CHUNK_BYTES, CHUNK_ROWS};
use crate::aside::SetAside;
use crate::errors::{Notice, OpenError};
use crate::failure;
use crate::limits::{PAGE, PageEstimate};
use crate::migrate::{TABLES, has_table, time_of};
use crate::schema::{self, event_table, event_tables};
use crate::space::beside;
use crate::types::{Durability, QueueOptions, StoreOptions, StoredEvent};
use crate::writer::Writer;

/// Bytes of a database's header, and how it begins (SQLite file format, 1.3).
const HEADER: usize = 100;
const CHANGE_COUNTER: Range<usize> = 24..28;
const PAGE_COUNT: Range<usize> = 28..32;
const FREE_LIST: Range<usize> = 32..40;
const VALID_FOR: usize = 92;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// More starts with leases than there can have been: what a bad page says.
const MAX_TOKEN_EPOCH: u64 = 1 << 30;

/// Ids tried one by one between the two ends at the damage.
const MAX_PROBES: usize = 20_000;

/// Copies what can be read into the new database. The note stays: whoever opens it is not done yet.
pub(crate) fn salvage(writer: &mut Writer, old: SetAside) -> Result<Notice, OpenError> {
    let (mut salvaged, mut known) = (0, 0);
    if let Err(error) = mend_header(&old.path)? {
        tracing::warn!(path = %old.path.display(), %error, "the damaged file's header cannot be read");
    }
    match open_damaged(&old.path)? {
        Ok(source) => {
            let path = writer.options.path.clone();
            let db = |source| OpenError::Database { path: path.clone(), source };
            for queue in old_queues(&source, &writer.options) {
                let copied = copy_queue(writer, &source, &queue).map_err(db)?;
                known += queue.events;
                salvaged += copied;
                if let Some(state) = writer.state.queues.iter_mut().find(|s| s.name == queue.name) {
                    state.damaged += queue.events.saturating_sub(copied);
                }
            }
            copy_rest(writer, &source).map_err(db)?;
            skip_tokens(writer, &source).map_err(db)?;
        }
        Err(error) => {
            tracing::warn!(path = %old.path.display(), %error, "nothing can be read from the damaged file");
        }
    }
    let lost = u64::saturating_sub(known, salvaged);
    Ok(Notice::Damaged { kept_as: old.path, salvaged, lost, reason: old.reason })
}

/// The damaged file. One that cannot be read for a reason that is not in it is not taken for one with nothing in it.
fn open_damaged(path: &Path) -> Result<rusqlite::Result<Connection>, OpenError> {
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let looked = opened.and_then(|source| {
        match source.query_row("PRAGMA schema_version", [], |_| Ok(())) {
            Err(error) if failure::may_be_read_later(&error) => Err(error),
            // Where this page is damaged, others may still be read.
            _ => Ok(source),
        }
    });
    match looked {
        Err(source) if failure::may_be_read_later(&source) && path.exists() => {
            Err(OpenError::Database { path: path.to_owned(), source })
        }
        looked => Ok(looked),
    }
}

/// A file whose header is overwritten, or speaks of more pages than there are, cannot be opened, although all else may be
/// there. An overwritten one gets that of an empty database of ours, which has the same format.
fn mend_header(old: &Path) -> Result<io::Result<()>, OpenError> {
    let (mut header, pages) = match read_header(old) {
        Ok(read) => read,
        Err(error) => return Ok(Err(error)),
    };
    let overwritten = !header.starts_with(MAGIC);
    if !overwritten && header[PAGE_COUNT] <= pages[..] {
        return Ok(Ok(()));
    }
    if overwritten {
        header = empty_header(&beside(old, ".header"))?;
    }
    header[PAGE_COUNT].copy_from_slice(&pages);
    header[FREE_LIST].fill(0);
    // Says that the number of pages is valid.
    header.copy_within(CHANGE_COUNTER, VALID_FOR);
    Ok(write_header(old, &header))
}

/// The header as it is, and how many pages there are.
fn read_header(old: &Path) -> io::Result<([u8; HEADER], [u8; 4])> {
    let mut header = [0; HEADER];
    let mut file = File::open(old)?;
    file.read_exact(&mut header)?;
    let pages = u32::try_from(file.metadata()?.len() / PAGE).unwrap_or(u32::MAX);
    Ok((header, pages.to_be_bytes()))
}

fn write_header(old: &Path, header: &[u8; HEADER]) -> io::Result<()> {
    let mut file = File::options().write(true).open(old)?;
    file.write_all(header)
}

/// From a database that is made for it. Not from the new one: to open and close the file of an open database takes its
/// locks away (SQLite, "How To Corrupt", 2.2).
fn empty_header(scratch: &Path) -> Result<[u8; HEADER], OpenError> {
    // What a killed process has left, if anything. What cannot be removed cannot be opened either.
    drop(fs::remove_file(scratch));
    schema::connect(scratch, Durability::Process)
        .and_then(|conn| schema::create(&conn, 0))
        .map_err(|source| OpenError::Database { path: scratch.to_owned(), source })?;
    let read = || -> io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        File::open(scratch)?.read_exact(&mut header)?;
        fs::remove_file(scratch)?;
        Ok(header)
    };
    read().map_err(|source| OpenError::Io { path: scratch.to_owned(), source })
}

struct OldQueue {
    tables: Vec<String>,
    /// SQL that yields milliseconds for a row.
    at: String,
    name: String,
    /// Events up to this id have left the queue.
    removed: u64,
    next_id: u64,
    events: u64,
}

impl OldQueue {
    fn of(tables: Vec<String>, name: impl Into<String>) -> Self {
        Self { tables, at: "at".into(), name: name.into(), removed: 0, next_id: 0, events: 0 }
    }
}

/// Queues by the old file's own list, or by position when that page is gone; of the original's tables those that are there.
fn old_queues(source: &Connection, options: &StoreOptions) -> Vec<OldQueue> {
    let tables = |row: i64| {
        let numbers = event_tables(source, row).unwrap_or_else(|_| vec![0]);
        let mut tables: Vec<String> =
            numbers.into_iter().map(|number| event_table(row, number)).collect();
        // The oldest first, in case that there is no room for all.
        let first = |table: &String| {
            let first = format!("SELECT min(id) FROM {table}");
            source.query_row(&first, [], |row| row.get::<_, Option<u64>>(0)).ok().flatten()
        };
        tables.sort_by_cached_key(first);
        tables
    };
    let select = |removed: &str| {
        source.prepare(&format!("SELECT id, name, next_id, events, {removed} FROM queues"))
    };
    // Format 1 has no such column. What the file says of its format may be lost.
    let listed = select("removed").or_else(|_| select("0")).and_then(|mut select| {
        let queue = |r: &Row<'_>| {
            Ok(OldQueue {
                next_id: r.get(2)?,
                events: r.get(3)?,
                removed: r.get(4)?,
                ..OldQueue::of(tables(r.get(0)?), r.get::<_, String>(1)?)
            })
        };
        select.query_map([], queue)?.collect::<rusqlite::Result<Vec<_>>>()
    });
    let mut queues = listed.unwrap_or_default();
    if queues.is_empty() {
        let by_position = |(row, name): (i64, &QueueOptions)| OldQueue::of(tables(row), &name.name);
        queues.extend((1..).zip(&options.queues).map(by_position));
    }
    let originals = TABLES.into_iter().filter(|table| has_table(source, table).unwrap_or(false));
    if let Some(first) = options.queues.first() {
        let now = options.clock.wall_ms();
        queues.extend(originals.map(|table| OldQueue {
            at: time_of(source, table, now).unwrap_or_else(|_| now.to_string()),
            ..OldQueue::of(vec![table.to_owned()], &first.name)
        }));
    }
    queues
}

/// Events of one queue, with their ids; a queue that is no longer configured is left in the old file.
fn copy_queue(writer: &mut Writer, source: &Connection, old: &OldQueue) -> rusqlite::Result<u64> {
    let Some(index) = writer.state.queues.iter().position(|queue| queue.name == old.name) else {
        return Ok(0);
    };
    let mut copied = 0;
    let mut store = |events: Vec<StoredEvent>| -> rusqlite::Result<bool> {
        let is_stored = writer.adopt(index, &events, None)?;
        // Those that a killed process had copied are not lost.
        copied += if is_stored { events.len() as u64 } else { 0 };
        Ok(is_stored)
    };
    for table in &old.tables {
        let from = (old, table.as_str());
        let up = read_until_damage(source, from, Way::Up, &mut store)?;
        if let End::Damage(low) = up
            && let End::Damage(high) = read_until_damage(source, from, Way::Down(low), &mut store)?
        {
            for id in (low + 1..high).take(MAX_PROBES) {
                if let Ok(found) = read_rows(source, from, "id = ?1", id)
                    && !found.is_empty()
                    && !store(found)?
                {
                    break;
                }
            }
        }
    }
    let queue = &mut writer.state.queues[index];
    queue.next_id = queue.next_id.max(old.next_id);
    queue.dirty = true;
    writer.group()?;
    writer.end_transaction()?;
    Ok(copied)
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    /// Up to this id everything has been read.
    Down(u64),
}

impl Way {
    fn leads(self, from: u64, to: u64) -> bool {
        match self {
            Self::Up => to > from,
            Self::Down(_) => to < from,
        }
    }

    /// The rows of a chunk, read behind `at`, that lead on. On a bad page that can be read an id may be any: one that leads back
    /// would have no end, and what lies behind one that leads too far would not be looked at.
    fn in_order(self, at: u64, rows: Vec<StoredEvent>) -> Vec<StoredEvent> {
        let mut kept: Vec<StoredEvent> = Vec::new();
        for row in rows {
            let mut newest = kept.iter().rev().map(|row| row.id);
            let (last, one_before) = (newest.next().unwrap_or(at), newest.next().unwrap_or(at));
            if self.leads(last, row.id) {
                kept.push(row);
            } else if self.leads(one_before, row.id) {
                // It was the one before that led too far.
                kept.pop();
                kept.push(row);
            }
        }
        kept
    }
}

enum End {
    /// Everything was read, or the new store is full.
    Complete,
    /// The last id that could be read from this side.
    Damage(u64),
}

fn read_until_damage(
    source: &Connection,
    old: (&OldQueue, &str),
    way: Way,
    store: &mut impl FnMut(Vec<StoredEvent>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<End> {
    let &OldQueue { removed, next_id, .. } = old.0;
    // From there on lie rows of an append in parts that did not end.
    let end = if next_id == 0 { i64::MAX as u64 } else { next_id };
    // No second bound: on the side of the first it may be the one that SQLite begins at, and then each chunk passes all rows
    // before it once more; on the other it would end the reading at a single wrong id.
    let (mut at, condition, wanted) = match way {
        Way::Up => (removed, "id > ?1 ORDER BY id", removed + 1..end),
        Way::Down(low) => (end, "id < ?1 ORDER BY id DESC", low + 1..end),
    };
    let mut step = CHUNK_ROWS;
    loop {
        let mut rows = match read_rows(source, old, &format!("{condition} LIMIT {step}"), at) {
            Ok(rows) => rows,
            // The bad page is somewhere in this chunk: go on in smaller steps up to it.
            Err(_) if step > 1 => {
                step = 1;
                continue;
            }
            Err(_) => return Ok(End::Damage(at)),
        };
        let is_alone = step == 1 && !rows.is_empty();
        let is_behind = rows.iter().all(|row| !wanted.contains(&row.id));
        rows.retain(|row| wanted.contains(&row.id));
        let mut rows = way.in_order(at, rows);
        if rows.len() > 1 {
            // Read once more with the next: whether it leads too far shows there.
            rows.pop();
        }
        match rows.last() {
            Some(last) => at = last.id,
            None if is_behind && !is_alone => return Ok(End::Complete),
            None => return Ok(End::Damage(at)),
        }
        if !store(rows)? {
            return Ok(End::Complete);
        }
    }
}

/// Rows of one chunk; fewer when they are large.
fn read_rows(
    source: &Connection,
    (old, table): (&OldQueue, &str),
    condition: &str,
    id: u64,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let at = &old.at;
    let select = format!("SELECT id, {at}, CAST(content AS BLOB) FROM {table} WHERE {condition}");
    let mut select = source.prepare(&select)?;
    let mut rows = select.query([id])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES
        && let Some(row) = rows.next()?
    {
        let content = row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default();
        bytes += content.len();
        let at_ms = row.get::<_, Option<u64>>(1)?.unwrap_or_default();
        found.push(StoredEvent { id: row.get(0)?, at_ms, content: content.into(), attempts: 0 });
    }
    Ok(found)
}

/// Checkpoints, batch ids and dead letters, as far as they can be read: each saves repeats or is a letter of its own.
fn copy_rest(writer: &mut Writer, source: &Connection) -> rusqlite::Result<()> {
    let tables = [
        ("checkpoints", "key, value", "?1, ?2"),
        ("batches", "seq, id", "?1, ?2"),
        (
            "dead_letters",
            "id, queue, at, dead_at, reason, attempts, retry, content",
            "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8",
        ),
    ];
    for (table, columns, holes) in tables {
        let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({holes})");
        let lost =
            |error| tracing::warn!(table, %error, "part of this table of the damaged file is lost");
        match source.prepare(&format!("SELECT {columns} FROM {table}")) {
            Ok(mut select) => copy_table(writer, &mut select, &insert)?.unwrap_or_else(lost),
            Err(error) => lost(error),
        }
    }
    writer.end_transaction()?;
    writer.state.count_dead(&writer.conn)
}

/// Leases are not salvaged, but somebody may still extend or end one by its token: it must not name another by then.
fn skip_tokens(writer: &mut Writer, source: &Connection) -> rusqlite::Result<()> {
    let read = schema::token_epoch(source).ok();
    let Some(epoch) = read.filter(|epoch| *epoch < MAX_TOKEN_EPOCH) else { return Ok(()) };
    let group = writer.small_group()?;
    schema::set_token_epoch(group.conn, epoch)?;
    group.tx.other += 2;
    writer.end_transaction()?;
    writer.state.skip_tokens(epoch);
    Ok(())
}

fn copy_table(
    writer: &mut Writer,
    select: &mut Statement<'_>,
    insert: &str,
) -> rusqlite::Result<rusqlite::Result<()>> {
    let width = select.column_count();
    let mut rows = match select.query([]) {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let values = match rows.next() {
            Ok(Some(row)) => {
                (0..width).map(|i| row.get(i)).collect::<rusqlite::Result<Vec<Value>>>()
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let values = match values {
            Ok(values) => values,
            Err(error) => return Ok(Err(error)),
        };
        let bytes: usize = values.iter().map(value_bytes).sum();
        let cost = Cost::of_rows(PageEstimate::of_row(bytes as u64), 0);
        if !writer.has_room_for(&cost)? {
            return Ok(Ok(()));
        }
        writer.make_wal_room(&cost)?;
        let group = writer.group()?;
        group.conn.prepare_cached(insert)?.execute(params_from_iter(values))?;
        group.tx.appended = group.tx.appended.plus(cost.rows, 3);
    }
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Each row is passed once, and not again for each chunk behind it.
    #[test]
    fn the_work_grows_with_the_rows_and_no_faster() {
        const ROWS: u64 = 20_000;
        let mut source = Connection::open_in_memory().unwrap();
        source
            .execute_batch(&format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER, content BLOB);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO t SELECT i, 1, x'00' FROM n;"
            ))
            .unwrap();
        let hundreds = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&hundreds);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        source.progress_handler(100, Some(count)).unwrap();
        let old = OldQueue { removed: 5, next_id: ROWS, ..OldQueue::of(Vec::new(), "q") };
        for way in [Way::Up, Way::Down(5)] {
            hundreds.store(0, Ordering::Relaxed);
            let mut ids = Vec::new();
            let mut store = |rows: Vec<StoredEvent>| -> rusqlite::Result<bool> {
                ids.extend(rows.iter().map(|row| row.id));
                Ok(true)
            };
            let end = read_until_damage(&source, (&old, "t"), way, &mut store).unwrap();
            assert!(matches!(end, End::Complete));
            ids.sort_unstable();
            assert!(ids.into_iter().eq(6..ROWS));
            let steps = 100 * hundreds.load(Ordering::Relaxed);
            assert!(steps < 50 * ROWS, "{steps}");
        }
    }
}

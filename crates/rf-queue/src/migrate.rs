//! Taking over the original program's databases.
//!
//! The original kept one table a file: `wrap_calls (id, content, timestamp)` in a relay bucket, `sink_events (id,
//! content)` and `source_events (id, content)` in a proxy. A proxy's file feeds a queue of the agent's store. A bucket's
//! file has the name that ours has: it is moved to `NAME.original` first, and its events keep their ids, because a player
//! may still acknowledge what it pulled from the original. When an event was stored is told in any of the ways that SQLite's
//! users have, or not at all ([`time_of`]): then it counts as stored now, for nothing may be dropped for its age by mistake.
//!
//! Events are taken over in small transactions, each of which also stores how far that has come: a kill costs nothing,
//! and a file that is larger than the limit gives as much as there is room for, and the rest at later starts. A damaged one
//! gives what lies before the damage, and is left where it is: nobody has to wait for the rest. How far it has come is
//! forgotten as soon as the file is out of the way, and holds for that very file only: somebody may go back to the original
//! for a while, and what it queues then has the same name and the same ids.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, ffi, params};

use crate::adopt::{CHUNK_BYTES, CHUNK_ROWS};
use crate::errors::{Notice, OpenError};
use crate::failure::{self, Kind};
use crate::rows::sql_id;
use crate::space::{beside, sync_folder};
use crate::sql;
use crate::types::{Checkpoint, Import, StoreOptions, StoredEvent};
use crate::writer::Writer;

/// Tables of the original.
pub(crate) const TABLES: [&str; 3] = ["wrap_calls", "sink_events", "source_events"];

/// The milliseconds of a column `timestamp`: of seconds as a number or its digits, or of a text that SQLite reads as a time.
const MILLIS: &str = "CAST(CASE \
    WHEN typeof(timestamp) IN ('integer', 'real') THEN timestamp * 1000 \
    WHEN timestamp GLOB '[0-9]*' AND timestamp NOT GLOB '*[^0-9]*' THEN CAST(timestamp AS INTEGER) * 1000 \
    ELSE unixepoch(timestamp) * 1000 END AS INTEGER)";

/// Where a bucket's file of the original goes.
pub(crate) const ORIGINAL: &str = ".original";

/// Whose ids the events get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    Kept,
    New,
}

/// If the database is the original's, moves it out of the way.
pub(crate) fn move_original(options: &StoreOptions) -> Result<(), OpenError> {
    let path = &options.path;
    let original = beside(path, ORIGINAL);
    // What was moved before has to be taken over before anything else may be.
    if !path.exists() || original.exists() || options.queues.is_empty() {
        return Ok(());
    }
    if is_original(path).map_err(|source| OpenError::Database { path: path.clone(), source })? {
        fs::rename(path, original)
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

fn is_original(path: &Path) -> rusqlite::Result<bool> {
    let old = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version: i64 = old.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != 0 || !has_original_table(&old)? {
        return Ok(false);
    }
    // A WAL would stay behind: the file must be whole by itself.
    old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    old.close().map_err(|(_, error)| error)?;
    Ok(true)
}

/// Takes over the bucket's own file and those of [`StoreOptions::imports`], as far as there is room.
pub(crate) fn take_over(writer: &mut Writer, notices: &mut Vec<Notice>) -> Result<(), OpenError> {
    let path = writer.options.path.clone();
    let original = beside(&path, ORIGINAL);
    if let Some(first) = writer.options.queues.first() {
        let own = Import { path: original, queue: first.name.clone() };
        if let Some(events) = take_over_file(writer, &own, Ids::Kept)? {
            remove(&own.path, "")?;
            sync_folder(&own.path);
            forget(writer, &own)?;
            notices.extend((events > 0).then_some(Notice::Migrated { from: path, events }));
        }
    }
    for import in writer.options.imports.clone() {
        if let Some(events) = take_over_file(writer, &import, Ids::New)? {
            fs::rename(&import.path, free_name(&import.path))
                .map_err(|source| OpenError::Io { path: import.path.clone(), source })?;
            sync_folder(&import.path);
            forget(writer, &import)?;
            notices.push(Notice::Migrated { from: import.path, events });
        }
    }
    Ok(())
}

/// `NAME.migrated`, or `NAME.migrated-2` and so on where there is one from before.
fn free_name(path: &Path) -> PathBuf {
    let mut name = beside(path, ".migrated");
    let mut number = 1_u32;
    while name.exists() {
        number += 1;
        name = beside(path, &format!(".migrated-{number}"));
    }
    name
}

/// How many events were taken over, if that was the last of them; `None` when there is no such file or no room.
fn take_over_file(
    writer: &mut Writer,
    import: &Import,
    ids: Ids,
) -> Result<Option<u64>, OpenError> {
    if !import.path.exists() {
        // Killed between the renaming and the forgetting.
        forget(writer, import)?;
        return Ok(None);
    }
    let Some(queue) = writer.state.queues.iter().position(|queue| queue.name == import.queue)
    else {
        tracing::warn!(path = %import.path.display(), queue = import.queue, "no sink has this name: the events of the original program stay in its database");
        return Ok(None);
    };
    let file = fs::metadata(&import.path)
        .map_err(|source| OpenError::Io { path: import.path.clone(), source })?
        .ino();
    let events = match copy_tables(writer, import, file, (queue, ids)) {
        Ok(events) => events,
        Err(Failed::Old(error)) if failure::kind(&error) == Kind::Damaged => {
            tracing::error!(path = %import.path.display(), queue = import.queue, %error, "the original program's database is damaged: its events are imported up to the damage, the rest stays in the file; once that is not wanted any more, move it away");
            return Ok(None);
        }
        Err(Failed::Old(source)) => {
            return Err(OpenError::Database { path: import.path.clone(), source });
        }
        Err(Failed::Own(source)) => {
            return Err(OpenError::Database { path: writer.options.path.clone(), source });
        }
    };
    if events.is_none() {
        tracing::warn!(
            path = %import.path.display(),
            queue = import.queue,
            "no room for all events of the original program: the rest is imported at later starts"
        );
        return Ok(None);
    }
    for suffix in ["-wal", "-shm"] {
        remove(&import.path, suffix)?;
    }
    Ok(events)
}

fn remove(path: &Path, suffix: &str) -> Result<(), OpenError> {
    let path = beside(path, suffix);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(OpenError::Io { path, source })
        }
        _ => Ok(()),
    }
}

/// Which database has failed.
enum Failed {
    /// The original's.
    Old(rusqlite::Error),
    /// That of the store.
    Own(rusqlite::Error),
}

/// Copies chunk by chunk; `None` when the store is full before the end.
fn copy_tables(
    writer: &mut Writer,
    import: &Import,
    file: u64,
    to: (usize, Ids),
) -> Result<Option<u64>, Failed> {
    let old = Connection::open_with_flags(&import.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(Failed::Old)?;
    let mut total = 0;
    for table in TABLES {
        if !has_table(&old, table).map_err(Failed::Old)? {
            continue;
        }
        let at = time_of(&old, table, writer.options.clock.wall_ms()).map_err(Failed::Old)?;
        let key = progress_key(&import.path, table);
        let mut progress = Progress::load(&writer.conn, &key).map_err(Failed::Own)?;
        let is_same =
            progress.file == file && has_row(&old, table, progress.after).map_err(Failed::Old)?;
        if !is_same {
            progress = Progress { file, ..Progress::default() };
        }
        let mut rows = CHUNK_ROWS;
        loop {
            let mut events = match read_chunk(&old, table, &at, (progress.after, rows)) {
                // The bad page is somewhere in this chunk: go on in smaller steps up to it.
                Err(error) if rows > 1 && failure::kind(&error) == Kind::Damaged => {
                    rows = 1;
                    continue;
                }
                read => read.map_err(Failed::Old)?,
            };
            let Some(last) = events.last().map(|event| event.id) else { break };
            if to.1 == Ids::New {
                let next = writer.state.queues[to.0].next_id;
                (next..).zip(&mut events).for_each(|(id, event)| event.id = id);
            }
            progress =
                Progress { after: last, events: progress.events + events.len() as u64, ..progress };
            let done = progress.checkpoint(&key);
            if !writer.adopt(to.0, &events, Some(&done)).map_err(Failed::Own)? {
                return Ok(None);
            }
        }
        total += progress.events;
    }
    Ok(Some(total))
}

/// How far a table of a file, which has that number in its file system, was taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    after: u64,
    events: u64,
    file: u64,
}

impl Progress {
    fn load(conn: &Connection, key: &str) -> rusqlite::Result<Self> {
        let stored: Option<Vec<u8>> =
            conn.query_row(sql::GET_CHECKPOINT, [key], |row| row.get(0)).optional()?;
        let parse = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).ok()?;
            let mut numbers = text.split(' ').map(str::parse::<u64>);
            let mut number = || numbers.next()?.ok();
            Some(Self { after: number()?, events: number()?, file: number()? })
        };
        Ok(stored.and_then(parse).unwrap_or_default())
    }

    fn checkpoint(self, key: &str) -> Checkpoint {
        Checkpoint {
            key: key.to_owned(),
            value: Some(format!("{} {} {}", self.after, self.events, self.file).into_bytes()),
        }
    }
}

fn progress_key(path: &Path, table: &str) -> String {
    format!("import:{}:{table}", path.display())
}

/// A file of that name that appears later is another file.
fn forget(writer: &mut Writer, import: &Import) -> Result<(), OpenError> {
    forget_progress(writer, import)
        .map_err(|source| OpenError::Database { path: writer.options.path.clone(), source })
}

fn forget_progress(writer: &mut Writer, import: &Import) -> rusqlite::Result<()> {
    for table in TABLES {
        let key = progress_key(&import.path, table);
        if Progress::load(&writer.conn, &key)? != Progress::default() {
            writer.small_group()?.checkpoint(&Checkpoint { key, value: None })?;
            writer.end_transaction()?;
        }
    }
    Ok(())
}

/// A row that was taken over and is gone shows that the original has worked on the file since.
fn has_row(old: &Connection, table: &str, id: u64) -> rusqlite::Result<bool> {
    old.prepare(&format!("SELECT 1 FROM {table} WHERE id = ?1"))?.exists([sql_id(id)])
}

/// The next rows after an id, so many at the most, with the ids that they have there; `at` is the SQL of their time.
fn read_chunk(
    old: &Connection,
    table: &str,
    at: &str,
    (after, limit): (u64, usize),
) -> rusqlite::Result<Vec<StoredEvent>> {
    let select = format!(
        "SELECT id, {at}, CAST(content AS BLOB) FROM {table} WHERE id > ?1 AND content IS NOT NULL ORDER BY id LIMIT ?2"
    );
    let mut select = old.prepare(&select)?;
    let mut rows = select.query(params![sql_id(after), sql_id(limit as u64)])?;
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES
        && let Some(row) = rows.next()?
    {
        let content = row.get::<_, Vec<u8>>(2)?;
        bytes += content.len();
        let (id, at_ms) = (row.get(0)?, row.get(1)?);
        chunk.push(StoredEvent { id, at_ms, content: content.into(), attempts: 0 });
    }
    if chunk.last().is_some_and(|last| last.id <= after) {
        // A bad page that can be read, and would be again and again.
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None));
    }
    Ok(chunk)
}

fn has_original_table(conn: &Connection) -> rusqlite::Result<bool> {
    for table in TABLES {
        if has_table(conn, table)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The SQL that yields the milliseconds of a row of one of [`TABLES`]: `now` where the row tells no time, or one to come.
pub(crate) fn time_of(old: &Connection, table: &str, now: u64) -> rusqlite::Result<String> {
    let find = "SELECT 1 FROM pragma_table_info(?1) WHERE name = 'timestamp' COLLATE NOCASE";
    if !old.prepare(find)?.exists([table])? {
        return Ok(now.to_string());
    }
    Ok(format!("coalesce(nullif(min(max({MILLIS}, 0), {now}), 0), {now})"))
}

pub(crate) fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    let find = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    conn.prepare(find)?.exists([name])
}

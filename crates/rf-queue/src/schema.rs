//! The database file: connection set-up, tables, format versions.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::limits::PAGE;
use crate::types::Durability;

/// `PRAGMA user_version` of this format.
pub(crate) const FORMAT: i64 = 2;

/// How long a statement waits for a lock of the checkpoint thread or of the command line.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of cache for a connection, at the most: 2 MiB. Appends touch the right edge of a tree, so more would not help them.
const CACHE_KIB: i64 = 2048;

/// Statements kept compiled: some per queue, and the fixed ones.
const STATEMENTS: usize = 128;

/// `settings` holds what the command line must know. `queues` holds the counters that make every operation O(1): they move in the transaction of the rows they count.
/// Ids come from `next_id`, never from the rows, so that an emptied queue does not start over. Rows up to `removed` are gone,
/// whether they are still there or not.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS queues (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  next_id INTEGER NOT NULL,
  events INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  stored INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS settings (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
  queue INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  until_ms INTEGER,
  ttl_ms INTEGER NOT NULL,
  token INTEGER NOT NULL,
  PRIMARY KEY (queue, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS dead_letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  at INTEGER NOT NULL,
  dead_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  retry INTEGER NOT NULL DEFAULT 0,
  content BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS dead_letters_retry ON dead_letters (id) WHERE retry = 1;
";

/// Opens a connection with every setting that does not create tables.
pub(crate) fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Both only take effect in an empty file, and must come before journal_mode writes its first page. In one that is
    // not empty the second would be a write, and only the writer may write.
    if conn.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0))? == 0 {
        conn.pragma_update(None, "page_size", PAGE)?;
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // Readers and the checkpoint thread go on beside the writer, and a commit is one sequential write.
    let _mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    conn.pragma_update(
        None,
        "synchronous",
        if durability == Durability::Commit { "FULL" } else { "NORMAL" },
    )?;
    // Checkpoints run on a thread of their own (see `checkpoint`); inside a commit they are its whole tail latency.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // A spill would write a page of one transaction to the WAL twice, and the bound counts on once.
    conn.pragma_update(None, "cache_spill", false)?;
    Ok(conn)
}

/// Format of the file; 0 for a new one and for one of the original program.
pub(crate) fn format(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Creates what is missing in a file of format `found`, in one transaction.
pub(crate) fn create(conn: &Connection, found: i64) -> rusqlite::Result<()> {
    // Before, each queue was one table, which is now its first segment.
    let change = if found == 1 {
        "ALTER TABLE queues ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;"
    } else {
        TABLES
    };
    conn.execute_batch(&format!("BEGIN IMMEDIATE; {change} PRAGMA user_version={FORMAT}; COMMIT;"))
}

/// The bound that the store is opened with: the command line, which has no configuration of it, keeps to it too.
pub(crate) fn max_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    Ok(setting(conn, "max_bytes")?.unwrap_or(crate::types::MIN_STORE_BYTES))
}

/// Notes the bound, if it is another one than before.
pub(crate) fn set_max_bytes(conn: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    if setting(conn, "max_bytes")? == Some(max_bytes) {
        Ok(())
    } else {
        set(conn, "max_bytes", max_bytes)
    }
}

/// Counts a try to write: a value that is another one each time, since what stays the same is not written.
pub(crate) fn count_try(conn: &Connection) -> rusqlite::Result<()> {
    let tries = setting(conn, "tries_to_write")?.unwrap_or(0);
    set(conn, "tries_to_write", tries.wrapping_add(1) % (1 << 32))
}

/// How often lease tokens have been begun anew.
pub(crate) fn token_epoch(conn: &Connection) -> rusqlite::Result<u64> {
    Ok(setting(conn, "token_epoch")?.unwrap_or(0))
}

/// Notes that tokens of this epoch are given.
pub(crate) fn set_token_epoch(conn: &Connection, epoch: u64) -> rusqlite::Result<()> {
    set(conn, "token_epoch", epoch)
}

fn setting(conn: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    conn.query_row("SELECT value FROM settings WHERE key = ?1", [key], |row| row.get(0)).optional()
}

fn set(conn: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)",
        params![key, value],
    )
    .map(drop)
}

/// The name of a table of a queue's events. Number 0 has none in it, so that files of format 1 need not be changed.
pub(crate) fn event_table(queue_row: i64, number: u64) -> String {
    if number == 0 { format!("q_{queue_row}") } else { format!("q_{queue_row}_{number}") }
}

/// Creates a table of a queue's events, if there is none.
pub(crate) fn create_event_table(
    conn: &Connection,
    queue_row: i64,
    number: u64,
) -> rusqlite::Result<()> {
    let table = event_table(queue_row, number);
    conn.execute(
        &format!(
            "CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, content BLOB NOT NULL) STRICT"
        ),
        [],
    )
    .map(drop)
}

/// Drops a table of a queue's events.
pub(crate) fn drop_event_table(
    conn: &Connection,
    queue_row: i64,
    number: u64,
) -> rusqlite::Result<()> {
    conn.execute(&format!("DROP TABLE {}", event_table(queue_row, number)), []).map(drop)
}

/// The numbers of the tables of a queue's events.
pub(crate) fn event_tables(conn: &Connection, queue_row: i64) -> rusqlite::Result<Vec<u64>> {
    let find = "SELECT name FROM sqlite_schema WHERE type = 'table' AND (name = ?1 OR name GLOB ?1 || '_*')";
    let whole = event_table(queue_row, 0);
    let mut select = conn.prepare_cached(find)?;
    let mut rows = select.query([&whole])?;
    let mut numbers = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        match name.strip_prefix(&whole) {
            Some("") => numbers.push(0),
            Some(rest) => numbers.extend(rest.trim_start_matches('_').parse::<u64>()),
            None => {}
        }
    }
    Ok(numbers)
}

/// SQL for the id up to which a queue's events are gone, in a file of format `found`.
pub(crate) fn removed_sql(found: i64, queue_row: i64) -> String {
    if found < 2 {
        "0".to_owned()
    } else {
        format!("(SELECT removed FROM queues WHERE id = {queue_row})")
    }
}

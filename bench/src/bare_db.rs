//! The database of `bare-insert` and `bare-drain`: one connection, one table, the PRAGMAs of a durable queue.

use std::path::Path;

use rusqlite::Connection;

/// The table has the columns that a queue cannot do without.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, content BLOB NOT NULL) STRICT";

/// Opens or creates it. Everything that decides what a commit costs is as in our queue with
/// `durability: commit`; the rest is as a new file has it, also the checkpoint inside the commit.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "page_size", 4096)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let _mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(TABLE)?;
    Ok(db)
}

//! Looking for events by their content, beside the writer: for people who ask where an event is.
//!
//! It reads through a connection of its own, in short transactions, so that neither the writer nor its checkpoints wait for
//! it; and for a bounded time, since a queue may hold millions of events.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::time::Instant;

use crate::errors::OpenError;
use crate::rows::sql_id;
use crate::schema::{self, event_table, event_tables, removed_sql};
use crate::types::Durability;

/// Rows of one transaction.
const ROWS: u64 = 256;
/// Events that are told: an id names one event, but a batch that came twice may lie there twice.
const MAX_FOUND: usize = 100;

/// Where events were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In queues.
    pub waiting: Vec<FoundEvent>,
    /// Among the dead letters.
    pub dead: Vec<FoundLetter>,
    /// The time was over, or enough was found, before all was looked through.
    pub is_cut: bool,
}

/// An event in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEvent {
    /// The queue's name.
    pub queue: String,
    /// Its id there.
    pub id: u64,
    /// When it was stored, milliseconds since 1970.
    pub at_ms: u64,
}

/// An event among the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLetter {
    /// The queue that it came from.
    pub queue: String,
    /// Number for the command line.
    pub id: u64,
    /// When the event was stored, milliseconds since 1970.
    pub at_ms: u64,
    /// When it was given up.
    pub dead_at_ms: u64,
    /// Delivery attempts made.
    pub attempts: u32,
    /// Why.
    pub reason: String,
}

/// Looks through the store at `path`, whether it is open or not, for at most `patience`. Blocks on I/O.
///
/// # Errors
/// [`OpenError`]: there is no such file, or it cannot be read.
pub fn find(
    path: &Path,
    is_meant: &dyn Fn(&[u8]) -> bool,
    patience: Duration,
) -> Result<Found, OpenError> {
    std::fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let db = |source| OpenError::Database { path: path.to_owned(), source };
    let conn = schema::connect(path, Durability::Process).map_err(db)?;
    conn.pragma_update(None, "query_only", true).map_err(db)?;
    let format = schema::format(&conn).map_err(db)?;
    let (until, found) = (Instant::now() + patience, Found::default());
    Finder { conn: &conn, format, is_meant, until, found }.all().map_err(db)
}

struct Finder<'a> {
    conn: &'a Connection,
    format: i64,
    is_meant: &'a dyn Fn(&[u8]) -> bool,
    until: Instant,
    found: Found,
}

impl Finder<'_> {
    fn all(mut self) -> rusqlite::Result<Found> {
        // Letters first: they are few, and say most.
        self.letters()?;
        let mut select = self.conn.prepare("SELECT id, name FROM queues ORDER BY id")?;
        let queues = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (row, name) in queues.collect::<rusqlite::Result<Vec<(i64, String)>>>()? {
            self.queue(row, &name)?;
        }
        Ok(self.found)
    }

    /// Whether it has to end here.
    fn is_over(&mut self) -> bool {
        let enough = self.found.waiting.len() + self.found.dead.len() >= MAX_FOUND;
        self.found.is_cut |= enough || Instant::now() >= self.until;
        self.found.is_cut
    }

    fn letters(&mut self) -> rusqlite::Result<()> {
        let select = "SELECT id, content, queue, at, dead_at, attempts, reason FROM dead_letters \
                      WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut select = self.conn.prepare(select)?;
        let mut after = Some(0);
        while let Some(id) = after
            && !self.is_over()
        {
            after = None;
            let mut rows = select.query(params![sql_id(id), sql_id(ROWS)])?;
            while let Some(row) = rows.next()? {
                let id = row.get(0)?;
                after = Some(id);
                if (self.is_meant)(row.get_ref(1)?.as_bytes()?) {
                    self.found.dead.push(FoundLetter {
                        id,
                        queue: row.get(2)?,
                        at_ms: row.get(3)?,
                        dead_at_ms: row.get(4)?,
                        attempts: row.get(5)?,
                        reason: row.get(6)?,
                    });
                }
            }
        }
        Ok(())
    }

    fn queue(&mut self, row: i64, name: &str) -> rusqlite::Result<()> {
        let before = self.found.waiting.len();
        for number in event_tables(self.conn, row)? {
            self.table(row, number, name)?;
        }
        self.found.waiting[before..].sort_by_key(|event| event.id);
        Ok(())
    }

    /// A table that is emptied and used again meanwhile goes on with higher ids.
    fn table(&mut self, row: i64, number: u64, name: &str) -> rusqlite::Result<()> {
        let (table, removed) = (event_table(row, number), removed_sql(self.format, row));
        let select = format!(
            "SELECT id, at, content FROM {table} WHERE id > max(?1, {removed}) ORDER BY id LIMIT ?2"
        );
        let mut after = Some(0);
        while let Some(id) = after
            && !self.is_over()
        {
            after = None;
            let snapshot = self.conn.unchecked_transaction()?;
            if !event_tables(&snapshot, row)?.contains(&number) {
                break;
            }
            let mut select = snapshot.prepare_cached(&select)?;
            let mut rows = select.query(params![sql_id(id), sql_id(ROWS)])?;
            while let Some(row) = rows.next()? {
                let id = row.get(0)?;
                after = Some(id);
                if (self.is_meant)(row.get_ref(2)?.as_bytes()?) {
                    let (queue, at_ms) = (name.to_owned(), row.get(1)?);
                    self.found.waiting.push(FoundEvent { queue, id, at_ms });
                }
            }
        }
        Ok(())
    }
}

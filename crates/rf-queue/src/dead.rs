//! Dead letters from outside: what the command line lists, edits, retries and purges, also while the agent runs.
//!
//! It opens a connection of its own and touches only the table `dead_letters`. Retrying is a mark: the store that owns
//! the file moves marked letters into their queue (within a second or two, or at its next start), because only its writer
//! may change the queue's counters.
//!
//! What it writes is bounded as the writer's is (see [`crate::limits`]): in small transactions, each checked against the
//! files as they are while nobody else can write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::admit::Room;
use crate::errors::OpenError;
use crate::limits::{Limits, PAGE, PageEstimate, frames_in};
use crate::rows::sql_id;
use crate::schema;
use crate::space::beside;
use crate::types::{DeadLetter, Durability};

const COLUMNS: &str = "id, queue, at, dead_at, reason, attempts, retry, content";

/// Bytes of a letter beside its content, for the pages that an edited one needs.
const LETTER_BYTES: u64 = 4096;
/// Pages that marking or removing one letter dirties: its leaf, those beside it, the index.
const PAGES_PER_LETTER: u64 = 4;
/// How often, and for how long each time, a change waits for a checkpoint of the store's to end: 5 s.
const TRIES: usize = 250;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// The dead letters of one store.
#[derive(Debug)]
pub struct DeadLetters {
    conn: Connection,
    path: PathBuf,
    limits: Limits,
}

/// Which letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All, or all of one queue.
    All(Option<String>),
    /// These numbers.
    Ids(Vec<u64>),
}

impl DeadLetters {
    /// Opens the store's file, which must exist.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        std::fs::metadata(path)
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let db = |source| OpenError::Database { path: path.to_owned(), source };
        let conn = schema::connect(path, Durability::Commit).map_err(db)?;
        let limits = Limits::new(schema::max_bytes(&conn).map_err(db)?);
        Ok(Self { conn, path: path.to_owned(), limits })
    }

    /// Up to `limit` letters with a number above `after`, oldest first, with their content.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn list(
        &self,
        queue: Option<&str>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, OpenError> {
        let select = format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE id > ?1 AND (?2 IS NULL OR queue = ?2) ORDER BY id LIMIT ?3"
        );
        self.run(|conn| {
            conn.prepare(&select)?.query_map(params![after, queue, limit], letter)?.collect()
        })
    }

    /// One letter.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn get(&self, id: u64) -> Result<Option<DeadLetter>, OpenError> {
        let select = format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1");
        self.run(|conn| conn.query_row(&select, [id], letter).optional())
    }

    /// Names of the store's queues, and of those that are gone and have left letters.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn queues(&self) -> Result<Vec<String>, OpenError> {
        let select = "SELECT name FROM queues UNION SELECT queue FROM dead_letters ORDER BY 1";
        self.run(|conn| conn.prepare(select)?.query_map([], |row| row.get(0))?.collect())
    }

    /// Those of these numbers that no letter has.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn missing(&self, ids: &[u64]) -> Result<Vec<u64>, OpenError> {
        self.run(|conn| {
            let mut select = conn.prepare("SELECT 1 FROM dead_letters WHERE id = ?1")?;
            let mut missing = Vec::new();
            for &id in ids {
                if !select.exists([sql_id(id)])? {
                    missing.push(id);
                }
            }
            Ok(missing)
        })
    }

    /// Marks letters to go back into their queue; how many.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn retry(&self, which: &Which) -> Result<usize, OpenError> {
        self.each(which, "UPDATE dead_letters SET retry = 1")
    }

    /// Removes letters for good; how many.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub fn purge(&self, which: &Which) -> Result<usize, OpenError> {
        self.each(which, "DELETE FROM dead_letters")
    }

    /// Replaces a letter's content; false when there is no such letter.
    ///
    /// # Errors
    /// [`OpenError::Database`]; with SQLite's "full" when the store has no room for the new content.
    pub fn edit(&self, id: u64, content: &[u8]) -> Result<bool, OpenError> {
        let update = "UPDATE dead_letters SET content = ?2 WHERE id = ?1";
        let row = PageEstimate::of_row(content.len() as u64 + LETTER_BYTES);
        self.run(|conn| self.change(row, || Ok(conn.execute(update, params![id, content])? == 1)))
    }

    fn each(&self, which: &Which, statement: &str) -> Result<usize, OpenError> {
        let statement = format!("{statement} WHERE id = ?1");
        self.run(|conn| {
            let mut changed = 0;
            let mut after = 0;
            loop {
                let ids = self.next_ids(which, after)?;
                let Some(&last) = ids.last() else { return Ok(changed) };
                changed += self.change(PageEstimate::default(), || {
                    let mut each = conn.prepare_cached(&statement)?;
                    ids.iter().map(|&id| each.execute([id])).sum::<rusqlite::Result<usize>>()
                })?;
                after = last;
            }
        })
    }

    /// Letters that are meant, beyond `after`, as many as one transaction may change.
    fn next_ids(&self, which: &Which, after: i64) -> rusqlite::Result<Vec<i64>> {
        let most = usize::try_from(self.limits.step_pages() / PAGES_PER_LETTER).unwrap_or(1).max(1);
        let queue = match which {
            Which::All(queue) => queue,
            Which::Ids(ids) => {
                let mut ids: Vec<i64> =
                    ids.iter().map(|&id| sql_id(id)).filter(|&id| id > after).collect();
                ids.sort_unstable();
                ids.truncate(most);
                return Ok(ids);
            }
        };
        let select = "SELECT id FROM dead_letters WHERE id > ?1 AND (?2 IS NULL OR queue = ?2) ORDER BY id LIMIT ?3";
        self.conn
            .prepare_cached(select)?
            .query_map(params![after, queue, most], |row| row.get(0))?
            .collect()
    }

    /// One transaction that appends `rows` and changes no more than a step, as soon as the files have room for that.
    fn change<T>(
        &self,
        rows: PageEstimate,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut emptied = false;
        for _ in 0..TRIES {
            let transaction =
                Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
            let room = Room::look(&transaction, PageEstimate::default())?;
            let (pages, wal) = (room.after(rows), length(&beside(&self.path, "-wal")));
            let in_file = pages.max(length(&self.path) / PAGE);
            let dirty = rows.dirty_pages(in_file) + self.limits.step_pages();
            if rows != PageEstimate::default() && pages > self.limits.letter_cap(0) {
                break;
            }
            if self.limits.wal_fits(wal, frames_in(wal), dirty, in_file) {
                let done = work()?;
                transaction.commit()?;
                return Ok(done);
            }
            drop(transaction);
            let busy: bool =
                self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy {
                // SQLite does not wait for a checkpoint of the store's, which is under way.
                std::thread::park_timeout(TRY_AGAIN);
            } else if emptied {
                break;
            }
            emptied |= !busy;
        }
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        Err(rusqlite::Error::SqliteFailure(
            full,
            Some("the store has no room for it: purge dead letters first".to_owned()),
        ))
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, OpenError> {
        work(&self.conn).map_err(|source| OpenError::Database { path: self.path.clone(), source })
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |meta| meta.len())
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        queue: row.get(1)?,
        at_ms: row.get(2)?,
        dead_at_ms: row.get(3)?,
        reason: row.get(4)?,
        attempts: row.get(5)?,
        retry: row.get(6)?,
        content: row.get::<_, Vec<u8>>(7)?.into(),
    })
}

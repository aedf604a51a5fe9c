//! Dead letters from outside: what the command line lists, edits, retries and purges, also while the agent runs.
//!
//! It opens a connection of its own and touches only the table `dead_letters`. Retrying is a mark: the store that owns
//! the file moves marked letters into their queue (within a second, or at its next start), because only its writer may
//! change the queue's counters.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::schema;
use crate::types::{DeadLetter, Durability, OpenError};

const COLUMNS: &str = "id, queue, at, dead_at, reason, attempts, retry, content";

/// The dead letters of one store.
#[derive(Debug)]
pub struct DeadLetters {
    conn: Connection,
    path: PathBuf,
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
        let conn = schema::connect(path, Durability::Commit)
            .map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
        Ok(Self { conn, path: path.to_owned() })
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
    /// [`OpenError::Database`].
    pub fn edit(&self, id: u64, content: &[u8]) -> Result<bool, OpenError> {
        let update = "UPDATE dead_letters SET content = ?2 WHERE id = ?1";
        self.run(|conn| Ok(conn.execute(update, params![id, content])? == 1))
    }

    fn each(&self, which: &Which, statement: &str) -> Result<usize, OpenError> {
        self.run(|conn| match which {
            Which::All(None) => conn.execute(statement, []),
            Which::All(Some(queue)) => {
                conn.execute(&format!("{statement} WHERE queue = ?1"), [queue])
            }
            Which::Ids(ids) => {
                let tx = conn.unchecked_transaction()?;
                let mut changed = 0;
                for id in ids {
                    changed += tx.execute(&format!("{statement} WHERE id = ?1"), [id])?;
                }
                tx.commit()?;
                Ok(changed)
            }
        })
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, OpenError> {
        work(&self.conn).map_err(|source| OpenError::Database { path: self.path.clone(), source })
    }
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

//! What is answered when a request, or opening, does not go as asked.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::failure::{self, Kind};
use crate::types::MIN_STORE_BYTES;

/// Why a queue took no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullReason {
    /// The queue's own limit.
    Queue,
    /// The bound of the store's files.
    Store,
    /// The disk has no room, or cannot be written.
    Disk,
    /// Too much is waiting for the writer.
    Busy,
}

impl fmt::Display for FullReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "the queue's size limit is reached",
            Self::Store => "the store's size limit is reached",
            Self::Disk => "the disk is full or cannot be written",
            Self::Busy => "too many commits are waiting",
        })
    }
}

/// Why a commit was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// No room now; later there may be.
    #[error("{} is full: {reason}", full(.queue))]
    Full {
        /// The queue's name; empty for values alone, which go to none.
        queue: String,
        /// Which limit.
        reason: FullReason,
    },
    /// It will never fit.
    #[error("{bytes} bytes can never fit: the limit is {limit} bytes")]
    TooLarge {
        /// Size of what was to be stored.
        bytes: u64,
        /// What fits when the store is empty.
        limit: u64,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The database refused; may work later.
    #[error("database: {0}")]
    Failed(String),
}

fn full(queue: &str) -> String {
    if queue.is_empty() { "the store".to_owned() } else { format!("queue `{queue}`") }
}

/// Why a read or a lease was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The database refused; may work later.
    #[error("database: {0}")]
    Failed(String),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The bound is below [`MIN_STORE_BYTES`].
    #[error("a store needs at least {MIN_STORE_BYTES} bytes, {0} are configured")]
    TooSmall(u64),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread for the writer.
    #[error("cannot start the writer's thread for {path}: {source}")]
    Thread {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Two queues have the same name.
    #[error("two queues are named `{0}`")]
    SameName(String),
    /// Written by a newer version.
    #[error(
        "{path} was written by a newer version (format {found}, known {known}): use that version, or move the file away"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Format in the file.
        found: i64,
        /// Newest known.
        known: i64,
    },
}

impl OpenError {
    /// Whether the disk may let the store be opened later: it is full, may only be read, or fails.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Io { source, .. } => failure::may_pass(source),
            Self::Database { path, source } => failure::may_open_later(path, source),
            _ => false,
        }
    }

    /// Whether this database is damaged.
    pub(crate) fn is_damage_of(&self, database: &Path) -> bool {
        match self {
            Self::Database { path, source } => {
                path == database && failure::kind(source) == Kind::Damaged
            }
            _ => false,
        }
    }
}

/// Something that opening a store did that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The file was damaged.
    Damaged {
        /// Where it was set aside.
        kept_as: PathBuf,
        /// Events read out of it into the new file.
        salvaged: u64,
        /// Events known to have been in it that could not be read.
        lost: u64,
        /// What the database said.
        reason: String,
    },
    /// The file was empty or gone, though there had been events in it.
    Emptied {
        /// The database file.
        path: PathBuf,
    },
    /// Events of the original program were taken over.
    Migrated {
        /// From which file.
        from: PathBuf,
        /// How many events.
        events: u64,
    },
    /// There are events for a queue that nobody reads any more.
    Orphan {
        /// The queue's name.
        queue: String,
        /// How many events wait in it.
        events: u64,
    },
}

impl Notice {
    /// Whether events are lost, or may be.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Damaged { lost, .. } => *lost > 0,
            Self::Emptied { .. } => true,
            Self::Migrated { .. } | Self::Orphan { .. } => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { kept_as, salvaged: 0, lost: 0, reason } => write!(
                f,
                "database was damaged ({reason}): set aside as {}, no events were found in it",
                kept_as.display()
            ),
            Self::Damaged { kept_as, salvaged, lost, reason } => write!(
                f,
                "database was damaged ({reason}): set aside as {}, {salvaged} events salvaged, {lost} could not be read",
                kept_as.display()
            ),
            Self::Emptied { path } => write!(
                f,
                "{} was emptied or removed, and any events in it are lost: a new database is created",
                path.display()
            ),
            Self::Migrated { from, events } => {
                write!(
                    f,
                    "{events} events of the original program imported from {}",
                    from.display()
                )
            }
            Self::Orphan { queue, events } => {
                write!(
                    f,
                    "queue `{queue}` holds {events} events but is no longer configured; they stay on disk until it is"
                )
            }
        }
    }
}

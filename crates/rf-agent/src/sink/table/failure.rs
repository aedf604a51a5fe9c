//! What a database that does not work means: for a batch, and for a start.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use rf_queue::may_pass;
use rusqlite::{Error, ErrorCode};

use super::writer::NotDone;
use crate::sink::SinkError;

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// One of its events can never be written.
    #[error("{0}")]
    Refused(String),
    /// Something that a person must mend, and no fault of an event.
    #[error("{0}")]
    Broken(String),
    /// The database did not do what one event asks of its table.
    #[error("the database refused: {0}")]
    Event(Error),
    /// The database did not read or write what the sink notes for itself. Whatever the reason, no event is to blame.
    #[error("the database refused: {0}")]
    Own(Error),
    /// The database did not do it.
    #[error("the database refused: {0}")]
    Database(#[from] Error),
}

impl WriteError {
    /// What became of one event, and not of the whole batch.
    pub(crate) fn of_event(self) -> Self {
        match self {
            Self::Database(error) => Self::Event(error),
            other => other,
        }
    }

    /// Whether there is no room: less of it may fit.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Event(error) | Self::Own(error) | Self::Database(error) => {
                error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            }
            Self::Refused(_) | Self::Broken(_) => false,
        }
    }
}

impl From<WriteError> for SinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(reason) => Self::Permanent(reason),
            WriteError::Broken(reason) => Self::Paused(reason),
            WriteError::Event(error) if is_to_blame(&error) => Self::Permanent(refused(&error)),
            WriteError::Event(error) | WriteError::Own(error) | WriteError::Database(error) => {
                of_database(&error)
            }
        }
    }
}

impl From<NotDone> for SinkError {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::NotOpen(_) | NotDone::Gone(_) => Self::Paused(error.to_string()),
            NotDone::BrokeOff => Self::Retry { reason: error.to_string(), after: None },
        }
    }
}

fn refused(error: &Error) -> String {
    format!("the database refused: {error}")
}

/// Whether the event does not fit its table, or the table is not what the sink can write to, and will not be tomorrow. Then
/// the event is found, and its neighbours go on. Only said of a statement about one event's table: the same codes stand for a
/// table of the sink's own that is missing.
fn is_to_blame(error: &Error) -> bool {
    match error {
        Error::SqliteFailure(failure, _) | Error::SqlInputError { error: failure, .. } => matches!(
            failure.code,
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                // SQLite's word for a statement that makes no sense: a name that is taken, a table that is a view.
                | ErrorCode::Unknown
        ),
        // A row that is there holds something else than this kind of table does.
        Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

fn of_database(error: &Error) -> SinkError {
    let reason = refused(error);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => SinkError::Paused(format!("{reason}: look at the disk, the file and its permissions")),
        _ => SinkError::Retry { reason, after: None },
    }
}

/// Why a database is not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("database {}: {reason}", path.display())]
pub(crate) struct OpenError {
    /// The file.
    pub(crate) path: PathBuf,
    /// What stands in the way.
    pub(crate) reason: String,
    /// The disk, or another program, may let go of it, or a person may put another file in its place: it is tried again, and
    /// its events wait. Anything else is wrong in the configuration, and nothing starts with that.
    pub(crate) may_pass: bool,
}

impl OpenError {
    pub(crate) fn of_database(path: &Path, error: &Error) -> Self {
        let by_code = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => true,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => true,
            // The other sinks of the player have nothing to do with it.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let reason = format!(
                    "{error}: the file is damaged or is not a database: move it away with its -wal and -shm, or put a backup in its place"
                );
                return Self { path: path.to_owned(), reason, may_pass: true };
            }
            // SQLite does not say why, and it opens for reading alone what it cannot open for writing.
            Some(ErrorCode::CannotOpen) => {
                let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
                return match opened {
                    Err(reason) => Self::of_io(path, &reason),
                    Ok(_) => {
                        Self { path: path.to_owned(), reason: error.to_string(), may_pass: false }
                    }
                };
            }
            _ => false,
        };
        Self { path: path.to_owned(), reason: error.to_string(), may_pass: by_code }
    }

    pub(crate) fn of_io(path: &Path, error: &io::Error) -> Self {
        Self { path: path.to_owned(), reason: error.to_string(), may_pass: may_pass(error) }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// What a statement fails with, over a table `t (a INTEGER NOT NULL)` with an index `i` and one row, 7.
    fn failure(sql: &str) -> Error {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (a INTEGER NOT NULL); INSERT INTO t VALUES (7); CREATE INDEX i ON t (a); CREATE VIEW v AS SELECT a FROM t;")
            .unwrap();
        conn.query_row(sql, [], |row| row.get::<_, String>(0)).expect_err(sql)
    }

    #[test]
    fn an_event_is_to_blame_for_what_its_own_statement_says() {
        for sql in [
            "CREATE TABLE i (a)",
            "ALTER TABLE t ADD COLUMN a",
            "INSERT INTO v VALUES (1) RETURNING a",
            "INSERT INTO none VALUES (1) RETURNING a",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING a",
            "INSERT INTO t VALUES (NULL) RETURNING a",
            "SELECT a FROM t",
        ] {
            let of_event = SinkError::from(WriteError::from(failure(sql)).of_event());
            assert!(matches!(of_event, SinkError::Permanent(_)), "{sql}: {of_event}");
            for other in
                [WriteError::Database(failure(sql)), WriteError::Own(failure(sql)).of_event()]
            {
                let other = SinkError::from(other);
                assert!(matches!(other, SinkError::Retry { .. }), "{sql}: {other}");
            }
        }
    }

    #[test]
    fn no_event_is_to_blame_for_the_disk() {
        for (code, is_paused) in [
            (rusqlite::ffi::SQLITE_FULL, true),
            (rusqlite::ffi::SQLITE_IOERR, true),
            (rusqlite::ffi::SQLITE_CORRUPT, true),
            (rusqlite::ffi::SQLITE_BUSY, false),
            (rusqlite::ffi::SQLITE_NOMEM, false),
        ] {
            let failed = Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let error = SinkError::from(WriteError::Database(failed).of_event());
            let as_expected = match error {
                SinkError::Paused(_) => is_paused,
                SinkError::Retry { .. } => !is_paused,
                _ => false,
            };
            assert!(as_expected, "{code}: {error}");
        }
    }
}

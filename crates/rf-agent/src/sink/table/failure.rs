//! What a database that does not work means: for a batch, and for a start.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Error, ErrorCode};

use super::writer::NotDone;
use crate::sink::{SinkError, disk};

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// One of its events can never be written.
    #[error("{0}")]
    Refused(String),
    /// Something that a person must mend, and no fault of an event.
    #[error("{0}")]
    Broken(String),
    /// The database did not do it.
    #[error("the database refused: {0}")]
    Database(#[from] Error),
}

impl From<WriteError> for SinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(reason) => Self::Permanent(reason),
            WriteError::Broken(reason) => Self::Paused(reason),
            WriteError::Database(error) => of_database(&error),
        }
    }
}

impl From<NotDone> for SinkError {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::NotOpen(error) => Self::Paused(error.to_string()),
            NotDone::BrokeOff => Self::Retry { reason: error.to_string(), after: None },
        }
    }
}

fn of_database(error: &Error) -> SinkError {
    let reason = format!("the database refused: {error}");
    match error.sqlite_error_code() {
        // The event does not fit what the table says, and will not tomorrow.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            SinkError::Permanent(reason)
        }
        Some(ErrorCode::DiskFull) => SinkError::Paused(format!(
            "{reason}: make room on the disk, raise max_bytes or set row_ttl_sec"
        )),
        Some(
            ErrorCode::ReadOnly
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
    /// The disk, or another program, may let go of it: it is tried again, and its events wait. Anything else is wrong in
    /// the configuration, and nothing starts with that.
    pub(crate) may_pass: bool,
}

impl OpenError {
    pub(crate) fn of_database(path: &Path, error: &Error) -> Self {
        let by_code = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => true,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => true,
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
        let may_pass = disk::is_full(error) || disk::is_read_only(error);
        Self { path: path.to_owned(), reason: error.to_string(), may_pass }
    }
}

//! What a write that did not work means for its batch.

use rusqlite::{Error, ErrorCode};

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
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => SinkError::Paused(format!("{reason}: look at the file and its permissions")),
        _ => SinkError::Retry { reason, after: None },
    }
}

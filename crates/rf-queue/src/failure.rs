//! What a database error means for the requests of the transaction that it ended.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};
use rustix::io::Errno;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No room on the disk: free the reserve, refuse appends, go on removing.
    DiskFull,
    /// The file is damaged: stop, so that the next start sets it aside.
    Damaged,
    /// Anything else: refuse this transaction, try the next.
    Other,
}

/// Sorts an error. A short write of the WAL and a shm that cannot grow show as I/O errors, which are a full disk in every
/// case seen.
pub(crate) fn kind(error: &Error) -> Kind {
    match error.sqlite_error() {
        Some(e) if e.code == ErrorCode::DiskFull => Kind::DiskFull,
        Some(e)
            if matches!(e.extended_code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) =>
        {
            Kind::DiskFull
        }
        Some(e) if matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Kind::Damaged
        }
        _ => Kind::Other,
    }
}

/// Whether a disk that is full, may only be read or fails is the reason: all of that may pass by itself.
pub fn may_pass(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO))
}

/// The same of a database that could not be opened.
pub(crate) fn may_open_later(path: &Path, error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => true,
        // SQLite does not say why.
        Some(ErrorCode::CannotOpen) => {
            let opened = File::options().create(true).truncate(false).write(true).open(path);
            opened.is_err_and(|error| may_pass(&error))
        }
        _ => false,
    }
}

/// Another connection reads so long that the WAL cannot be emptied.
pub(crate) fn wal_held() -> Error {
    let message = "the WAL cannot be emptied: another process holds a read open on the database";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some(message.to_owned()))
}

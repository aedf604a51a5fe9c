//! What a database error means for the requests of the transaction that it ended.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};
use rustix::io::Errno;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No room on the disk, or it cannot be written: free the reserve, refuse appends, go on removing.
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

/// What is wrong with the disk after an error of [`Kind::DiskFull`], for a person: `freed` says what became of the reserve,
/// `has_room` whether the disk had some before that, and `wanted` is as for [`full_disk`].
pub(crate) fn disk_reason(
    error: &Error,
    freed: io::Result<()>,
    has_room: bool,
    wanted: u64,
) -> String {
    let is_write = |e: &ffi::Error| e.extended_code == ffi::SQLITE_IOERR_WRITE;
    match freed {
        Err(reason) => format!("the disk cannot be written: {reason}"),
        Ok(()) if has_room && error.sqlite_error().is_some_and(is_write) => {
            format!("the disk cannot be written: {error}")
        }
        Ok(()) => full_disk(wanted),
    }
}

/// A full disk, for a person, who may see that some of it is free: so many bytes are `wanted`.
pub(crate) fn full_disk(wanted: u64) -> String {
    let mib = wanted.div_ceil(1 << 20);
    format!("the disk is full: events are accepted again once it has {mib} MiB free")
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

/// Whether a file could not be read for a reason that is not in the file, and another time it may be.
pub(crate) fn may_be_read_later(error: &Error) -> bool {
    let code = error.sqlite_error_code();
    let is_elsewhere = matches!(
        code,
        Some(ErrorCode::CannotOpen | ErrorCode::DatabaseBusy | ErrorCode::OutOfMemory)
    );
    is_elsewhere || kind(error) == Kind::DiskFull
}

/// Another connection reads so long that the WAL cannot be emptied.
pub(crate) fn wal_held() -> Error {
    let message = "the WAL cannot be emptied: another process holds a read open on the database";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_be_written_is_not_called_full() {
        let read_only = || Err(io::Error::from_raw_os_error(30));
        let check = |code: i32, freed: io::Result<()>, has_room: bool, expected: &str| {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(kind(&error), Kind::DiskFull);
            let reason = disk_reason(&error, freed, has_room, (24 << 20) - 1);
            assert!(reason.starts_with(expected), "{reason}");
        };
        let write = ffi::SQLITE_IOERR_WRITE;
        check(write, read_only(), true, "the disk cannot be written: Read-only file system");
        check(write, Ok(()), true, "the disk cannot be written: ");
        let full = "the disk is full: events are accepted again once it has 24 MiB free";
        check(write, Ok(()), false, full);
        check(ffi::SQLITE_FULL, Ok(()), true, full);
    }
}

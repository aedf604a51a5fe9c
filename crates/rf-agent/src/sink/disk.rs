//! What a disk says that takes nothing: sinks that write to one tell it alike.

use std::io::{self, ErrorKind};

use super::SinkError;

/// Whether there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether it may only be read.
pub(super) fn is_read_only(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ReadOnlyFilesystem
}

/// What it means for a batch that `path` could not be written. `room` is what a person may do when it is full.
pub(super) fn refusal(path: &str, error: &io::Error, room: &str) -> SinkError {
    let reason = format!("{path}: {error}");
    if is_full(error) {
        return SinkError::Paused(format!("{reason}: the disk is full: {room}"));
    }
    if is_read_only(error) || error.kind() == ErrorKind::PermissionDenied {
        return SinkError::Paused(format!(
            "{reason}: look at the disk, the file and its permissions"
        ));
    }
    SinkError::Retry { reason, after: None }
}

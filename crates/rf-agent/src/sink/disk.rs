//! What a disk says that takes nothing: sinks that write to one tell it alike.

use std::io::{self, ErrorKind};

use rf_queue::may_pass;

use super::SinkError;

/// Whether there is no room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What it means for a batch that `path` could not be written. `room` is what a person may do when it is full.
pub(super) fn refusal(path: &str, error: &io::Error, room: &str) -> SinkError {
    let reason = format!("{path}: {error}");
    if is_full(error) {
        return SinkError::Paused(format!("{reason}: the disk is full: {room}"));
    }
    if may_pass(error) || error.kind() == ErrorKind::PermissionDenied {
        return SinkError::Paused(format!(
            "{reason}: look at the disk, the file and its permissions"
        ));
    }
    SinkError::Retry { reason, after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the numbers of Linux.
    #[test]
    fn a_disk_that_takes_nothing_pauses_its_sink() {
        for (number, expected) in [
            (28, Some("the disk is full: make room")),
            (122, Some("the disk is full: make room")),
            (30, Some("look at the disk")),
            (5, Some("look at the disk")),
            (13, Some("look at the disk")),
            (20, None),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let refused = refusal("a.log", &error, "make room");
            match expected {
                Some(text) => assert!(
                    matches!(&refused, SinkError::Paused(reason) if reason.starts_with("a.log: ") && reason.contains(text)),
                    "{refused:?}"
                ),
                None => assert!(matches!(refused, SinkError::Retry { .. }), "{refused:?}"),
            }
        }
    }
}

//! What several sources take where the file says nothing.

use rf_core::config::ByteSize;

/// `listenAddress`.
pub(super) fn all_interfaces() -> String {
    "0.0.0.0".to_owned()
}

/// `path` of events.
pub(super) fn root_path() -> String {
    "/".to_owned()
}

/// `maxLineBytes`.
pub(super) fn default_max_line() -> ByteSize {
    ByteSize::mib(1)
}

/// `maxRows` of a query.
pub(super) fn default_max_rows() -> usize {
    10_000
}

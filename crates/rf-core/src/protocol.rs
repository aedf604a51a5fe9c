//! How events travel between proxy, relay and player: header names, and the JSON of each body.
//!
//! Promises:
//! - old programs are understood and understand us: a batch is an array of strings, a pulled event an object with a
//!   numeric `id` and a `content`, ids to acknowledge are strings;
//! - a body is parsed in one pass, in two where strings have to be mended, into slices: of the body, or, for strings that
//!   had escapes, of blocks of 64 KiB, so that a batch of a thousand events costs a handful of allocations;
//! - an event is text. What is not (bytes that are not UTF-8, halves of surrogate pairs such as `\ud800`) becomes
//!   U+FFFD, as in the original: one bad event must not hold back its batch, and JSON cannot carry it anyway;
//! - an error says where it is, and never quotes an event.

mod batch;
mod content;
mod ids;
mod pulled;

use std::collections::HashSet;

pub use batch::{encode_batch, parse_batch};
pub use ids::{ExtendLease, encode_ids, parse_ids};
pub use pulled::{
    MAX_PULLED_BYTES, MAX_PULLED_EVENT_BYTES, PulledEvent, can_be_pulled, encode_pulled,
    parse_pulled,
};

/// The bucket that a request is about.
pub const RF_BUCKET: &str = "rf-bucket";
/// The buckets that a batch goes to, separated by commas.
pub const RF_BUCKETS: &str = "rf-buckets";
/// The environment of the sender, as in its configuration.
pub const RF_ENV_NAME: &str = "rf-env-name";
/// The host of the sender, as in its configuration.
pub const RF_HOSTNAME: &str = "rf-hostname";
/// Names a batch, so that a repeat of it is not stored again.
pub const RF_BATCH_ID: &str = "rf-batch-id";
/// Names the lease under which events were pulled.
pub const RF_LEASE: &str = "rf-lease";

/// How a relay's answer to an acknowledgement ends: so many events are gone.
pub const ACKNOWLEDGED: &str = "acknowledged";
/// What a relay says where none of the events to acknowledge is in the bucket.
pub const NONE_IS_THERE: &str = "none of these events is there";

/// The longest [`RF_BATCH_ID`] that a relay takes.
pub const MAX_BATCH_ID_BYTES: usize = 128;

/// Why a body is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It is not the JSON that is expected there; says what is wrong at which line and column.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// It has more entries than are taken at once.
    #[error("more than {limit} entries")]
    TooMany {
        /// How many are taken.
        limit: usize,
    },
}

/// Buckets that a request may name; one that names more opens none of them.
pub const MAX_NAMES: usize = 1000;

/// The names in a header such as [`RF_BUCKETS`]: blanks around them and empty ones are skipped, a repeated one counts
/// once. Where there are more than [`MAX_NAMES`], one more than that is returned, so that the caller can tell.
#[must_use]
pub fn name_list(value: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    let names = value.split(',').map(str::trim);
    names.filter(|name| !name.is_empty() && seen.insert(*name)).take(MAX_NAMES + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_lists() {
        assert_eq!(name_list("a"), ["a"]);
        assert_eq!(name_list(" a , b,c "), ["a", "b", "c"]);
        assert_eq!(name_list("a,,b,a,"), ["a", "b"]);
        assert_eq!(name_list(" "), Vec::<&str>::new());
    }

    #[test]
    fn more_names_than_allowed_are_noticed_and_not_read() {
        let names = |count: usize| -> String { (0..count).map(|n| format!("{n},")).collect() };
        assert_eq!(name_list(&names(MAX_NAMES)).len(), MAX_NAMES);
        assert_eq!(name_list(&names(20_000)).len(), MAX_NAMES + 1);
        assert_eq!(name_list(&names(MAX_NAMES).repeat(20)).len(), MAX_NAMES, "repeats");
    }
}

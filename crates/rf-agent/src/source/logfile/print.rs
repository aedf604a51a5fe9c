//! Prints of content: short enough to be stored with every batch, long enough to tell files apart.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The print of a file's beginning covers so much of it, once it has been read.
pub(super) const HEAD_BYTES: usize = 1024;
/// With `fingerprintLines`, its lines count within so much.
pub(super) const HEAD_LINES_BYTES: usize = 64 * 1024;
/// The print before the place where reading goes on covers so much.
pub(super) const TAIL_BYTES: usize = 64;

/// Length and hash of a piece of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Print {
    pub(super) len: usize,
    pub(super) hash: u64,
}

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let hash = digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self { len: bytes.len(), hash }
    }

    /// Whether `bytes` begin with what this is the print of; everything begins with nothing.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        self.len == 0 || bytes.get(..self.len).is_some_and(|head| Self::of(head) == self)
    }
}

/// How much of a beginning a print should cover, when `head` is all that has been read of it: the first lines, or 1 KiB.
pub(super) fn head_len(head: &[u8], lines: usize) -> usize {
    match lines {
        0 => head.len().min(HEAD_BYTES),
        _ => memchr::memchr_iter(b'\n', head).nth(lines - 1).map_or(head.len(), |end| end + 1),
    }
}

/// Whether a print that covers `len` will grow no more.
pub(super) fn is_full(len: usize, head: &[u8], lines: usize) -> bool {
    match lines {
        0 => len >= HEAD_BYTES,
        _ => len >= HEAD_LINES_BYTES || memchr::memchr_iter(b'\n', head).nth(lines - 1).is_some(),
    }
}

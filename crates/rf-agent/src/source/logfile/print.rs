//! Prints of content: short enough to be stored with every batch, long enough to tell files apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The print of a file's beginning covers so much of it, once it has been read.
pub(super) const HEAD_BYTES: usize = 1024;
/// With `fingerprintLines`, its lines count within so much.
const HEAD_LINES_BYTES: usize = 64 * 1024;
/// The print before the place where reading goes on covers so much.
pub(super) const TAIL_BYTES: usize = 64;
/// The first of [`Marks`]: 2 KiB. What is before it is nearly in the print of the beginning.
const FIRST_MARK: u32 = 11;

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

    /// The longer print of this beginning, now that `head` is what has been read of it. `None` leaves this one: it covers
    /// as much as a print ever does, or `head` is another beginning.
    pub(super) fn grown(self, head: &[u8], lines: usize) -> Option<Self> {
        let covered = head.get(..head_len(head, lines))?;
        (covered.len() > self.len && self.begins(head)).then(|| Self::of(covered))
    }
}

/// Prints of the bytes before each power of two that reading has passed. Logs may begin alike, with a banner that is longer than
/// the print of a beginning: these tell whether a shorter file is the beginning of one that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Marks(BTreeMap<u32, u64>);

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what was read: `read` are bytes from `from` on, and those before `offset` were noted already.
    pub(super) fn note(&mut self, read: &[u8], from: u64, offset: u64) {
        let mut power = (offset + 1).next_power_of_two().trailing_zeros().max(FIRST_MARK);
        while let Ok(end) = usize::try_from((1_u64 << power) - from)
            && let Some(start) = end.checked_sub(TAIL_BYTES)
            && let Some(bytes) = read.get(start..end)
        {
            self.0.insert(power, Print::of(bytes).hash);
            power += 1;
        }
    }

    /// Where they end, up to `most`, with the prints of the [`TAIL_BYTES`] before; the last first.
    pub(super) fn before(&self, most: u64) -> impl Iterator<Item = (u64, Print)> {
        let mark = |(power, hash): (&u32, &u64)| {
            Some((1_u64.checked_shl(*power)?, Print { len: TAIL_BYTES, hash: *hash }))
        };
        self.0.iter().rev().filter_map(mark).filter(move |(end, _)| *end <= most)
    }
}

/// How much of a beginning a print may cover: with `fingerprintLines` as much as these lines may take.
pub(super) fn most_of_head(lines: usize) -> usize {
    if lines == 0 { HEAD_BYTES } else { HEAD_LINES_BYTES }
}

/// How much of `head` a print covers: the first lines, or 1 KiB.
fn head_len(head: &[u8], lines: usize) -> usize {
    let most = head.len().min(most_of_head(lines));
    match lines {
        0 => most,
        _ => memchr::memchr_iter(b'\n', head).nth(lines - 1).map_or(most, |end| most.min(end + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length that the print of the first `printed` bytes has when it has grown with `head`.
    fn check(head: &[u8], printed: usize, lines: usize, expected: Option<usize>) {
        let grown = Print::of(&head[..printed]).grown(head, lines);
        assert_eq!(grown, expected.map(|len| Print::of(&head[..len])), "{printed} {lines}");
    }

    #[test]
    fn a_print_grows_up_to_its_bytes_or_lines() {
        let long = [b'x'; 2 * HEAD_LINES_BYTES];
        check(&long[..10], 0, 0, Some(10));
        check(&long[..10], 10, 0, None);
        check(&long, 10, 0, Some(HEAD_BYTES));
        check(&long, HEAD_BYTES, 0, None);
        check(b"a\nb\nc\n", 0, 2, Some(4));
        check(b"a\nb\nc\n", 2, 2, Some(4));
        check(b"a\nb\nc\n", 4, 2, None);
        check(b"a\nb", 2, 2, Some(3));
        check(&long, 0, 1, Some(HEAD_LINES_BYTES));
        check(&long, HEAD_LINES_BYTES, 1, None);
        // Fewer lines, or bytes, count than when it was made.
        check(b"a\nb\nc\n", 6, 1, None);
        check(&long, HEAD_BYTES + 1, 0, None);
    }

    #[test]
    fn marks_lie_before_each_power_of_two_however_it_is_read() {
        let content: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        let expected: Vec<(u64, Print)> = [65_536, 32_768, 16_384, 8192, 4096, 2048]
            .map(|end: usize| (end as u64, Print::of(&content[end - TAIL_BYTES..end])))
            .to_vec();
        for piece in [1, 63, 64, 4096, 80_000] {
            let mut marks = Marks::default();
            for offset in (0..content.len()).step_by(piece) {
                let (from, to) = (offset.saturating_sub(TAIL_BYTES), offset + piece);
                let read = &content[from..to.min(content.len())];
                marks.note(read, from as u64, offset as u64);
            }
            assert_eq!(marks.before(u64::MAX).collect::<Vec<_>>(), expected, "{piece}");
            assert_eq!(marks.before(4096).count(), 2);
            assert_eq!(marks.before(4095).count(), 1);
        }
    }

    #[test]
    fn a_print_does_not_become_that_of_another_beginning() {
        assert_eq!(Print::of(b"a\n").grown(b"b\nc\n", 0), None);
        assert_eq!(Print::of(b"a\nb\n").grown(b"a\n", 0), None);
    }
}

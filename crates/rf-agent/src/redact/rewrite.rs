//! A copy of a text in which parts are replaced.

use std::ops::Range;

/// The copy, as far as it is made: from the front, part by part.
pub(super) struct Rewrite<'a> {
    text: &'a [u8],
    out: Vec<u8>,
    /// So much of `text` is in `out`, or replaced.
    done: usize,
}

impl<'a> Rewrite<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { text, out: Vec::new(), done: 0 }
    }

    /// Puts `with` in the place of `part`, which lies behind what was replaced before.
    pub(super) fn replace(&mut self, part: Range<usize>, with: &[u8]) {
        self.out.extend_from_slice(&self.text[self.done..part.start]);
        self.out.extend_from_slice(with);
        self.done = part.end;
    }

    /// What was replaced last goes on until `end`.
    pub(super) fn extend_to(&mut self, end: usize) {
        self.done = end;
    }

    /// Behind what was replaced last; 0 where nothing was.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// The whole copy; `None` where it would be the text as it was.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        if self.done == 0 {
            return None;
        }
        self.out.extend_from_slice(&self.text[self.done..]);
        Some(self.out)
    }
}

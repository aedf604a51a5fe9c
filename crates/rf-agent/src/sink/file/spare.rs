//! Memory of chunks that are in their files, for those of the next batches: where megabytes are taken anew for each batch, the
//! kernel fills every page with zeros first, which takes longer than to copy the events.

use parking_lot::Mutex;

/// Pieces of memory that are used again.
#[derive(Debug)]
pub(super) struct Spare {
    pieces: Mutex<Vec<Vec<u8>>>,
    /// So many are kept.
    most: usize,
    /// A larger one is not kept.
    most_bytes: usize,
}

impl Spare {
    /// Keeps at most `most` pieces of up to `most_bytes` each.
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { pieces: Mutex::default(), most, most_bytes }
    }

    /// An empty piece with room for so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut piece = self.pieces.lock().pop().unwrap_or_default();
        piece.reserve_exact(bytes);
        piece
    }

    /// Keeps a piece.
    pub(super) fn give(&self, mut piece: Vec<u8>) {
        piece.clear();
        let mut pieces = self.pieces.lock();
        if piece.capacity() <= self.most_bytes && pieces.len() < self.most {
            pieces.push(piece);
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        *self.pieces.lock() = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_used_again_and_nothing_of_it_is_left() {
        let spare = Spare::new(1, 100);
        let mut piece = spare.take(50);
        piece.extend_from_slice(b"earlier");
        let place = piece.as_ptr();
        spare.give(piece);
        let again = spare.take(40);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let spare = Spare::new(1, 100);
        spare.give(Vec::with_capacity(101));
        assert_eq!(spare.take(0).capacity(), 0, "too large");
        spare.give(Vec::with_capacity(10));
        spare.give(Vec::with_capacity(20));
        assert_eq!(spare.take(0).capacity(), 10);
        assert_eq!(spare.take(0).capacity(), 0, "one too many");
        spare.give(Vec::with_capacity(10));
        spare.clear();
        assert_eq!(spare.take(0).capacity(), 0, "cleared");
    }
}

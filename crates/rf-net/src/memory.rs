//! Memory that bodies share, so that many clients at once cannot take more of it than there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body of up to this takes nothing from the shared memory: the number of connections bounds those.
pub const FREE_BYTES: usize = 64 * 1024;
/// Shared memory is counted in pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// Memory for the bodies of one server. Clones share it.
#[derive(Debug, Clone)]
pub struct BodyMemory {
    free: Arc<Semaphore>,
    pieces: usize,
}

/// What one body takes of it; given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: BodyMemory,
    taken: Option<OwnedSemaphorePermit>,
}

impl BodyMemory {
    /// Memory of `bytes`, or of `largest` where that is more: one body of that size can always be read.
    #[must_use]
    pub fn new(bytes: usize, largest: usize) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let pieces = bytes.max(largest).div_ceil(PIECE_BYTES).min(most);
        Self { free: Arc::new(Semaphore::new(pieces)), pieces }
    }

    /// For a body that begins.
    #[must_use]
    pub fn begin(&self) -> Held {
        Held { memory: self.clone(), taken: None }
    }

    /// Waits until `bytes` are free. What a client could hold up is to be waited for with a limit of time.
    pub async fn wait_for(&self, bytes: usize) -> Held {
        let mut held = self.begin();
        let pieces = self.pieces_of(bytes);
        if pieces > 0 {
            // Closed it never is.
            held.taken = Arc::clone(&self.free).acquire_many_owned(pieces).await.ok();
        }
        held
    }

    fn pieces_of(&self, bytes: usize) -> u32 {
        let pieces = if bytes <= FREE_BYTES { 0 } else { bytes.div_ceil(PIECE_BYTES) };
        u32::try_from(pieces.min(self.pieces)).unwrap_or(u32::MAX)
    }
}

impl Held {
    /// Takes what a body of `bytes` needs; false when there is not so much left.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = self.memory.pieces_of(bytes) as usize;
        let Some(more) = wanted.checked_sub(has).filter(|more| *more > 0) else { return true };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.memory.free).try_acquire_many_owned(more) else {
            return false;
        };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }

    /// Gives back what a body of `bytes` does not need.
    pub fn shrink_to(&mut self, bytes: usize) {
        let wanted = self.memory.pieces_of(bytes) as usize;
        let Some(taken) = &mut self.taken else { return };
        let spare = taken.num_permits().saturating_sub(wanted);
        drop(taken.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn bodies_share_what_there_is_and_give_it_back() {
        let memory = BodyMemory::new(4 * MIB, MIB);
        let (mut one, mut other) = (memory.begin(), memory.begin());
        assert!(one.grow_to(MIB) && one.grow_to(3 * MIB) && other.grow_to(MIB));
        assert!(!other.grow_to(MIB + 1), "nothing is left");
        assert!(memory.begin().grow_to(FREE_BYTES), "a small one takes nothing");
        assert!(one.grow_to(2 * MIB), "it has that already");
        one.shrink_to(3 * MIB);
        one.shrink_to(2 * MIB);
        assert!(other.grow_to(2 * MIB));
        one.shrink_to(0);
        drop(one);
        assert!(other.grow_to(4 * MIB));
        drop(other);
        assert_eq!(memory.free.available_permits(), 4 * MIB / PIECE_BYTES);
    }

    #[test]
    fn the_largest_body_fits_whatever_was_set() {
        let mut held = BodyMemory::new(0, 8 * MIB).begin();
        assert!(held.grow_to(8 * MIB));
    }

    #[tokio::test]
    async fn work_waits_for_its_turn() {
        let memory = BodyMemory::new(MIB, MIB);
        let first = memory.wait_for(100 * MIB).await;
        let second = memory.wait_for(MIB);
        let mut second = std::pin::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }
}

//! Memory that bodies share, so that many clients at once cannot take more of it than there is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body of up to this takes nothing from the shared memory: the number of connections bounds those.
pub const FREE_BYTES: usize = 64 * 1024;
/// Shared memory is counted in pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// The whole, a part of it, and a part of that.
const MAX_LEVELS: usize = 3;

/// Memory for the bodies of one server, or of some of its clients. Clones share it.
#[derive(Debug, Clone)]
pub struct BodyMemory {
    /// A part stands before what it is a part of: who waits for the part must not hold what others could use.
    /// Invariant: there are at most [`MAX_LEVELS`].
    levels: Arc<[Level]>,
}

/// What one body takes of it; given back when this is dropped. Every body has one, so it needs no allocation.
#[derive(Debug)]
pub struct Held {
    memory: BodyMemory,
    /// Of each level.
    taken: [Option<OwnedSemaphorePermit>; MAX_LEVELS],
}

impl BodyMemory {
    /// Memory of `bytes`, or of `largest` where that is more: one body of that size can always be read.
    #[must_use]
    pub fn new(bytes: usize, largest: usize) -> Self {
        Self { levels: Arc::new([Level::new(bytes.max(largest))]) }
    }

    /// A part of it, of `bytes` or `largest` as in [`BodyMemory::new`]: what is taken of the part is taken of the whole,
    /// too. Parts may be more than the whole together.
    ///
    /// # Panics
    /// If it is a part of a part of a part.
    #[must_use]
    pub fn part(&self, bytes: usize, largest: usize) -> Self {
        assert!(self.levels.len() < MAX_LEVELS, "only so many levels can be held");
        let own = Level::new(bytes.max(largest));
        Self { levels: std::iter::once(own).chain(self.levels.iter().cloned()).collect() }
    }

    /// For a body that begins.
    #[must_use]
    pub fn begin(&self) -> Held {
        Held { memory: self.clone(), taken: [const { None }; MAX_LEVELS] }
    }

    /// Waits until `bytes` are free. What a client could hold up is to be waited for with a limit of time.
    pub async fn wait_for(&self, bytes: usize) -> Held {
        let mut held = self.begin();
        for (level, taken) in held.memory.levels.iter().zip(&mut held.taken) {
            *taken = level.wait_for(bytes).await;
        }
        held
    }
}

impl Held {
    /// Takes what a body of `bytes` needs; false when there is not so much left.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        self.memory
            .levels
            .iter()
            .zip(&mut self.taken)
            .all(|(level, taken)| level.grow(taken, bytes))
    }

    /// Gives back what a body of `bytes` does not need.
    pub fn shrink_to(&mut self, bytes: usize) {
        for (level, taken) in self.memory.levels.iter().zip(&mut self.taken) {
            level.shrink(taken, bytes);
        }
    }
}

/// The whole, or a part.
#[derive(Debug, Clone)]
struct Level {
    free: Arc<Semaphore>,
    pieces: usize,
}

impl Level {
    fn new(bytes: usize) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let pieces = bytes.div_ceil(PIECE_BYTES).min(most);
        Self { free: Arc::new(Semaphore::new(pieces)), pieces }
    }

    fn pieces_of(&self, bytes: usize) -> u32 {
        let pieces = if bytes <= FREE_BYTES { 0 } else { bytes.div_ceil(PIECE_BYTES) };
        u32::try_from(pieces.min(self.pieces)).unwrap_or(u32::MAX)
    }

    async fn wait_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        match self.pieces_of(bytes) {
            0 => None,
            // Closed it never is.
            pieces => Arc::clone(&self.free).acquire_many_owned(pieces).await.ok(),
        }
    }

    fn grow(&self, taken: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let has = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = self.pieces_of(bytes) as usize;
        let Some(more) = wanted.checked_sub(has).filter(|more| *more > 0) else { return true };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.free).try_acquire_many_owned(more) else {
            return false;
        };
        match taken {
            Some(permit) => permit.merge(more),
            None => *taken = Some(more),
        }
        true
    }

    fn shrink(&self, taken: &mut Option<OwnedSemaphorePermit>, bytes: usize) {
        let wanted = self.pieces_of(bytes) as usize;
        let Some(permit) = taken else { return };
        let spare = permit.num_permits().saturating_sub(wanted);
        drop(permit.split(spare));
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
        assert_eq!(memory.levels[0].free.available_permits(), 4 * MIB / PIECE_BYTES);
    }

    #[test]
    fn who_takes_a_part_leaves_the_rest_to_others() {
        let whole = BodyMemory::new(4 * MIB, MIB);
        let (one, other) = (whole.part(2 * MIB, MIB), whole.part(3 * MIB, MIB));
        let (mut of_one, mut more_of_one) = (one.begin(), one.begin());
        assert!(of_one.grow_to(2 * MIB) && !more_of_one.grow_to(MIB), "the part is used up");
        let mut of_other = other.begin();
        assert!(of_other.grow_to(2 * MIB) && !of_other.grow_to(3 * MIB), "the whole is used up");
        of_one.shrink_to(MIB);
        assert!(of_other.grow_to(3 * MIB));
        drop((of_one, of_other));
        for memory in [&whole, &one, &other] {
            let free = |level: &Level| level.free.available_permits() == level.pieces;
            assert!(memory.levels.iter().all(free));
        }
    }

    #[tokio::test]
    async fn what_a_part_of_a_part_takes_is_taken_of_all_three() {
        let whole = BodyMemory::new(4 * MIB, MIB);
        let part = whole.part(3 * MIB, MIB);
        let least = part.part(2 * MIB, MIB);
        let mut held = least.wait_for(MIB).await;
        assert!(held.grow_to(2 * MIB) && !least.begin().grow_to(MIB));
        for (memory, left) in [(&part, MIB), (&whole, 2 * MIB)] {
            assert_eq!(memory.levels[0].free.available_permits(), left / PIECE_BYTES);
        }
        held.shrink_to(MIB);
        assert_eq!(whole.levels[0].free.available_permits(), 3 * MIB / PIECE_BYTES);
        drop(held);
        assert_eq!(
            least.levels.iter().map(|level| level.free.available_permits()).sum::<usize>(),
            9 * MIB / PIECE_BYTES
        );
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

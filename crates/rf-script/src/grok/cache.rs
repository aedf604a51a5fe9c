//! Compiled patterns by their text, bounded; bad ones, too, so that a bad pattern in a loop costs no compilation.

use std::collections::{HashMap, VecDeque};

use super::{Compiled, MAX_PATTERN_BYTES};

/// What the cached patterns may weigh together; a common one weighs 1.
pub(super) const MAX_WEIGHT: usize = 256;

/// The oldest goes first when it is full.
#[derive(Default)]
pub(super) struct Cache {
    patterns: HashMap<Box<[u8]>, Compiled>,
    oldest: VecDeque<(Box<[u8]>, usize)>,
    weight: usize,
}

impl Cache {
    pub(super) fn get(&self, pattern: &[u8]) -> Option<Compiled> {
        self.patterns.get(pattern).cloned()
    }

    pub(super) fn insert(&mut self, pattern: &[u8], compiled: Compiled, weight: usize) {
        // It is refused without a look at it, and may be of any length: a script that takes pattern and text for each other
        // hands over whole events.
        if pattern.len() > MAX_PATTERN_BYTES {
            return;
        }
        if self.patterns.insert(pattern.into(), compiled).is_some() {
            return;
        }
        self.oldest.push_back((pattern.into(), weight));
        self.weight += weight;
        while self.weight > MAX_WEIGHT {
            let Some((pattern, weight)) = self.oldest.pop_front() else { break };
            self.patterns.remove(&pattern);
            self.weight -= weight;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, MAX_PATTERN_BYTES, MAX_WEIGHT};

    fn filled(count: usize, weight: usize) -> Cache {
        let mut cache = Cache::default();
        for index in 0..count {
            cache.insert(index.to_string().as_bytes(), Err("bad".to_owned()), weight);
        }
        cache
    }

    #[test]
    fn is_bounded_and_evicts_the_oldest() {
        let cache = filled(MAX_WEIGHT + 10, 1);
        assert_eq!(cache.len(), MAX_WEIGHT);
        assert!(cache.get(b"9").is_none());
        assert!(cache.get(b"10").is_some());
        assert!(cache.get((MAX_WEIGHT + 9).to_string().as_bytes()).is_some());
    }

    #[test]
    fn large_patterns_leave_room_for_fewer() {
        assert_eq!(filled(100, 16).len(), MAX_WEIGHT / 16);
    }

    #[test]
    fn what_is_too_long_for_a_pattern_takes_no_memory() {
        let mut cache = Cache::default();
        for length in [MAX_PATTERN_BYTES, MAX_PATTERN_BYTES + 1] {
            cache.insert(&vec![b'a'; length], Err("bad".to_owned()), 1);
            assert_eq!((cache.len(), cache.oldest.len()), (1, 1), "{length}");
        }
    }

    #[test]
    fn the_same_pattern_counts_once() {
        let mut cache = Cache::default();
        for _ in 0..1000 {
            cache.insert(b"same", Err("bad".to_owned()), 1);
        }
        assert_eq!((cache.len(), cache.weight), (1, 1));
    }
}

//! What reads have found lately, so that removing what was read does not read it again to count it.

use std::collections::VecDeque;

use crate::removal::Measure;

/// Reads remembered for one queue. A reader removes what it read soon, or else it is measured.
const MAX_REMEMBERED: usize = 64;

/// The newest reads of one queue: all events of a span of ids, measured.
///
/// Invariant: nothing of a span that is here has come or gone since it was read.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    reads: VecDeque<(u64, u64, Measure)>,
}

impl Sizes {
    /// `there` is all that lies in `first..=last`.
    pub(crate) fn remember(&mut self, (first, last): (u64, u64), there: Measure) {
        self.forget(first, last);
        if self.reads.len() == MAX_REMEMBERED {
            self.reads.pop_front();
        }
        self.reads.push_back((first, last, there));
    }

    /// What lies in exactly this span, where it was read lately.
    pub(crate) fn of(&self, first: u64, last: u64) -> Option<Measure> {
        let found = self.reads.iter().rfind(|read| (read.0, read.1) == (first, last))?;
        Some(found.2)
    }

    /// Something in `first..=last` comes or goes.
    pub(crate) fn forget(&mut self, first: u64, last: u64) {
        self.reads.retain(|read| read.1 < first || read.0 > last);
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_REMEMBERED, Measure, Sizes};

    fn events(events: u64) -> Measure {
        Measure { events, bytes: events * 10, stored: events * 20 }
    }

    #[test]
    fn a_span_is_known_as_it_was_read_and_no_other() {
        let mut sizes = Sizes::default();
        sizes.remember((1, 10), events(10));
        sizes.remember((11, 12), events(2));
        assert_eq!(sizes.of(1, 10), Some(events(10)));
        assert_eq!(sizes.of(11, 12), Some(events(2)));
        assert_eq!(sizes.of(1, 12), None);
        assert_eq!(sizes.of(1, 9), None);
    }

    #[test]
    fn what_changes_within_a_span_makes_it_unknown() {
        for (first, last, is_known) in
            [(0, 0, true), (5, 5, false), (10, 20, false), (11, 20, true)]
        {
            let mut sizes = Sizes::default();
            sizes.remember((1, 10), events(10));
            sizes.forget(first, last);
            assert_eq!(sizes.of(1, 10).is_some(), is_known, "{first} to {last}");
        }
    }

    #[test]
    fn the_newest_reads_are_remembered() {
        let mut sizes = Sizes::default();
        (1..=100).for_each(|id| sizes.remember((id, id), events(1)));
        let oldest = 101 - MAX_REMEMBERED as u64;
        assert_eq!(sizes.of(oldest - 1, oldest - 1), None);
        assert_eq!(sizes.of(oldest, oldest), Some(events(1)));
        assert_eq!(sizes.reads.len(), MAX_REMEMBERED);
    }
}

//! When the relay was away: what nobody could hear is no silence.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// So many are remembered; without an older one somebody counts as silent too early, and is well with its next message.
const MAX_ABSENCES: usize = 32;

/// An absence that ends further ahead of now was measured with a clock that was ahead, as before the first synchronisation of a
/// machine: until that time came, nobody would ever count as silent.
const MAX_AHEAD_MS: u64 = 60_000;

/// From the end of each run, as far as it is known, to the start of the next; milliseconds since 1970, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Absences(VecDeque<Range<u64>>);

impl Absences {
    /// The relay was away, and is here again.
    pub(crate) fn add(&mut self, away_ms: Range<u64>) {
        self.0.push_back(away_ms);
        while self.0.len() > MAX_ABSENCES {
            self.0.pop_front();
        }
    }

    /// How long somebody is silent by `now_ms`, without the time at which the relay was away.
    pub(crate) fn silence_ms(&self, last_seen_ms: u64, now_ms: u64) -> u64 {
        let within =
            |away: &Range<u64>| away.end.min(now_ms).saturating_sub(away.start.max(last_seen_ms));
        let can_be = |away: &&Range<u64>| away.end <= now_ms.saturating_add(MAX_AHEAD_MS);
        let deaf = self.0.iter().filter(can_be).map(within).fold(0, u64::saturating_add);
        now_ms.saturating_sub(last_seen_ms).saturating_sub(deaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_away_is_no_silence() {
        let mut absences = Absences::default();
        let check = |absences: &Absences, last_seen, now, expected| {
            assert_eq!(absences.silence_ms(last_seen, now), expected, "{last_seen} to {now}");
        };
        check(&absences, 10, 100, 90);
        check(&absences, 100, 10, 0);
        absences.add(20..50);
        absences.add(60..90);
        check(&absences, 10, 100, 30);
        check(&absences, 30, 100, 20);
        check(&absences, 55, 100, 15);
        check(&absences, 95, 100, 5);
        check(&absences, 10, 40, 10);
        // A clock that was set back, and when the run before ended is not known.
        absences.add(Range { start: 200, end: 150 });
        check(&absences, 10, 100, 30);
        absences.add(0..100);
        check(&absences, 10, 100, 0);
    }

    #[test]
    fn a_start_with_a_clock_that_was_ahead_leaves_nobody_unheard_until_then() {
        const HOUR: u64 = 3_600_000;
        let mut absences = Absences::default();
        absences.add(HOUR..5 * HOUR);
        assert_eq!(absences.silence_ms(HOUR, 2 * HOUR), HOUR);
        assert_eq!(absences.silence_ms(HOUR, 6 * HOUR), HOUR);
        // To the second it may be now.
        assert_eq!(absences.silence_ms(HOUR, 5 * HOUR - 1000), 0);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut absences = Absences::default();
        for at in 0..100 {
            absences.add(at * 10..at * 10 + 1);
        }
        assert_eq!(absences.0.len(), MAX_ABSENCES);
        assert_eq!(absences.silence_ms(980, 1000), 18);
    }
}

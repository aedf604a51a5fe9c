//! When the relay was away: what nobody could hear is no silence.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// So many are remembered; without an older one somebody counts as silent too early, and is well with its next message.
const MAX_ABSENCES: usize = 32;

/// An absence that ends this much later than the relay can have started was measured with a clock that was ahead, as before the
/// first synchronisation of a machine: until that time came, nobody would ever count as silent, and who does would be well again
/// when it comes.
const MAX_AHEAD_MS: u64 = 60_000;

/// When the relay was not there to hear.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Absences {
    /// From the end of each run, as far as it is known, to the start of the next; milliseconds since 1970, the newest last.
    away: VecDeque<Range<u64>>,
    /// The end of the newest one, by a clock that nobody sets.
    #[serde(skip)]
    back_since: Option<Instant>,
}

impl Absences {
    /// The relay was away, and is here again.
    pub(crate) fn add(&mut self, away_ms: Range<u64>) {
        self.back_since = Some(Instant::now());
        self.away.push_back(away_ms);
        while self.away.len() > MAX_ABSENCES {
            self.away.pop_front();
        }
    }

    /// How long somebody is silent by `now_ms`, without the time at which the relay was away.
    pub(crate) fn silence_ms(&self, last_seen_ms: u64, now_ms: u64) -> u64 {
        let within =
            |away: &Range<u64>| away.end.min(now_ms).saturating_sub(away.start.max(last_seen_ms));
        let here = self.back_since.map(|since| since.elapsed()).unwrap_or_default();
        let here_ms = u64::try_from(here.as_millis()).unwrap_or(u64::MAX);
        let latest_ms = now_ms.saturating_add(MAX_AHEAD_MS).saturating_sub(here_ms);
        let can_be = |away: &&Range<u64>| away.end <= latest_ms;
        let deaf = self.away.iter().filter(can_be).map(within).fold(0, u64::saturating_add);
        now_ms.saturating_sub(last_seen_ms).saturating_sub(deaf)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[tokio::test(start_paused = true)]
    async fn a_start_with_a_clock_that_was_ahead_leaves_nobody_unheard_until_then() {
        const HOUR: u64 = 3_600_000;
        let mut absences = Absences::default();
        absences.add(HOUR..5 * HOUR);
        assert_eq!(absences.silence_ms(HOUR, 2 * HOUR), HOUR);
        assert_eq!(absences.silence_ms(HOUR, 6 * HOUR), HOUR, "the clock may have been right");
        // To the second it may be now.
        assert_eq!(absences.silence_ms(HOUR, 5 * HOUR - 1000), 0);
        // The start was at 2:00: at 5:00, nobody who is silent has been heard.
        tokio::time::advance(Duration::from_millis(3 * HOUR)).await;
        assert_eq!(absences.silence_ms(HOUR, 5 * HOUR), 4 * HOUR);
        assert_eq!(absences.silence_ms(HOUR, 9 * HOUR), 4 * HOUR, "the clock may have been right");
    }

    #[test]
    fn their_number_is_bounded() {
        let mut absences = Absences::default();
        for at in 0..100 {
            absences.add(at * 10..at * 10 + 1);
        }
        assert_eq!(absences.away.len(), MAX_ABSENCES);
        assert_eq!(absences.silence_ms(980, 1000), 18);
    }
}

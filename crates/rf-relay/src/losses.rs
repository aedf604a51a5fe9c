//! What a node or a bucket has lost lately: as long as it counts as trouble, and no longer.
//!
//! Promises: a loss is found for at least as long as it is to be kept, and for a sixtieth of that longer at the most; what
//! is remembered is bounded, however long that is and however often losses are noted.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Losses that lie closer together than this share of the time are one.
const SHARES: u64 = 60;

/// A clock that jumps back and forth makes more entries than there are shares.
const MAX_LOSSES: usize = 120;

/// The newest last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Losses(VecDeque<Loss>);

/// Of two kinds: for good, and those that somebody can still mend.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Loss {
    /// When the newest of it was noted, in seconds since 1970.
    #[serde(rename = "at")]
    at_secs: u64,
    events: (u64, u64),
}

impl Losses {
    /// Something was lost until `now_secs`, or nothing; what is older than `kept_for` is forgotten.
    pub(crate) fn note(&mut self, now_secs: u64, lost: (u64, u64), kept_for: Duration) {
        let kept_secs = kept_for.as_secs();
        let since_secs = now_secs.saturating_sub(kept_secs);
        while self.0.front().is_some_and(|oldest| oldest.at_secs < since_secs) {
            self.0.pop_front();
        }
        if lost == (0, 0) {
            return;
        }
        let share_secs = kept_secs.div_ceil(SHARES).max(1);
        match self.0.back_mut() {
            Some(last) if last.at_secs / share_secs == now_secs / share_secs => {
                last.at_secs = last.at_secs.max(now_secs);
                last.events = sum(last.events, lost);
            }
            _ => self.0.push_back(Loss { at_secs: now_secs, events: lost }),
        }
        while self.0.len() > MAX_LOSSES {
            self.0.pop_front();
        }
    }

    /// What was lost since then.
    pub(crate) fn since(&self, since_secs: u64) -> (u64, u64) {
        let lately = self.0.iter().filter(|loss| loss.at_secs >= since_secs);
        lately.fold((0, 0), |found, loss| sum(found, loss.events))
    }
}

fn sum(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn a_loss_is_known_for_as_long_as_it_counts_however_often_somebody_tells() {
        for (kept_for, every) in [(10, 1), (59, 1), (119, 7), (900, 1), (900, 61), (86_400, 60)] {
            let mut losses = Losses::default();
            losses.note(NOW, (3, 1), Duration::from_secs(kept_for));
            let mut at = NOW;
            while at + every <= NOW + kept_for {
                at += every;
                losses.note(at, (0, 0), Duration::from_secs(kept_for));
                assert_eq!(losses.since(at - kept_for), (3, 1), "{kept_for} s, {every} s");
            }
            let over = NOW + kept_for + 1;
            assert_eq!(losses.since(over - kept_for), (0, 0), "{kept_for} s, {every} s");
        }
    }

    #[test]
    fn losses_without_end_need_bounded_memory_and_are_counted() {
        for kept_for in [10_u64, 60, 61, 900, 7200, 604_800] {
            let mut losses = Losses::default();
            for at in NOW..NOW + 2 * 7200 {
                losses.note(at, (1, 2), Duration::from_secs(kept_for));
                assert!(losses.0.len() <= 62, "{kept_for} s: {}", losses.0.len());
            }
            let now = NOW + 2 * 7200 - 1;
            let (dropped, dead) = losses.since(now.saturating_sub(kept_for));
            let least = kept_for.min(2 * 7200);
            assert!((least..=least + kept_for.div_ceil(60) + 1).contains(&dropped), "{kept_for} s");
            assert_eq!(dead, 2 * dropped);
        }
    }

    #[test]
    fn a_clock_that_jumps_costs_bounded_memory() {
        let mut losses = Losses::default();
        for n in 0..1000 {
            losses.note(NOW + n % 2 * 3600, (1, 0), Duration::from_secs(7200));
        }
        assert_eq!(losses.0.len(), MAX_LOSSES);
    }
}

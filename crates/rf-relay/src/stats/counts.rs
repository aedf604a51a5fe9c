//! Counts of one bucket, environment or host; rates; and what a chart of the last hours is drawn from.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::losses::Losses;
use crate::store::Usage;

/// The slots of [`Recent`]: ten seconds each.
const SLOT_SECS: u64 = 10;
const SLOTS: usize = 6;

/// A point of a chart is of so many minutes.
pub(crate) const POINT_MINUTES: usize = 2;
/// Points of an hour.
pub(crate) const POINTS_PER_HOUR: usize = 60 / POINT_MINUTES;
/// Points that are kept: six hours.
const MAX_POINTS: usize = 6 * POINTS_PER_HOUR;

/// Counts of one bucket, environment or host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// The minute, counted since 1970, that the minute counts are of.
    minute: u64,
    #[serde(rename = "last_seen")]
    pub(super) last_seen_secs: u64,
    pub(crate) rx_messages_minute: u64,
    pub(crate) rx_messages_last_minute: u64,
    pub(crate) rx_messages_since_start: u64,
    pub(crate) rx_queries_minute: u64,
    #[serde(rename = "rx_last")]
    pub(crate) rx_last_secs: Option<u64>,
    pub(crate) tx_messages_minute: u64,
    pub(crate) tx_messages_since_start: u64,
    pub(crate) tx_queries_minute: u64,
    #[serde(rename = "tx_last")]
    pub(crate) tx_last_secs: Option<u64>,
    /// Batches that were answered "full".
    pub(crate) refused: u64,
    rx_recent: Recent,
    tx_recent: Recent,
}

impl Counts {
    pub(super) fn update(&mut self, now_secs: u64, what: Counted) {
        self.turn(now_secs);
        self.last_seen_secs = now_secs;
        match what {
            Counted::Received(messages) => {
                self.rx_messages_minute += messages;
                self.rx_messages_since_start += messages;
                self.rx_queries_minute += 1;
                self.rx_last_secs = Some(now_secs);
                self.rx_recent.add(messages, now_secs);
            }
            Counted::Sent(messages) => {
                self.tx_messages_minute += messages;
                self.tx_messages_since_start += messages;
                self.tx_queries_minute += 1;
                self.tx_last_secs = Some(now_secs);
                self.tx_recent.add(messages, now_secs);
            }
            Counted::Asked => self.tx_last_secs = Some(now_secs),
            Counted::Refused => self.refused += 1,
        }
    }

    pub(super) fn at(&self, now_secs: u64) -> Self {
        let mut counts = self.clone();
        counts.turn(now_secs);
        counts
    }

    pub(crate) fn rx_per_minute(&self, now_secs: u64) -> u64 {
        self.rx_recent.per_minute(now_secs)
    }

    pub(crate) fn tx_per_minute(&self, now_secs: u64) -> u64 {
        self.tx_recent.per_minute(now_secs)
    }

    /// Starts a new minute if there is one; also when the clock was set back.
    fn turn(&mut self, now_secs: u64) {
        let minute = now_secs / 60;
        if minute == self.minute {
            return;
        }
        let was_the_last = minute == self.minute + 1;
        self.rx_messages_last_minute = if was_the_last { self.rx_messages_minute } else { 0 };
        self.rx_messages_minute = 0;
        self.rx_queries_minute = 0;
        self.tx_messages_minute = 0;
        self.tx_queries_minute = 0;
        self.minute = minute;
    }
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    Received(u64),
    Sent(u64),
    Asked,
    Refused,
}

/// What happened within the last minute, so that a rate is there at once and fades within a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent {
    slot: u64,
    counts: [u64; SLOTS],
}

impl Recent {
    pub(crate) fn add(&mut self, count: u64, now_secs: u64) {
        self.turn(now_secs);
        self.counts[place(now_secs / SLOT_SECS)] += count;
    }

    /// The rate, rounded: the slot that is running counts as far as it has run.
    pub(crate) fn per_minute(&self, now_secs: u64) -> u64 {
        let mut recent = *self;
        recent.turn(now_secs);
        let sum: u64 = recent.counts.iter().sum();
        let seconds = (SLOTS as u64 - 1) * SLOT_SECS + now_secs % SLOT_SECS + 1;
        (sum * 60 + seconds / 2) / seconds
    }

    fn turn(&mut self, now_secs: u64) {
        let slot = now_secs / SLOT_SECS;
        let passed = slot.abs_diff(self.slot);
        if slot < self.slot || passed >= SLOTS as u64 {
            self.counts = [0; SLOTS];
        } else {
            (self.slot + 1..=slot).for_each(|slot| self.counts[place(slot)] = 0);
        }
        self.slot = slot;
    }
}

fn place(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).expect("less than the number of slots")
}

/// A bucket over [`POINT_MINUTES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Its end, in seconds since 1970.
    #[serde(rename = "at")]
    pub(crate) at_secs: u64,
    pub(crate) rx: u64,
    pub(crate) tx: u64,
    /// Events that were dropped.
    pub(crate) dropped: u64,
    /// Batches that were refused.
    pub(crate) refused: u64,
    /// Events that waited at its end.
    pub(crate) events: u64,
    /// Bytes on disk at its end.
    pub(crate) bytes: u64,
}

/// What counters said when the last point was made, and the points.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Chart {
    base: Totals,
    points: VecDeque<Point>,
    /// Events dropped, and batches refused, until the last point.
    losses: Losses,
}

/// Counters of a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) rx: u64,
    pub(crate) tx: u64,
    pub(crate) dropped: u64,
    pub(crate) refused: u64,
}

impl Chart {
    /// Adds a point when its time has come; losses are remembered for `losses_for`.
    pub(super) fn sample(
        &mut self,
        now_secs: u64,
        totals: Totals,
        usage: &Usage,
        losses_for: Duration,
    ) {
        let length_secs = POINT_MINUTES as u64 * 60;
        let point = |secs: u64| secs / length_secs;
        let due = self.points.back().is_none_or(|last| point(now_secs) != point(last.at_secs));
        if !due {
            return;
        }
        let (dropped, refused) = self.lost_beyond_points(totals);
        self.losses.note(now_secs, (dropped, refused), losses_for);
        self.points.push_back(Point {
            at_secs: now_secs,
            rx: totals.rx.saturating_sub(self.base.rx),
            tx: totals.tx.saturating_sub(self.base.tx),
            dropped,
            refused,
            events: usage.events,
            bytes: usage.used_bytes,
        });
        self.base = totals;
        while self.points.len() > MAX_POINTS {
            self.points.pop_front();
        }
    }

    pub(crate) fn points(&self) -> impl ExactSizeIterator<Item = &Point> + DoubleEndedIterator {
        self.points.iter()
    }

    /// What was dropped and refused since `since_secs`, with what has been counted since the last point.
    pub(crate) fn losses_since(&self, since_secs: u64, totals: Totals) -> (u64, u64) {
        let (dropped, refused) = self.lost_beyond_points(totals);
        let before = self.losses.since(since_secs);
        (before.0.saturating_add(dropped), before.1.saturating_add(refused))
    }

    fn lost_beyond_points(&self, totals: Totals) -> (u64, u64) {
        let dropped = totals.dropped.saturating_sub(self.base.dropped);
        (dropped, totals.refused.saturating_sub(self.base.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_040;
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_rate_is_there_at_once_and_fades_within_a_minute() {
        let mut recent = Recent::default();
        (0..120).for_each(|second| recent.add(10, NOW + second));
        for second in 119..125 {
            let rate = recent.per_minute(NOW + second);
            assert!((500..=610).contains(&rate), "{rate} at {second}");
        }
        assert_eq!(recent.per_minute(NOW + 180), 0);
        recent.add(5, NOW + 240);
        assert_eq!(recent.per_minute(NOW + 240), 6);
        assert_eq!(recent.per_minute(NOW), 0, "the clock was set back");
    }

    #[test]
    fn one_event_is_one_a_minute_for_as_long_as_it_counts() {
        for start in 0..SLOT_SECS {
            let mut recent = Recent::default();
            recent.add(1, NOW + start);
            let rates: Vec<u64> =
                (0..90).map(|second| recent.per_minute(NOW + start + second)).collect();
            let ones = rates.iter().take_while(|rate| **rate == 1).count();
            assert!((50..=60).contains(&ones), "{rates:?}");
            assert!(rates.iter().skip(ones).all(|rate| *rate == 0), "{rates:?}");
        }
    }

    #[test]
    fn a_chart_has_a_point_for_each_two_minutes_and_an_end() {
        let mut chart = Chart::default();
        for minute in 0..1000_u64 {
            let totals = Totals { rx: minute * 10, dropped: minute, ..Totals::default() };
            let usage = Usage { events: minute, used_bytes: 7, ..Usage::default() };
            chart.sample(NOW + minute * 60, totals, &usage, HOUR);
        }
        assert_eq!(chart.points().len(), MAX_POINTS);
        let last = chart.points().next_back().copied().unwrap();
        assert_eq!((last.rx, last.dropped, last.bytes), (20, 2, 7));
        let now = Totals { dropped: 1005, refused: 1, ..Totals::default() };
        let (dropped, refused) = chart.losses_since(last.at_secs - 1, now);
        assert!((dropped >= 7) && refused == 1, "{dropped} {refused}");
    }

    #[test]
    fn a_loss_may_count_for_longer_than_a_chart_has_points() {
        let (mut chart, usage) = (Chart::default(), Usage::default());
        chart.sample(NOW, Totals::default(), &usage, 24 * HOUR);
        let lost = Totals { dropped: 5, ..Totals::default() };
        for hour in 1..=24 {
            let now = NOW + hour * 3600;
            (0..30).for_each(|two| chart.sample(now + two * 120, lost, &usage, 24 * HOUR));
            assert_eq!(chart.losses_since(NOW, lost), (5, 0), "{hour}");
        }
        assert_eq!(chart.points().len(), MAX_POINTS);
    }
}

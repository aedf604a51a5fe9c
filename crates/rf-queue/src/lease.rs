//! Who has been promised which events: the lease book of one queue.
//!
//! Ids of a queue are dense, so promises are kept as ranges of ids, not as a mark on each event: a pull of a thousand
//! events costs one row. A range is either *held* (a reader has it until a moment) or *returned* (a lease ran out or
//! was released; its events come first at the next pull and carry their number of attempts). Ids from `fresh_from` on
//! have never been promised to anybody.
//!
//! Invariant: ranges do not overlap, and every range lies below `fresh_from`.
//!
//! Invariant: an event below `fresh_from` that is still there lies in a range. So what lies between two ranges is gone,
//! and neighbours of one kind may be joined over the gap. That is how the number of ranges is bounded; where it cannot be,
//! what would make more ranges waits: a release until the lease runs out, a lease until there are fewer.
//!
//! The book is plain data: no clock, no SQL. What changed is collected in `touched`, and the writer stores it in the
//! transaction that it belongs to.

pub(crate) mod stored;

use std::collections::{BTreeMap, BTreeSet};

/// Promised or returned ids `first..=last`, `first` being the key in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) last: u64,
    /// Leases that ran out or were released before.
    pub(crate) attempts: u32,
    /// `Some`: held until then (monotonic ms). `None`: returned.
    pub(crate) until: Option<u64>,
    pub(crate) ttl_ms: u64,
    pub(crate) token: u64,
}

/// Ids that may be given out, with the attempts made on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) attempts: u32,
}

/// Who holds, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) until: u64,
    pub(crate) ttl_ms: u64,
    pub(crate) token: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LeaseBook {
    ranges: BTreeMap<u64, Range>,
    /// Held ranges as (until, first), so that the next to run out is found at once.
    held: BTreeSet<(u64, u64)>,
    /// Returned ranges by their first id, so that a pull does not walk over those that are held.
    returned: BTreeSet<u64>,
    touched: BTreeSet<u64>,
    fresh_from: u64,
}

impl LeaseBook {
    pub(crate) fn load(ranges: impl IntoIterator<Item = (u64, Range)>) -> Self {
        let mut book = Self::default();
        for (first, range) in ranges {
            book.put(first, range);
        }
        book.touched.clear();
        book
    }

    /// Number of ranges.
    pub(crate) fn count(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// Number of rows that are to be written, or to go.
    pub(crate) fn touched(&self) -> u64 {
        self.touched.len() as u64
    }

    /// The moment (monotonic ms) at which the next held range runs out.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.held.first().map(|&(until, _)| until)
    }

    /// Returns the ranges whose time is over; true when there were any.
    pub(crate) fn expire(&mut self, now: u64) -> bool {
        let mut any = false;
        while let Some(&(until, first)) = self.held.first()
            && until <= now
        {
            let Some(range) = self.take(first) else { break };
            self.put(
                first,
                Range { until: None, attempts: range.attempts.saturating_add(1), ..range },
            );
            any = true;
        }
        any
    }

    /// Up to `most` spans that came back, oldest first, and then the open-ended one that nobody has had.
    pub(crate) fn available(&self, most: usize) -> Vec<Span> {
        let span = |first: &u64| {
            self.ranges.get(first).map(|r| Span {
                first: *first,
                last: r.last,
                attempts: r.attempts,
            })
        };
        let fresh = Span { first: self.fresh_from, last: u64::MAX, attempts: 0 };
        self.returned.iter().take(most).filter_map(span).chain([fresh]).collect()
    }

    /// Gives the events `events.0..=events.1` of an available span away. What lies before them in it is gone.
    pub(crate) fn grant(&mut self, span: Span, events: (u64, u64), hold: Hold) {
        let (first, last) = events;
        self.cut(span.first, last);
        let Hold { until, ttl_ms, token } = hold;
        self.put(first, Range { last, attempts: span.attempts, until: Some(until), ttl_ms, token });
    }

    /// Forgets what was promised on `first..=last`: the events are gone. Where there are `most` ranges already, none is cut in
    /// two: what lies in its middle may be a gap as well.
    pub(crate) fn forget(&mut self, first: u64, last: u64, most: u64) {
        let is_within = |&(from, range): &(u64, Range)| from < first && range.last > last;
        let keeps_gap = || self.overlapping(first, last).first().is_some_and(is_within);
        if first > last || (self.count() >= most && keeps_gap()) {
            return;
        }
        self.cut(first, last);
    }

    /// An event has appeared below those that were promised: it is there for the next pull.
    pub(crate) fn offer(&mut self, id: u64) {
        if id < self.fresh_from && self.overlapping(id, id).is_empty() {
            self.put(id, Range { last: id, attempts: 0, until: None, ttl_ms: 0, token: 0 });
        }
    }

    /// Returns the held ids among `first..=last`, as far as that makes no more than `most` ranges; how many ids were held and
    /// are returned.
    pub(crate) fn release(&mut self, first: u64, last: u64, most: u64) -> u64 {
        let held = self.overlapping(first, last).into_iter().filter(|(_, r)| r.until.is_some());
        let mut count = 0;
        for (start, range) in held.collect::<Vec<_>>() {
            let (from, to) = (start.max(first), range.last.min(last));
            let more = u64::from(start < from) + u64::from(to < range.last);
            if more > 0 && self.count() + more > most {
                continue;
            }
            self.cut(from, to);
            self.put(
                from,
                Range {
                    last: to,
                    attempts: range.attempts.saturating_add(1),
                    until: None,
                    ..range
                },
            );
            count += to - from + 1;
        }
        count
    }

    /// Moves the end of a lease; false when no range of it is held any more.
    pub(crate) fn extend(&mut self, hold: Hold) -> bool {
        let is_its = |(_, r): &(&u64, &Range)| r.token == hold.token && r.until.is_some();
        let its: Vec<u64> = self.ranges.iter().filter(is_its).map(|(&first, _)| first).collect();
        for &first in &its {
            if let Some(range) = self.take(first) {
                self.put(first, Range { until: Some(hold.until), ttl_ms: hold.ttl_ms, ..range });
            }
        }
        !its.is_empty()
    }

    /// Joins neighbours of one kind when there are more than `most` ranges; true when there still are.
    pub(crate) fn limit(&mut self, most: u64) -> bool {
        if self.count() <= most {
            return false;
        }
        let mut kept: Vec<(u64, Range)> = Vec::new();
        let mut joined = Vec::new();
        for (&first, &range) in &self.ranges {
            match kept.last_mut() {
                Some((_, left)) if is_one_kind(left, &range) => {
                    left.last = range.last;
                    left.attempts = left.attempts.min(range.attempts);
                    joined.push(first);
                }
                _ => kept.push((first, range)),
            }
        }
        for first in joined {
            self.take(first);
        }
        // What stays as it is need not be written.
        kept.retain(|(first, range)| self.ranges.get(first) != Some(range));
        for (first, range) in kept {
            self.take(first);
            self.put(first, range);
        }
        self.count() > most
    }

    /// What is to be written: for each touched key its range, or `None` when the row goes.
    pub(crate) fn take_touched(&mut self) -> Vec<(u64, Option<Range>)> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().map(|first| (first, self.ranges.get(&first).copied())).collect()
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    fn overlapping(&self, first: u64, last: u64) -> Vec<(u64, Range)> {
        let before = self.ranges.range(..first).next_back().filter(|(_, r)| r.last >= first);
        let within = self.ranges.range(first..=last);
        before.into_iter().chain(within).map(|(&k, &r)| (k, r)).collect()
    }

    /// Takes `first..=last` out of every range, leaving what lies to the left and right of it.
    fn cut(&mut self, first: u64, last: u64) {
        for (from, range) in self.overlapping(first, last) {
            self.take(from);
            if from < first {
                self.put(from, Range { last: first - 1, ..range });
            }
            if range.last > last {
                self.put(last + 1, range);
            }
        }
    }

    fn put(&mut self, first: u64, range: Range) {
        match range.until {
            Some(until) => self.held.insert((until, first)),
            None => self.returned.insert(first),
        };
        self.fresh_from = self.fresh_from.max(range.last + 1);
        self.ranges.insert(first, range);
        self.touched.insert(first);
    }

    fn take(&mut self, first: u64) -> Option<Range> {
        let range = self.ranges.remove(&first)?;
        match range.until {
            Some(until) => self.held.remove(&(until, first)),
            None => self.returned.remove(&first),
        };
        self.touched.insert(first);
        Some(range)
    }
}

/// Returned events that were tried more or less often make one range with the fewer attempts.
fn is_one_kind(left: &Range, right: &Range) -> bool {
    let same_lease = left.token == right.token && left.attempts == right.attempts;
    left.until == right.until && (same_lease || left.until.is_none())
}

#[cfg(test)]
mod tests;

//! What passed, in memory: bounded, and cheap enough for every batch.
//!
//! Ids lie in segments. The newest is written to under the lock; the others are whole and shared, so that a reader takes
//! references to them and searches without the lock. When the bound is reached the oldest segment goes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::report::{JournalSpan, Passed, Step};
use crate::clock::unix_us;
use crate::event::event_id;

/// Steps that are remembered where the file says nothing: for single events some 10 MiB, and what is said of them.
pub const DEFAULT_STEPS: usize = 100_000;
/// More are of no use: they would take 1 GB, and what is said of them.
pub const MAX_STEPS: usize = 10_000_000;
/// In so many parts a full journal is kept, and forgotten.
const SEGMENTS: usize = 64;
/// As much of a reason is kept.
const MAX_DETAIL_CHARS: usize = 300;

/// What happened to some events at once.
#[derive(Debug, Clone)]
pub struct Note {
    step: Step,
    place: Arc<str>,
    attempt: u32,
    detail: Option<Arc<str>>,
}

impl Note {
    /// This step, at this source, sink or bucket.
    #[must_use]
    pub fn new(step: Step, place: &Arc<str>) -> Self {
        Self { step, place: Arc::clone(place), attempt: 0, detail: None }
    }

    /// At this try.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// With a word about it. Never a payload, a header or a token.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        let end = detail.char_indices().nth(MAX_DETAIL_CHARS).map(|(end, _)| end);
        let detail = end.and_then(|end| detail.get(..end)).unwrap_or(detail);
        Self { detail: Some(detail.into()), ..self }
    }
}

/// The steps of the events that passed last.
#[derive(Debug, Default)]
pub struct Journal {
    limit: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    whole: VecDeque<Arc<Segment>>,
    open: Segment,
    /// Of all segments.
    steps: usize,
}

/// Notes with their ids in one list; invariant: the ids of a note begin where those of the note before it end.
#[derive(Debug, Default)]
struct Segment {
    ids: Vec<Uuid>,
    notes: Vec<Noted>,
}

#[derive(Debug)]
struct Noted {
    at_us: u64,
    first: usize,
    note: Note,
}

impl Journal {
    /// A journal of at most `limit` steps, one for each event of each note; none with 0.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ring: Mutex::default() }
    }

    /// Whether anything is remembered: who has to look for ids first may save that.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// The ids of these events, for a note that is written once they have gone; none where nothing is noted.
    pub fn ids<'a>(&self, contents: impl IntoIterator<Item = &'a [u8]>) -> Vec<Uuid> {
        if !self.is_on() {
            return Vec::new();
        }
        contents.into_iter().filter_map(event_id).collect()
    }

    /// Notes a step of these events; those without an id are passed over.
    pub fn note<'a>(&self, note: &Note, contents: impl IntoIterator<Item = &'a [u8]>) {
        self.note_ids(note, &self.ids(contents));
    }

    /// Notes a step of the events with these ids.
    pub fn note_ids(&self, note: &Note, ids: &[Uuid]) {
        if !self.is_on() {
            return;
        }
        let at_us = unix_us();
        let most = self.limit.div_ceil(SEGMENTS);
        for ids in ids.chunks(most) {
            let mut ring = self.ring.lock();
            if ring.open.ids.len() + ids.len() > most {
                let whole = std::mem::take(&mut ring.open);
                ring.whole.push_back(Arc::new(whole));
            }
            let first = ring.open.ids.len();
            ring.open.notes.push(Noted { at_us, first, note: note.clone() });
            ring.open.ids.extend_from_slice(ids);
            ring.steps += ids.len();
            let mut old = Vec::new();
            while ring.steps > self.limit
                && let Some(oldest) = ring.whole.pop_front()
            {
                ring.steps -= oldest.ids.len();
                old.push(oldest);
            }
            drop(ring);
            // Given back without the lock: it is thousands of pieces of memory.
            drop(old);
        }
    }

    /// The steps of an event that are remembered, oldest first.
    #[must_use]
    pub fn of(&self, id: Uuid) -> Vec<Passed> {
        let ring = self.ring.lock();
        let whole = ring.whole.clone();
        let newest = ring.open.of(id);
        drop(ring);
        let older = whole.iter().flat_map(|segment| segment.of(id));
        older.chain(newest).collect()
    }

    /// How far it goes back.
    #[must_use]
    pub fn span(&self) -> JournalSpan {
        let ring = self.ring.lock();
        let oldest = ring.whole.front().map_or(&ring.open, |oldest| oldest);
        let since_us = oldest.notes.first().map(|noted| noted.at_us);
        JournalSpan { limit: self.limit, steps: ring.steps, since_us }
    }
}

impl Segment {
    fn of(&self, id: Uuid) -> Vec<Passed> {
        let places = self.ids.iter().enumerate().filter(|(_, known)| **known == id);
        places.filter_map(|(place, _)| self.noted(place)).collect()
    }

    fn noted(&self, place: usize) -> Option<Passed> {
        let behind = self.notes.partition_point(|noted| noted.first <= place);
        let Noted { at_us, note, .. } = self.notes.get(behind.checked_sub(1)?)?;
        Some(Passed {
            at_us: *at_us,
            step: note.step,
            place: note.place.as_ref().to_owned(),
            attempt: note.attempt,
            detail: note.detail.as_deref().map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    fn note(journal: &Journal, place: &str, numbers: std::ops::Range<usize>) {
        let ids: Vec<Uuid> = numbers.map(id).collect();
        journal.note_ids(&Note::new(Step::Stored, &place.into()), &ids);
    }

    fn places(journal: &Journal, number: usize) -> Vec<String> {
        journal.of(id(number)).into_iter().map(|passed| passed.place).collect()
    }

    #[test]
    fn the_steps_of_an_event_come_in_their_order_with_what_was_said() {
        let journal = Journal::new(1000);
        let place: Arc<str> = "sink".into();
        note(&journal, "source", 0..3);
        let retried = Note::new(Step::Retried, &place).attempt(2).detail(&"é".repeat(400));
        journal.note_ids(&retried, &[id(1), id(2)]);
        journal.note(
            &Note::new(Step::Delivered, &place),
            [format!(r#"{{"eventId":"{}"}}"#, id(1)).as_bytes(), b"no id"],
        );
        let passed = journal.of(id(1));
        let steps: Vec<Step> = passed.iter().map(|passed| passed.step).collect();
        assert_eq!(steps, [Step::Stored, Step::Retried, Step::Delivered]);
        assert_eq!((passed[1].attempt, passed[1].place.as_str()), (2, "sink"));
        assert_eq!(passed[1].detail, Some("é".repeat(MAX_DETAIL_CHARS)));
        assert!(passed.is_sorted_by_key(|passed| passed.at_us));
        assert_eq!(places(&journal, 0), ["source"]);
        assert!(journal.of(id(3)).is_empty());
        assert_eq!((journal.span().steps, journal.span().since_us), (6, Some(passed[0].at_us)));
    }

    #[test]
    fn the_oldest_steps_make_room_and_the_bound_holds_at_every_moment() {
        for batch in [1, 7, 100, 5000] {
            let journal = Journal::new(1000);
            for first in (0..10_000).step_by(batch) {
                note(&journal, "s", first..first + batch);
                let steps = journal.span().steps;
                assert!(steps <= 1000 && steps >= (first + batch).min(900), "{steps} of {batch}");
            }
            assert!(places(&journal, 0).is_empty() && places(&journal, 8999).is_empty());
            assert_eq!(places(&journal, 9999), ["s"]);
            assert_eq!(places(&journal, 9500), ["s"]);
        }
    }

    #[test]
    fn without_a_bound_nothing_is_kept() {
        let journal = Journal::new(0);
        note(&journal, "s", 0..9);
        assert_eq!((journal.of(id(1)), journal.span()), (Vec::new(), JournalSpan::default()));
    }
}

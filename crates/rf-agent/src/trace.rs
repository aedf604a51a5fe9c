//! What an agent notes of events on their way, and what it tells of one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rf_core::event::event_id;
use rf_core::protocol::PulledEvent;
use rf_core::trace::{Buried, Journal, Note, Step, TraceReport, Waiting};
use rf_queue::{DropWatch, Dropped, Found, Store, StoreError};
use uuid::Uuid;

use crate::sink::SinkBatch;

/// How long a person waits until all queues are looked through.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a source or a sink notes what happened to events; the default notes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    journal: Arc<Journal>,
    /// The component's id.
    place: Arc<str>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { journal: Arc::default(), place: "".into() }
    }
}

impl Trace {
    /// Of the component `id`.
    pub(crate) fn new(journal: &Arc<Journal>, id: &str) -> Self {
        Self { journal: Arc::clone(journal), place: id.into() }
    }

    /// The ids of these events, for a note that is written once they have gone; none where nothing is noted.
    pub(crate) fn ids(&self, events: &[Bytes]) -> Vec<Uuid> {
        self.journal.ids(events.iter().map(|event| &event[..]))
    }

    /// The id of an event, where anything is noted.
    pub(crate) fn id(&self, content: &[u8]) -> Option<Uuid> {
        if self.journal.is_on() { event_id(content) } else { None }
    }

    pub(crate) fn note(&self, step: Step, ids: &[Uuid], detail: &str) {
        if !ids.is_empty() {
            let note = Note::new(step, &self.place);
            let note = if detail.is_empty() { note } else { note.detail(detail) };
            self.journal.note_ids(&note, ids);
        }
    }

    /// A relay has handed out events.
    pub(crate) fn pulled(&self, events: &[PulledEvent]) {
        for alike in events.chunk_by(|one, next| one.attempts == next.attempts) {
            let times = alike.first().map_or(1, |event| event.attempts + 1);
            let note = Note::new(Step::Pulled, &self.place).attempt(times);
            self.journal.note(&note, alike.iter().map(|event| &event.content[..]));
        }
    }

    /// The target has a batch, at this try. A relay keeps it under the batch's id.
    pub(crate) fn delivered(&self, batch: &SinkBatch, tries: u32, is_relay: bool) {
        if !self.journal.is_on() {
            return;
        }
        let step = if is_relay { Step::Shipped } else { Step::Delivered };
        let note = Note::new(step, &self.place).attempt(tries);
        let note = if is_relay { note.detail(&format!("batch {}", batch.id)) } else { note };
        self.journal.note_ids(&note, &batch.marks().ids);
    }

    /// A try has failed. The first, second, fourth, eighth and so on are noted: what is repeated for days must not push
    /// everything else out.
    pub(crate) fn retried(&self, batch: &SinkBatch, tries: u32, reason: &str) {
        if tries.is_power_of_two() {
            let note = Note::new(Step::Retried, &self.place).attempt(tries).detail(reason);
            self.journal.note(&note, contents(batch));
        }
    }

    /// A script of the sink wants nothing of a batch sent.
    pub(crate) fn dropped(&self, batch: &SinkBatch, reason: &str) {
        let note = Note::new(Step::Dropped, &self.place).detail(reason);
        self.journal.note(&note, contents(batch));
    }

    /// An event goes to the dead letters.
    pub(crate) fn buried(&self, id: Option<Uuid>, attempts: u32, reason: &str) {
        let note = Note::new(Step::DeadLettered, &self.place).attempt(attempts).detail(reason);
        self.journal.note_ids(&note, id.as_slice());
    }
}

fn contents(batch: &SinkBatch) -> impl Iterator<Item = &[u8]> {
    batch.events.iter().map(|event| &event.content[..])
}

/// Has the journal told of what queues drop by their limits.
pub(crate) fn watch_drops(journal: &Arc<Journal>) -> DropWatch {
    let journal = Arc::clone(journal);
    let tell = move |queue: &str, why: Dropped, ids: &[u128]| {
        let reason = match why {
            Dropped::Full => "the queue was full (buffer.whenFull: dropOldest)",
            Dropped::Aged => "it waited longer than buffer.maxAge",
        };
        let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from_u128).collect();
        journal.note_ids(&Note::new(Step::Dropped, &queue.into()).detail(reason), &ids);
    };
    DropWatch { pick: |content| event_id(content).map(|id| id.as_u128()), tell: Arc::new(tell) }
}

/// What the agent knows of an event: what it remembers, and what lies in its store.
pub(crate) async fn report(journal: &Journal, store: &Store, id: Uuid) -> TraceReport {
    // Before the store is searched: an event that moves meanwhile is seen twice rather than not at all.
    let steps = journal.of(id);
    let found = store.find(Arc::new(move |content| event_id(content) == Some(id)), PATIENCE).await;
    with_found(
        TraceReport {
            id: id.to_string(),
            steps,
            journal: journal.span(),
            ..TraceReport::default()
        },
        found,
    )
}

/// The same of an agent that does not run: what lies in the store at `path`.
///
/// # Errors
/// When there is no store, or it cannot be read.
pub fn report_of_store(
    path: &std::path::Path,
    id: Uuid,
) -> Result<TraceReport, rf_queue::OpenError> {
    let found = rf_queue::find(path, &|content| event_id(content) == Some(id), PATIENCE)?;
    Ok(with_found(TraceReport { id: id.to_string(), ..TraceReport::default() }, Ok(found)))
}

fn with_found(mut report: TraceReport, found: Result<Found, StoreError>) -> TraceReport {
    match found {
        Ok(found) => {
            let waiting = found.waiting.into_iter().map(|event| Waiting {
                place: event.queue,
                number: event.id,
                since_ms: event.at_ms,
            });
            report.waiting = waiting.collect();
            let dead = found.dead.into_iter().map(|letter| Buried {
                place: letter.queue,
                number: letter.id,
                since_ms: letter.at_ms,
                at_ms: letter.dead_at_ms,
                attempts: letter.attempts,
                reason: letter.reason,
            });
            report.dead_letters = dead.collect();
            if found.is_cut {
                report.unsearched = vec!["some of the queue: it is too long".to_owned()];
            }
        }
        Err(error) => report.unsearched = vec![format!("the queue: {error}")],
    }
    report
}

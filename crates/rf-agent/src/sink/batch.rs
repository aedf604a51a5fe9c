//! Events that are written together, and what is noted of them.

use std::sync::{Arc, OnceLock};

use rf_core::event::event_id;
use rf_queue::StoredEvent;
use uuid::Uuid;

/// Where an event of ours says when it was captured: near its end.
const CAPTURED_AT: &[u8] = b"\"capturedAtUs\":";
/// What our sources write last.
const CAPTURED_AT_LAST: usize = b"\"capturedAtUs\":1795478400000123}".len();
/// Bytes at the end of an event that are searched for it.
const CAPTURED_AT_WITHIN: usize = 160;

/// Events that are written together.
#[derive(Debug, Clone)]
pub(crate) struct SinkBatch {
    /// The same for every repeat of this batch, with [`Writes::Batches`](super::Writes::Batches) also after a restart.
    pub(crate) id: String,
    /// In order; at least one. Shared by all who work on the batch.
    pub(crate) events: Arc<[StoredEvent]>,
    marks: Arc<OnceLock<Marks>>,
}

/// What is noted of events that are delivered.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Of those that have an id.
    pub(crate) ids: Vec<Uuid>,
    /// When they were captured, milliseconds since 1970, of those that say so.
    pub(crate) captured_ms: Vec<u64>,
}

impl SinkBatch {
    /// A batch of these events.
    pub(crate) fn new(id: impl Into<String>, events: impl Into<Arc<[StoredEvent]>>) -> Self {
        Self { id: id.into(), events: events.into(), marks: Arc::default() }
    }

    /// Read from the contents by the first who asks: with thousands of events that takes a tenth of a millisecond and more,
    /// least where the contents were just worked on.
    pub(crate) fn marks(&self) -> &Marks {
        self.marks.get_or_init(|| Marks::of(&self.events))
    }

    /// Whether they were read.
    pub(crate) fn is_marked(&self) -> bool {
        self.marks.get().is_some()
    }
}

impl Marks {
    fn of(events: &[StoredEvent]) -> Self {
        let mut marks = Self {
            ids: Vec::with_capacity(events.len()),
            captured_ms: Vec::with_capacity(events.len()),
        };
        for event in events {
            marks.ids.extend(event_id(&event.content));
            marks.captured_ms.extend(captured_at_ms(&event.content));
        }
        marks
    }
}

/// When an event was captured, if it says so. Not a parse: the key stands at the end of what our sources write, and a wrong
/// guess costs one wrong count of a histogram.
fn captured_at_ms(content: &[u8]) -> Option<u64> {
    let last = content.len().saturating_sub(CAPTURED_AT_LAST);
    let start = if content[last..].starts_with(CAPTURED_AT) {
        last
    } else {
        let tail = content.len().saturating_sub(CAPTURED_AT_WITHIN);
        tail + memchr::memmem::rfind(&content[tail..], CAPTURED_AT)?
    };
    let digits = &content[start + CAPTURED_AT.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let micros: u64 = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    Some(micros / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_capture_is_found_at_the_end_of_an_event() {
        for (content, expected) in [
            (
                &br#"{"body":"x","eventId":"e","capturedAtUs":1795478400000123}"#[..],
                Some(1795478400000),
            ),
            (br#"{"capturedAtUs":5000,"body":"changed by a script"}"#, Some(5)),
            (br#"{"capturedAtUs":"text"}"#, None),
            (b"a line", None),
            (b"", None),
        ] {
            assert_eq!(captured_at_ms(content), expected);
        }
    }
}

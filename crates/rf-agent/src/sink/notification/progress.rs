//! How far each service is, and what was told when: stored before events leave the queue.
//!
//! All times are those of the events, so the same events are judged the same again after a failure or a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use rf_notify::Message;
use serde::{Deserialize, Serialize};

/// Texts within their windows at the most; one more is told however often it comes.
const MAX_SEEN: usize = 256;
/// As much of a subject, and of a text, is kept for the count.
const KEPT_CHARS: usize = 100;

/// An event of a batch; without a message it only lets time pass.
pub(super) struct Arrived {
    pub(super) id: u64,
    pub(super) at_ms: u64,
    pub(super) message: Option<Message>,
}

/// The stored state of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Events up to this one are judged, and told where they had to be.
    judged: u64,
    /// The last event that each service was told, by name.
    pub(super) reached: BTreeMap<String, u64>,
    seen: Vec<Seen>,
}

/// A text that was told, within its window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    key: String,
    /// The beginning of it.
    subject: String,
    /// The beginning of the text where that is not the subject: several may have one subject.
    #[serde(default)]
    text: String,
    until_ms: u64,
    /// How often it came since.
    counted: u64,
}

impl Progress {
    /// What is to be told of these events, each text with the id of its event; and the state once that is done.
    pub(super) fn judge(
        &self,
        events: &[Arrived],
        window: Duration,
    ) -> (Self, Vec<(u64, Message)>) {
        let mut after = self.clone();
        let mut told = Vec::new();
        for event in events.iter().filter(|event| event.id > self.judged) {
            after.judged = event.id;
            told.extend(after.ended(event.at_ms, window).into_iter().map(|text| (event.id, text)));
            let Some(message) = &event.message else { continue };
            if !after.counts(message, event.at_ms, window) {
                told.push((event.id, message.clone()));
            }
        }
        (after, told)
    }

    /// When the first window ends that has counted something.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        self.seen.iter().filter(|seen| seen.counted > 0).map(|seen| seen.until_ms).min()
    }

    /// Closes the windows that are over, and says what they counted.
    fn ended(&mut self, now_ms: u64, window: Duration) -> Vec<Message> {
        let over: Vec<Seen> = self.seen.extract_if(.., |seen| seen.until_ms <= now_ms).collect();
        let counted = over.into_iter().filter(|seen| seen.counted > 0);
        counted
            .map(|seen| {
                let times = match seen.counted {
                    1 => "once more".to_owned(),
                    more => format!("{more} more times"),
                };
                let of = if seen.text.is_empty() { "" } else { ": " };
                let text = format!("came {times} within {window:?}{of}{}", seen.text);
                Message { text, subject: seen.subject }
            })
            .collect()
    }

    /// Whether the message was told within the window; else its window begins.
    fn counts(&mut self, message: &Message, now_ms: u64, window: Duration) -> bool {
        if window.is_zero() {
            return false;
        }
        let key = key(message);
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.key == key) {
            seen.counted += 1;
            return true;
        }
        if self.seen.len() < MAX_SEEN {
            let until_ms = now_ms + u64::try_from(window.as_millis()).unwrap_or(u64::MAX / 2);
            let (subject, text) = match (message.subject.as_str(), message.text.as_str()) {
                ("", text) => (text, ""),
                both => both,
            };
            let (subject, text) = (beginning(subject), beginning(text));
            self.seen.push(Seen { key, subject, text, until_ms, counted: 0 });
        }
        false
    }
}

fn beginning(text: &str) -> String {
    let cut = text.chars().nth(KEPT_CHARS).map_or("", |_more| "…");
    text.chars().take(KEPT_CHARS).chain(cut.chars()).collect()
}

/// FNV-1a of 128 bits: two texts of one window are never taken for the same by chance.
fn key(message: &Message) -> String {
    let bytes = message.subject.bytes().chain([0]).chain(message.text.bytes());
    let hash = bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(id: u64, at_ms: u64, text: Option<&str>) -> Arrived {
        let message = text.map(|text| Message { subject: String::new(), text: text.to_owned() });
        Arrived { id, at_ms, message }
    }

    fn texts(told: &[(u64, Message)]) -> Vec<(u64, &str)> {
        told.iter().map(|(id, message)| (*id, message.text.as_str())).collect()
    }

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn within_the_window_a_text_is_counted_and_the_count_is_told_at_its_end() {
        let events = [
            arrived(1, 0, Some("down")),
            arrived(2, 1_000, Some("down")),
            arrived(3, 2_000, Some("other")),
            arrived(4, 9_999, Some("down")),
        ];
        let (progress, told) = Progress::default().judge(&events, WINDOW);
        assert_eq!(texts(&told), [(1, "down"), (3, "other")]);
        assert_eq!(progress.next_end_ms(), Some(10_000));
        let (progress, told) = progress.judge(&[arrived(5, 10_000, None)], WINDOW);
        assert_eq!(texts(&told), [(5, "came 2 more times within 10s")]);
        assert_eq!(told[0].1.subject, "down");
        assert_eq!(progress.next_end_ms(), None);
        let (_, told) = progress.judge(&[arrived(6, 10_001, Some("down"))], WINDOW);
        assert_eq!(texts(&told), [(6, "down")]);
    }

    #[test]
    fn the_count_says_what_was_counted() {
        let with = |id: u64, text: &str| {
            let message = Message { subject: "disk".to_owned(), text: text.to_owned() };
            Arrived { id, at_ms: 0, message: Some(message) }
        };
        let long = "x".repeat(101);
        let events = ["a", "b", "b", "a", "a", long.as_str(), long.as_str()];
        let events: Vec<Arrived> = (1..).zip(events).map(|(id, text)| with(id, text)).collect();
        let (progress, _) = Progress::default().judge(&events, WINDOW);
        let (_, told) = progress.judge(&[arrived(8, 10_000, None)], WINDOW);
        let cut = format!("came once more within 10s: {}…", "x".repeat(100));
        let expected =
            ["came 2 more times within 10s: a", "came once more within 10s: b", cut.as_str()];
        assert_eq!(texts(&told), expected.map(|text| (8, text)));
        assert!(told.iter().all(|(_, message)| message.subject == "disk"));
    }

    #[test]
    fn the_same_events_are_judged_once_and_alike() {
        let events = [arrived(1, 0, Some("a")), arrived(2, 1, Some("a")), arrived(3, 2, Some("b"))];
        let (once, told) = Progress::default().judge(&events, WINDOW);
        let (_, again) = once.judge(&events, WINDOW);
        assert_eq!(texts(&again), []);
        // In two parts, as after halving.
        let (half, first) = Progress::default().judge(&events[..1], WINDOW);
        let (whole, second) = half.judge(&events, WINDOW);
        assert_eq!([first, second].concat(), told);
        assert_eq!(whole, once);
    }

    #[test]
    fn without_a_window_every_event_is_told_and_nothing_is_kept() {
        let events = [arrived(1, 0, Some("a")), arrived(2, 0, Some("a"))];
        let (progress, told) = Progress::default().judge(&events, Duration::ZERO);
        assert_eq!((told.len(), progress.seen.len()), (2, 0));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let events: Vec<Arrived> =
            (1..=600).map(|id| arrived(id, 0, Some(&format!("{}", id % 300)))).collect();
        let (progress, told) = Progress::default().judge(&events, WINDOW);
        assert_eq!(progress.seen.len(), MAX_SEEN);
        // 300 texts once, and the 44 without room a second time.
        assert_eq!(told.len(), 344);
    }
}

//! What is told of an event: the JSON of `/trace/ID` on every status port.

use serde::{Deserialize, Serialize};

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A queue or bucket has it.
    Stored,
    /// A batch that a bucket had stored before came again, and was left out.
    Repeated,
    /// A source's script has made something of it, which is stored.
    Script,
    /// A relay has it.
    Shipped,
    /// A reader got it from a bucket.
    Pulled,
    /// A target has it.
    Delivered,
    /// A try to ship or deliver it has failed, and is repeated.
    Retried,
    /// It is gone, on purpose; `detail` says why.
    Dropped,
    /// It was given up, and lies among the dead letters.
    DeadLettered,
    /// A step that a newer program knows.
    #[serde(other)]
    Other,
}

/// One step of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// Microseconds since 1970, by the clock of the program's machine.
    pub at_us: u64,
    /// What happened.
    pub step: Step,
    /// Where: the source, sink or bucket.
    pub place: String,
    /// Which try it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// More about it: a reason, a batch, who it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An event that lies in a queue or bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The queue's sink, or the bucket.
    pub place: String,
    /// Its number there.
    pub number: u64,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// An event that lies among the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Buried {
    /// The sink, or the source whose script gave it up.
    pub place: String,
    /// Its number for `replayforge dead-letters`.
    pub number: u64,
    /// When it was stored, milliseconds since 1970.
    pub since_ms: u64,
    /// When it was given up.
    pub at_ms: u64,
    /// Tries until then.
    pub attempts: u32,
    /// Why.
    pub reason: String,
}

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JournalSpan {
    /// Steps that it may hold; 0: it is off.
    pub limit: usize,
    /// Steps that it holds.
    pub steps: usize,
    /// When the oldest of them was, microseconds since 1970: what was before is forgotten.
    pub since_us: Option<u64>,
}

/// What one program knows of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TraceReport {
    /// The event.
    pub id: String,
    /// `proxy`, `relay` or `player`.
    pub role: String,
    /// The machine's name, as the program tells it.
    pub host: String,
    /// When this was told, microseconds since 1970.
    pub clock_us: u64,
    /// What the journal holds, oldest first.
    pub steps: Vec<Passed>,
    /// Where the event lies now.
    pub waiting: Vec<Waiting>,
    /// Where it lies as a dead letter.
    pub dead_letters: Vec<Buried>,
    /// Queues and letters that could not be looked through in time: there may be more.
    pub unsearched: Vec<String>,
    /// How far the journal goes back.
    pub journal: JournalSpan,
}

impl TraceReport {
    /// Whether the program knows anything of the event.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !(self.steps.is_empty() && self.waiting.is_empty() && self.dead_letters.is_empty())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

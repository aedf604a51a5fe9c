//! What came of one call of a script.

use bytes::Bytes;

/// An event for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    /// Index in [`crate::ScriptOptions::sinks`].
    pub sink: usize,
    /// Its content.
    pub content: Bytes,
}

/// A value that the script wants remembered; `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvChange {
    /// As the script named it.
    pub key: String,
    /// What `kv_get` will answer.
    pub value: Option<Vec<u8>>,
    /// What it answered before the call.
    pub before: Option<Vec<u8>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Done,
    /// `drop(reason)`: the event is discarded on purpose. Nothing of what the call emitted counts.
    Dropped(String),
    /// `dead(reason)`: the event belongs to the dead letters. Nothing of what the call emitted counts.
    Dead(String),
    /// An error or a limit; with the script's file and line where there is one. [`crate::Vm::is_spent`] says whether the VM
    /// must be replaced.
    Failed(String),
}

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In the order of the calls of `emit`; empty unless [`End::Done`].
    pub emits: Vec<Emit>,
    /// What `kv_set` changed, the last value of each key; empty when the call failed.
    pub kv: Vec<KvChange>,
    /// How it ended.
    pub end: End,
}

impl Outcome {
    pub(crate) fn failed(reason: String) -> Self {
        Self { emits: Vec::new(), kv: Vec::new(), end: End::Failed(reason) }
    }
}

//! The way of one event: what a program remembers of the events that passed it, and how that is told.
//!
//! Every program keeps a [`Journal`] in memory. The data path notes in it what happened to which events; whoever asks for
//! an id gets a [`TraceReport`]: the steps that the journal still holds, and what the program's files hold of the event
//! now. Payloads, headers and tokens are in neither.
//!
//! Invariant: nothing here is needed to deliver an event, and nothing here can refuse or delay one: notes have no result,
//! the lock is held for a push or for a comparison of a few thousand ids.

mod journal;
mod report;

pub use journal::{DEFAULT_STEPS, Journal, MAX_STEPS, Note};
pub use report::{Buried, JournalSpan, Passed, Step, TraceReport, Waiting};

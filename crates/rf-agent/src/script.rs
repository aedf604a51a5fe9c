//! Scripts between sources and queues, and before a sink posts a batch.
//!
//! A source with a script has one VM, on a thread of its own. [`crate::pipeline::Output::send`] hands the batch over; the
//! thread runs the script over its events and builds one [`rf_queue::Commit`]: what was emitted to which queue, what failed
//! as dead letters, what `kv_set` remembered, and the source's own checkpoints. So the promise of the pipeline holds with a
//! script in the way: `Ok` means that all of it is durable, and a kill before that leaves nothing of it. The commit goes from
//! the script's thread straight to the store's writer, in the order of the calls, and the writer answers whoever waits.
//!
//! A commit that is refused (a queue is full) undoes what the script remembered with `kv_set`: a script that keeps the ids it
//! has seen would take the repeat for a duplicate and drop it. So does a client that leaves while its event waits for room
//! (`waiting`). Lua's own variables are not undone.
//!
//! A script that fails has no say in what becomes of its neighbours: the one event becomes a dead letter of the queue
//! `script:SOURCE` (or passes, or is dropped: `onError`), and the next event is processed, by the same VM with its variables
//! unless a limit of time or memory has cut it short.
//!
//! Reading order: `config` (the keys), `work` (one batch through the script), `runner` (the thread), `handle` (what the
//! source's side sees), `note` and `waiting` (until a call's commit has ended), `timer`, `redo` (retried letters), `reload`, and
//! `batch` for the scripts of sinks. `missing` warns of what a script will look for in vain.

pub(crate) mod batch;
pub(crate) mod config;
mod copies;
pub(crate) mod handle;
mod mailbox;
pub(crate) mod missing;
mod note;
mod redo;
mod reload;
mod runner;
#[cfg(test)]
mod tests;
mod thread;
mod timer;
mod waiting;
mod work;

pub(crate) use handle::{ScriptCounters, ScriptStartError};

use std::sync::Arc;
use std::time::Duration;

use rf_script::ScriptOptions;

/// How often `TimerHandler` runs where the file says nothing, as the original.
pub(crate) const DEFAULT_TIMER: Duration = Duration::from_secs(1);

/// A checked script of a source.
#[derive(Clone)]
pub(crate) struct ScriptPlan {
    /// What the script is and may do; its sinks are all of the agent's.
    pub(crate) options: Arc<ScriptOptions>,
    /// How often `TimerHandler` runs.
    pub(crate) timer: Duration,
}

/// The queue that a source's script failures are listed under, and where a retried one waits for the script.
pub(crate) fn letters_queue(source: &str) -> String {
    format!("script:{source}")
}

/// Where the `kv_set` values of a script lie among the store's checkpoints. The length keeps an id from being the beginning
/// of another one's prefix.
fn kv_prefix(kind: &str, owner: &str) -> String {
    format!("{kind}:{}:{owner}:", owner.len())
}

//! Lua for events: the VM, its limits, the standard functions.
//!
//! This crate knows no queue and no network. It turns one event (bytes) into an [`Outcome`]: what is emitted to which sink,
//! what is remembered, and how it ended.
//!
//! Reading order: `options` (what a script may do), `outcome` (what came of a call), `vm` (one Lua state with one script;
//! `batch` is what its `TransformBatch` takes and returns, `error` how its errors are worded), `session` (it goes on after a
//! limit has cut it short), `guard` (how a call is kept within its limits), `effects` (what a call emits, logs and remembers
//! before its outcome is known), [`clock`]; then what scripts call: `modules` (`require`), `json`, `strings`, `grok`,
//! `functions`, `prelude`. Beside them `missing` (what a script names of Lua's library although it is not there) and
//! [`testing`] (tests of scripts).
//!
//! Invariant: no call of a script lasts much longer than [`Limits::call_time`], whatever the script does. Lua code is stopped by
//! an instruction hook; every function of ours whose work depends on the script's input asks the guard as it goes;
//! the functions of Lua's own library that could loop in C without end are replaced or fenced in (`prelude`, `strings`).

mod batch;
pub mod clock;
mod effects;
mod error;
mod functions;
mod grok;
mod guard;
mod json;
mod missing;
mod modules;
mod options;
mod outcome;
mod prelude;
mod session;
mod strings;
pub mod testing;
#[cfg(test)]
mod tests;
mod vm;

pub use batch::{Request, Transformed};
pub use error::{CallError, LoadError};
pub use grok::GrokPatterns;
pub use missing::{MissingName, missing_names};
pub use options::{Limits, OnError, ScriptOptions};
pub use outcome::{Emit, End, KvChange, Outcome};
pub use session::Session;
pub use vm::{Vm, read_script};

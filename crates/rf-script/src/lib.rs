//! Lua for events: the VM, its limits, the standard functions.
//!
//! This crate knows no queue and no network. It turns one event (bytes) into an [`Outcome`]: what is emitted to which sink,
//! what is remembered, and how it ended.
//!
//! Reading order: [`ScriptOptions`] (what a script may do), [`Vm`] (one Lua state with one script), [`Session`] (it goes
//! on after a limit has cut it short), `guard` (how a call is kept within its limits), then the functions that scripts call:
//! `json`, `strings`, `grok`, `functions`, `prelude`.
//!
//! Invariant: no call of a script lasts much longer than [`Limits::call_time`], whatever the script does. Lua code is stopped by
//! an instruction hook; every function of ours whose work depends on the script's input asks the guard as it goes;
//! the functions of Lua's own library that could loop in C without end are replaced or fenced in (`prelude`, `strings`).

pub mod clock;
mod effects;
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

pub use grok::GrokPatterns;
pub use missing::{MissingName, missing_names};
pub use options::{Limits, OnError, ScriptOptions};
pub use outcome::{Emit, End, KvChange, Outcome};
pub use session::Session;
pub use vm::{CallError, LoadError, Request, Transformed, Vm, read_script};

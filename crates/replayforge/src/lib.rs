//! The program's own parts: command line, logging, signals, and the demo. `main.rs` is a thin start of them.
//!
//! Must not know: how anything is captured, queued or delivered. It reads a file, hands the checked plan to a role's crate
//! and waits.
//!
//! Reading order: [`cli`] (what can be asked), [`config_file`] (from a path to a checked plan), [`command`] (one file a
//! command), [`running`] (runtime, signals, exit codes), [`logging`].

pub mod cli;
pub mod command;
pub mod config_file;
pub mod logging;
pub mod running;

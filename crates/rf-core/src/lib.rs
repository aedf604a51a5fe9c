//! Words that every ReplayForge crate shares.
//!
//! Must not know: SQLite, Lua, HTTP servers. A thing moves in here only when a second crate needs it.
//!
//! Reading order: [`event`] (what travels), [`protocol`] (how it is spelled on the wire), [`json`] (as others write it),
//! `lenient` (values of an unexpected type), [`config`] (how a user's file becomes a checked value), [`lifecycle`] (how tasks
//! start, stop and fail), [`background`] (work that gives way), [`clock`] (the time, in whole units), [`backoff`] (how long to
//! wait before the next try), [`node_info`] (what an agent tells its relays of itself), [`metrics`] (the same for Prometheus),
//! [`recent_logs`] (the newest log lines of each source and sink), [`trace`] (what a program remembers of the events that
//! passed it).

pub mod background;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod event;
pub mod json;
mod lenient;
pub mod lifecycle;
pub mod metrics;
pub mod node_info;
pub mod protocol;
pub mod recent_logs;
pub mod trace;

//! What a script is given and what it may take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{ScriptClock, SystemScriptClock};
use crate::grok::GrokPatterns;

/// Bounds of a script. Past one of them the call fails, and past that of memory or time the VM is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the VM, bytes.
    pub memory_bytes: usize,
    /// Time for one call of a hook.
    pub call_time: Duration,
    /// Events that one call may emit.
    pub emitted_events: usize,
    /// Content bytes that one call may emit.
    pub emitted_bytes: usize,
    /// Lines that one call may log; more are counted, not written.
    pub log_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            call_time: Duration::from_millis(100),
            emitted_events: 10_000,
            emitted_bytes: 32 * 1024 * 1024,
            log_lines: 100,
        }
    }
}

/// What becomes of an event whose script failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It is kept as a dead letter with the reason.
    #[default]
    DeadLetter,
    /// It goes on as it came.
    Pass,
    /// It is dropped and counted.
    Drop,
}

/// What a VM is made with.
#[derive(Clone)]
pub struct ScriptOptions {
    /// The script's file; `require` looks beside it.
    pub path: PathBuf,
    /// Names that `emit` knows.
    pub sinks: Vec<String>,
    /// Whether `emit` takes any other name as well: where a script is tried out without its configuration.
    pub any_sink: bool,
    /// Bounds.
    pub limits: Limits,
    /// What becomes of an event whose script failed.
    pub on_error: OnError,
    /// Whether `io`, `os.execute` and the others that touch files and programs exist.
    pub unsafe_scripts: bool,
    /// Grok patterns beside the stock ones.
    pub grok_patterns: Arc<GrokPatterns>,
    /// The time.
    pub clock: Arc<dyn ScriptClock>,
}

impl ScriptOptions {
    /// A script with the default bounds.
    pub fn new(path: impl Into<PathBuf>, sinks: Vec<String>) -> Self {
        Self {
            path: path.into(),
            sinks,
            any_sink: false,
            limits: Limits::default(),
            on_error: OnError::default(),
            unsafe_scripts: false,
            grok_patterns: Arc::default(),
            clock: Arc::new(SystemScriptClock),
        }
    }
}

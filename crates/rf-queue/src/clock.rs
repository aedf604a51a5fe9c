//! Time as the store sees it, so that tests can set it back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where a store takes its time from.
pub trait Clock: Send + Sync {
    /// Wall clock, milliseconds since 1970. May jump.
    fn wall_ms(&self) -> u64;
    /// Milliseconds since some fixed moment. Never goes back.
    fn mono_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn mono_ms(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

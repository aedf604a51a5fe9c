//! Where scripts get the time from.

use std::sync::atomic::{AtomicI64, Ordering};

use rf_core::clock::unix_us;

/// The time that `now`, `os.time` and `os.date` tell.
pub trait ScriptClock: Send + Sync {
    /// Microseconds since 1970.
    fn now_us(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemScriptClock;

impl ScriptClock for SystemScriptClock {
    fn now_us(&self) -> i64 {
        i64::try_from(unix_us()).unwrap_or(i64::MAX)
    }
}

/// A clock that stands until it is moved; for script tests.
#[derive(Debug, Default)]
pub struct FakeClock(AtomicI64);

impl FakeClock {
    /// A clock that shows `now_us`.
    pub const fn new(now_us: i64) -> Self {
        Self(AtomicI64::new(now_us))
    }

    /// Sets it.
    pub fn set(&self, now_us: i64) {
        self.0.store(now_us, Ordering::Relaxed);
    }

    /// Moves it on.
    pub fn advance(&self, by_us: i64) {
        self.0.fetch_add(by_us, Ordering::Relaxed);
    }
}

impl ScriptClock for FakeClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

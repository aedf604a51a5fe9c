//! How a call is kept within its time.
//!
//! The guard is armed before a hook is called. Lua's instruction hook asks it every few thousand instructions; functions of
//! ours whose work grows with the script's input ask it as they go. Once it has run out it stays so until it is armed again:
//! a script that catches the error with `pcall` gets it thrown again at once (see `prelude`).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// The text that a call past its time fails with; the reason of the dead letter begins with the script's line.
pub(crate) const OUT_OF_TIME: &str = "the script took longer than its limit for one call";

/// Steps of a loop of ours between two looks at the clock.
const STEPS_BETWEEN_LOOKS: u32 = 4096;

/// Shared by the VM, its hook and its functions; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard(Rc<State>);

#[derive(Debug, Default)]
struct State {
    deadline: Cell<Option<Instant>>,
    limit: Cell<Duration>,
    expired: Cell<bool>,
    steps: Cell<u32>,
}

impl Guard {
    /// Begins a call that may last `limit`.
    pub(crate) fn arm(&self, limit: Duration) {
        self.0.deadline.set(Instant::now().checked_add(limit));
        self.0.limit.set(limit);
        self.0.expired.set(false);
    }

    /// Whether the time of the call has run out.
    pub(crate) fn expired(&self) -> bool {
        if self.0.expired.get() {
            return true;
        }
        let over = self.0.deadline.get().is_some_and(|deadline| Instant::now() >= deadline);
        self.0.expired.set(over);
        over
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// When the time of the call has run out.
    pub(crate) fn check(&self) -> mlua::Result<()> {
        if self.expired() {
            let limit = self.0.limit.get().as_millis();
            return Err(mlua::Error::RuntimeError(format!("{OUT_OF_TIME} ({limit} ms)")));
        }
        Ok(())
    }

    /// For inner loops: looks at the clock once in a few thousand calls.
    ///
    /// # Errors
    /// When the time of the call has run out.
    #[inline]
    pub(crate) fn step(&self) -> mlua::Result<()> {
        let steps = self.0.steps.get().wrapping_add(1);
        self.0.steps.set(steps);
        if steps.is_multiple_of(STEPS_BETWEEN_LOOKS) { self.check() } else { Ok(()) }
    }
}

//! How a call is kept within its time.
//!
//! The time is the processor's, not the wall's: on a busy machine a thread may stand still for longer than a call may last, and
//! no event should be lost to that. The wall's clock is looked at first, since it costs a tenth; only once its time is over
//! the processor's is counted, from then on. So a call is cut short after one to two times its limit.
//!
//! The guard is armed before a hook is called. Lua's instruction hook asks it every few thousand instructions; functions of
//! ours whose work grows with the script's input ask it as they go. Once it has run out it stays so until it is armed again:
//! a script that catches the error with `pcall` gets it thrown again at once (see `prelude`). That the memory was at its limit
//! may be caught, and is noted here: whoever gives its event up then may say something else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rf_core::clock::thread_time;
use tokio::time::Instant;

/// The text that a call past its time fails with, behind the script's line where that is known.
pub(crate) const OUT_OF_TIME: &str = "the script took longer than its limit for one call";

/// Steps of a loop of ours between two looks at the clock.
const STEPS_BETWEEN_LOOKS: u32 = 4096;

/// Shared by the VM, its hook and its functions; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard(Rc<State>);

#[derive(Debug, Default)]
struct State {
    deadline: Cell<Option<Instant>>,
    /// The thread's time on the processor when the deadline had passed.
    spent_at_deadline: Cell<Option<Duration>>,
    limit: Cell<Duration>,
    expired: Cell<bool>,
    /// Where the script was when the hook ended the call, as `name.lua:12: `.
    place: RefCell<String>,
    full: Cell<bool>,
    steps: Cell<u32>,
}

impl Guard {
    /// Begins a call that may last `limit`.
    pub(crate) fn arm(&self, limit: Duration) {
        self.0.deadline.set(Instant::now().checked_add(limit));
        self.0.spent_at_deadline.set(None);
        self.0.limit.set(limit);
        self.0.expired.set(false);
        self.0.place.borrow_mut().clear();
        self.0.full.set(false);
    }

    /// Whether the time of the call has run out.
    pub(crate) fn expired(&self) -> bool {
        if self.0.expired.get() {
            return true;
        }
        let late = self.0.deadline.get().is_some_and(|deadline| Instant::now() >= deadline);
        let over = late && self.has_worked_on();
        self.0.expired.set(over);
        over
    }

    /// Whether it was found that the time has run out; does not look at the clock.
    pub(crate) fn has_expired(&self) -> bool {
        self.0.expired.get()
    }

    /// Notes that the script has caught what Lua says at the limit of memory.
    pub(crate) fn note_full(&self) {
        self.0.full.set(true);
    }

    /// Whether the script has caught that in the call under way.
    pub(crate) fn was_full(&self) -> bool {
        self.0.full.get()
    }

    /// Whether the thread has worked for another limit since the deadline.
    fn has_worked_on(&self) -> bool {
        if self.0.limit.get().is_zero() {
            return true;
        }
        let spent = thread_time();
        let Some(before) = self.0.spent_at_deadline.get() else {
            self.0.spent_at_deadline.set(Some(spent));
            return false;
        };
        spent.saturating_sub(before) >= self.0.limit.get()
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// When the time of the call has run out.
    pub(crate) fn check(&self) -> mlua::Result<()> {
        if self.expired() { Err(self.out_of_time()) } else { Ok(()) }
    }

    /// Looks at the clock for the hook, whose error has no traceback: so it asks where the script is. The first place is kept,
    /// whatever a script that catches the error runs into then.
    ///
    /// # Errors
    /// When the time of the call has run out.
    pub(crate) fn check_at(&self, place: impl FnOnce() -> String) -> mlua::Result<()> {
        if !self.expired() {
            return Ok(());
        }
        if self.0.place.borrow().is_empty() {
            *self.0.place.borrow_mut() = place();
        }
        Err(self.out_of_time())
    }

    fn out_of_time(&self) -> mlua::Error {
        let (place, limit) = (self.0.place.borrow(), self.0.limit.get().as_millis());
        mlua::Error::RuntimeError(format!("{place}{OUT_OF_TIME} ({limit} ms)"))
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

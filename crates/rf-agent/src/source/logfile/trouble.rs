//! A file that cannot be read on: how long the newer ones of its family wait for it, and when it is given up.
//!
//! Promise: no file holds up the lines of another one for ever. Their order is kept where the trouble passes soon; and what
//! somebody may still be writing is not given up.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Newer files wait for so long for one that cannot be read, or whose rest has not come.
const HOLDS_UP: Duration = Duration::from_secs(5);
/// They wait on while it is written to, but no longer than this.
const HOLDS_UP_AT_MOST: Duration = Duration::from_secs(60);
/// What failed is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A file that nobody has written to for so long is what it will be.
const SETTLED: Duration = Duration::from_secs(60);

/// Size and time of a file.
pub(super) type State = (u64, SystemTime);

pub(super) fn state_of(meta: &Metadata) -> State {
    (meta.len(), meta.modified().unwrap_or(UNIX_EPOCH))
}

/// Whether nobody writes to a file any more, as far as its time tells.
pub(super) fn is_settled(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age >= SETTLED)
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It cannot be read, for a reason that may pass.
    Fails,
    /// It is compressed, and breaks off for this reason.
    Breaks(&'static str),
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) wrong: Wrong,
    began: Instant,
    /// The file as it was found last, and since when it is so.
    state: State,
    since: Instant,
    tried: Instant,
}

impl Trouble {
    pub(super) fn new(wrong: Wrong, state: State) -> Self {
        let now = Instant::now();
        Self { wrong, began: now, state, since: now, tried: now }
    }

    /// It was looked at again, in vain.
    pub(super) fn goes_on(&mut self, wrong: Wrong, state: State) {
        self.tried = Instant::now();
        if (self.wrong, self.state) != (wrong, state) {
            (self.wrong, self.state, self.since) = (wrong, state, self.tried);
        }
    }

    /// Whether newer files of its family still wait for it.
    pub(super) fn holds_up(&self) -> bool {
        self.since.elapsed() < HOLDS_UP && self.began.elapsed() < HOLDS_UP_AT_MOST
    }

    /// Whether it is too soon to try again what failed.
    pub(super) fn is_fresh(&self) -> bool {
        self.wrong == Wrong::Fails && self.tried.elapsed() < TRY_AGAIN
    }

    /// Whether the rest of a compressed file, as it is now, will not come any more.
    pub(super) fn is_final(&self, state: State) -> bool {
        let quiet = self.since.elapsed();
        let is_quiet = quiet >= SETTLED || (quiet >= HOLDS_UP && is_settled(state.1));
        matches!(self.wrong, Wrong::Breaks(_)) && self.state == state && is_quiet
    }

    /// When something is due although nothing is written.
    pub(super) fn next_look(&self) -> Option<Duration> {
        if self.holds_up() {
            return Some(TRY_AGAIN);
        }
        let left = SETTLED.checked_sub(self.since.elapsed());
        left.filter(|left| !left.is_zero() && self.wrong != Wrong::Fails)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const BREAKS: Wrong = Wrong::Breaks("a test");

    fn now(size: u64) -> State {
        (size, SystemTime::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_fails_holds_up_others_for_a_while_and_is_tried_now_and_then() {
        let state = now(1);
        let mut trouble = Trouble::new(Wrong::Fails, state);
        assert!(trouble.holds_up() && trouble.is_fresh());
        advance(TRY_AGAIN).await;
        assert!(trouble.holds_up() && !trouble.is_fresh());
        trouble.goes_on(Wrong::Fails, state);
        assert!(trouble.is_fresh());
        advance(HOLDS_UP).await;
        trouble.goes_on(Wrong::Fails, state);
        assert!(!trouble.holds_up());
        assert_eq!(trouble.next_look(), None);
        advance(SETTLED).await;
        assert!(!trouble.is_final(state), "it may pass");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_to_is_waited_for_longer_but_not_for_ever() {
        let mut trouble = Trouble::new(BREAKS, now(0));
        let since = Instant::now();
        for size in 1.. {
            advance(HOLDS_UP / 2).await;
            trouble.goes_on(BREAKS, now(size));
            if !trouble.holds_up() {
                break;
            }
        }
        assert_eq!(since.elapsed(), HOLDS_UP_AT_MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_given_up_when_nothing_was_written_for_long() {
        let state = now(7);
        let trouble = Trouble::new(BREAKS, state);
        advance(HOLDS_UP).await;
        assert!(!trouble.holds_up() && !trouble.is_final(state));
        assert_eq!(trouble.next_look(), Some(SETTLED.saturating_sub(HOLDS_UP)));
        advance(SETTLED).await;
        assert!(trouble.is_final(state));
        assert!(!trouble.is_final(now(8)), "it has grown");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_file_that_is_old_no_rest_is_waited_for() {
        let state = (7, SystemTime::now() - 2 * SETTLED);
        let trouble = Trouble::new(BREAKS, state);
        assert!(!trouble.is_final(state), "clocks may differ");
        advance(HOLDS_UP).await;
        assert!(trouble.is_final(state));
    }
}

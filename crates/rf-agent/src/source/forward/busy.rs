//! How busy threads are: the share of the time for which they had something to do, whether a processor was there for it or
//! not. Where there is one for each processor, and all are always busy, they need all that there is.
//!
//! From `/proc/self/task/ID/schedstat` (Linux, `Documentation/scheduler/sched-stats.rst`): nanoseconds on a processor, and
//! nanoseconds ready for one. A kernel that does not count them has no such file.

use std::fs::read_to_string;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::thread::{Pid, gettid};
use tokio::time::Instant;

/// A share is that of at least so long a time: what a thread is at just now is counted up to the last tick of the system,
/// some milliseconds ago.
pub(super) const WINDOW: Duration = Duration::from_millis(100);

/// Threads that are watched together.
#[derive(Debug)]
pub(super) struct Busy(Mutex<State>);

#[derive(Debug)]
struct State {
    /// So many there are, whether they are watched yet or not.
    expected: usize,
    threads: Vec<Thread>,
    since: Instant,
    share: Option<f64>,
}

#[derive(Debug)]
struct Thread {
    id: Pid,
    /// Until the beginning of the window.
    busy: Duration,
}

impl Default for Busy {
    fn default() -> Self {
        Self(Mutex::new(State::new(0, Vec::new(), Instant::now())))
    }
}

impl Busy {
    /// There will be so many. One that is not watched has nothing to do.
    pub(super) fn expect(&self, threads: usize) {
        self.0.lock().expected = threads;
    }

    /// Watches the thread that calls this, until it ends.
    pub(super) fn watch(&self) {
        let id = gettid();
        if let Some(busy) = busy(id) {
            self.0.lock().threads.push(Thread { id, busy });
        }
    }

    /// The share of the last 100 ms, or of the time since the call before if that was longer ago, on the average of all threads;
    /// at most 1. `None`: nothing is known yet, no thread is watched, or the system does not count.
    pub(super) fn share(&self) -> Option<f64> {
        self.0.lock().look(Instant::now(), busy)
    }
}

#[cfg(test)]
impl Busy {
    pub(super) fn expected(&self) -> usize {
        self.0.lock().expected
    }

    /// So much, for the time of a test.
    pub(super) fn fixed(share: f64) -> Self {
        let mut state = State::new(0, Vec::new(), Instant::now() + Duration::from_secs(3600));
        state.share = Some(share);
        Self(Mutex::new(state))
    }
}

impl State {
    fn new(expected: usize, threads: Vec<Thread>, since: Instant) -> Self {
        Self { expected, threads, since, share: None }
    }

    fn look(&mut self, now: Instant, busy: impl Fn(Pid) -> Option<Duration>) -> Option<f64> {
        let window = now.saturating_duration_since(self.since);
        if window >= WINDOW {
            let mut sum = Duration::ZERO;
            self.threads.retain_mut(|thread| {
                let until_now = busy(thread.id);
                if let Some(until_now) = until_now {
                    sum += until_now.saturating_sub(std::mem::replace(&mut thread.busy, until_now));
                }
                until_now.is_some()
            });
            let all = u32::try_from(self.expected.max(self.threads.len())).unwrap_or(u32::MAX);
            let is_known = !self.threads.is_empty();
            self.share = is_known.then(|| sum.div_duration_f64(window * all).min(1.0));
            self.since = now;
        }
        self.share
    }
}

fn busy(thread: Pid) -> Option<Duration> {
    let counts = read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut counts = counts.split_ascii_whitespace().map(str::parse);
    let (on_processor, ready) = (counts.next()?.ok()?, counts.next()?.ok()?);
    Some(Duration::from_nanos(on_processor) + Duration::from_nanos(ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_had_to_do_is_compared_with_the_time_that_passed() {
        let ms = Duration::from_millis;
        let (first, second) = (Pid::from_raw(1).unwrap(), Pid::from_raw(2).unwrap());
        let begun = Instant::now();
        let thread = |id, busy| Thread { id, busy: ms(busy) };
        let mut state = State::new(0, vec![thread(first, 1000), thread(second, 50)], begun);
        let look = |state: &mut State, after, of_first: Option<u64>, of_second: Option<u64>| {
            let of = |id| if id == first { of_first } else { of_second };
            state.look(begun + ms(after), |id| of(id).map(ms))
        };
        assert_eq!(look(&mut state, 99, Some(1099), Some(50)), None, "too early");
        assert_eq!(look(&mut state, 200, Some(1200), Some(90)), Some(0.6));
        assert_eq!(look(&mut state, 299, Some(1299), Some(189)), Some(0.6), "too early");
        assert_eq!(look(&mut state, 400, Some(1400), Some(290)), Some(1.0));
        // What the system counts lags behind.
        assert_eq!(look(&mut state, 500, Some(1510), Some(390)), Some(1.0));
        state.expected = 4;
        assert_eq!(look(&mut state, 600, Some(1610), Some(490)), Some(0.5), "two do nothing");
        assert_eq!(look(&mut state, 700, None, Some(530)), Some(0.1), "the first has ended");
        assert_eq!(look(&mut state, 800, None, None), None);
    }

    #[test]
    fn the_system_counts_what_this_thread_does() {
        let before = busy(gettid()).unwrap();
        assert!(before < Duration::from_secs(600), "{before:?}");
        // Endless where it does not count.
        while busy(gettid()).unwrap() < before + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert_eq!(busy(Pid::from_raw(i32::MAX).unwrap()), None);
    }
}

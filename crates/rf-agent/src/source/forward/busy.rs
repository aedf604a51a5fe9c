//! How busy threads are: the share of the time for which they had something to do, whether a processor was there for it or
//! not. Where there is one for each processor, and all are always busy, they need all that there is.
//!
//! From `/proc/thread-self/schedstat` (Linux, `Documentation/scheduler/sched-stats.rst`): nanoseconds on a processor, and
//! nanoseconds ready for one. A kernel that does not count them has no such file, or zeros in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use parking_lot::Mutex;
use procfs::FromRead;
use procfs::process::Schedstat;
use rustix::io::Errno;
use tokio::time::Instant;

/// A share is that of at least so long a time: the system counts what a thread is at only at its ticks, some milliseconds
/// apart, and the time for which it was ready once it is over.
pub(super) const WINDOW: Duration = Duration::from_millis(100);
/// Three numbers of 20 digits at the most.
const COUNTS_BYTES: usize = 64;

/// Threads that are watched together.
#[derive(Debug)]
pub(super) struct Busy(Mutex<State<File>>);

#[derive(Debug)]
struct State<T> {
    /// So many there are, whether they are watched yet or not.
    expected: usize,
    threads: Vec<Thread<T>>,
    since: Instant,
    share: Option<f64>,
}

#[derive(Debug)]
struct Thread<T> {
    counts: T,
    /// Until the beginning of the window.
    busy: Duration,
}

impl Busy {
    /// For so many threads. One that is not watched has nothing to do.
    pub(super) fn of(threads: usize) -> Self {
        let since = Instant::now();
        Self(Mutex::new(State { expected: threads, threads: Vec::new(), since, share: None }))
    }

    /// Watches the thread that calls this, until it ends; its file stays open.
    ///
    /// # Errors
    /// When the file cannot be opened or read, as while there are too many open files.
    pub(super) fn watch(&self) -> io::Result<()> {
        let counts = File::open("/proc/thread-self/schedstat")?;
        let busy = busy(&counts)?;
        let mut state = self.0.lock();
        if state.threads.is_empty() {
            (state.since, state.share) = (Instant::now(), None);
        }
        state.threads.push(Thread { counts, busy });
        Ok(())
    }

    /// The share on the average of all threads, at most 1. It was measured at most 100 ms ago, over the time since the
    /// measurement before. `None`: nothing is known yet, no thread is watched, or the system does not count.
    pub(super) fn share(&self) -> Option<f64> {
        self.0.lock().look(Instant::now(), busy)
    }
}

impl<T> State<T> {
    fn look(&mut self, now: Instant, busy: impl Fn(&T) -> io::Result<Duration>) -> Option<f64> {
        let window = now.saturating_duration_since(self.since);
        if window >= WINDOW {
            let mut sum = Duration::ZERO;
            self.threads.retain_mut(|thread| match busy(&thread.counts) {
                Ok(until_now) => {
                    sum += until_now.saturating_sub(thread.busy).min(window);
                    thread.busy = until_now;
                    true
                }
                Err(error) => error.raw_os_error() != Some(Errno::SRCH.raw_os_error()),
            });
            let all = u32::try_from(self.expected.max(self.threads.len())).unwrap_or(u32::MAX);
            let is_counted = self.threads.iter().any(|thread| !thread.busy.is_zero());
            self.share = is_counted.then(|| sum.div_duration_f64(window * all));
            self.since = now;
        }
        self.share
    }
}

fn busy(counts: &File) -> io::Result<Duration> {
    let mut text = [0; COUNTS_BYTES];
    let read = counts.read_at(&mut text, 0)?;
    let counts = Schedstat::from_read(&text[..read]).map_err(io::Error::other)?;
    Ok(Duration::from_nanos(counts.sum_exec_runtime.saturating_add(counts.run_delay)))
}

#[cfg(test)]
impl Busy {
    /// So much, until it is set again.
    pub(super) fn fixed(share: f64) -> Self {
        let fixed = Self::of(1);
        fixed.set(share);
        fixed
    }

    pub(super) fn set(&self, share: f64) {
        let mut state = self.0.lock();
        (state.share, state.since) = (Some(share), Instant::now() + Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use rf_core::clock::thread_time;

    use super::*;

    #[test]
    fn what_threads_had_to_do_is_compared_with_the_time_that_passed() {
        let ms = Duration::from_millis;
        let begun = Instant::now();
        let thread = |counts: usize, busy| Thread { counts, busy: ms(busy) };
        let threads = vec![thread(0, 1000), thread(1, 50)];
        let mut state = State { expected: 0, threads, since: begun, share: None };
        let look = |state: &mut State<usize>, after, counts: [Result<u64, Errno>; 2]| {
            state.look(begun + ms(after), |thread| Ok(counts[*thread].map(ms)?))
        };
        assert_eq!(look(&mut state, 99, [Ok(1099), Ok(50)]), None, "too early");
        assert_eq!(look(&mut state, 200, [Ok(1200), Ok(90)]), Some(0.6));
        assert_eq!(look(&mut state, 299, [Ok(1299), Ok(189)]), Some(0.6), "too early");
        assert_eq!(look(&mut state, 400, [Ok(1400), Ok(290)]), Some(1.0));
        assert_eq!(look(&mut state, 500, [Ok(1700), Ok(340)]), Some(0.75), "a wait that is over");
        state.expected = 4;
        assert_eq!(look(&mut state, 600, [Ok(1800), Ok(440)]), Some(0.5), "two do nothing");
        assert_eq!(look(&mut state, 700, [Err(Errno::MFILE), Ok(540)]), Some(0.25), "not told");
        assert_eq!(look(&mut state, 800, [Ok(1900), Ok(540)]), Some(0.25), "told again");
        assert_eq!(look(&mut state, 900, [Err(Errno::SRCH), Ok(640)]), Some(0.25), "it has ended");
        assert_eq!(look(&mut state, 1000, [Ok(2000), Ok(640)]), Some(0.0), "for good");
        assert_eq!(look(&mut state, 1100, [Ok(2000), Err(Errno::SRCH)]), None);
        state.threads = vec![thread(0, 0), thread(1, 0)];
        assert_eq!(look(&mut state, 1200, [Ok(0), Ok(0)]), None, "the system does not count");
        assert_eq!(look(&mut state, 1300, [Ok(0), Ok(80)]), Some(0.2));
    }

    #[test]
    fn the_system_counts_what_a_thread_does() {
        let all = Busy::of(1);
        let begun = Instant::now();
        all.watch().unwrap();
        let before = thread_time();
        let computed = || thread_time() - before;
        while computed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let computed = computed();
        let state = all.0.lock();
        let Thread { counts, busy: until_then } = &state.threads[0];
        let counted = busy(counts).unwrap() - *until_then;
        let tick = Duration::from_millis(10);
        assert!(counted + 2 * tick >= computed, "{counted:?} of {computed:?}");
        assert!(counted <= begun.elapsed() + 2 * tick, "{counted:?} of {:?}", begun.elapsed());
    }
}

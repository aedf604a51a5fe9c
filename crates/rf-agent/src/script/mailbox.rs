//! The hand-over to a script's thread: a bounded list that the thread swaps out whole, and is woken for only when it sleeps.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Jobs that may wait; further ones are refused, so that a slow script refuses its source instead of growing.
const MAX_WAITING_JOBS: usize = 4096;
/// Content bytes that may wait; one job is always taken when nothing waits.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too much is waiting.
    Busy,
    /// The thread has ended.
    Closed,
}

pub(super) struct Mailbox<J> {
    waiting: Mutex<Waiting<J>>,
    wake: Condvar,
}

struct Waiting<J> {
    jobs: Vec<J>,
    bytes: usize,
    asleep: bool,
    closed: bool,
}

impl<J> Mailbox<J> {
    pub(super) fn new() -> Self {
        let waiting = Waiting { jobs: Vec::new(), bytes: 0, asleep: false, closed: false };
        Self { waiting: Mutex::new(waiting), wake: Condvar::new() }
    }

    /// Hands a job of so many content bytes over.
    pub(super) fn push(&self, job: J, bytes: usize) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        let full = waiting.jobs.len() >= MAX_WAITING_JOBS
            || waiting.bytes.saturating_add(bytes) > MAX_WAITING_BYTES;
        if full && !waiting.jobs.is_empty() {
            return Err(Refused::Busy);
        }
        self.add(&mut waiting, job, bytes);
        Ok(())
    }

    /// Hands a job over that must not be refused for want of room: there is one at a time of its kind.
    pub(super) fn push_urgent(&self, job: J) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        self.add(&mut waiting, job, 0);
        Ok(())
    }

    fn add(&self, waiting: &mut Waiting<J>, job: J, bytes: usize) {
        waiting.jobs.push(job);
        waiting.bytes += bytes;
        if waiting.asleep {
            waiting.asleep = false;
            self.wake.notify_one();
        }
    }

    /// All that waits; sleeps until there is something. `None`: closed, and everything was served.
    pub(super) fn take(&self) -> Option<Vec<J>> {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.asleep = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.asleep = false;
        }
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.jobs))
    }

    /// Takes no more jobs; those waiting are still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

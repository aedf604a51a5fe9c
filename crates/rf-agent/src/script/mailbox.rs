//! The hand-over to a script's thread: a bounded list that the thread swaps out whole, and is woken for only when it sleeps.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Jobs that may wait; further ones are refused, so that a slow script refuses its source instead of growing.
const MAX_WAITING_JOBS: usize = 4096;
/// Content bytes that may wait; one job is always taken when nothing waits.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Too much is waiting.
    #[error("too much is waiting for the script")]
    Busy,
    /// The thread has ended.
    #[error("the script's thread has ended")]
    Closed,
    /// The thread has no script yet.
    #[error("what the script remembers cannot be read now")]
    NotReady,
}

pub(super) struct Mailbox<J> {
    waiting: Mutex<Waiting<J>>,
    wake: Condvar,
}

struct Waiting<J> {
    jobs: Vec<J>,
    bytes: usize,
    asleep: bool,
    ready: bool,
    closed: bool,
}

impl<J> Waiting<J> {
    fn check(&self) -> Result<(), Refused> {
        match (self.closed, self.ready) {
            (true, _) => Err(Refused::Closed),
            (false, false) => Err(Refused::NotReady),
            (false, true) => Ok(()),
        }
    }
}

impl<J> Mailbox<J> {
    /// One that takes no jobs yet.
    pub(super) fn new() -> Self {
        let (jobs, bytes) = (Vec::new(), 0);
        let waiting = Waiting { jobs, bytes, asleep: false, ready: false, closed: false };
        Self { waiting: Mutex::new(waiting), wake: Condvar::new() }
    }

    /// Takes jobs from now on.
    pub(super) fn open(&self) {
        self.waiting.lock().ready = true;
    }

    /// Hands a job of so many content bytes over.
    pub(super) fn push(&self, job: J, bytes: usize) -> Result<(), Refused> {
        let mut waiting = self.waiting.lock();
        waiting.check()?;
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
        let mut waiting = self.waiting.lock();
        waiting.check()?;
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
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.asleep = true;
            self.wake.wait(&mut waiting);
            waiting.asleep = false;
        }
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.jobs))
    }

    /// Waits for so long, or until it is closed; whether it is.
    pub(super) fn is_closed_within(&self, time: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        self.wake.wait_while_for(&mut waiting, |waiting| !waiting.closed, time);
        waiting.closed
    }

    /// Takes no more jobs; those waiting are still served.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_all();
    }
}

//! Where a connection is between requests: only what comes when no message is under way is the head of a next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shared by the stream of a connection and by all that is under way on it.
///
/// Invariant: while anything is under way, nothing that is read begins a head. The atomics are for `Send`, and for bodies
/// that end in another task; they order nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase(Arc<State>);

#[derive(Debug, Default)]
struct State {
    under_way: AtomicUsize,
    /// A part of a head was read, and not yet all of it.
    is_in_head: AtomicBool,
    /// What comes is no HTTP any more.
    is_upgraded: AtomicBool,
    /// The rest of a body was given up, or of a head that was refused.
    has_rest: AtomicBool,
}

impl Phase {
    /// Bytes were read: true if they are the first of a head.
    pub(crate) fn note_read(&self) -> bool {
        let State { under_way, is_in_head, is_upgraded, .. } = &*self.0;
        let is_idle =
            under_way.load(Ordering::Relaxed) == 0 && !is_upgraded.load(Ordering::Relaxed);
        is_idle && !is_in_head.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_in_head(&self) -> bool {
        self.0.is_in_head.load(Ordering::Relaxed)
    }

    /// A head is there in whole: its request is under way until the last of these is dropped.
    pub(crate) fn begin_request(&self) -> UnderWay {
        self.0.is_in_head.store(false, Ordering::Relaxed);
        self.0.has_rest.store(false, Ordering::Relaxed);
        UnderWay::new(self.clone(), false)
    }

    /// Something is written: within a head it says that this is refused. A head that a stop meets has no answer to lose.
    pub(crate) fn note_write(&self) {
        if self.is_in_head() {
            self.0.has_rest.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the peer may still be sending what nobody wants any more: the rest of a body, or of a head that was refused.
    /// What comes after an upgrade is wanted.
    pub(crate) fn has_rest(&self) -> bool {
        self.0.has_rest.load(Ordering::Relaxed) && !self.is_upgraded()
    }

    /// The connection has changed its protocol.
    pub(crate) fn upgrade(&self) {
        self.0.is_upgraded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.0.is_upgraded.load(Ordering::Relaxed)
    }
}

/// A part of a request that has not ended. A body may go on after its request was answered: without one of these its rest
/// would be taken for the head of the next request, and be cut off as one that takes too long.
#[derive(Debug)]
pub(crate) struct UnderWay {
    phase: Phase,
    /// A body whose end has not come.
    is_open: bool,
}

impl UnderWay {
    fn new(phase: Phase, is_open: bool) -> UnderWay {
        phase.0.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay { phase, is_open }
    }

    /// The request's body.
    pub(crate) fn body(&self) -> UnderWay {
        UnderWay::new(self.phase.clone(), true)
    }

    /// The body has come to its end. Dropped without this, its rest is given up.
    pub(crate) fn end(mut self) {
        self.is_open = false;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.is_open {
            self.phase.0.has_rest.store(true, Ordering::Relaxed);
        }
        self.phase.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

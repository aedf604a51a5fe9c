//! Copies become events on a thread of their own, which gives way to the traffic where the processors are busy: then copies
//! wait, and at last are dropped, and requests are not slower.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rf_core::background::Background;

use super::config::CaptureSettings;
use super::event;
use super::pile::Pile;
use crate::source::COPIES_NICENESS;

/// A commit is closed when it reaches this; small, so that it fits where little room is left.
const BATCH_GOAL_BYTES: usize = 512 * 1024;

/// The thread; it ends when this is dropped.
pub(super) struct Maker {
    thread: Background,
    settings: Arc<CaptureSettings>,
}

/// What became of copies.
pub(super) struct Made {
    /// The events of one commit.
    pub(super) events: Vec<Bytes>,
    /// Copies that are left for the next.
    pub(super) rest: Pile,
}

impl Maker {
    pub(super) fn start(settings: Arc<CaptureSettings>) -> io::Result<Self> {
        Ok(Self { thread: Background::start("rf-copies", COPIES_NICENESS)?, settings })
    }

    /// Takes copies until their events have the size of a commit. `None`: it panicked, and the copies are lost.
    pub(super) async fn make(&self, copies: Pile) -> Option<Made> {
        let settings = Arc::clone(&self.settings);
        self.thread.run(move || make(copies, &settings)).await
    }
}

fn make(mut copies: Pile, settings: &CaptureSettings) -> Made {
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_GOAL_BYTES
        && let Some(event) = copies.take(|copied| event::encode(copied, settings))
    {
        bytes += event.len();
        events.push(Bytes::from(event));
    }
    Made { events, rest: copies }
}

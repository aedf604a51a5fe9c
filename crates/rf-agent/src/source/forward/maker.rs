//! Copies become events on a thread of their own, which gives way to the traffic where the processors are busy: then copies
//! wait, and at last are dropped, and requests are not slower.
//!
//! The lowest priority is not enough for that. A busy processor is idle for some microseconds again and again, whenever a
//! request is with the client or the upstream; the thread is put there, goes on for a while, and takes caches with it. So
//! it tells how long it has waited for a processor, and the next copies are made after a pause.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rf_core::background::Background;
use rf_core::clock::thread_time;
use tokio::time::Instant;

use super::config::CaptureSettings;
use super::event;
use super::pile::Pile;
use crate::source::COPIES_NICENESS;

/// A commit is closed when it reaches this; small, so that it fits where little room is left.
const BATCH_GOAL_BYTES: usize = 512 * 1024;

/// Pauses are so many times what the thread has waited for a processor, but not more than so many times what it has worked: where
/// all are busy it takes a sixty-fourth of one, which is enough for some 2000 small copies a second.
const PAUSE_PER_WAITED: u32 = 16;
const PAUSE_PER_WORKED: u32 = 64;
/// However long it took.
const MAX_PAUSE: Duration = Duration::from_secs(1);

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
    /// How long the processors should be left to others now.
    pub(super) pause: Duration,
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
    let (begun, worked_before) = (Instant::now(), thread_time());
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_GOAL_BYTES
        && let Some(event) = copies.take(|copied| event::encode(copied, settings))
    {
        bytes += event.len();
        events.push(Bytes::from(event));
    }
    let worked = thread_time().saturating_sub(worked_before);
    Made { events, rest: copies, pause: pause(worked, begun.elapsed().saturating_sub(worked)) }
}

fn pause(worked: Duration, waited: Duration) -> Duration {
    (waited * PAUSE_PER_WAITED).min(worked * PAUSE_PER_WORKED).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_the_thread_waits_the_longer_it_leaves_the_processors_to_others() {
        let ms = Duration::from_millis;
        for (worked, waited, expected) in [
            (ms(5), ms(0), ms(0)),
            (ms(5), ms(1), ms(16)),
            (ms(5), ms(10), ms(160)),
            (ms(5), ms(100), ms(320)),
            (ms(50), ms(100), ms(1000)),
        ] {
            assert_eq!(pause(worked, waited), expected, "{worked:?} {waited:?}");
        }
    }
}

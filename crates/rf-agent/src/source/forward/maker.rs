//! Copies become events on a thread of their own, which gives way to the traffic where the processors are busy: then copies
//! wait, and at last are dropped, and requests are not slower.
//!
//! The lowest priority is not enough for that. A busy processor is idle for some microseconds again and again, whenever a
//! request is with the client or the upstream; the thread is put there, goes on for a while, and takes caches with it. So
//! it compares how long it has worked with how long it had to wait for a processor in between, and the next copies are made
//! after a pause. And it asks how busy the threads of the traffic are: some gaps suffice for much of its work, which is then
//! taken from the requests behind them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rf_core::background::Background;
use rf_core::clock::thread_time;
use tokio::time::Instant;

use super::busy::Busy;
use super::config::CaptureSettings;
use super::event;
use super::pile::{Copied, Pile};
use crate::source::COPIES_NICENESS;

/// A commit is closed when it reaches this; small, so that it fits where little room is left.
const BATCH_GOAL_BYTES: usize = 512 * 1024;

/// Pauses are so many times what the thread has waited longer than it has worked: while it gets a processor for half of the
/// time that it wants one there are none, so that no copy is lost for them. They are not more than so many times what it has
/// worked: where all are busy it takes a sixty-fourth of one, which is enough for some 2000 small copies a second.
const PAUSE_PER_WAITED: u32 = 16;
const PAUSE_PER_WORKED: u32 = 64;
/// While the traffic's threads have something to do for so much of the time, whatever others take makes requests slower.
const BUSY: f64 = 0.9;
const PAUSE_PER_WORKED_WHEN_BUSY: u32 = 256;
/// However long it took.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The thread; it ends when this is dropped.
pub(super) struct Maker {
    thread: Background,
    settings: Arc<CaptureSettings>,
    /// The threads to give way to.
    traffic: Arc<Busy>,
}

/// What became of copies.
pub(super) struct Made {
    /// The events of one commit.
    pub(super) events: Vec<Bytes>,
    /// Copies that no event could be made of: that panicked. They are lost.
    pub(super) failed: usize,
    /// Copies that are left for the next.
    pub(super) rest: Pile,
    /// How long the processors should be left to others now.
    pub(super) pause: Duration,
}

impl Maker {
    pub(super) fn start(settings: Arc<CaptureSettings>, traffic: Arc<Busy>) -> io::Result<Self> {
        Ok(Self { thread: Background::start("rf-copies", COPIES_NICENESS)?, settings, traffic })
    }

    /// Takes copies until their events have the size of a commit. `None`: the thread has ended, and the copies are lost.
    pub(super) async fn make(&self, copies: Pile) -> Option<Made> {
        let settings = Arc::clone(&self.settings);
        let traffic = Arc::clone(&self.traffic);
        let encode = move |copied: &Copied<'_>| event::encode(copied, &settings);
        let is_everything_needed = move || traffic.share().is_some_and(|share| share >= BUSY);
        self.thread.run(move || make(copies, encode, is_everything_needed)).await
    }
}

fn make(
    mut copies: Pile,
    encode: impl Fn(&Copied<'_>) -> Vec<u8>,
    is_everything_needed: impl FnOnce() -> bool,
) -> Made {
    let (begun, worked_before) = (Instant::now(), thread_time());
    let (mut events, mut bytes, mut failed) = (Vec::new(), 0, 0);
    while bytes < BATCH_GOAL_BYTES {
        // What is shared is only read, and a pile is past a copy before that is read.
        let take = AssertUnwindSafe(|| copies.take(&encode));
        match catch_unwind(take) {
            Ok(Some(event)) => {
                bytes += event.len();
                events.push(Bytes::from(event));
            }
            Ok(None) => break,
            Err(_panic) => failed += 1,
        }
    }
    let worked = thread_time().saturating_sub(worked_before);
    let waited = begun.elapsed().saturating_sub(worked);
    Made { events, failed, rest: copies, pause: pause(worked, waited, is_everything_needed()) }
}

fn pause(worked: Duration, waited: Duration, is_everything_needed: bool) -> Duration {
    let for_waited = waited.saturating_sub(worked) * PAUSE_PER_WAITED;
    let for_others = for_waited.min(worked * PAUSE_PER_WORKED);
    let pause = if is_everything_needed { worked * PAUSE_PER_WORKED_WHEN_BUSY } else { for_others };
    pause.min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::super::copies::tests::settings;
    use super::super::recording::{Draft, Memory};
    use super::*;

    #[test]
    fn a_copy_that_panics_is_lost_alone() {
        let memory = Memory::new(usize::MAX);
        let mut copies = Pile::default();
        for n in 0..5 {
            copies.lay(Draft { captured_at_us: n, ..Draft::for_test(&memory) });
        }
        let encode = |copied: &Copied<'_>| match copied.captured_at_us {
            1 | 3 => panic!("expected"),
            n => n.to_string().into_bytes(),
        };
        let made = make(copies, encode, || false);
        assert_eq!((made.events, made.failed), (vec!["0".into(), "2".into(), "4".into()], 2));
        assert!(made.rest.is_empty());
    }

    #[test]
    fn the_more_the_thread_waits_the_longer_it_leaves_the_processors_to_others() {
        let ms = Duration::from_millis;
        for (worked, waited, expected) in [
            (ms(5), ms(0), ms(0)),
            (ms(5), ms(5), ms(0)),
            (ms(5), ms(6), ms(16)),
            (ms(5), ms(15), ms(160)),
            (ms(5), ms(100), ms(320)),
            (ms(50), ms(200), ms(1000)),
        ] {
            assert_eq!(pause(worked, waited, false), expected, "{worked:?} {waited:?}");
        }
    }

    #[tokio::test]
    async fn pauses_are_long_while_the_traffic_needs_everything() {
        let memory = Memory::new(usize::MAX);
        let maker = Maker::start(Arc::new(settings()), Arc::new(Busy::fixed(BUSY))).unwrap();
        let mut copies = Pile::default();
        copies.lay(Draft::for_test(&memory));
        let made = maker.make(copies).await.unwrap();
        assert_eq!((made.events.len(), made.pause.is_zero()), (1, false));
    }

    #[test]
    fn traffic_that_needs_everything_leaves_little_to_copies() {
        let ms = Duration::from_millis;
        for (worked, waited, expected) in [(1, 0, 256), (2, 100, 512), (5, 0, 1000)] {
            assert_eq!(pause(ms(worked), ms(waited), true), ms(expected), "{worked} {waited}");
        }
    }
}

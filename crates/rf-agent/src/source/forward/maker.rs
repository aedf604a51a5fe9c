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
use tokio::time::{Instant, sleep};

use super::busy::{Busy, WINDOW};
use super::config::CaptureSettings;
use super::event;
use super::pile::{Copied, Pile};
use crate::source::COPIES_NICENESS;

/// A commit is closed when it reaches this; small, so that it fits where little room is left.
const BATCH_GOAL_BYTES: usize = 512 * 1024;

/// Pauses are so many times what the thread has waited longer than it has worked: while it gets a processor for half of the
/// time that it wants one there are none, so that no copy is lost for them. They are not more than so many times what it has
/// worked: where others are busy it takes a sixty-fourth of one, which is enough for some 2000 small copies a second.
const PAUSE_PER_WAITED: u32 = 16;
const PAUSE_PER_WORKED: u32 = 64;
/// While the traffic's threads have something to do for so much of the time, whatever others take makes requests slower. Once
/// that was so, traffic that takes a little less needs as much.
const BUSY: f64 = 0.9;
const STILL_BUSY: f64 = 0.8;
/// Then pauses are so many times what the thread has worked.
const PAUSE_PER_WORKED_WHEN_BUSY: u32 = 256;
/// No pause is longer, however long the work took.
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
    pub(super) pause: Pause,
}

/// How long the processors should be left to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pause {
    /// In any case.
    others: Duration,
    /// While the traffic needs everything.
    traffic: Duration,
}

impl Maker {
    pub(super) fn start(settings: Arc<CaptureSettings>, traffic: Arc<Busy>) -> io::Result<Self> {
        Ok(Self { thread: Background::start("rf-copies", COPIES_NICENESS)?, settings, traffic })
    }

    /// Takes copies until their events have the size of a commit. `None`: the thread has ended, and the copies are lost.
    pub(super) async fn make(&self, copies: Pile) -> Option<Made> {
        let settings = Arc::clone(&self.settings);
        let encode = move |copied: &Copied<'_>| event::encode(copied, &settings);
        self.thread.run(move || make(copies, encode)).await
    }

    /// Leaves the processors to others.
    pub(super) async fn pause(&self, pause: Pause) {
        let begun = Instant::now();
        if !pause.others.is_zero() {
            sleep(pause.others).await;
        }
        let mut busy = BUSY;
        while begun.elapsed() < pause.traffic && self.traffic.share().is_some_and(|now| now >= busy)
        {
            sleep(WINDOW.min(pause.traffic.saturating_sub(begun.elapsed()))).await;
            busy = STILL_BUSY;
        }
    }
}

fn make(mut copies: Pile, encode: impl Fn(&Copied<'_>) -> Vec<u8>) -> Made {
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
    Made { events, failed, rest: copies, pause: Pause::of(worked, waited) }
}

impl Pause {
    fn of(worked: Duration, waited: Duration) -> Self {
        let for_waited = waited.saturating_sub(worked) * PAUSE_PER_WAITED;
        let others = for_waited.min(worked * PAUSE_PER_WORKED).min(MAX_PAUSE);
        Self { others, traffic: (worked * PAUSE_PER_WORKED_WHEN_BUSY).min(MAX_PAUSE) }
    }

    /// The same, but not shorter.
    pub(super) fn at_least(self, least: Duration) -> Self {
        Self { others: self.others.max(least), ..self }
    }
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
        let made = make(copies, encode);
        assert_eq!((made.events, made.failed), (vec!["0".into(), "2".into(), "4".into()], 2));
        assert!(made.rest.is_empty());
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_more_the_thread_waits_the_longer_it_leaves_the_processors_to_others() {
        for (worked, waited, others, traffic) in [
            (1, 0, 0, 256),
            (5, 5, 0, 1000),
            (2, 3, 16, 512),
            (5, 15, 160, 1000),
            (5, 100, 320, 1000),
            (50, 200, 1000, 1000),
        ] {
            let expected = Pause { others: ms(others), traffic: ms(traffic) };
            assert_eq!(Pause::of(ms(worked), ms(waited)), expected, "{worked} {waited}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_for_the_traffic_ends_with_its_need() {
        let pause = Pause { others: ms(30), traffic: ms(950) };
        // The share at first, and after 250 ms.
        for (first, then, expected) in
            [(0.89, 1.0, 30), (0.9, 0.8, 950), (1.0, 0.79, 330), (0.9, 0.9, 950)]
        {
            let traffic = Arc::new(Busy::fixed(first));
            let maker = Maker::start(Arc::new(settings()), Arc::clone(&traffic)).unwrap();
            let begun = Instant::now();
            let pausing = async {
                maker.pause(pause).await;
                begun.elapsed()
            };
            let changing = async {
                sleep(ms(250)).await;
                traffic.set(then);
            };
            let (paused, ()) = tokio::join!(pausing, changing);
            assert_eq!(paused, ms(expected), "{first} {then}");
        }
        let idle = Maker::start(Arc::new(settings()), Arc::new(Busy::of(1))).unwrap();
        let begun = Instant::now();
        idle.pause(Pause { others: ms(0), traffic: ms(950) }.at_least(ms(10))).await;
        assert_eq!(begun.elapsed(), ms(10));
    }
}

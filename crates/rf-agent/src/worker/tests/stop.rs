//! A stop: what can be delivered still is, and nothing is waited for in vain.

use super::*;
use crate::sink::RateLimits;
use crate::worker::FLUSH;

/// What holds for both loops is tested with each, in a folder of this name.
fn both() -> [(&'static str, Shape); 2] {
    [("batches", batches()), ("singles", singles(1))]
}

/// Time stands still: the disk may be so slow that the flush would be over before.
#[tokio::test(start_paused = true)]
async fn a_stop_flushes_what_can_be_delivered() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in both() {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..100)).await;
        let sink = Recorder::new(shape, |_| Ok(()));
        bench.run(&sink, async {}).await;
        assert_eq!(bench.left(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_target_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in both() {
        let bench = Bench::open(&subfolder(folder.path(), name));
        bench.append(names(0..100)).await;
        let away =
            Shape { backoff: (Duration::from_secs(3600), Duration::from_secs(3600)), ..shape };
        let sink = Recorder::new(away, |_| retry("away"));
        let stopped = tokio::time::timeout(Duration::from_secs(20), bench.run(&sink, async {}));
        stopped.await.expect("the stop must not wait for the backoff");
        assert_eq!(bench.left(), 100, "{name}");
    }
}

/// Time stands still but for what is slept: a loop that does not sleep would not come to the end of its flush.
#[tokio::test]
async fn a_stop_with_a_rate_waits_and_does_not_spin() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    bench.append(names(0..3)).await;
    let rate = RateLimits { events_per_second: Some(0.001), ..RateLimits::default() };
    let sink = Recorder::new(Shape { rate, ..singles(1) }, |_| Ok(()));
    let first = async {
        sink.wait_delivered(1).await;
        while bench.left() > 2 {
            tokio::task::yield_now().await;
        }
        // The counters are published before the commit is answered. Behind the answer to this the worker has that one, and waits
        // for nothing but its rate: with time standing still, a wait for the queue would go on to the rate's end.
        bench.store.checkpoint("any").await.unwrap();
        tokio::time::pause();
    };
    let begun = tokio::time::Instant::now();
    bench.run(&sink, first).await;
    assert!(begun.elapsed() >= FLUSH, "{:?}", begun.elapsed());
    assert_eq!(bench.left(), 2);
}

//! Events that wait for others, until a batch is whole or they have waited long enough.

use super::*;

fn lingering(linger: Duration) -> Shape {
    batches_of(Batching { linger, ..batching() })
}

#[tokio::test]
async fn an_event_lingers_until_others_make_a_batch_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    let hour = Duration::from_secs(3600);
    let sink = Recorder::new(lingering(hour), |_| Ok(()));
    let one_by_one = async {
        for name in names(0..9) {
            bench.append([name]).await;
        }
        assert!(sink.writes().is_empty());
        bench.append(names(9..12)).await;
        sink.wait_delivered(10).await;
    };
    bench.run(&sink, one_by_one).await;
    let sizes: Vec<usize> = sink.writes().iter().map(|(_, events)| events.len()).collect();
    assert_eq!(sizes, [10, 2], "the rest leaves at the stop");
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn what_has_lingered_long_enough_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path());
    let short = Duration::from_millis(20);
    let sink = Recorder::new(lingering(short), |_| Ok(()));
    bench.append(names(0..3)).await;
    bench.run(&sink, async { drop(sink.wait_delivered(3).await) }).await;
    assert_eq!(sink.wait_delivered(3).await, names(0..3));
}

/// The times of events only grow: with a clock that was set back they lie in the future for long.
#[tokio::test]
async fn events_from_the_future_linger_no_longer_than_others() {
    let folder = tempfile::tempdir().unwrap();
    {
        let bench = Bench::open(folder.path());
        bench.append(names(0..3)).await;
        bench.store.close().await;
        let year = 365 * 24 * 3600 * 1000_i64;
        let conn = rusqlite::Connection::open(&bench.path).unwrap();
        conn.execute("UPDATE q_1 SET at = at + ?1", [year]).unwrap();
        conn.execute("UPDATE queues SET last_at = last_at + ?1", [year]).unwrap();
    }
    let bench = Bench::open(folder.path());
    let short = Duration::from_millis(20);
    let sink = Recorder::new(lingering(short), |_| Ok(()));
    bench.run(&sink, async { drop(sink.wait_delivered(3).await) }).await;
    assert_eq!(sink.wait_delivered(3).await, names(0..3));
}

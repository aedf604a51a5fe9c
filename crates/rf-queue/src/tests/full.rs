//! What happens at the limits: reject, drop the oldest, block; one queue beside another; too large for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::rig::{EVERYTHING, MIB, Rig, filled, set};
use crate::{
    Commit, CommitError, DropWatch, Dropped, FullReason, QueueOptions, WhenFull, fit_when_empty,
};

fn queue(name: &str, when_full: WhenFull) -> QueueOptions {
    QueueOptions { when_full, ..QueueOptions::new(name) }
}

pub(super) fn full(queue: &str, reason: FullReason) -> CommitError {
    CommitError::Full { queue: queue.to_owned(), reason }
}

/// Appends events of `len` bytes until one is refused; how many were taken, and why no more.
pub(super) async fn fill(rig: &Rig, name: &str, len: usize) -> (u64, CommitError) {
    let queue = rig.queue(name);
    let mut step = 10_000 / len + 1;
    loop {
        match rig.store().commit(Commit::append(queue, vec![filled(len); step])).await {
            Ok(_) => {}
            Err(_) if step > 1 => step /= 2,
            Err(error) => return (rig.store().usage(queue).events, error),
        }
    }
}

#[tokio::test]
async fn reject_takes_nothing_until_something_leaves() {
    let rig = Rig::with(MIB, vec![queue("q", WhenFull::Reject)]);
    let (taken, error) = fill(&rig, "q", 20_000).await;
    assert_eq!(error.to_string(), "queue `q` is full: the store's size limit is reached");
    assert_eq!(rig.usage().events, taken);
    assert!((28..=36).contains(&taken), "{taken} events of 20 kB in 1 MiB");
    let ids = rig.ids().await;
    rig.ack(ids[..2].to_vec()).await;
    rig.store().commit(Commit::append(rig.q(), vec![filled(20_000)])).await.unwrap();
    assert_eq!(rig.usage().dropped_full, 0);
}

#[tokio::test]
async fn most_of_the_bytes_are_for_content() {
    let check = async |mib: u64, len: usize, percent: u64| {
        let mut rig = Rig::closed(mib * MIB, vec![queue("q", WhenFull::Reject)]);
        rig.options.durability = crate::Durability::Process;
        rig.open().unwrap();
        fill(&rig, "q", len).await;
        let share = rig.usage().bytes * 100 / (mib * MIB);
        assert!((percent..percent + 3).contains(&share), "{mib} MiB of {len} bytes: {share} %");
    };
    for (mib, shares) in [(1, [49, 52, 60, 56]), (2, [63, 67, 77, 76]), (10, [67, 71, 81, 81])] {
        for (len, percent) in [100, 700, 5_000, 60_000].into_iter().zip(shares) {
            check(mib, len, percent).await;
        }
    }
}

#[tokio::test]
async fn what_fits_when_empty_is_never_too_large() {
    let check = async |count: usize, len: usize| {
        let rig = Rig::with(MIB, vec![queue("q", WhenFull::Reject)]);
        let fits = fit_when_empty(MIB, std::iter::repeat_n(len as u64, count));
        let taken = rig.store().commit(Commit::append(rig.q(), vec![filled(len); count])).await;
        match &taken {
            // What is said is from above: a little more fits.
            Ok(_) => {}
            Err(CommitError::TooLarge { .. }) => assert!(!fits, "{count} of {len} bytes"),
            Err(error) => panic!("{count} of {len} bytes: {error}"),
        }
        fits
    };
    for (len, least) in [(100, 3_000), (5_000, 80), (30_000, 10), (200_000, 1)] {
        let mut count = least;
        while check(count, len).await {
            count += count.div_ceil(10);
        }
        assert!(count > least, "{least} of {len} bytes must fit");
    }
    assert!(check(1, 300_000).await);
    assert!(!check(1, 500_000).await);
}

#[tokio::test]
async fn a_queues_own_limit_counts_what_its_events_take() {
    let own = |bytes| QueueOptions { max_bytes: Some(bytes), ..QueueOptions::new("q") };
    let check = async |limit: u64, len: usize, expected: u64| {
        let rig = Rig::with(MIB, vec![own(limit)]);
        assert_eq!(fill(&rig, "q", len).await, (expected, full("q", FullReason::Queue)), "{len}");
    };
    check(31 * 10, 1, 10).await;
    check(817 * 10, 700, 10).await;
    check(40_880, 3_000, 10).await;
}

#[tokio::test]
async fn what_is_refused_drops_nothing() {
    let full = async |queues: Vec<QueueOptions>| {
        let rig = Rig::with(MIB, queues);
        for _ in 0..600 {
            rig.store().commit(Commit::append(rig.q(), vec![filled(2_000)])).await.unwrap();
        }
        assert!(rig.usage().dropped_full > 0, "it is full");
        rig
    };
    let q = queue("q", WhenFull::DropOldest);
    let rig = full(vec![q.clone()]).await;
    let before = rig.usage();
    // Alone, and together with others.
    for events in [vec![filled(500_000)], vec![filled(1); 30_000]] {
        let refused = rig.store().commit(Commit::append(rig.q(), events)).await;
        assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
        assert_eq!(rig.usage(), before);
    }
    let small = QueueOptions { max_bytes: Some(20_000), ..queue("small", WhenFull::Reject) };
    let rig = full(vec![q, small]).await;
    let small = rig.store().queue("small").unwrap();
    rig.store().commit(Commit::append(small, vec![filled(15_000)])).await.unwrap();
    let before = rig.usage();
    let mut both = Commit::append(rig.q(), vec![filled(40_000)]);
    both.appends.extend(Commit::append(small, vec![filled(15_000)]).appends);
    let refused = rig.store().commit(both).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert_eq!(rig.usage(), before);
    // What can be had by dropping is taken, however much has to go.
    let rig = full(vec![queue("q", WhenFull::DropOldest)]).await;
    rig.store().commit(Commit::append(rig.q(), vec![filled(320_000)])).await.unwrap();
    assert_eq!(rig.texts().await.last().map(String::len), Some(320_000));
    // Of the file another queue has nearly all.
    let own =
        |name, when_full, max| QueueOptions { max_bytes: Some(max), ..queue(name, when_full) };
    let large = own("large", WhenFull::Reject, 2 * MIB);
    let rig = Rig::with(MIB, vec![own("q", WhenFull::DropOldest, MIB / 2), large]);
    let large = rig.store().queue("large").unwrap();
    for _ in 0..20 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(2_000)])).await.unwrap();
    }
    while rig.store().commit(Commit::append(large, vec![filled(9_000)])).await.is_ok() {}
    let before = rig.usage();
    let refused = rig.store().commit(Commit::append(rig.q(), vec![filled(2_000); 100])).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert_eq!(rig.usage(), before);
}

#[tokio::test]
async fn drop_oldest_takes_the_newest_and_counts_the_rest() {
    let mut rig = Rig::unsynced(MIB, vec![queue("q", WhenFull::DropOldest)]);
    let mut sent = 0;
    for _ in 0..300 {
        rig.store()
            .commit(Commit::append(rig.q(), vec![filled(700), filled(9_000)]))
            .await
            .unwrap();
        sent += 2;
    }
    let usage = rig.usage();
    assert_eq!(usage.events + usage.dropped_full, sent);
    assert!(usage.events > 100, "{usage:?}");
    let ids = rig.ids().await;
    assert_eq!(ids.last().unwrap() - ids[0] + 1, usage.events, "a gap in what is kept");
    rig.reopen().await;
    assert_eq!(rig.usage().events, usage.events);
}

#[tokio::test]
async fn a_repeat_of_a_batch_pushes_nothing_out() {
    let rig =
        Rig::unsynced(MIB, vec![queue("q", WhenFull::DropOldest), queue("r", WhenFull::Reject)]);
    let batch = |queue| Commit {
        batch_id: Some(format!("{queue:?}")),
        ..Commit::append(queue, vec![filled(50_000)])
    };
    for name in ["q", "r"] {
        rig.store().commit(batch(rig.queue(name))).await.unwrap();
    }
    fill(&rig, "r", 1_000).await;
    while rig.usage().dropped_full == 0 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(1_000)])).await.unwrap();
    }
    let before = (rig.usage(), rig.store().usage(rig.queue("r")));
    for name in ["q", "r"] {
        assert!(rig.store().commit(batch(rig.queue(name))).await.unwrap().duplicate);
    }
    assert_eq!((rig.usage(), rig.store().usage(rig.queue("r"))), before);
}

#[tokio::test]
async fn block_waits_for_room() {
    let small = QueueOptions { max_bytes: Some(5_000), ..queue("q", WhenFull::Block) };
    let rig = Rig::with(MIB, vec![small]);
    rig.store().commit(Commit::append(rig.q(), vec![filled(2_000), filled(2_000)])).await.unwrap();
    let store = rig.store().clone();
    let mut blocked = std::pin::pin!(store.commit(Commit::append(rig.q(), vec![filled(2_000)])));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut blocked).await;
    assert!(early.is_err(), "{early:?}");
    rig.ack(rig.ids().await[..1].to_vec()).await;
    assert!(blocked.await.is_ok());
    assert_eq!(rig.usage().events, 2);
}

#[tokio::test]
async fn block_waits_for_the_writer_too() {
    let mut rig = Rig::closed(64 * MIB, vec![queue("q", WhenFull::Block)]);
    rig.options.durability = crate::Durability::Process;
    rig.open().unwrap();
    let commit = |n: u32| {
        let store = rig.store().clone();
        async move { store.commit(Commit::append(crate::QueueId(0), vec![n.to_string().into()])).await }
    };
    // More than may wait for the writer at once, so that some are turned away without any event leaving.
    let outcomes = (0..40_000).map(commit).collect::<JoinSet<_>>().join_all().await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(rig.usage().events, 40_000);
}

#[tokio::test]
async fn block_ends_when_the_store_is_closed_and_when_it_can_never_fit() {
    let small = QueueOptions { max_bytes: Some(5_000), ..queue("q", WhenFull::Block) };
    let mut rig = Rig::with(MIB, vec![small]);
    let too_large = rig.store().commit(Commit::append(rig.q(), vec![filled(6_000)])).await;
    assert_eq!(too_large, Err(CommitError::TooLarge { bytes: 6034, limit: 5000 }));
    rig.store().commit(Commit::append(rig.q(), vec![filled(4_000)])).await.unwrap();
    let store = rig.store().clone();
    let blocked = store.commit(Commit::append(rig.q(), vec![filled(2_000)]));
    let (answer, ()) = tokio::join!(blocked, rig.close());
    assert_eq!(answer, Err(CommitError::Closed));
}

#[tokio::test]
async fn a_full_queue_leaves_the_room_of_the_other() {
    for len in [1, 700, 2_100, 5_000, 20_000] {
        let rig = Rig::unsynced(
            2 * MIB,
            vec![queue("dead", WhenFull::Reject), queue("live", WhenFull::Reject)],
        );
        let (dead, error) = fill(&rig, "dead", len).await;
        assert_eq!(error, full("dead", FullReason::Queue), "{len}");
        let (live, error) = fill(&rig, "live", len).await;
        assert_eq!(error, full("live", FullReason::Queue), "{len}");
        assert_eq!(live, dead, "{len}");
    }
}

#[tokio::test]
async fn what_can_never_fit_is_told_so_and_what_fits_an_empty_store_is_taken() {
    for mib in [1, 2, 10] {
        let rig = Rig::with(mib * MIB, vec![queue("q", WhenFull::Reject)]);
        let answer = rig
            .store()
            .commit(Commit::append(rig.q(), vec![filled(usize::try_from(mib * MIB).unwrap())]))
            .await;
        let Err(CommitError::TooLarge { limit, .. }) = answer else { panic!("{answer:?}") };
        assert!(limit > mib * MIB / 4, "{limit} of {mib} MiB");
        let largest = usize::try_from(limit).unwrap();
        rig.store().commit(Commit::append(rig.q(), vec![filled(largest)])).await.unwrap();
        assert_eq!(rig.all().await[0].content.len(), largest);
        rig.ack(rig.ids().await).await;
        rig.store()
            .commit(Commit::append(rig.q(), vec![filled(largest)]))
            .await
            .expect("again, in the room of the first");
    }
}

#[tokio::test]
async fn a_batch_may_be_as_large_as_the_store() {
    let mut rig = Rig::with(
        MIB,
        vec![
            queue("q", WhenFull::Reject),
            QueueOptions { max_bytes: Some(MIB), ..queue("r", WhenFull::Reject) },
        ],
    );
    let batch = |queue, len: usize, bytes: usize| Commit {
        batch_id: Some(format!("{len}")),
        checkpoints: vec![set("at", &len.to_string())],
        appends: (0..2)
            .map(|_| crate::Append { queue, events: vec![filled(len); bytes / len / 2] })
            .collect(),
        ..Commit::default()
    };
    let r = rig.queue("r");
    for len in [100, 700, 9_000, 60_000] {
        let commit = batch(r, len, 450_000);
        rig.store().commit(commit.clone()).await.unwrap();
        assert!(rig.store().commit(commit).await.unwrap().duplicate);
        rig.reopen().await;
        let events = rig.store().read(r, 0, EVERYTHING).await.unwrap();
        assert_eq!(events.len(), 450_000 / len / 2 * 2);
        assert!(events.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
        assert_eq!(rig.store().usage(r).bytes, (events.len() * len) as u64);
        assert_eq!(
            rig.store().checkpoint("at").await.unwrap().unwrap(),
            len.to_string().into_bytes()
        );
        rig.store().ack(r, events.iter().map(|event| event.id).collect()).await.unwrap();
    }
    let too_large = rig.store().commit(batch(r, 9_001, 900_000)).await;
    assert!(matches!(too_large, Err(CommitError::TooLarge { .. })), "{too_large:?}");
    rig.store().commit(batch(r, 9_002, 450_000)).await.unwrap();
    assert_eq!(
        rig.store().commit(batch(r, 9_003, 450_000)).await,
        Err(full("r", FullReason::Store))
    );
}

/// Whether the store says that events have become too old. A second after the last request it looks by itself, and so many are
/// gone then.
fn is_due_or_gone(rig: &Rig, events: u64) -> bool {
    rig.store().is_due() || rig.usage().dropped_age == events
}

#[tokio::test]
async fn events_leave_when_they_are_too_old() {
    let aging = QueueOptions { max_age: Some(Duration::from_secs(60)), ..QueueOptions::new("q") };
    let mut rig = Rig::with(MIB, vec![aging, QueueOptions::new("keeps")]);
    rig.append(&["a", "b"]).await.unwrap();
    rig.append_to(rig.queue("keeps"), &["k"]).await.unwrap();
    rig.clock.advance(Duration::from_secs(59));
    rig.append(&["c"]).await.unwrap();
    assert!(!rig.store().is_due());
    rig.store().poke().await.unwrap();
    assert_eq!(rig.texts().await, ["a", "b", "c"]);
    rig.clock.advance(Duration::from_secs(1));
    assert!(is_due_or_gone(&rig, 2));
    rig.store().poke().await.unwrap();
    assert_eq!(rig.texts().await, ["c"]);
    assert_eq!((rig.usage().dropped_age, rig.usage().dropped_full), (2, 0));
    rig.clock.set_wall_back(Duration::from_secs(3600));
    rig.append(&["d"]).await.unwrap();
    rig.reopen().await;
    rig.clock.advance(Duration::from_secs(3600 + 58));
    rig.store().poke().await.unwrap();
    assert_eq!(rig.texts().await, ["c", "d"], "a clock set back drops nothing early");
    rig.clock.advance(Duration::from_secs(1));
    rig.store().poke().await.unwrap();
    assert_eq!(rig.texts().await, [""; 0]);
    assert_eq!(rig.store().read(rig.queue("keeps"), 0, EVERYTHING).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_is_forgotten_when_the_queue_is_empty() {
    let years = Duration::from_secs(20 * 365 * 86_400);
    let aging = QueueOptions { max_age: Some(Duration::from_secs(60)), ..QueueOptions::new("q") };
    let mut rig = Rig::with(MIB, vec![aging]);
    rig.clock.advance(years);
    rig.append(&["ahead"]).await.unwrap();
    let ahead = rig.usage().oldest_at_ms;
    rig.clock.set_wall_back(years);
    rig.append(&["behind it"]).await.unwrap();
    assert_eq!(rig.all().await[1].at_ms, ahead.unwrap(), "time never goes back along a queue");
    rig.ack(rig.ids().await).await;
    rig.reopen().await;
    rig.append(&["right"]).await.unwrap();
    assert!(rig.usage().oldest_at_ms < ahead);
    rig.clock.advance(Duration::from_secs(60));
    assert!(is_due_or_gone(&rig, 1));
    rig.store().poke().await.unwrap();
    assert_eq!((rig.usage().events, rig.usage().dropped_age), (0, 1));
}

#[tokio::test]
async fn a_large_append_to_an_empty_queue_forgets_a_clock_that_was_ahead_too() {
    let years = Duration::from_secs(20 * 365 * 86_400);
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    rig.clock.advance(years);
    rig.append(&["ahead"]).await.unwrap();
    let ahead = rig.usage().oldest_at_ms.unwrap();
    rig.clock.set_wall_back(years);
    rig.ack(rig.ids().await).await;
    // The WAL cannot take it at once.
    rig.store().commit(Commit::append(rig.q(), vec![filled(9_000); 50])).await.unwrap();
    let events = rig.all().await;
    assert_eq!(events.len(), 50);
    assert!(events.iter().all(|event| event.at_ms < ahead));
    assert_eq!(rig.usage().oldest_at_ms, Some(events[0].at_ms));
}

#[tokio::test]
async fn a_large_backlog_ages_away_at_one_poke() {
    let aging = QueueOptions { max_age: Some(Duration::from_secs(60)), ..QueueOptions::new("q") };
    let rig = Rig::with(MIB, vec![aging]);
    for _ in 0..20 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(100); 100])).await.unwrap();
    }
    rig.clock.advance(Duration::from_secs(60));
    rig.store().poke().await.unwrap();
    assert_eq!((rig.usage().events, rig.usage().dropped_age), (0, 2000));
}

#[tokio::test]
async fn a_watch_is_told_of_each_event_that_is_dropped_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let tell = move |queue: &str, why, picked: &[u128]| {
        seen.lock().extend(picked.iter().map(|&number| (queue.to_owned(), why, number)));
    };
    // The number that an event begins with; 0 is of no interest.
    let pick = |content: &[u8]| Some(u128::from(content[0])).filter(|&number| number > 0);
    let aging = QueueOptions { max_age: Some(Duration::from_secs(60)), ..QueueOptions::new("q") };
    let mut rig = Rig::closed(MIB, vec![aging, queue("full", WhenFull::DropOldest)]);
    rig.options.drops = Some(DropWatch { pick, tell: Arc::new(tell) });
    rig.open().unwrap();
    let event = |number: u8, len: usize| Bytes::from(vec![number; len]);
    rig.store().commit(Commit::append(rig.q(), vec![event(1, 9), event(0, 9)])).await.unwrap();
    rig.clock.advance(Duration::from_secs(60));
    rig.store().poke().await.unwrap();
    assert_eq!(*told.lock(), [("q".to_owned(), Dropped::Aged, 1)]);
    told.lock().clear();
    let full = rig.queue("full");
    for number in 1..=100 {
        rig.store().commit(Commit::append(full, vec![event(number, 20_000)])).await.unwrap();
    }
    let dropped = rig.store().usage(full).dropped_full;
    let expected: Vec<_> = (1..=u128::from(dropped))
        .map(|number| ("full".to_owned(), Dropped::Full, number))
        .collect();
    assert!(dropped > 10, "{dropped}");
    assert_eq!(*told.lock(), expected);
}

#[tokio::test]
async fn block_goes_on_when_more_has_left_than_one_transaction_removes() {
    let own = |when_full| QueueOptions { max_bytes: Some(MIB), ..queue("q", when_full) };
    let mut rig = Rig::with(2 * MIB, vec![own(WhenFull::Reject)]);
    fill(&rig, "q", 100_000).await;
    rig.close().await;
    rig.options.queues = vec![own(WhenFull::Block)];
    rig.open().unwrap();
    // From here on only what leaves is told to those who wait, not that somebody has looked around.
    rig.store().poke().await.unwrap();
    let waiting = rig.store().commit(Commit::append(rig.q(), vec![filled(100_000)]));
    let leaving = async { rig.store().ack(rig.q(), rig.ids().await).await.unwrap() };
    let both = async { tokio::join!(waiting, leaving) };
    let (taken, left) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("room");
    assert!(taken.is_ok() && left >= 10, "{taken:?}, {left}");
}

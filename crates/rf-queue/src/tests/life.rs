//! Closing, hibernating, waking, and being dropped.

use std::time::Duration;

use tokio::task::JoinSet;

use super::rig::{MIB, Rig, TTL};
use crate::{Commit, CommitError, QueueOptions, Store, StoreOptions};

const IDLE: Duration = Duration::from_secs(30);
/// More than goes by until the store has fallen asleep, on a slow machine, too.
const MAX_AGE: Duration = Duration::from_secs(100_000);

fn hibernating_rig() -> Rig {
    let aging = QueueOptions { max_age: Some(MAX_AGE), ..QueueOptions::new("q") };
    let mut rig = Rig::closed(MIB, vec![aging]);
    rig.options = StoreOptions { idle_close: Some(IDLE), ..rig.options };
    rig.open().unwrap();
    rig
}

async fn fall_asleep(rig: &Rig) {
    // The writer must first have seen that it is idle, so the time is let go in small steps.
    rig.until(async |store| {
        rig.clock.advance(Duration::from_secs(1));
        store.is_hibernating()
    })
    .await;
}

#[tokio::test]
async fn an_idle_store_closes_its_files_and_opens_them_on_use() {
    let rig = hibernating_rig();
    rig.append(&["a"]).await.unwrap();
    fall_asleep(&rig).await;
    assert!(!rig.beside("-wal").exists());
    assert!(rig.path().exists());
    assert_eq!(rig.usage().events, 1, "counters are there all the time");
    assert!(Store::open(rig.options.clone()).is_err(), "a sleeping store is still this process's");
    let mut available = rig.store().watch(rig.q());
    available.mark_unchanged();
    rig.append(&["b"]).await.unwrap();
    assert!(available.has_changed().unwrap());
    assert_eq!(rig.texts().await, ["a", "b"]);
    fall_asleep(&rig).await;
    assert_eq!(rig.texts().await, ["a", "b"]);
}

/// As by somebody who tidies up, or where the disk is no longer there.
#[tokio::test]
async fn a_file_that_was_taken_away_takes_nothing_more_and_gives_what_it_has() {
    let mut rig = Rig::new();
    rig.append(&["a"]).await.unwrap();
    let aside = rig.beside(".aside");
    for other in [None, Some("another file")] {
        std::fs::rename(rig.path(), &aside).unwrap();
        if let Some(text) = other {
            std::fs::write(rig.path(), text).unwrap();
        }
        rig.until(async |store| {
            rig.clock.advance(Duration::from_secs(1));
            store.poke().await.unwrap();
            store.trouble().is_some()
        })
        .await;
        let refused = rig.append(&["b"]).await;
        assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
        let trouble = rig.store().trouble().unwrap().text;
        assert!(trouble.starts_with("the database's file was removed"), "{trouble}");
        assert_eq!(rig.texts().await, ["a"]);
        std::fs::rename(&aside, rig.path()).unwrap();
        rig.until(async |store| {
            rig.clock.advance(Duration::from_secs(1));
            store.poke().await.unwrap();
            store.trouble().is_none()
        })
        .await;
    }
    rig.append(&["b"]).await.unwrap();
    rig.reopen().await;
    assert_eq!(rig.texts().await, ["a", "b"]);
}

#[tokio::test]
async fn a_sleeping_store_says_when_events_are_too_old() {
    let rig = hibernating_rig();
    rig.append(&["a"]).await.unwrap();
    fall_asleep(&rig).await;
    assert!(!rig.store().is_due());
    rig.clock.advance(MAX_AGE);
    assert!(rig.store().is_due());
    rig.store().poke().await.unwrap();
    assert!(!rig.store().is_due());
    assert_eq!(rig.usage().dropped_age, 1);
    fall_asleep(&rig).await;
    rig.append(&["b"]).await.unwrap();
    assert_eq!(rig.usage().dropped_age, 1, "counting goes on after a sleep");
}

#[tokio::test]
async fn a_store_with_a_lease_stays_awake_to_end_it() {
    let rig = hibernating_rig();
    rig.append(&["a"]).await.unwrap();
    let forever = Duration::from_secs(1_000_000);
    let leased = rig.store().lease(rig.q(), super::rig::EVERYTHING, forever).await.unwrap();
    let mut rounds = 0;
    rig.until(async |store| {
        rig.clock.advance(Duration::from_secs(1));
        assert!(!store.is_hibernating());
        rounds += 1;
        rounds > 300
    })
    .await;
    rig.store().release(rig.q(), vec![leased.events[0].id]).await.unwrap();
    fall_asleep(&rig).await;
    assert_eq!(rig.lease(1).await.1[0].attempts, 1);
}

#[tokio::test]
async fn close_serves_what_waits_and_leaves_one_file() {
    let mut rig = Rig::new();
    let store = rig.store().clone();
    let commit = |n: u32| {
        let store = store.clone();
        async move { store.commit(Commit::append(crate::QueueId(0), vec![n.to_string().into()])).await }
    };
    let commits: JoinSet<_> = (0..100).map(commit).collect();
    tokio::task::yield_now().await;
    rig.close().await;
    let stored = commits.join_all().await.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    drop(store);
    for suffix in ["-wal", "-shm"] {
        assert!(!rig.beside(suffix).exists(), "{suffix}");
    }
    rig.open().unwrap();
    assert_eq!(rig.usage().events, stored);
    assert!(stored > 0);
}

#[tokio::test]
async fn a_dropped_store_finishes_and_lets_go_of_the_file() {
    for _ in 0..20 {
        let mut rig = Rig::new();
        let store = rig.store().clone();
        let commit = store.commit(Commit::append(rig.q(), vec!["a".into()]));
        let (done, _) = tokio::join!(commit, rig.lease(1));
        done.unwrap();
        rig.forget();
        drop(store);
        rig.until_opened().await;
        assert_eq!(rig.texts().await, ["a"]);
    }
}

#[tokio::test]
async fn awake_and_asleep_nothing_is_lost_in_between() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    // Asleep as soon as nothing waits: every commit may meet a writer that is about to go.
    rig.options = StoreOptions {
        idle_close: Some(Duration::ZERO),
        clock: std::sync::Arc::new(crate::SystemClock::default()),
        ..rig.options
    };
    rig.open().unwrap();
    let mut naps = 0;
    for n in 0..60u32 {
        rig.append(&[&n.to_string()]).await.unwrap();
        if n % 10 == 0 {
            rig.until(async |store| store.is_hibernating()).await;
            naps += 1;
        }
        let (_, events) = rig.lease(10).await;
        assert_eq!(rig.ack(events.iter().map(|event| event.id).collect()).await, 1);
    }
    assert_eq!((naps, rig.usage().events), (6, 0));
    rig.clock.advance(TTL);
}

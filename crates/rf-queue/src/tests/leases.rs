//! Leases, attempts, and clocks that jump.

use std::time::Duration;

use super::rig::{MIB, Rig, TTL, filled, set, texts};
use crate::{Budget, Commit, CommitError, QueueOptions, StoredEvent};

fn attempts(events: &[StoredEvent]) -> Vec<u32> {
    events.iter().map(|event| event.attempts).collect()
}

fn ids(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn what_one_reader_has_no_other_gets() {
    let rig = Rig::new();
    rig.append(&["a", "b", "c"]).await.unwrap();
    let (first, a) = rig.lease(2).await;
    let (second, b) = rig.lease(2).await;
    assert_eq!((texts(&a), texts(&b)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert!(second > first && first > 0);
    assert_eq!(rig.lease(2).await, (0, vec![]));
    assert_eq!(rig.all().await.len(), 3, "a read without a lease sees all");
    assert_eq!(rig.ack(ids(&a)).await, 2);
    rig.append(&["d"]).await.unwrap();
    assert_eq!(texts(&rig.lease(9).await.1), ["d"]);
}

#[tokio::test]
async fn a_lease_that_ran_out_comes_back_first_and_counts() {
    let mut rig = Rig::new();
    rig.append(&["a", "b", "c"]).await.unwrap();
    let mut available = rig.store().watch(rig.q());
    available.mark_unchanged();
    rig.lease(2).await;
    rig.clock.advance(TTL - Duration::from_millis(1));
    assert_eq!(texts(&rig.lease(1).await.1), ["c"], "not a moment early");
    rig.clock.advance(Duration::from_millis(1));
    rig.store().poke().await.unwrap();
    assert!(available.has_changed().unwrap());
    let (token, again) = rig.lease(9).await;
    assert_eq!((texts(&again), attempts(&again)), (vec!["a".into(), "b".into()], vec![1, 1]));
    assert_eq!(rig.store().release(rig.q(), vec![again[1].id, 5]).await.unwrap(), 1);
    let (_, third) = rig.lease(9).await;
    assert_eq!((texts(&third), attempts(&third)), (vec!["b".into()], vec![2]));
    assert!(rig.store().extend(rig.q(), token, TTL).await.unwrap(), "`a` is still held");
    rig.reopen().await;
    assert_eq!(rig.lease(9).await.1, [], "leases outlive the process");
    rig.clock.advance(TTL);
    let (_, fourth) = rig.lease(9).await;
    assert_eq!(
        (texts(&fourth), attempts(&fourth)),
        (vec!["a".into(), "b".into(), "c".into()], vec![2, 3, 1])
    );
}

/// As of a player that was killed while its pull was under way: the request is dropped, and with it the answer.
#[tokio::test]
async fn a_lease_that_nobody_hears_of_ends_at_once() {
    let rig = Rig::new();
    rig.append(&["a", "b", "c"]).await.unwrap();
    for _ in 0..20 {
        tokio::select! {
            biased;
            leased = rig.lease(3) => drop(rig.store().release(rig.q(), ids(&leased.1)).await.unwrap()),
            () = std::future::ready(()) => {}
        }
    }
    let all_come = async {
        // The clock stands still: no lease runs out.
        while rig.lease(3).await.1.len() < 3 {
            rig.store().poke().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_come).await.expect("given back");
}

#[tokio::test]
async fn a_lease_is_extended_until_its_last_event_is_gone() {
    let rig = Rig::new();
    rig.append(&["a", "b"]).await.unwrap();
    let (token, events) = rig.lease(9).await;
    for _ in 0..3 {
        rig.clock.advance(TTL - Duration::from_millis(1));
        assert!(rig.store().extend(rig.q(), token, TTL).await.unwrap());
        assert_eq!(rig.lease(9).await.1, []);
    }
    rig.ack(vec![events[0].id]).await;
    assert!(rig.store().extend(rig.q(), token, TTL).await.unwrap());
    rig.ack(vec![events[1].id]).await;
    assert!(!rig.store().extend(rig.q(), token, TTL).await.unwrap());
    assert!(!rig.store().extend(rig.q(), 0, TTL).await.unwrap());
}

#[tokio::test]
async fn a_late_acknowledgement_counts_and_a_lost_lease_does_not_extend() {
    let rig = Rig::new();
    rig.append(&["a"]).await.unwrap();
    let (token, events) = rig.lease(9).await;
    rig.clock.advance(TTL);
    let (newer, _) = rig.lease(9).await;
    assert!(!rig.store().extend(rig.q(), token, TTL).await.unwrap());
    assert!(rig.store().extend(rig.q(), newer, TTL).await.unwrap());
    assert_eq!(rig.ack(ids(&events)).await, 1);
    assert_eq!(rig.usage().events, 0);
}

#[tokio::test]
async fn a_token_is_not_given_again_after_a_restart() {
    let mut rig = Rig::new();
    rig.append(&["a", "b"]).await.unwrap();
    let (token, events) = rig.lease(1).await;
    rig.ack(ids(&events)).await;
    rig.clock.advance(Duration::from_secs(2));
    rig.reopen().await;
    let (newer, _) = rig.lease(1).await;
    assert!(newer > token, "{newer} after {token}");
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_not_overtaken() {
    let rig = Rig::new();
    rig.store()
        .commit(Commit::append(rig.q(), [10, 5000, 10, 10].map(filled).to_vec()))
        .await
        .unwrap();
    let (_, events) = rig.lease(2).await;
    rig.store().release(rig.q(), ids(&events)).await.unwrap();
    let budget = Budget { events: 10, bytes: 100 };
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let leased = rig.store().lease(rig.q(), budget, TTL).await.unwrap();
        sizes.push(leased.events.iter().map(|event| event.content.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![10], vec![5000], vec![10, 10]]);
}

#[tokio::test]
async fn a_clock_set_back_ends_no_lease_early_and_none_late() {
    let mut rig = Rig::new();
    rig.append(&["a"]).await.unwrap();
    rig.lease(1).await;
    rig.clock.set_wall_back(Duration::from_secs(3600));
    assert_eq!(rig.lease(1).await.1, []);
    rig.clock.advance(TTL);
    assert_eq!(rig.lease(1).await.1.len(), 1);
    rig.clock.set_wall_back(Duration::from_secs(3600));
    rig.reopen().await;
    assert_eq!(rig.lease(1).await.1, []);
    rig.clock.advance(TTL);
    assert_eq!(
        attempts(&rig.lease(1).await.1),
        [2],
        "after its ttl at the latest, also over a restart"
    );
}

#[tokio::test]
async fn a_queue_full_of_holes_keeps_giving() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    let events = u64::from(u16::MAX) / 100;
    rig.store()
        .commit(Commit::append(rig.q(), vec!["x".into(); usize::try_from(events).unwrap()]))
        .await
        .unwrap();
    let (_, held) = rig.lease(usize::MAX).await;
    let (even, odd): (Vec<u64>, Vec<u64>) = ids(&held).into_iter().partition(|id| id % 2 == 0);
    assert_eq!(
        rig.ack(even).await,
        events.div_ceil(2).min(rig.usage().events + events).min(events - odd.len() as u64)
    );
    rig.clock.advance(TTL);
    let (_, again) = rig.lease(usize::MAX).await;
    assert_eq!(ids(&again), odd);
    assert!(again.iter().all(|event| event.attempts == 1));
}

#[tokio::test]
async fn a_clock_set_forward_ends_no_lease_when_a_transaction_is_undone() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.append(&["a"]).await.unwrap();
        rig.lease(1).await;
        if restarted {
            rig.reopen().await;
        }
        rig.clock.set_wall_forward(Duration::from_secs(3600));
        let conn = rusqlite::Connection::open(rig.path()).unwrap();
        conn.execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
        )
        .unwrap();
        let checkpoints = vec![set("at", "1")];
        let commit = Commit { checkpoints, ..Commit::append(rig.q(), vec!["b".into()]) };
        let refused = rig.store().commit(commit).await;
        assert!(matches!(refused, Err(CommitError::Failed(_))), "{refused:?}");
        assert_eq!(rig.lease(9).await.1, [], "restarted: {restarted}");
        rig.clock.advance(TTL);
        assert_eq!(texts(&rig.lease(9).await.1), ["a"]);
    }
}

//! What goes ahead of a commit, and what stands or falls with it.

use super::full::{fill, full};
use super::rig::{MIB, Rig, bury, filled, remove, set};
use crate::{Commit, CommitError, FullReason, Letter, QueueOptions};

#[tokio::test]
async fn what_left_ahead_of_a_commit_that_fails_is_shown_as_gone() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    for _ in 0..3 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(900); 100])).await.unwrap();
    }
    let conn = rusqlite::Connection::open(rig.path()).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
    )
    .unwrap();
    // More than one transaction removes.
    let scattered = rig.ids().await.into_iter().step_by(2).collect();
    let commit = Commit { checkpoints: vec![set("at", "1")], ..remove(rig.q(), scattered) };
    let refused = rig.store().commit(commit).await;
    assert!(matches!(refused, Err(CommitError::Failed(_))), "{refused:?}");
    let left = rig.ids().await.len() as u64;
    assert!((150..300).contains(&left), "{left}");
    assert_eq!(rig.usage().events, left);
}

/// Those who cut what they have beyond a value must not find it older than what has left.
#[tokio::test]
async fn first_values_stand_before_anything_leaves() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    for _ in 0..3 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(900); 100])).await.unwrap();
    }
    let conn = rusqlite::Connection::open(rig.path()).unwrap();
    let refuse = |key: &str| {
        conn.execute_batch(&format!(
            "DROP TRIGGER IF EXISTS refuse; CREATE TRIGGER refuse BEFORE INSERT ON checkpoints
             WHEN NEW.key = '{key}' BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
        ))
        .unwrap();
    };
    // More than one transaction removes.
    let scattered: Vec<u64> = rig.ids().await.into_iter().step_by(2).collect();
    for (key, leaves) in [("first", false), ("last", true)] {
        refuse(key);
        let (first, checkpoints) = (vec![set("first", "1")], vec![set("last", "1")]);
        let commit = Commit { first, checkpoints, ..remove(rig.q(), scattered.clone()) };
        let refused = rig.store().commit(commit).await;
        assert!(matches!(refused, Err(CommitError::Failed(_))), "{refused:?}");
        assert_eq!(rig.ids().await.len() < 300, leaves, "{key}");
        assert_eq!(rig.store().checkpoint("first").await.unwrap().is_some(), leaves, "{key}");
        assert_eq!(rig.store().checkpoint("last").await.unwrap(), None, "{key}");
    }
}

/// A queue whose events become others in the same commit would lose them.
#[tokio::test]
async fn what_makes_place_for_an_append_that_is_refused_is_still_there() {
    let small = QueueOptions { max_bytes: Some(10_000), ..QueueOptions::new("small") };
    let rig = Rig::with(MIB, vec![QueueOptions::new("q"), small]);
    for _ in 0..2 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(900); 100])).await.unwrap();
    }
    let small = rig.store().queue("small").unwrap();
    rig.store().commit(Commit::append(small, vec![filled(9_000)])).await.unwrap();
    let ids = rig.ids().await;
    let at_once = rig.store().removes_at_once();
    assert!(at_once < 100, "{at_once}");
    let scattered: Vec<u64> = ids.iter().copied().step_by(2).collect();
    for removes in [&ids[..100], &scattered[..], &scattered[..at_once]] {
        let appended = Commit::append(small, vec![filled(9_000)]).appends;
        let commit = Commit { appends: appended, ..remove(rig.q(), removes.to_vec()) };
        assert!(rig.store().commit(commit).await.is_err());
        assert_eq!(rig.ids().await, ids);
    }
    let appends = Commit::append(small, vec![filled(100)]).appends;
    let commit = Commit { appends, ..remove(rig.q(), scattered[..at_once].to_vec()) };
    rig.store().commit(commit).await.unwrap();
    assert_eq!(rig.ids().await.len(), ids.len() - at_once);
    assert_eq!(rig.store().usage(small).events, 2);
}

/// Written in parts, or with letters that make their own room, they would take the WAL over its bound.
#[tokio::test]
async fn more_removes_than_the_wal_takes_are_refused_with_what_is_put_into_the_store() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    for _ in 0..2 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(900); 100])).await.unwrap();
    }
    let ids = rig.ids().await;
    let scattered: Vec<u64> = ids.iter().copied().step_by(2).collect();
    let letter = Letter { queue: rig.q(), content: filled(10), reason: "refused".to_owned() };
    let values = vec![set("at", "1")];
    for put in [
        Commit::append(rig.q(), vec![filled(10); 2]),
        Commit { letters: vec![letter], ..Commit::default() },
        Commit { checkpoints: values, within_limit: true, ..Commit::default() },
    ] {
        let removes = remove(rig.q(), scattered.clone()).removes;
        let refused = rig.store().commit(Commit { removes, ..put }).await;
        assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
        assert_eq!(rig.ids().await, ids);
        assert_eq!(rig.store().disk().dead_letters, 0);
    }
}

/// What a script remembers of a letter that it has taken, beside others that it has not.
#[tokio::test]
async fn what_leaves_for_values_that_are_refused_is_still_there() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    fill(&rig, "q", 900).await;
    let ids = rig.ids().await;
    let dead = ids[2..4].iter().flat_map(|&id| bury(rig.q(), id).dead).collect();
    let checkpoints = vec![set("at", &"x".repeat(40_000))];
    let commit =
        Commit { dead, checkpoints, within_limit: true, ..remove(rig.q(), ids[..2].to_vec()) };
    let refused = rig.store().commit(commit).await;
    assert_eq!(refused, Err(full("", FullReason::Store)));
    // What was buried is a letter.
    assert_eq!(rig.ids().await, [&ids[..2], &ids[4..]].concat());
    assert_eq!(rig.store().disk().dead_letters, 2);
}

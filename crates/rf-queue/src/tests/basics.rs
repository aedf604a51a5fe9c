//! Append, read, acknowledge, checkpoints, batch ids.

use std::time::Duration;

use bytes::Bytes;

use super::rig::{EVERYTHING, MIB, Rig, filled, remove, set, texts};
use crate::schema::FORMAT;
use crate::{
    Append, Budget, Commit, CommitError, DiskUsage, MAX_BATCH_ID_BYTES, OpenError, QueueOptions,
    Receipt, Store, StoreOptions,
};

#[tokio::test]
async fn events_come_back_in_order_until_they_are_acknowledged() {
    let rig = Rig::new();
    rig.append(&["a", "b"]).await.unwrap();
    rig.append(&["c", ""]).await.unwrap();
    assert_eq!(rig.texts().await, ["a", "b", "c", ""]);
    let ids = rig.ids().await;
    assert_eq!(rig.ack(vec![ids[2], ids[0], 7]).await, 2, "an id that is not there is passed over");
    assert_eq!(rig.texts().await, ["b", ""]);
    let after = rig.store().read(rig.q(), ids[1], EVERYTHING).await.unwrap();
    assert_eq!(texts(&after), [""]);
    assert_eq!(rig.ack(ids).await, 2);
    assert_eq!(rig.texts().await, [""; 0]);
}

#[tokio::test]
async fn content_is_kept_byte_for_byte() {
    let rig = Rig::new();
    let events: Vec<Bytes> = vec![
        Bytes::from_static(b"\0\xff\xfe"),
        (0..=255).cycle().take(100_000).collect::<Vec<u8>>().into(),
        Bytes::new(),
    ];
    rig.store().commit(Commit::append(rig.q(), events.clone())).await.unwrap();
    let stored: Vec<Bytes> = rig.all().await.into_iter().map(|event| event.content).collect();
    assert_eq!(stored, events);
}

#[tokio::test]
async fn an_id_is_never_used_again() {
    let mut rig = Rig::new();
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..6 {
        rig.append(&["a", "b"]).await.unwrap();
        let ids = rig.ids().await;
        assert!(ids[0] > seen.last().copied().unwrap_or(0), "{ids:?} after {seen:?}");
        assert_eq!(ids[1], ids[0] + 1, "ids of a queue are dense");
        seen.extend(&ids);
        rig.ack(ids).await;
        if round % 2 == 1 {
            rig.clock.set_wall_back(Duration::from_secs(86_400));
            rig.reopen().await;
        }
    }
}

#[tokio::test]
async fn a_budget_ends_a_read_and_a_larger_event_comes_alone() {
    let rig = Rig::new();
    let sizes = [10, 20, 5000, 5, 5];
    rig.store().commit(Commit::append(rig.q(), sizes.map(filled).to_vec())).await.unwrap();
    let ids = rig.ids().await;
    let check = async |after: u64, budget: (usize, usize), expected: &[usize]| {
        let budget = Budget { events: budget.0, bytes: budget.1 };
        let found = rig.store().read(rig.q(), after, budget).await.unwrap();
        assert_eq!(
            found.iter().map(|event| event.content.len()).collect::<Vec<_>>(),
            expected,
            "{budget:?}"
        );
    };
    check(0, (10, 30), &[10, 20]).await;
    check(0, (10, 29), &[10]).await;
    check(0, (1, 100), &[10]).await;
    check(0, (0, 100), &[]).await;
    check(0, (10, 100), &[10, 20]).await;
    check(ids[1], (10, 100), &[5000]).await;
    check(ids[1], (10, 0), &[5000]).await;
    check(ids[1], (10, 5005), &[5000, 5]).await;
    check(ids[2], (10, 100), &[5, 5]).await;
    check(u64::MAX, (10, 100), &[]).await;
}

#[tokio::test]
async fn a_batch_that_was_stored_before_is_not_stored_again() {
    let mut rig = Rig::new();
    let batch = |id: &str, text: &'static str| Commit {
        batch_id: Some(id.to_owned()),
        checkpoints: vec![set("at", text)],
        ..Commit::append(rig.q(), vec![text.into()])
    };
    let (first, repeat, other) = (batch("1", "a"), batch("1", "b"), batch("2", "c"));
    let receipt = |duplicate| Ok(Receipt { duplicate, removed: 0 });
    assert_eq!(rig.store().commit(first).await, receipt(false));
    assert_eq!(rig.store().commit(repeat.clone()).await, receipt(true));
    assert_eq!(rig.store().commit(other).await, receipt(false));
    rig.reopen().await;
    assert_eq!(rig.store().commit(repeat).await, receipt(true));
    assert_eq!(rig.texts().await, ["a", "c"]);
    assert_eq!(rig.store().checkpoint("at").await.unwrap().unwrap(), b"c");
    let too_long =
        Commit { batch_id: Some("x".repeat(MAX_BATCH_ID_BYTES + 1)), ..Commit::default() };
    assert_eq!(
        rig.store().commit(too_long).await,
        Err(CommitError::TooLarge { bytes: 129, limit: 128 })
    );
}

#[tokio::test]
async fn a_batch_that_is_repeated_is_remembered_for_as_long_as_a_new_one() {
    let rig = Rig::unsynced(MIB, vec![QueueOptions::new("q")]);
    let most = crate::limits::Limits::new(MIB).max_batch_ids();
    let batch =
        |id: String| Commit { batch_id: Some(id), ..Commit::append(rig.q(), vec!["x".into()]) };
    let store = async |id: String| rig.store().commit(batch(id)).await.unwrap().duplicate;
    assert!(!store("mine".to_owned()).await);
    for round in 0..4 {
        for n in 0..most * 2 / 3 {
            assert!(!store(format!("{round}.{n}")).await);
        }
        for _ in 0..10 {
            assert!(store("mine".to_owned()).await, "round {round}");
        }
    }
    assert!(
        store(format!("3.{}", most / 2)).await,
        "those of others are not pushed out by repeats"
    );
    for n in 0..=most {
        assert!(!store(format!("last.{n}")).await);
    }
    assert!(!store("mine".to_owned()).await, "not for ever");
}

#[tokio::test]
async fn old_batch_ids_are_forgotten() {
    let rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    let kept = crate::limits::Limits::new(MIB).max_batch_ids();
    let commit = async |id: u64| {
        let commit = Commit { batch_id: Some(id.to_string()), ..Commit::default() };
        rig.store().commit(commit).await.unwrap().duplicate
    };
    for id in 0..=kept {
        assert!(!commit(id).await);
    }
    assert!(commit(1).await, "the newest {kept} are known");
    assert!(!commit(0).await);
}

#[tokio::test]
async fn everything_in_a_commit_is_done_together() {
    let mut rig = Rig::with(16 * MIB, vec![QueueOptions::new("q"), QueueOptions::new("other")]);
    rig.append(&["old"]).await.unwrap();
    let (q, other) = (rig.queue("q"), rig.queue("other"));
    let commit = Commit {
        appends: vec![
            Append { queue: other, events: vec!["x".into()] },
            Append { queue: q, events: vec!["new".into(), "newer".into()] },
            Append { queue: other, events: vec![] },
        ],
        checkpoints: vec![set("file", "17"), set("gone", "1")],
        ..remove(q, rig.ids().await)
    };
    assert_eq!(rig.store().commit(commit).await.unwrap().removed, 1);
    let forget = Commit {
        checkpoints: vec![crate::Checkpoint { key: "gone".into(), value: None }],
        ..Commit::default()
    };
    rig.store().commit(forget).await.unwrap();
    for _ in 0..2 {
        assert_eq!(rig.texts().await, ["new", "newer"]);
        assert_eq!(rig.store().usage(other).events, 1);
        assert_eq!(rig.store().checkpoint("file").await.unwrap().unwrap(), b"17");
        assert_eq!(rig.store().checkpoint("gone").await.unwrap(), None);
        rig.reopen().await;
    }
}

#[tokio::test]
async fn counters_follow() {
    let mut rig = Rig::new();
    let next_id = rig.usage().next_id;
    assert!(next_id > 0);
    assert_eq!(rig.usage(), crate::QueueUsage { next_id, ..crate::QueueUsage::default() });
    rig.append(&["a", "bcd"]).await.unwrap();
    let first_at = rig.usage().oldest_at_ms.unwrap();
    rig.clock.advance(Duration::from_secs(2));
    rig.append(&["ef"]).await.unwrap();
    let check = |rig: &Rig, events, bytes, oldest: Option<u64>| {
        let usage = rig.usage();
        assert_eq!((usage.events, usage.bytes, usage.oldest_at_ms), (events, bytes, oldest));
    };
    check(&rig, 3, 6, Some(first_at));
    rig.ack(rig.ids().await[..2].to_vec()).await;
    check(&rig, 1, 2, Some(first_at + 2_000));
    rig.reopen().await;
    check(&rig, 1, 2, Some(first_at + 2_000));
    let disk = rig.store().disk();
    assert!(disk.used_bytes > 4096 && disk.used_bytes < MIB, "{disk:?}");
    assert!((12 * MIB..16 * MIB).contains(&disk.events_max_bytes), "{disk:?}");
    assert_eq!(
        DiskUsage { used_bytes: 0, events_max_bytes: 0, ..disk },
        DiskUsage { max_bytes: 16 * MIB, ..DiskUsage::default() }
    );
    rig.ack(rig.ids().await).await;
    check(&rig, 0, 0, None);
}

/// The nice values of this process's writer threads.
fn niceness_of_the_writers() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end while it is looked at.
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let writers = stats.filter(|stat| stat.contains("(rf-store)"));
    // proc(5): the 19th field; the name, which is the second, is in brackets.
    let niceness =
        |stat: String| stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned();
    writers.map(niceness).collect()
}

#[tokio::test]
async fn a_store_that_gives_way_runs_at_its_nice_value() {
    for niceness in [0, 7] {
        let folder = tempfile::tempdir().unwrap();
        let queues = vec![QueueOptions::new("a")];
        let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 * MIB, queues);
        let store = Store::open(StoreOptions { niceness, ..options }).unwrap().store;
        store.commit(Commit::append(store.queue("a").unwrap(), vec!["x".into()])).await.unwrap();
        // The thread of the store before may end a moment after that was closed.
        let expected = [niceness.to_string()];
        let only_one = async {
            while niceness_of_the_writers() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), only_one).await.expect("its nice value");
        store.close().await;
    }
}

#[tokio::test]
async fn a_store_is_open_once() {
    let mut rig = Rig::new();
    let again = Store::open(rig.options.clone());
    assert!(matches!(again, Err(OpenError::InUse { .. })), "{again:?}");
    let clone = rig.store().clone();
    rig.close().await;
    assert_eq!(clone.commit(Commit::default()).await, Err(CommitError::Closed));
    drop(clone);
    rig.open().unwrap();
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let check = |max_bytes, queues: &[&str], expected: &str| {
        let mut rig =
            Rig::closed(max_bytes, queues.iter().map(|name| QueueOptions::new(*name)).collect());
        assert_eq!(rig.open().unwrap_err().to_string(), expected);
    };
    check(MIB - 1, &["a"], "a store needs at least 1048576 bytes, 1048575 are configured");
    check(MIB, &["a", "b", "a"], "two queues are named `a`");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let mut rig = Rig::new();
    rig.append(&["a"]).await.unwrap();
    rig.close().await;
    let conn = rusqlite::Connection::open(rig.path()).unwrap();
    conn.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    let error = rig.open().unwrap_err();
    let OpenError::Newer { found, known, .. } = error else { panic!("{error}") };
    assert_eq!((found, known), (FORMAT + 1, FORMAT));
}

#[tokio::test]
async fn checkpoints_are_found_by_the_beginning_of_their_key() {
    let mut rig = Rig::new();
    let keys = ["kv:a:1", "kv:a:2", "kv:a", "kv:b:1", "x"];
    let checkpoints = keys.iter().map(|key| set(key, key)).collect();
    rig.store().commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
    rig.reopen().await;
    let found = rig.store().checkpoints("kv:a:").await.unwrap();
    assert_eq!(found, [set("kv:a:1", "kv:a:1"), set("kv:a:2", "kv:a:2")]);
    assert_eq!(rig.store().checkpoints("nothing").await.unwrap(), []);
}

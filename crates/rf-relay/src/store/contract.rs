//! The tests that every store runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use rf_core::protocol::PulledEvent;
use rf_queue::Budget;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::memory::Memory;
use super::{AppendError, Appended, BucketStore, Pulled, STORES, StoreKind};
use crate::bucket::BucketName;
use crate::config::RelayConfig;

const ALL: Budget = Budget { events: 100, bytes: 1_000_000 };
const MINUTE: Duration = Duration::from_secs(60);

/// Holds a store with the buckets `a` and `b`, both empty, to the contract.
async fn check_bucket_store_contract(store: &dyn BucketStore) {
    let [a, b] = ["a", "b"].map(|name| BucketName::new(name).unwrap());
    check_order_and_ids(store, &a).await;
    check_buckets_are_apart(store, &a, &b).await;
    check_batch_ids(store, &a, &b).await;
    check_can_take(store, &a).await;
    check_budgets(store, &a).await;
    check_leases(store, &a).await;
    check_holders(store, &a).await;
    check_watch(store, &a).await;
    check_find(store, &a).await;
    assert_eq!(store.usage(&a).events, 0, "every check takes away what it stored");
    store.close().await;
    assert!(store.pull(&a, ALL, None, None).await.is_err(), "closed");
}

fn open(kind: &StoreKind, config: &RelayConfig) -> Arc<dyn BucketStore> {
    (kind.open)(config, &Arc::default())
}

async fn append(store: &dyn BucketStore, bucket: &BucketName, events: &[&'static str]) {
    let events = events.iter().map(|event| Bytes::from_static(event.as_bytes())).collect();
    assert_eq!(store.append(bucket, events, None).await, Ok(Appended::Stored));
}

async fn pull(
    store: &dyn BucketStore,
    bucket: &BucketName,
    budget: Budget,
    lease: Option<Duration>,
) -> Pulled {
    store.pull(bucket, budget, lease, None).await.unwrap()
}

async fn acknowledge_all(store: &dyn BucketStore, bucket: &BucketName) {
    let ids: Vec<u64> =
        pull(store, bucket, ALL, None).await.events.iter().map(|event| event.id).collect();
    assert_eq!(store.acknowledge(bucket, ids.clone()).await, Ok(ids.len() as u64));
    assert_eq!(pull(store, bucket, ALL, None).await, Pulled::default());
}

fn contents(events: &[PulledEvent]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.content).unwrap()).collect()
}

async fn check_order_and_ids(store: &dyn BucketStore, bucket: &BucketName) {
    assert_eq!(pull(store, bucket, ALL, None).await, Pulled::default());
    append(store, bucket, &["one", "", "three\n\0é"]).await;
    let first = pull(store, bucket, ALL, None).await;
    assert_eq!(contents(&first.events), ["one", "", "three\n\0é"]);
    assert_eq!(first.lease, None);
    assert_eq!(pull(store, bucket, ALL, None).await, first, "reading does not remove");
    let last_id = first.events[2].id;
    assert_eq!(
        store.acknowledge(bucket, vec![first.events[1].id, last_id, last_id + 1000]).await,
        Ok(2)
    );
    assert_eq!(store.acknowledge(bucket, vec![last_id]).await, Ok(0));
    assert_eq!(contents(&pull(store, bucket, ALL, None).await.events), ["one"]);
    acknowledge_all(store, bucket).await;
    append(store, bucket, &["next"]).await;
    assert!(
        pull(store, bucket, ALL, None).await.events[0].id > last_id,
        "ids are never used again"
    );
    acknowledge_all(store, bucket).await;
}

async fn check_buckets_are_apart(store: &dyn BucketStore, a: &BucketName, b: &BucketName) {
    append(store, a, &["of a"]).await;
    append(store, b, &["of b"]).await;
    assert_eq!(contents(&pull(store, a, ALL, None).await.events), ["of a"]);
    acknowledge_all(store, a).await;
    assert_eq!(contents(&pull(store, b, ALL, None).await.events), ["of b"]);
    acknowledge_all(store, b).await;
}

async fn check_batch_ids(store: &dyn BucketStore, a: &BucketName, b: &BucketName) {
    let append = async |bucket, id: &str| {
        store.append(bucket, vec![Bytes::from_static(b"x")], Some(id.to_owned())).await.unwrap()
    };
    assert_eq!(append(a, "batch-1").await, Appended::Stored);
    assert_eq!(append(a, "batch-1").await, Appended::Duplicate);
    assert_eq!(append(a, "batch-2").await, Appended::Stored);
    assert_eq!(append(b, "batch-1").await, Appended::Stored, "ids are of one bucket");
    assert_eq!(contents(&pull(store, a, ALL, None).await.events), ["x", "x"]);
    acknowledge_all(store, a).await;
    assert_eq!(append(a, "batch-1").await, Appended::Duplicate, "also when the events are gone");
    acknowledge_all(store, b).await;
}

async fn check_can_take(store: &dyn BucketStore, bucket: &BucketName) {
    let small = vec![Bytes::from_static(b"x")];
    assert!(store.can_take(bucket, &small));
    let large = vec![Bytes::from(vec![b'x'; 4096]); 512];
    if !store.can_take(bucket, &large) {
        let refused = store.append(bucket, large, None).await;
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    }
}

async fn check_budgets(store: &dyn BucketStore, bucket: &BucketName) {
    append(store, bucket, &["12345", "67", "8"]).await;
    for (events, bytes, expected) in [
        (2, 100, &["12345", "67"][..]),
        (9, 7, &["12345", "67"]),
        (9, 6, &["12345"]),
        (9, 1, &["12345"]),
    ] {
        let pulled = pull(store, bucket, Budget { events, bytes }, None).await;
        assert_eq!(contents(&pulled.events), expected, "{events} events, {bytes} bytes");
    }
    acknowledge_all(store, bucket).await;
}

async fn check_leases(store: &dyn BucketStore, bucket: &BucketName) {
    append(store, bucket, &["one", "two", "three"]).await;
    let two = Budget { events: 2, ..ALL };
    let first = pull(store, bucket, two, Some(MINUTE)).await;
    let second = pull(store, bucket, two, Some(MINUTE)).await;
    assert_eq!(
        (contents(&first.events), contents(&second.events)),
        (vec!["one", "two"], vec!["three"])
    );
    let (first_lease, second_lease) = (first.lease.unwrap(), second.lease.unwrap());
    assert_ne!(first_lease, second_lease);
    assert_eq!(pull(store, bucket, ALL, Some(MINUTE)).await, Pulled::default(), "all are leased");
    assert_eq!(
        pull(store, bucket, ALL, None).await.events.len(),
        3,
        "who has no lease sees them all"
    );

    assert_eq!(store.extend(bucket, &first_lease, MINUTE * 2).await, Ok(true));
    assert_eq!(store.extend(bucket, "no lease", MINUTE).await, Ok(false));
    let first_id = first.events[0].id;
    assert_eq!(store.release(bucket, vec![first_id, first_id + 1000]).await, Ok(1));
    let again = pull(store, bucket, ALL, Some(MINUTE)).await;
    assert_eq!(again.events, [PulledEvent { attempts: 1, ..first.events[0].clone() }]);
    assert_eq!(
        pull(store, bucket, ALL, None).await.events[0].attempts,
        0,
        "the original knows no attempts"
    );
    acknowledge_all(store, bucket).await;
    assert_eq!(store.extend(bucket, &second_lease, MINUTE).await, Ok(false), "its events are gone");
}

async fn check_holders(store: &dyn BucketStore, bucket: &BucketName) {
    append(store, bucket, &["one", "two"]).await;
    let one = Budget { events: 1, ..ALL };
    assert_eq!(store.lease_of(bucket, "me").await, Ok(None));
    let mut leases = Vec::new();
    for holder in ["me", "you"] {
        leases.push(store.pull(bucket, one, Some(MINUTE), Some(holder)).await.unwrap().lease);
    }
    for (holder, lease) in ["me", "you"].into_iter().zip(leases) {
        assert!(lease.is_some());
        assert_eq!(store.lease_of(bucket, holder).await, Ok(lease), "{holder}");
    }
    assert_eq!(store.lease_of(bucket, "you again").await, Ok(None));
    acknowledge_all(store, bucket).await;
}

async fn check_watch(store: &dyn BucketStore, bucket: &BucketName) {
    let mut news = store.watch(bucket).await.unwrap();
    news.mark_unchanged();
    append(store, bucket, &["one"]).await;
    assert!(news.has_changed().unwrap(), "appended");
    let leased = pull(store, bucket, ALL, Some(MINUTE)).await;
    news.mark_unchanged();
    store.release(bucket, vec![leased.events[0].id]).await.unwrap();
    assert!(news.has_changed().unwrap(), "released");
    acknowledge_all(store, bucket).await;
}

async fn check_find(store: &dyn BucketStore, bucket: &BucketName) {
    append(store, bucket, &["one", "two", "three"]).await;
    let leased = pull(store, bucket, Budget { events: 2, ..ALL }, Some(MINUTE)).await.events;
    let find = async |wanted: &'static str| {
        let is_meant = Arc::new(move |content: &[u8]| content == wanted.as_bytes());
        let found = store.find(bucket, is_meant, MINUTE).await.unwrap();
        assert!(!found.is_cut && found.dead.is_empty());
        found.waiting.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(find("two").await, [leased[1].id], "leased, and there all the same");
    assert_eq!(find("three").await, [leased[1].id + 1]);
    assert!(find("four").await.is_empty());
    acknowledge_all(store, bucket).await;
    assert!(find("two").await.is_empty());
}

#[tokio::test]
async fn the_memory_store() {
    check_bucket_store_contract(&Memory::default()).await;
}

#[tokio::test]
async fn every_store_of_the_table() {
    let mut names = HashSet::new();
    for kind in STORES {
        assert!(names.insert(kind.name), "{} is in the table twice", kind.name);
        let folder = TempDir::new().unwrap();
        let store = open(kind, &RelayConfig::for_tests(folder.path(), &["a", "b"]));
        check_bucket_store_contract(&*store).await;
    }
}

#[tokio::test]
async fn what_is_stored_outlives_the_store() {
    for kind in STORES {
        let folder = TempDir::new().unwrap();
        let config = RelayConfig::for_tests(folder.path(), &["a"]);
        let bucket = BucketName::new("a").unwrap();
        let store = open(kind, &config);
        append(&*store, &bucket, &["one", "two"]).await;
        let first = pull(&*store, &bucket, Budget { events: 1, ..ALL }, Some(MINUTE)).await.events;
        store.acknowledge(&bucket, vec![first[0].id]).await.unwrap();
        store.close().await;
        drop(store);

        let store = open(kind, &config);
        let rest = pull(&*store, &bucket, ALL, Some(MINUTE)).await.events;
        assert_eq!(contents(&rest), ["two"]);
        store.close().await;
    }
}

#[tokio::test]
async fn hundreds_of_buckets_open_and_close() {
    let names: Vec<String> = (0..300).map(|n| format!("bucket-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for kind in STORES {
        let folder = TempDir::new().unwrap();
        let config = RelayConfig::for_tests(folder.path(), &names);
        let store = open(kind, &config);
        let stop = CancellationToken::new();
        let use_all = async {
            join_all(config.buckets.keys().map(|bucket| append(&*store, bucket, &["one"]))).await;
            stop.cancel();
        };
        assert_eq!(tokio::join!(store.work(stop.clone()), use_all).0, Ok(()));
        for bucket in config.buckets.keys() {
            let usage = store.usage(bucket);
            assert_eq!((usage.failure, usage.events), (None, 1), "{bucket}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_opened_is_told_and_tried_again() {
    for kind in STORES {
        let folder = TempDir::new().unwrap();
        let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
        let [a, b] = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        std::fs::write(folder.path().join("a"), "a file where the folder should be").unwrap();
        let store = open(kind, &config);
        append(&*store, &b, &["one"]).await;
        store.pull(&a, ALL, None, None).await.expect_err("no folder");
        assert!(store.usage(&a).failure.is_some() && store.usage(&b).failure.is_none());
        std::fs::remove_file(folder.path().join("a")).unwrap();
        append(&*store, &a, &["one"]).await;
        assert_eq!(store.usage(&a).failure, None);
        store.close().await;
    }
}

#[tokio::test]
async fn old_events_leave_though_the_bucket_sleeps() {
    for kind in STORES {
        let folder = TempDir::new().unwrap();
        let mut config = RelayConfig::for_tests(folder.path(), &["a"]);
        // The database sleeps when it has looked around once, after a second, and the event is too old after that.
        config.idle_close = Duration::ZERO;
        config
            .buckets
            .values_mut()
            .for_each(|bucket| bucket.ttl = Some(Duration::from_millis(1300)));
        let bucket = BucketName::new("a").unwrap();
        let store = open(kind, &config);
        let stop = CancellationToken::new();
        let wait = async {
            append(&*store, &bucket, &["old"]).await;
            let mut looks = tokio::time::interval(Duration::from_millis(20));
            while store.usage(&bucket).events > 0 {
                looks.tick().await;
            }
            stop.cancel();
        };
        assert_eq!(tokio::join!(store.work(stop.clone()), wait).0, Ok(()));
        assert_eq!(store.usage(&bucket).dropped_age, 1);
        store.close().await;
    }
}

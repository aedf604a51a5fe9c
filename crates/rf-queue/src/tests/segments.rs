//! Events that leave at the front are passed, and their place comes back segment by segment.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::rig::{EVERYTHING, MIB, Rig, bury, filled, remove};
use crate::schema::{event_table, event_tables};
use crate::space::beside;
use crate::{Commit, CommitError, Notice, QueueId, QueueOptions, StoreOptions, find};

/// Bytes of a segment here, and of an event: eight of them make a segment.
const SEGMENT: u64 = 10_000;
const EVENT: usize = 1_200;

/// A store with room, whose queue is cut into small segments.
fn rig() -> Rig {
    let mut rig = Rig::closed(64 * MIB, vec![QueueOptions::new("q")]);
    rig.options = StoreOptions { segment_bytes: Some(SEGMENT), ..rig.options };
    rig.open().unwrap();
    rig
}

async fn append(rig: &Rig, count: usize) -> Vec<u64> {
    let before = rig.usage().next_id;
    let events = vec![filled(EVENT); count];
    rig.store().commit(Commit::append(rig.q(), events)).await.unwrap();
    (before..rig.usage().next_id).collect()
}

/// Makes a file of ours one of the format before.
const FORMAT_1: &str = "ALTER TABLE queues DROP COLUMN removed; PRAGMA user_version = 1;";

/// Changes the file of a closed store.
fn change(rig: &Rig, sql: &str) {
    Connection::open(rig.path()).unwrap().execute_batch(sql).unwrap();
}

fn overwrite_header(rig: &Rig) {
    File::options().write(true).open(rig.path()).unwrap().write_all(&[0xA5; 100]).unwrap();
}

/// Rows of each table of the first queue, gone or not.
fn rows(rig: &Rig) -> Vec<u64> {
    let conn = Connection::open(rig.path()).unwrap();
    // The store may drop a table while they are counted.
    let conn = conn.unchecked_transaction().unwrap();
    let count = |number| {
        let count = format!("SELECT count(*) FROM {}", event_table(1, number));
        conn.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    event_tables(&conn, 1).unwrap().into_iter().map(count).collect()
}

#[tokio::test]
async fn a_backlog_is_cut_into_tables_that_are_emptied_as_a_whole_and_used_again() {
    let rig = rig();
    let ids = append(&rig, 100).await;
    assert_eq!(rows(&rig), [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 4]);
    assert_eq!(rig.ids().await, ids);
    let asked = Instant::now();
    assert_eq!(rig.ack(ids[..10].to_vec()).await, 10);
    // Within a segment nothing is deleted; the next transaction empties the first. Who only reads does not wait for that.
    assert_eq!(rig.ids().await, ids[10..]);
    let there = rows(&rig).iter().sum::<u64>();
    // A second after the last request, the store empties it by itself.
    assert!(there == 100 || there == 92 && asked.elapsed() >= Duration::from_secs(1), "{there}");
    rig.store().poke().await.unwrap();
    assert_eq!(rows(&rig).iter().sum::<u64>(), 92);
    assert_eq!((rig.ids().await, rig.usage().events), (ids[10..].to_vec(), 90));
    for _ in 0..30 {
        let ids = rig.ids().await;
        rig.ack(ids[..50].to_vec()).await;
        append(&rig, 50).await;
    }
    assert!(rows(&rig).len() <= 20, "tables are used again: {:?}", rows(&rig));
}

#[tokio::test]
async fn reads_without_a_pause_keep_no_place_of_what_has_left() {
    let rig = rig();
    let ids = append(&rig, 100).await;
    rig.ack(ids[..10].to_vec()).await;
    rig.until(async |_| {
        rig.clock.advance(Duration::from_secs(1));
        rig.ids().await == ids[10..] && rows(&rig).iter().sum::<u64>() == 92
    })
    .await;
}

#[tokio::test]
async fn what_leaves_at_the_front_writes_hardly_a_page() {
    let wal_of = async |segment: u64| {
        let mut rig = Rig::closed(64 * MIB, vec![QueueOptions::new("q")]);
        rig.options = StoreOptions { segment_bytes: Some(segment), ..rig.options };
        rig.open().unwrap();
        let ids = append(&rig, 1000).await;
        rig.reopen().await;
        rig.ack(ids[..200].to_vec()).await;
        rig.store().poke().await.unwrap();
        fs::metadata(beside(rig.path(), "-wal")).unwrap().len() / 4120
    };
    let (segments, whole) = (wal_of(200_000).await, wal_of(0).await);
    assert!(whole >= 40, "{whole} pages where every page that got empty was written");
    assert!((1..=12).contains(&segments), "{segments} pages");
}

#[tokio::test]
async fn what_has_been_passed_is_seen_by_nobody() {
    let mut rig = rig();
    let ids = append(&rig, 50).await;
    rig.ack(ids[..14].to_vec()).await;
    // In the middle, events are deleted as ever.
    rig.ack(ids[20..30].to_vec()).await;
    let left: Vec<u64> = ids[14..20].iter().chain(&ids[30..]).copied().collect();
    for _ in 0..2 {
        assert_eq!(rig.ids().await, left);
        assert_eq!(rig.ack(ids[..14].to_vec()).await, 0, "they are gone");
        rig.store().commit(bury(rig.q(), ids[3])).await.unwrap();
        assert_eq!(rig.store().disk().dead_letters, 0);
        let found = rig.store().find(Arc::new(|_: &[u8]| true), Duration::from_secs(60)).await;
        let found: Vec<u64> = found.unwrap().waiting.iter().map(|event| event.id).collect();
        assert_eq!(found, left);
        assert_eq!(rig.usage().events, left.len() as u64);
        rig.reopen().await;
    }
    let (_, leased) = rig.lease(100).await;
    assert_eq!(leased.iter().map(|event| event.id).collect::<Vec<_>>(), left);
    // Ids that are still to come are not passed by whoever names them.
    let to_come = rig.usage().next_id;
    rig.ack((ids[0]..to_come + 100).collect()).await;
    assert_eq!(append(&rig, 1).await, [to_come]);
    assert_eq!(rig.ids().await, [to_come]);
}

#[tokio::test]
async fn a_store_that_is_nearly_full_gives_the_place_at_once() {
    let len = 20_000;
    let fill = async |rig: &Rig| loop {
        match rig.store().commit(Commit::append(rig.q(), vec![filled(len)])).await {
            Ok(_) => {}
            Err(CommitError::Full { .. }) => return rig.usage().events,
            Err(error) => panic!("{error}"),
        }
    };
    let options = || vec![QueueOptions::new("q")];
    let [untouched, rig] = [(); 2].map(|()| Rig::unsynced(24 * MIB, options()));
    let most = fill(&untouched).await;
    // Passed while there was room.
    rig.store().commit(Commit::append(rig.q(), vec![filled(len); 500])).await.unwrap();
    let ids = rig.ids().await;
    rig.ack(ids[..9].to_vec()).await;
    assert_eq!(rows(&rig).iter().sum::<u64>(), 500, "they have their place still");
    let events = fill(&rig).await;
    assert!(events + 2 >= most, "{events} events, {most} where none was passed");
    // Full by now: each that leaves makes room for one.
    let ids = rig.ids().await;
    rig.ack(ids[..3].to_vec()).await;
    for _ in 0..3 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(len)])).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_that_is_too_large_for_a_segment_is_swept_row_by_row() {
    let mut rig = rig();
    rig.close().await;
    rig.options.segment_bytes = Some(0);
    rig.open().unwrap();
    let ids = append(&rig, 200).await;
    rig.close().await;
    assert_eq!(rows(&rig), [200]);
    rig.options.segment_bytes = Some(SEGMENT);
    rig.open().unwrap();
    rig.ack(ids[..10].to_vec()).await;
    rig.store().poke().await.unwrap();
    assert_eq!(rows(&rig), [200], "not worth it yet");
    rig.ack(ids[10..30].to_vec()).await;
    rig.store().poke().await.unwrap();
    assert_eq!(rows(&rig), [170]);
    append(&rig, 1).await;
    assert_eq!(rows(&rig), [170, 1], "and no longer grows");
    assert_eq!(rig.ids().await.len(), 171);
}

#[tokio::test]
async fn an_idle_store_keeps_no_table_that_nobody_needs() {
    let rig = rig();
    let ids = append(&rig, 300).await;
    assert_eq!(rows(&rig).len(), 38);
    rig.ack(ids).await;
    // By itself, after it has been idle for a while.
    rig.until(async |_| {
        rig.clock.advance(Duration::from_secs(1));
        rows(&rig).len() <= 3
    })
    .await;
    assert_eq!(rows(&rig).iter().sum::<u64>(), 0);
    assert_eq!(append(&rig, 1).await.len(), 1);
}

#[tokio::test]
async fn a_file_of_the_format_before_goes_on_and_is_found_in() {
    let mut rig = rig();
    let ids = append(&rig, 5).await;
    rig.close().await;
    change(&rig, FORMAT_1);
    let found = find(rig.path(), &|_| true, Duration::from_secs(60)).unwrap();
    assert_eq!(found.waiting.len(), 5);
    rig.open().unwrap();
    assert_eq!((rig.ids().await, rig.notices.as_slice()), (ids.clone(), &[][..]));
    rig.ack(ids[..2].to_vec()).await;
    append(&rig, 20).await;
    rig.reopen().await;
    assert_eq!(rig.usage().events, 23);
}

#[tokio::test]
async fn salvage_takes_every_segment_and_nothing_that_was_passed() {
    let mut rig = rig();
    let ids = append(&rig, 60).await;
    rig.ack(ids[..13].to_vec()).await;
    rig.close().await;
    // Only the header is damaged, so that all that is in the file can be read.
    overwrite_header(&rig);
    rig.open().unwrap();
    let [Notice::Damaged { salvaged, lost, .. }] = &rig.notices[..] else {
        panic!("{:?}", rig.notices)
    };
    assert_eq!((*salvaged, *lost), (47, 0));
    assert_eq!(rig.ids().await, ids[13..]);
}

#[tokio::test]
async fn events_of_the_original_with_lower_ids_come_back_behind_what_was_passed() {
    let mut rig = rig();
    let ids = append(&rig, 30).await;
    rig.ack(ids[..12].to_vec()).await;
    rig.close().await;
    super::migration::original(&beside(rig.path(), ".original"), &["old".to_owned()]);
    rig.open().unwrap();
    let mut expected = vec![11];
    expected.extend(&ids[12..]);
    assert_eq!(rig.ids().await, expected, "and none of those that had left");
    rig.store().commit(remove(QueueId(0), vec![11])).await.unwrap();
    rig.reopen().await;
    assert_eq!(rig.store().read(rig.q(), 0, EVERYTHING).await.unwrap().len(), 18);
}

#[tokio::test]
async fn a_store_that_has_become_too_small_for_segments_does_away_with_them() {
    let mut rig = rig();
    let ids = append(&rig, 20).await;
    rig.ack(ids[..3].to_vec()).await;
    rig.close().await;
    assert_eq!(rows(&rig), [8, 8, 4]);
    rig.options.segment_bytes = Some(0);
    rig.open().unwrap();
    rig.store().poke().await.unwrap();
    assert_eq!(rows(&rig), [5, 8, 4], "what had been passed");
    rig.ack(ids[..18].to_vec()).await;
    append(&rig, 30).await;
    assert_eq!(rows(&rig), [0, 0, 32], "nothing is passed any more, and no table begun");
    assert_eq!(rig.usage().events, 32);
}

#[tokio::test]
async fn ids_with_a_gap_make_no_wrong_sizes() {
    let mut rig = Rig::closed(64 * MIB, vec![QueueOptions::new("q")]);
    let old: Vec<String> = (0..3).map(|n| format!("{n}{}", "x".repeat(200_000))).collect();
    super::migration::original(rig.path(), &old);
    rig.open().unwrap();
    rig.store().commit(Commit::append(rig.q(), vec![filled(200_000)])).await.unwrap();
    // The ids of the original begin at 11, ours at the time: in one table.
    rig.reopen().await;
    let ids = rig.ids().await;
    assert!(ids[3] - ids[2] > 1 << 40, "{ids:?}");
    assert!(rig.store().disk().used_bytes > 800_000, "{:?}", rig.store().disk());
    rig.ack(ids[..3].to_vec()).await;
    assert_eq!(append(&rig, 1).await.len(), 1);
    rig.reopen().await;
    assert_eq!(rig.usage().events, 2);
}

#[tokio::test]
async fn what_a_kill_left_of_a_drained_queue_is_emptied_with_the_next_request() {
    let mut rig = rig();
    append(&rig, 300).await;
    rig.close().await;
    change(&rig, "UPDATE queues SET removed = next_id - 1, events = 0, bytes = 0, stored = 0;");
    rig.open().unwrap();
    assert_eq!((rig.ids().await, rig.usage().events), (vec![], 0));
    append(&rig, 1).await;
    assert_eq!(rows(&rig).iter().sum::<u64>(), 1);
}

#[tokio::test]
async fn salvage_of_the_format_before_finds_its_queues_without_a_header() {
    let mut rig = Rig::with(64 * MIB, vec![QueueOptions::new("a"), QueueOptions::new("b")]);
    rig.append_to(rig.queue("b"), &["of b"]).await.unwrap();
    rig.close().await;
    change(&rig, FORMAT_1);
    overwrite_header(&rig);
    // In another order than before, so that their places say nothing.
    rig.options.queues.reverse();
    rig.open().unwrap();
    let events = rig.store().read(rig.queue("b"), 0, EVERYTHING).await.unwrap();
    assert_eq!(super::rig::texts(&events), ["of b"]);
}

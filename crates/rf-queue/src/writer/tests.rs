use std::time::Duration;

use rusqlite::ffi;
use tempfile::TempDir;

use super::*;
use crate::answers::PendingCommit;
use crate::open;
use crate::types::{Budget, QueueId, QueueOptions, Remove, WhenFull};

fn writer(max_bytes: u64) -> (TempDir, Writer) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.sqlite3");
    let options = StoreOptions::new(path, max_bytes, vec![QueueOptions::new("q")]);
    let lock = Arc::new(open::take_lock(&options).unwrap().into());
    let mailbox = Arc::new(Mailbox::running(&lock));
    let (writer, _) = open::open(&options, &Shared::new(&options), &mailbox).unwrap();
    (folder, writer)
}

fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

/// Applies a commit in the open transaction.
fn write(writer: &mut Writer, commit: Commit) -> PendingCommit {
    let (reply, pending) = PendingCommit::new();
    writer.serve_write(Op::Commit(commit, reply));
    pending
}

#[test]
fn a_lease_that_is_tried_again_on_a_full_disk_is_noted_all_the_same() {
    let (_folder, mut writer) = writer(16 << 20);
    let queue = QueueId(0);
    let (reply, _pending) = PendingCommit::new();
    writer.serve(vec![Op::Commit(Commit::append(queue, vec!["event".into()]), reply)]);

    let note = Some(LeaseNote { key: "holder:1".to_owned(), name: "me".to_owned() });
    let budget = Budget { events: 1, bytes: usize::MAX };
    let (reply, mut leased) = oneshot::channel();
    let mut op = Op::Lease { queue, budget, ttl: Duration::from_secs(30), note, reply };
    let outcome = writer.apply(&mut op).unwrap();
    writer.applied.push((op, outcome));
    // As when the commit finds no room.
    writer.recover(&failure(ffi::SQLITE_FULL));
    let leased = leased.try_recv().unwrap().unwrap().take();
    assert_eq!(leased.events.len(), 1);
    let noted: Vec<u8> =
        writer.conn.query_row(sql::GET_CHECKPOINT, ["holder:1"], |row| row.get(0)).unwrap();
    assert_eq!(noted, format!("{} me", leased.token).into_bytes());
    writer.retire();
}

#[test]
fn what_was_committed_before_a_failure_is_announced_all_the_same() {
    let (_folder, mut writer) = writer(16 << 20);
    let available = writer.shared.queues[0].available.subscribe();
    // As a dead letter that goes back into its queue.
    let commit = Commit::append(QueueId(0), vec!["letter".into()]);
    writer.group().unwrap().apply(&commit).unwrap();
    writer.end_transaction().unwrap();
    // As when the next one finds no room.
    writer.undo(&failure(ffi::SQLITE_FULL));
    assert!(available.has_changed().unwrap());
    writer.retire();
}

#[test]
fn an_append_in_parts_is_answered_before_anything_else_can_fail() {
    let (_folder, mut writer) = writer(1 << 20);
    let events = vec![vec![b'x'; 9_000].into(); 50];
    let pending = write(&mut writer, Commit::append(QueueId(0), events));
    assert!(writer.tx.is_none(), "it was written in parts");
    writer.recover(&failure(ffi::SQLITE_FULL));
    assert_eq!(pending.outcome_here(), Ok(Receipt::default()));
    assert_eq!(writer.state.queues[0].events, 50);
    writer.retire();
}

#[test]
fn rows_of_an_append_in_parts_that_cannot_be_removed_stop_the_store() {
    let (_folder, mut writer) = writer(1 << 20);
    let next_id = writer.state.queues[0].next_id;
    writer.conn.execute_batch("BEGIN").unwrap();
    // More than one transaction removes.
    for id in next_id..next_id + 1000 {
        let row = rusqlite::params![id, 0, [b'x'; 100]];
        writer.conn.execute("INSERT INTO q_1 (id, at, content) VALUES (?1, ?2, ?3)", row).unwrap();
    }
    writer.conn.execute_batch("COMMIT").unwrap();
    writer.parts_left = true;
    // As on a disk that takes nothing more: no COMMIT goes through.
    writer.conn.commit_hook(Some(|| true)).unwrap();
    writer.undo(&failure(ffi::SQLITE_FULL));
    assert!(writer.stopped);
    writer.retire();
}

#[test]
fn large_removes_that_were_undone_are_done_again_with_their_checkpoint() {
    let (_folder, mut writer) = writer(1 << 20);
    let queue = QueueId(0);
    let appended = write(&mut writer, Commit::append(queue, vec!["event".into(); 200]));
    writer.end_group();
    assert!(appended.outcome_here().is_ok());
    let next_id = writer.state.queues[0].next_id;
    // Not at the front, and no two of them beside each other.
    let ids: Vec<u64> = (next_id - 199..next_id).step_by(2).collect();
    let number = ids.len() as u64;
    let checkpoint = Checkpoint { key: "at".to_owned(), value: Some(b"1".to_vec()) };
    let commit = Commit {
        removes: vec![Remove { queue, ids }],
        checkpoints: vec![checkpoint],
        ..Commit::default()
    };
    let pending = write(&mut writer, commit);
    writer.recover(&failure(ffi::SQLITE_FULL));
    assert_eq!(pending.outcome_here(), Ok(Receipt { removed: number, duplicate: false }));
    assert_eq!(writer.state.queues[0].events, 200 - number);
    let noted: Vec<u8> =
        writer.conn.query_row(sql::GET_CHECKPOINT, ["at"], |row| row.get(0)).unwrap();
    assert_eq!(noted, b"1");
    writer.retire();
}

#[test]
fn what_is_passed_finds_room_for_the_leases_that_end_with_it() {
    const EVENTS: usize = 1000;
    let (_folder, mut writer) = writer(64 << 20);
    let queue = QueueId(0);
    let appended = write(&mut writer, Commit::append(queue, vec!["event".into(); EVENTS]));
    writer.end_group();
    assert!(appended.outcome_here().is_ok());
    let lease = || {
        let (reply, answer) = oneshot::channel();
        let budget = Budget { events: 1, bytes: usize::MAX };
        (Op::Lease { queue, budget, ttl: Duration::from_secs(30), note: None, reply }, answer)
    };
    let (leases, _leased): (Vec<_>, Vec<_>) = (0..EVENTS).map(|_| lease()).unzip();
    writer.serve(leases);
    assert_eq!(writer.state.queues[0].book.count(), EVENTS as u64);
    let (reply, mut read) = oneshot::channel();
    let budget = Budget { events: EVENTS, bytes: usize::MAX };
    writer.serve(vec![Op::Read { queue, after: 0, budget, reply }]);
    let read = read.try_recv().unwrap().unwrap();
    // As after a long time of work: the WAL takes little more.
    while writer.takes(&Cost::pages(40)).unwrap() {
        writer.tx.as_mut().unwrap().wal_frames += 10;
    }
    let ids = read.iter().map(|event| event.id).collect();
    let mut commit = Commit { removes: vec![Remove { queue, ids }], ..Commit::default() };
    let ahead = writer.take_ahead(&mut commit);
    assert_eq!(writer.go_ahead(&ahead).unwrap(), Ok(()));
    assert_eq!(writer.tx.as_ref().unwrap().wal_frames, 0, "it was begun anew");
    writer.end_transaction().unwrap();
    assert_eq!(writer.state.queues[0].events, 0);
    writer.retire();
}

#[test]
fn room_that_an_empty_queue_seems_to_take_is_not_waited_for() {
    let (_folder, mut writer) = writer(16 << 20);
    let queue = &mut writer.state.queues[0];
    // As after damage that nobody has noticed.
    (queue.when_full, queue.stored) = (WhenFull::DropOldest, queue.limit_bytes);
    let pending = write(&mut writer, Commit::append(QueueId(0), vec!["event".into()]));
    writer.end_group();
    assert_eq!(pending.outcome_here(), Ok(Receipt::default()));
    assert_eq!(writer.state.queues[0].events, 1);
    writer.retire();
}

#[test]
fn nothing_is_served_after_damage() {
    let (_folder, mut writer) = writer(16 << 20);
    let before = write(&mut writer, Commit::append(QueueId(0), vec!["a".into()]));
    writer.recover(&failure(ffi::SQLITE_CORRUPT));
    let after = write(&mut writer, Commit::append(QueueId(0), vec!["b".into()]));
    writer.end_group();
    assert!(matches!(before.outcome_here(), Err(CommitError::Failed(_))));
    assert_eq!(after.outcome_here(), Err(CommitError::Closed));
    let rows: u64 =
        writer.conn.query_row("SELECT count(*) FROM q_1", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
    writer.retire();
}

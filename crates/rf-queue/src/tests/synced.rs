//! That what is answered has been synced, as the system calls of a child process show. Needs `strace`.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::rig::{MIB, TTL, bury, filled};
use crate::{Budget, Commit, Durability, QueueId, QueueOptions, Store, StoreOptions};

const FOLDER: &str = "RF_QUEUE_SYNCED_FOLDER";
/// Set for [`Durability::Process`].
const PROCESS: &str = "RF_QUEUE_SYNCED_PROCESS";
/// What the child writes at each answer, and how many there are.
const ANSWERED: &str = "ANSWERED";
const ANSWERS: usize = 15;

/// Not a test by itself: what the other one starts. One request after the other, since the writer may be at work on the next
/// ones while earlier ones are answered.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let path = Path::new(&folder).join("store.sqlite3");
    let mut options = StoreOptions::new(path, MIB, vec![QueueOptions::new("q")]);
    if std::env::var(PROCESS).is_ok() {
        options.durability = Durability::Process;
    }
    let store = Store::open(options).unwrap().store;
    let queue = QueueId(0);
    for _ in 0..10 {
        store.commit(Commit::append(queue, vec![filled(700)])).await.unwrap();
        println!("\n{ANSWERED}");
    }
    // More than the WAL can take at once.
    store.commit(Commit::append(queue, vec![filled(9_000); 50])).await.unwrap();
    println!("\n{ANSWERED}");
    let budget = Budget { events: 5, bytes: usize::MAX };
    let leased = store.lease(queue, budget, TTL).await.unwrap();
    println!("\n{ANSWERED}");
    let ids: Vec<u64> = leased.events.iter().map(|event| event.id).collect();
    store.release(queue, vec![ids[4]]).await.unwrap();
    println!("\n{ANSWERED}");
    store.commit(bury(queue, ids[0])).await.unwrap();
    println!("\n{ANSWERED}");
    store.ack(queue, ids[1..].to_vec()).await.unwrap();
    println!("\n{ANSWERED}");
    store.close().await;
}

/// The child's system calls that write or sync, one a line.
fn trace(settings: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["tests::synced::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output();
    let output = output.expect("this test needs strace: apt-get install strace");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child failed, or may not be traced:\n{stderr}");
    std::fs::read_to_string(trace).unwrap()
}

/// Answers in a trace, and how many of them came while something in the WAL had not been synced.
fn count(trace: &str) -> (usize, usize) {
    let (mut answers, mut early) = (0, 0);
    let mut is_synced = true;
    // Threads whose sync has begun and covers all that the WAL has.
    let mut syncing: Vec<&str> = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let (call, is_wal) = (call.trim_start(), call.contains("-wal>"));
        if call.contains(ANSWERED) {
            answers += 1;
            early += usize::from(!is_synced);
        } else if is_wal && (call.starts_with("pwrite64(") || call.starts_with("write(")) {
            is_synced = false;
            syncing.clear();
        } else if is_wal && call.ends_with("<unfinished ...>") {
            syncing.push(thread);
        } else if is_wal || (call.contains("sync resumed>") && syncing.contains(&thread)) {
            is_synced |= call.ends_with("= 0");
            syncing.retain(|other| *other != thread);
        }
    }
    (answers, early)
}

#[test]
fn what_is_answered_is_synced_unless_a_kill_is_all_that_it_must_survive() {
    assert_eq!(count(&trace(&[])), (ANSWERS, 0));
    let (answers, early) = count(&trace(&[(PROCESS, "1")]));
    assert_eq!(answers, ANSWERS);
    assert!(early > 5, "{early}: a sync that is not there is not seen");
}

#[test]
fn a_sync_counts_when_it_has_ended_and_for_what_was_written_before_it() {
    let check = |lines: &[&str], expected: (usize, usize)| {
        assert_eq!(count(&lines.join("\n")), expected, "{lines:?}");
    };
    let (write, sync) =
        ("7  pwrite64(4</a/b-wal>, \"\"..., 24, 0) = 24", "7  fdatasync(4</a/b-wal>) = 0");
    let begun = "7  fdatasync(4</a/b-wal> <unfinished ...>";
    let ended = "7  <... fdatasync resumed>)      = 0";
    let answered = "6  write(1</c>, \"\\nANSWERED\\n\", 10) = 10";
    check(&[write, sync, answered], (1, 0));
    check(&[write, answered, sync], (1, 1));
    check(&[write, begun, answered, ended, answered], (2, 1));
    check(&[write, begun, write, ended, answered], (1, 1));
    check(&[write, "7  fdatasync(3</a/b>) = 0", answered], (1, 1));
    check(&[write, "7  fdatasync(4</a/b-wal>) = -1 EIO (Input/output error)", answered], (1, 1));
}

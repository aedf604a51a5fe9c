//! A disk without room: a small tmpfs that somebody else fills.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::rig::{MIB, Rig, filled, texts};
use crate::{
    Commit, CommitError, FullReason, Notice, OpenError, QueueOptions, StoreError, WhenFull,
};

/// Mounted for as long as it lives.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn mount(bytes: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test mounts a tmpfs: run it as root"
        );
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("foreign");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

fn rig_on(disk: &SmallDisk, max_bytes: u64) -> Rig {
    let mut rig = Rig::closed(max_bytes, vec![QueueOptions::new("q")]);
    rig.options.path = disk.path().join("store.sqlite3");
    rig.open().unwrap();
    rig
}

/// Waits until the store has its reserve. Its file is there before its bytes are, and whoever takes the room in between leaves
/// the store without one.
async fn until_reserved(rig: &Rig) {
    let reserve = rig.beside(".reserve");
    rig.until(async |_| std::fs::metadata(&reserve).is_ok_and(|file| file.len() > 0)).await;
}

/// Appends until the disk is full; what was stored.
async fn append_until_full(rig: &Rig) -> Vec<String> {
    let mut stored = Vec::new();
    loop {
        let event = format!("{} {}", stored.len(), "x".repeat(900));
        match rig.append(&[&event]).await {
            Ok(_) => stored.push(event),
            Err(CommitError::Full { reason: FullReason::Disk, .. }) => return stored,
            Err(CommitError::Failed(reason)) => {
                assert!(reason.contains("full") || reason.contains("I/O"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_lets_them_go() {
    let disk = SmallDisk::mount(3 * MIB);
    let mut rig = rig_on(&disk, 2 * MIB);
    rig.append(&["first"]).await.unwrap();
    until_reserved(&rig).await;
    let foreign = disk.fill();
    let mut stored = vec!["first".to_owned()];
    stored.extend(append_until_full(&rig).await);
    assert_eq!(rig.texts().await, stored, "everything that was taken is there, and nothing else");
    let refused = rig.append(&["more"]).await.unwrap_err();
    let reason = "queue `q` is full: the disk is full or cannot be written";
    assert_eq!(refused.to_string(), reason);
    let trouble = "the disk is full: events are accepted again once it has 1 MiB free";
    assert_eq!(rig.store().trouble().unwrap().text, trouble);
    let ids = rig.ids().await;
    let half = ids.len() / 2;
    for id in &ids[..half] {
        assert_eq!(rig.ack(vec![*id]).await, 1, "removing goes on");
    }
    assert_eq!(rig.texts().await, stored[half..]);
    let (_, leased) = rig.lease(3).await;
    assert_eq!(texts(&leased), stored[half..(half + 3).min(stored.len())]);
    std::fs::remove_file(foreign).unwrap();
    // Also when somebody asks all the time.
    rig.until(async |_| {
        rig.clock.advance(Duration::from_millis(100));
        rig.append(&["again"]).await.is_ok()
    })
    .await;
    assert_eq!(rig.store().trouble(), None);
    rig.reopen().await;
    assert_eq!(rig.notices, []);
    assert_eq!(rig.texts().await, [&stored[half..], &["again".to_owned()]].concat());
}

#[tokio::test]
async fn events_are_taken_again_only_when_the_disk_has_more_room_than_the_reserve_needs() {
    let disk = SmallDisk::mount(3 * MIB);
    let rig = rig_on(&disk, 2 * MIB);
    rig.append(&["first"]).await.unwrap();
    until_reserved(&rig).await;
    let reserve = std::fs::metadata(rig.beside(".reserve")).unwrap().len();
    let foreign = disk.fill();
    append_until_full(&rig).await;
    // What the store has given up goes, too; then the reserve would fit again, and hardly anything else.
    let mut file = File::options().append(true).open(&foreign).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    append_until_full(&rig).await;
    while file.write_all(&[7; 4096]).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len - reserve * 3 / 2).unwrap();
    for _ in 0..3 {
        rig.clock.advance(Duration::from_secs(1));
        rig.store().poke().await.unwrap();
        let refused = rig.append(&["more"]).await;
        assert!(
            matches!(refused, Err(CommitError::Full { reason: FullReason::Disk, .. })),
            "{refused:?}"
        );
        assert!(rig.store().trouble().is_some());
    }
    std::fs::remove_file(foreign).unwrap();
    drop(file);
    rig.until(async |_| {
        rig.clock.advance(Duration::from_millis(100));
        rig.append(&["again"]).await.is_ok()
    })
    .await;
    assert_eq!(rig.store().trouble(), None);
}

#[tokio::test]
async fn a_full_disk_stops_many_at_once_and_loses_nothing() {
    let disk = SmallDisk::mount(3 * MIB);
    let mut rig = rig_on(&disk, 10 * MIB);
    let store = rig.store().clone();
    let commit = |n: u32| {
        let store = store.clone();
        async move {
            let mut event = n.to_string().into_bytes();
            event.resize(15_000, b' ');
            let stored = store.commit(Commit::append(crate::QueueId(0), vec![event.into()])).await;
            stored.map(|_| n.to_string())
        }
    };
    let outcomes = (0..400).map(commit).collect::<JoinSet<_>>().join_all().await;
    let (mut told, mut refused) = (Vec::new(), 0);
    for outcome in outcomes {
        match outcome {
            Ok(n) => told.push(n),
            Err(CommitError::Full { .. } | CommitError::Failed(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    drop(store);
    assert!(refused > 0 && !told.is_empty());
    rig.reopen().await;
    told.sort();
    let mut found: Vec<String> =
        rig.texts().await.iter().map(|text| text.trim_end().to_owned()).collect();
    found.sort();
    assert_eq!(found, told);
    assert_eq!(rig.usage().events, told.len() as u64);
    rig.ack(rig.ids().await).await;
    rig.until(async |store| {
        rig.clock.advance(Duration::from_millis(100));
        store.commit(Commit::append(rig.q(), vec![filled(100_000)])).await.is_ok()
    })
    .await;
}

/// With a queue of its own on a disk without room, in a folder that is not there yet.
fn rig_without_room(disk: &SmallDisk) -> (Rig, PathBuf) {
    let foreign = disk.fill();
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    rig.options.path = disk.path().join("folder/store.sqlite3");
    rig.open_when_possible();
    (rig, foreign)
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_refuses_until_it_can_be() {
    let disk = SmallDisk::mount(3 * MIB);
    let (mut rig, foreign) = rig_without_room(&disk);
    assert!(!rig.store().is_open());
    rig.until(async |store| store.trouble().is_some()).await;
    let refused = rig.append(&["lost"]).await;
    let Err(CommitError::Failed(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("cannot be opened now") && reason.contains("folder"), "{reason}");
    let read = rig.store().checkpoint("a").await;
    assert!(matches!(read, Err(StoreError::Failed(_))), "{read:?}");
    std::fs::remove_file(foreign).unwrap();
    rig.until(async |_| rig.append(&["kept"]).await.is_ok()).await;
    assert!(rig.store().is_open());
    assert_eq!(rig.store().trouble(), None);
    let again = crate::Store::open(rig.options.clone());
    assert!(matches!(again, Err(OpenError::InUse { .. })), "{again:?}");
    rig.reopen().await;
    assert_eq!(rig.texts().await, ["kept"]);
}

#[tokio::test]
async fn a_store_that_was_never_opened_can_be_closed() {
    let disk = SmallDisk::mount(3 * MIB);
    let (mut rig, _foreign) = rig_without_room(&disk);
    let store = rig.store().clone();
    rig.close().await;
    assert_eq!(store.checkpoint("a").await, Err(StoreError::Closed));
}

#[test]
fn what_does_not_pass_by_itself_is_told_at_once() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    std::fs::write(rig.beside(".lock"), "").unwrap();
    rig.options.path = rig.beside(".lock").join("store.sqlite3");
    let refused = crate::Store::open_when_possible(rig.options.clone());
    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_lets_many_scattered_events_go_at_once() {
    let disk = SmallDisk::mount(3 * MIB);
    let mut rig = rig_on(&disk, 2 * MIB);
    for _ in 0..8 {
        rig.store().commit(Commit::append(rig.q(), vec![filled(900); 100])).await.unwrap();
    }
    // So that the WAL has no length left from what was appended.
    rig.reopen().await;
    until_reserved(&rig).await;
    disk.fill();
    let (leaving, staying): (Vec<u64>, Vec<u64>) =
        rig.ids().await.into_iter().partition(|id| id % 2 == 0);
    assert_eq!(rig.store().ack(rig.q(), leaving).await, Ok(400));
    assert_eq!(rig.ids().await, staying);
    rig.reopen().await;
    assert_eq!(rig.ids().await, staying);
}

#[tokio::test]
async fn a_database_that_was_emptied_is_told_on_a_full_disk_too() {
    let disk = SmallDisk::mount(6 * MIB);
    let mut rig = rig_on(&disk, 4 * MIB);
    rig.append(&["lost"]).await.unwrap();
    until_reserved(&rig).await;
    rig.close().await;
    File::options().write(true).open(rig.path()).unwrap().set_len(0).unwrap();
    disk.fill();
    rig.open().unwrap();
    assert!(!rig.beside(".reserve").exists(), "its room was needed");
    assert_eq!(rig.notices, [Notice::Emptied { path: rig.path().to_owned() }]);
}

#[tokio::test]
async fn a_large_commit_that_waits_for_the_disk_goes_on_when_others_have_made_room() {
    let disk = SmallDisk::mount(6 * MIB);
    let queue = QueueOptions { when_full: WhenFull::Block, ..QueueOptions::new("q") };
    let mut rig = Rig::closed(10 * MIB, vec![queue]);
    rig.options.path = disk.path().join("store.sqlite3");
    rig.open().unwrap();
    let foreign = disk.path().join("foreign");
    std::fs::write(&foreign, vec![7; 4_000_000]).unwrap();
    let commit = Commit::append(rig.q(), vec![filled(2_000_000)]);
    let mut waiting = std::pin::pin!(rig.store().commit(commit));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    std::fs::remove_file(foreign).unwrap();
    let stored = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(stored.is_ok_and(|stored| stored.is_ok()));
}

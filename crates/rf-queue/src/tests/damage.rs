//! Damaged files: set aside, salvaged as far as they can be read, said so.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::rig::{MIB, Rig, bury, set, texts};
use crate::{Commit, CommitError, Import, Notice, QueueOptions, StoreOptions};

const EVENTS: usize = 1000;

fn contents() -> Vec<String> {
    (0..EVENTS).map(|n| format!("{n} {}", "x".repeat(700))).collect()
}

/// A closed store with [`EVENTS`] events, a dead letter, a checkpoint and a batch id.
async fn closed_store() -> Rig {
    let mut rig = Rig::with(2 * MIB, vec![QueueOptions::new("q")]);
    rig.append(&["dead"]).await.unwrap();
    rig.store().commit(bury(rig.q(), rig.ids().await[0])).await.unwrap();
    let contents = contents();
    rig.append(&contents.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    let marks = Commit {
        checkpoints: vec![set("file", "7")],
        batch_id: Some("batch".into()),
        ..Commit::default()
    };
    rig.store().commit(marks).await.unwrap();
    rig.close().await;
    rig
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Overwrites the first page of a table.
fn overwrite_table(path: &Path, table: &str) {
    let conn = rusqlite::Connection::open(path).unwrap();
    let find = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u64 = conn.query_row(find, [table], |row| row.get(0)).unwrap();
    conn.close().unwrap();
    overwrite(path, (root - 1) * 4096, &[0xA5; 4096]);
}

/// Where the page with this content begins.
fn page_of(bytes: &[u8], content: &str) -> usize {
    let at = bytes.windows(content.len()).position(|part| part == content.as_bytes());
    at.unwrap() / 4096 * 4096
}

/// Where the first row of a page begins: with two bytes of its length, and then its id.
fn first_row(bytes: &[u8], page: usize) -> usize {
    assert_eq!(bytes[page], 0x0D, "a page of rows");
    page + usize::from(u16::from_be_bytes([bytes[page + 8], bytes[page + 9]]))
}

/// What `Rig::notices` says of damage: salvaged and lost events.
fn damage(rig: &Rig) -> (u64, u64) {
    let [Notice::Damaged { salvaged, lost, kept_as, .. }] = &rig.notices[..] else {
        panic!("{:?}", rig.notices)
    };
    assert!(kept_as.exists());
    (*salvaged, *lost)
}

/// The store works, in order and with new ids.
async fn check_goes_on(rig: &mut Rig, at_least: usize) {
    let before = rig.all().await;
    assert!(before.len() >= at_least, "{} events of at least {at_least}", before.len());
    let contents = contents();
    assert!(texts(&before).iter().all(|text| contents.contains(text)));
    assert_eq!(rig.usage().events, before.len() as u64);
    rig.append(&["new"]).await.unwrap();
    let ids = rig.ids().await;
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "order and new ids");
    rig.reopen().await;
    assert_eq!(rig.notices, []);
    assert_eq!(rig.ids().await, ids);
}

#[tokio::test]
async fn one_bad_page_costs_its_events_only() {
    let mut rig = closed_store().await;
    overwrite(rig.path(), 100 * 4096, &[0xA5; 4096]);
    rig.open().unwrap();
    let (salvaged, lost) = damage(&rig);
    assert_eq!(salvaged + lost, EVENTS as u64);
    assert!((1..=6).contains(&lost), "{lost} lost");
    assert_eq!(rig.usage().dropped_damaged, lost);
    assert!(rig.notices[0].is_loss());
    assert_eq!(rig.store().checkpoint("file").await.unwrap().unwrap(), b"7");
    let repeat = Commit { batch_id: Some("batch".into()), ..Commit::default() };
    assert!(rig.store().commit(repeat).await.unwrap().duplicate);
    assert_eq!(rig.store().disk().dead_letters, 1);
    check_goes_on(&mut rig, EVENTS - 6).await;
}

#[tokio::test]
async fn several_bad_pages_cost_what_lies_on_them() {
    let mut rig = closed_store().await;
    for page in [40, 90, 91, 150] {
        overwrite(rig.path(), page * 4096, &[0xA5; 4096]);
    }
    rig.open().unwrap();
    let (_, lost) = damage(&rig);
    assert!((4..=24).contains(&lost), "{lost} lost");
    check_goes_on(&mut rig, EVENTS - 24).await;
}

/// Else the start would never end.
#[tokio::test]
async fn an_id_that_leads_back_is_damage() {
    let mut rig = closed_store().await;
    let mut bytes = fs::read(rig.path()).unwrap();
    // The first row of this page gets the id 2; its id stands behind two bytes of its length.
    let page = page_of(&bytes, "420 x");
    let row = first_row(&bytes, page);
    bytes[row + 2..row + 4].copy_from_slice(&[0x80, 2]);
    // One behind it has events looked for one by one.
    let page = page_of(&bytes, "430 x");
    bytes[page..page + 4096].fill(0xA5);
    fs::write(rig.path(), bytes).unwrap();
    rig.open().unwrap();
    let (salvaged, lost) = damage(&rig);
    assert_eq!(salvaged + lost, EVENTS as u64);
    assert!((2..=7).contains(&lost), "{lost} lost");
    check_goes_on(&mut rig, EVENTS - 7).await;
}

/// SQLite reads a page with such an id without complaint.
#[tokio::test]
async fn a_wrong_id_costs_its_event_only() {
    // One bit of it: beyond all ids, where reading upwards would end, and among them, in the place of another.
    for (byte, bit) in [(0, 0x40), (6, 0x40), (6, 0x20)] {
        let mut rig = closed_store().await;
        let mut bytes = fs::read(rig.path()).unwrap();
        let page = page_of(&bytes, "420 x");
        let id = first_row(&bytes, page) + 2;
        bytes[id + byte] ^= bit;
        fs::write(rig.path(), bytes).unwrap();
        rig.open().unwrap();
        assert_eq!(damage(&rig), (EVENTS as u64 - 1, 1), "bit {bit:#x} of byte {byte}");
        check_goes_on(&mut rig, EVENTS - 1).await;
    }
}

#[tokio::test]
async fn what_a_killed_process_had_salvaged_does_not_count_as_lost() {
    let mut rig = closed_store().await;
    overwrite(rig.path(), 100 * 4096, &[0xA5; 4096]);
    rig.open().unwrap();
    let first = damage(&rig);
    let [Notice::Damaged { kept_as, .. }] = &rig.notices[..] else { panic!("{:?}", rig.notices) };
    let name = kept_as.file_name().unwrap().to_owned();
    rig.close().await;
    // As if killed just before the end.
    fs::write(rig.beside(".damaged"), name.as_encoded_bytes()).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), first);
    assert_eq!(rig.usage().dropped_damaged, first.1);
}

#[tokio::test]
async fn a_new_database_that_is_damaged_before_the_salvage_has_ended_is_begun_again() {
    let mut rig = closed_store().await;
    let aside = rig.beside(".corrupt-1");
    fs::rename(rig.path(), &aside).unwrap();
    fs::write(rig.beside(".damaged"), aside.file_name().unwrap().as_encoded_bytes()).unwrap();
    // What a killed process had begun.
    fs::write(rig.path(), "this is a text\n".repeat(1000)).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    assert!(rig.beside(".corrupt-1.unfinished").exists(), "kept for a person");
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn damage_of_the_new_database_does_not_make_the_other_one_forgotten() {
    let mut rig = closed_store().await;
    let aside = rig.beside(".corrupt-1");
    fs::rename(rig.path(), &aside).unwrap();
    fs::write(rig.beside(".damaged"), aside.file_name().unwrap().as_encoded_bytes()).unwrap();
    fs::write(rig.path(), "this is a text\n".repeat(1000)).unwrap();
    // As of a process that met the damage of the new one while it salvaged, and was killed.
    crate::aside::mark(rig.path());
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn a_note_that_cannot_be_read_is_not_taken_for_none() {
    let mut rig = closed_store().await;
    fs::create_dir(rig.beside(".damaged")).unwrap();
    let refused = rig.open().unwrap_err();
    assert!(refused.to_string().contains(".damaged"), "{refused}");
    fs::remove_dir(rig.beside(".damaged")).unwrap();
    rig.open().unwrap();
    assert_eq!(rig.notices, []);
}

#[tokio::test]
async fn the_wal_of_an_older_damaged_file_is_not_taken_for_that_of_the_next() {
    let mut rig = closed_store().await;
    rig.open().unwrap();
    rig.append(&["delivered"]).await.unwrap();
    // Left by one that was set aside within the same second.
    fs::copy(rig.beside("-wal"), rig.beside(".corrupt-1700000000-wal")).unwrap();
    let newest = rig.ids().await.pop().unwrap();
    rig.ack(vec![newest]).await;
    rig.close().await;
    overwrite(rig.path(), 0, &[0xA5; 100]);
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn an_overwritten_header_costs_nothing() {
    let mut rig = closed_store().await;
    overwrite(rig.path(), 0, &[0xA5; 100]);
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    assert!(!rig.notices[0].is_loss(), "{:?}", rig.notices);
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn a_token_of_the_damaged_file_is_not_given_again() {
    let mut rig = closed_store().await;
    rig.open().unwrap();
    let (token, _) = rig.lease(1).await;
    rig.close().await;
    overwrite(rig.path(), 0, &[0xA5; 100]);
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    let (newer, _) = rig.lease(1).await;
    assert!(newer > token, "{newer} after {token}");
}

#[tokio::test]
async fn a_damaged_file_that_cannot_be_read_now_is_salvaged_later() {
    let mut rig = closed_store().await;
    let aside = rig.beside(".corrupt-1");
    fs::rename(rig.path(), &aside).unwrap();
    fs::write(rig.beside(".damaged"), aside.file_name().unwrap().as_encoded_bytes()).unwrap();
    let somebody = rusqlite::Connection::open(&aside).unwrap();
    somebody.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let refused = rig.open().unwrap_err();
    assert!(refused.to_string().contains(".corrupt-1: "), "{refused}");
    drop(somebody);
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn a_header_that_cannot_be_mended_now_is_mended_later() {
    let mut rig = closed_store().await;
    overwrite(rig.path(), 0, &[0xA5; 100]);
    // In the place of the database that the header is taken from.
    let scratch = rig.beside(".corrupt-1700000000.header");
    fs::create_dir(&scratch).unwrap();
    let refused = rig.open().unwrap_err();
    assert!(refused.to_string().contains(".header"), "{refused}");
    fs::remove_dir(&scratch).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn a_lost_first_page_is_said_and_the_store_goes_on() {
    let mut rig = closed_store().await;
    overwrite(rig.path(), 0, &[0xA5; 4096]);
    rig.open().unwrap();
    assert_eq!(damage(&rig), (0, 0));
    check_goes_on(&mut rig, 0).await;
}

#[tokio::test]
async fn a_truncated_file_gives_what_is_left() {
    let mut rig = closed_store().await;
    let length = fs::metadata(rig.path()).unwrap().len();
    File::options().write(true).open(rig.path()).unwrap().set_len(length * 6 / 10).unwrap();
    rig.open().unwrap();
    let (salvaged, lost) = damage(&rig);
    assert_eq!(salvaged + lost, EVENTS as u64);
    check_goes_on(&mut rig, EVENTS / 2).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    fs::write(rig.path(), "this is a text\n".repeat(1000)).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), (0, 0));
    let told = rig.notices[0].to_string();
    assert!(told.ends_with(", no events were found in it"), "{told}");
    check_goes_on(&mut rig, 0).await;
}

#[tokio::test]
async fn a_database_that_was_emptied_or_removed_is_told() {
    for removed in [false, true] {
        let mut rig = closed_store().await;
        if removed {
            fs::remove_file(rig.path()).unwrap();
        } else {
            File::options().write(true).open(rig.path()).unwrap().set_len(0).unwrap();
        }
        rig.open().unwrap();
        assert_eq!(rig.notices, [Notice::Emptied { path: rig.path().to_owned() }]);
        assert!(rig.notices[0].is_loss());
        check_goes_on(&mut rig, 0).await;
    }
    // With its reserve it is begun anew on purpose.
    let mut rig = closed_store().await;
    fs::remove_file(rig.path()).unwrap();
    fs::remove_file(rig.beside(".reserve")).unwrap();
    rig.open().unwrap();
    assert_eq!(rig.notices, []);
}

#[tokio::test]
async fn an_emptied_database_is_told_by_the_first_start_that_does_not_fail() {
    let mut rig = closed_store().await;
    fs::remove_file(rig.path()).unwrap();
    let import = rig.path().with_file_name("a-sink.sqlite3");
    fs::create_dir(&import).unwrap();
    rig.options.imports = vec![Import { path: import.clone(), queue: "q".to_owned() }];
    rig.open().unwrap_err();
    assert!(fs::metadata(rig.path()).unwrap().len() > 0, "there is a new one by now");
    fs::remove_dir(&import).unwrap();
    rig.open().unwrap();
    assert_eq!(rig.notices, [Notice::Emptied { path: rig.path().to_owned() }]);
    // And by no other.
    check_goes_on(&mut rig, 0).await;
}

#[tokio::test]
async fn garbage_in_the_wal_ends_it_there() {
    // Large enough for no checkpoint to be due so early.
    let rig = Rig::with(64 * MIB, vec![QueueOptions::new("q")]);
    for n in 0..20 {
        rig.append(&[&n.to_string()]).await.unwrap();
    }
    let mut copy = Rig::closed(64 * MIB, vec![QueueOptions::new("q")]);
    for suffix in ["", "-wal"] {
        fs::copy(rig.beside(suffix), copy.beside(suffix)).unwrap();
    }
    let half = fs::metadata(copy.beside("-wal")).unwrap().len() / 2;
    overwrite(&copy.beside("-wal"), half, &[0xA5; 5000]);
    copy.open().unwrap();
    assert_eq!(copy.notices, []);
    let kept = copy.texts().await;
    assert!((5..20).contains(&kept.len()), "{kept:?}");
    assert!(kept.iter().enumerate().all(|(n, text)| *text == n.to_string()));
    assert_eq!(copy.usage().events, kept.len() as u64);
}

#[tokio::test]
async fn only_the_newest_damaged_file_is_kept() {
    let mut rig = closed_store().await;
    for _ in 0..3 {
        overwrite(rig.path(), 0, &[0xA5; 100]);
        rig.clock.advance(Duration::from_secs(5));
        rig.open().unwrap();
        damage(&rig);
        rig.close().await;
    }
    let names = fs::read_dir(rig.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let kept: Vec<String> = names.filter(|name| name.contains(".corrupt-")).collect();
    assert_eq!(kept, ["store.sqlite3.corrupt-1700000015"]);
}

#[tokio::test]
async fn damage_met_while_running_stops_the_store_and_is_mended_at_the_next_start() {
    let mut rig = closed_store().await;
    rig.options = StoreOptions { idle_close: Some(Duration::ZERO), ..rig.options };
    rig.open().unwrap();
    rig.until(async |store| store.is_hibernating()).await;
    overwrite(rig.path(), 100 * 4096, &[0xA5; 4096]);
    let all = crate::Budget { events: EVENTS, bytes: usize::MAX };
    let error = rig.store().read(rig.q(), 0, all).await.unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
    assert!(rig.store().failed().await.contains("set aside and salvaged at the next start"));
    assert_eq!(rig.append(&["a"]).await, Err(CommitError::Closed));
    rig.close().await;
    rig.open().unwrap();
    assert!(damage(&rig).0 > EVENTS as u64 - 10);
}

#[tokio::test]
async fn damage_met_when_a_store_wakes_up_stops_it_as_well() {
    let mut rig = closed_store().await;
    rig.options = StoreOptions { idle_close: Some(Duration::ZERO), ..rig.options };
    rig.open().unwrap();
    rig.until(async |store| store.is_hibernating()).await;
    overwrite_table(rig.path(), "queues");
    let refused = rig.append(&["a"]).await;
    assert!(matches!(refused, Err(CommitError::Failed(_))), "{refused:?}");
    assert!(rig.store().failed().await.contains("set aside and salvaged at the next start"));
    assert_eq!(rig.append(&["a"]).await, Err(CommitError::Closed));
    rig.close().await;
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
}

#[tokio::test]
async fn damage_of_a_file_that_is_too_large_to_be_checked_is_met_when_it_is_opened() {
    let mut rig = closed_store().await;
    overwrite_table(rig.path(), "queues");
    File::options().write(true).open(rig.path()).unwrap().set_len(33 * MIB).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn a_start_that_fails_after_a_salvage_leaves_the_loss_to_be_told_by_the_next() {
    let mut rig = closed_store().await;
    overwrite_table(rig.path(), "queues");
    let import = rig.path().with_file_name("a-sink.sqlite3");
    fs::create_dir(&import).unwrap();
    rig.options.imports = vec![Import { path: import.clone(), queue: "q".to_owned() }];
    rig.open().unwrap_err();
    fs::remove_dir(&import).unwrap();
    rig.open().unwrap();
    assert_eq!(damage(&rig), (EVENTS as u64, 0));
    check_goes_on(&mut rig, EVENTS).await;
}

#[tokio::test]
async fn events_of_a_queue_that_is_no_longer_configured_stay_and_are_told() {
    let names = |names: &[&str]| names.iter().map(|name| QueueOptions::new(*name)).collect();
    let mut rig = Rig::with(MIB, names(&["q", "gone"]));
    rig.append_to(rig.queue("gone"), &["a", "b"]).await.unwrap();
    rig.close().await;
    rig.options = StoreOptions { queues: names(&["q"]), ..rig.options };
    rig.open().unwrap();
    assert_eq!(rig.notices, [Notice::Orphan { queue: "gone".into(), events: 2 }]);
    rig.close().await;
    rig.options = StoreOptions { queues: names(&["gone", "q"]), ..rig.options };
    rig.open().unwrap();
    assert_eq!((rig.notices.len(), rig.texts().await), (0, vec!["a".into(), "b".into()]));
}

/// A store with these events in its first queue, and an overwritten header.
pub(super) fn store_without_header(path: &Path, contents: &[String]) {
    let queues = super::crash::queues();
    let store = crate::Store::open(StoreOptions::new(path, MIB, queues)).unwrap().store;
    let fill = async {
        let events = contents.iter().map(|content| content.clone().into()).collect();
        store.commit(Commit::append(crate::QueueId(0), events)).await.unwrap();
        store.close().await;
    };
    // Not on this thread, which may be one of a runtime.
    std::thread::scope(|scope| {
        let block =
            || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(fill);
        scope.spawn(block).join().unwrap();
    });
    overwrite(path, 0, &[0xA5; 100]);
}

//! Copies of log files: told by their content, and never read beside their original.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use rf_queue::{Checkpoint, Commit};
use serde_json::{Value, json};

use super::rig::{Rig, compress};
use super::rotation::{numbered, text};

/// A copy that was finished some time ago, so that it may be judged.
fn copy(rig: &Rig, from: &str, to: &str) {
    fs::copy(rig.path(from), rig.path(to)).unwrap();
    let file = File::options().write(true).open(rig.path(to)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

pub(super) fn lies_at(record: &Value, name: &str) -> bool {
    record["path"].as_str().unwrap().ends_with(name)
}

#[tokio::test]
async fn a_copy_beside_a_file_that_nobody_has_looked_at_is_not_read_as_well() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..2));
    rig.expect(&numbered(0..2)).await;
    rig.stop().await;
    rig.rename("app.log", "app.log.2");
    rig.append("app.log", text(2..9));
    copy(&rig, "app.log", "app.log.1");
    rig.start().await;
    rig.until_record("the copy counts as read", |record| lies_at(record, "app.log.1")).await;
    rig.append("app.log", text(9..11));
    rig.expect(&numbered(0..11)).await;
}

#[tokio::test]
async fn a_file_that_is_asked_for_and_begins_as_another_is_no_copy_of_it() {
    let mut rig = Rig::new(json!({ "filePaths": ["app.log*"] }));
    rig.append("app.log-20261125", format!("starting\n{}", text(0..200)));
    rig.start().await;
    rig.until("the first is read", async |rig| rig.lines().await.len() == 201).await;
    rig.append("app.log-20261125", "starting\n");
    fs::write(rig.path("x"), "starting\n").unwrap();
    copy(&rig, "x", "app.log-20261126");
    rig.until("the second is read", async |rig| rig.lines().await.len() == 203).await;
    rig.append("app.log-20261126", text(200..201));
    rig.until("it is read on", async |rig| rig.lines().await.last().unwrap() == "line 200").await;
}

#[tokio::test]
async fn a_compressed_copy_beside_what_was_read_before_the_start_is_not_read() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.expect(&numbered(0..300)).await;
    rig.stop().await;
    rig.rename("app.log", "kept");
    fs::copy(rig.path("kept"), rig.path("app.log.1")).unwrap();
    rig.compress("app.log.1");
    rig.append("app.log", text(300..310));
    rig.start().await;
    rig.until_record("the copy counts as read", |record| lies_at(record, "1.gz")).await;
    rig.append("app.log", text(310..320));
    rig.expect(&numbered(0..320)).await;
}

#[tokio::test]
async fn a_copy_that_is_written_over_is_read_on() {
    let rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.expect(&numbered(0..300)).await;
    copy(&rig, "app.log", "app.log.1");
    rig.append("app.log", text(300..301));
    rig.until_record("the copy counts as read", |record| lies_at(record, "app.log.1")).await;
    rig.append("app.log.1", "more\n");
    rig.until("it is read on", async |rig| rig.lines().await.iter().any(|line| line == "more"))
        .await;
    assert_eq!(rig.lines().await.len(), 302);
}

#[tokio::test]
async fn the_copy_is_read_when_its_original_is_emptied_unseen() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..2));
    rig.expect(&numbered(0..2)).await;
    rig.stop().await;
    // Three contents of one file, two of which came and went.
    rig.append("app.log", text(2..4));
    rig.copy_and_truncate("app.log", "app.log.2");
    rig.append("app.log", text(4..9));
    rig.copy_and_truncate("app.log", "app.log.1");
    rig.append("app.log", text(9..11));
    rig.start().await;
    rig.expect_set(&numbered(0..11)).await;
}

#[tokio::test]
async fn a_copy_that_is_compressed_long_after_is_not_read_again() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.expect(&numbered(0..300)).await;
    copy(&rig, "app.log", "app.log.1");
    rig.append("app.log", text(300..301));
    rig.until_record("the copy counts as read", |record| lies_at(record, "app.log.1")).await;
    fs::write(rig.path("app.log"), text(301..310)).unwrap();
    rig.expect(&numbered(0..310)).await;
    rig.stop().await;
    // After ten minutes nothing else is known of what was in the file before.
    let is_lost = |record: &Value| record["id"].is_null() && record["offset"].as_u64() > Some(0);
    let records = rig.records().await;
    let lost = records.into_iter().filter(|(_, record)| is_lost(record));
    let checkpoints: Vec<_> = lost.map(|(key, _)| Checkpoint { key, value: None }).collect();
    assert_eq!(checkpoints.len(), 1);
    rig.store.commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
    rig.rename("app.log.1", "app.log.2");
    rig.compress("app.log.2");
    rig.start().await;
    rig.until_record("the compressed one counts as read", |record| lies_at(record, "2.gz")).await;
    rig.append("app.log", text(310..320));
    rig.expect(&numbered(0..320)).await;
}

#[tokio::test]
async fn a_deleted_file_that_comes_back_compressed_is_not_read_again() {
    let rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.expect(&numbered(0..300)).await;
    // Elsewhere, as a program does that compresses slowly and moves the result into place.
    let aside = tempfile::tempdir_in(rig.folder.path()).unwrap();
    fs::copy(rig.path("app.log"), aside.path().join("x")).unwrap();
    compress(&aside.path().join("x"));
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.append("app.log", text(300..310));
    rig.until_record("the deleted file is closed", |record| {
        record["id"].is_null() && record["done"] == true && record["offset"].as_u64() > Some(0)
    })
    .await;
    fs::rename(aside.path().join("x.gz"), rig.path("app.log.1.gz")).unwrap();
    rig.until_record("the compressed one counts as read", |record| lies_at(record, "1.gz")).await;
    rig.append("app.log", text(310..320));
    rig.expect(&numbered(0..320)).await;
}

#[tokio::test]
async fn another_beginning_is_another_content_though_its_end_is_the_same() {
    let rig = Rig::over_app_log(json!({})).await;
    let same = "-".repeat(100);
    rig.append("app.log", format!("first\n{same}\n"));
    rig.expect(&["first", &same]).await;
    let file = File::options().write(true).open(rig.path("app.log")).unwrap();
    rig.until_later_than("app.log").await;
    file.write_all_at(b"other\n", 0).unwrap();
    rig.expect(&["first", &same, "other", &same]).await;
    rig.append("app.log", "more\n");
    rig.expect(&["first", &same, "other", &same, "more"]).await;
}

#[tokio::test]
async fn what_a_file_was_filled_with_anew_is_not_read_again_as_its_compressed_copy() {
    let rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..100));
    rig.expect(&numbered(0..100)).await;
    // Faster than anybody looks: emptied, filled with more than before, renamed and compressed.
    fs::write(rig.path("app.log"), text(100..400)).unwrap();
    rig.rename("app.log", "app.log.1");
    rig.compress("app.log.1");
    rig.append("app.log", text(400..410));
    rig.until_record("the copy counts as read", |record| lies_at(record, "1.gz")).await;
    rig.append("app.log", text(410..420));
    rig.until("the last line is read", async |rig| {
        rig.lines().await.iter().any(|line| line == "line 419")
    })
    .await;
    rig.expect_set(&numbered(0..420)).await;
}

//! What happens to log files, while the source runs and while it does not.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::rig::Rig;

pub(super) fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

pub(super) fn text(range: std::ops::Range<u32>) -> String {
    numbered(range).iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_file_that_is_there_is_read_from_its_beginning_once() {
    let mut rig = Rig::new(json!({ "filePath": "app.log" }));
    rig.append("app.log", text(0..3));
    rig.start().await;
    rig.expect(&numbered(0..3)).await;
    rig.append("app.log", text(3..5));
    rig.expect(&numbered(0..5)).await;
    rig.stop().await;
    rig.append("app.log", text(5..6));
    rig.start().await;
    rig.expect(&numbered(0..6)).await;
}

#[tokio::test]
async fn a_renamed_file_is_read_to_its_end() {
    let rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..3));
    rig.expect(&numbered(0..3)).await;
    rig.append("app.log", text(3..5));
    rig.rename("app.log", "app.log.1");
    // The writer has not noticed yet.
    rig.append("app.log.1", text(5..6));
    rig.append("app.log", text(6..8));
    rig.expect_set(&numbered(0..8)).await;
}

#[tokio::test]
async fn two_rotations_while_stopped_lose_nothing_and_keep_the_order() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..3));
    rig.expect(&numbered(0..3)).await;
    rig.stop().await;
    rig.append("app.log", text(3..5));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(5..7));
    rig.rename("app.log.1", "app.log.2");
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(7..9));
    rig.start().await;
    rig.expect(&numbered(0..9)).await;
}

#[tokio::test]
async fn a_rotation_to_compressed_files_while_stopped_loses_nothing() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.expect(&numbered(0..300)).await;
    rig.stop().await;
    rig.append("app.log", text(300..400));
    rig.rename("app.log", "app.log-20260131");
    rig.compress("app.log-20260131");
    rig.append("app.log", text(400..500));
    rig.rename("app.log", "app.log-20260201");
    rig.compress("app.log-20260201");
    rig.append("app.log", text(500..600));
    rig.start().await;
    rig.expect(&numbered(0..600)).await;
}

#[tokio::test]
async fn compressing_what_was_read_repeats_nothing() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..300));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(300..310));
    rig.expect_set(&numbered(0..310)).await;
    rig.compress("app.log.1");
    rig.append("app.log", text(310..320));
    rig.expect_set(&numbered(0..320)).await;
    rig.rename("app.log.1.gz", "app.log.2.gz");
    rig.stop().await;
    rig.start().await;
    rig.append("app.log", text(320..330));
    rig.expect_set(&numbered(0..330)).await;
}

#[tokio::test]
async fn copy_and_truncate_loses_nothing_whether_running_or_not() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..3));
    rig.expect(&numbered(0..3)).await;
    // Not all of it may have been read before it is copied.
    rig.append("app.log", text(3..2000));
    rig.copy_and_truncate("app.log", "app.log.1");
    rig.append("app.log", text(2000..2003));
    rig.expect_set(&numbered(0..2003)).await;
    rig.stop().await;
    rig.append("app.log", text(2003..2010));
    rig.rename("app.log.1", "app.log.2");
    rig.copy_and_truncate("app.log", "app.log.1");
    rig.append("app.log", text(2010..2020));
    rig.start().await;
    rig.expect_set(&numbered(0..2020)).await;
}

#[tokio::test]
async fn a_file_that_was_emptied_and_filled_again_is_noticed_at_any_size() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..10));
    rig.expect(&numbered(0..10)).await;
    // Smaller, larger, and of the same size.
    fs::write(rig.path("app.log"), text(10..12)).unwrap();
    rig.expect(&numbered(0..12)).await;
    fs::write(rig.path("app.log"), text(12..30)).unwrap();
    rig.expect(&numbered(0..30)).await;
    rig.until_later_than("app.log").await;
    fs::write(rig.path("app.log"), text(30..48)).unwrap();
    rig.expect(&numbered(0..48)).await;
    rig.stop().await;
    fs::write(rig.path("app.log"), text(48..90)).unwrap();
    rig.start().await;
    rig.expect(&numbered(0..90)).await;
}

#[tokio::test]
async fn a_deleted_file_is_read_to_its_end_and_its_successor_from_the_beginning() {
    let mut rig = Rig::over_app_log(json!({})).await;
    for round in 0..5 {
        let from = round * 10;
        rig.append("app.log", text(from..from + 5));
        // The source has it open, whatever becomes of its name.
        rig.expect_set(&numbered(0..from + 5)).await;
        rig.append("app.log", text(from + 5..from + 7));
        fs::remove_file(rig.path("app.log")).unwrap();
        rig.append("app.log", text(from + 7..from + 10));
        rig.expect_set(&numbered(0..from + 10)).await;
    }
    rig.stop().await;
    // All of it was read: a new file, with the inode of the old one as often as not.
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.append("app.log", text(50..60));
    rig.start().await;
    rig.expect_set(&numbered(0..60)).await;
}

#[tokio::test]
async fn a_link_that_is_switched_is_followed() {
    let mut rig = Rig::new(json!({ "filePath": "current.log" }));
    rig.append("a.log", text(0..3));
    symlink("a.log", rig.path("current.log")).unwrap();
    rig.start().await;
    rig.expect(&numbered(0..3)).await;
    let switch = |to: &str| {
        symlink(to, rig.path("new")).unwrap();
        rig.rename("new", "current.log");
    };
    rig.append("b.log", text(3..6));
    rig.append("a.log", text(6..7));
    switch("b.log");
    rig.expect_set(&numbered(0..7)).await;
    rig.stop().await;
    rig.append("b.log", text(7..9));
    rig.append("c.log", text(9..12));
    symlink("c.log", rig.path("new")).unwrap();
    rig.rename("new", "current.log");
    rig.start().await;
    rig.expect_set(&numbered(0..12)).await;
}

#[tokio::test]
async fn what_was_rotated_before_the_file_was_first_seen_is_not_read() {
    let mut rig = Rig::new(json!({ "filePath": "app.log" }));
    rig.append("app.log.1", text(0..5));
    rig.append("app.log.2", text(5..9));
    rig.compress("app.log.2");
    rig.append("app.log", text(10..12));
    rig.start().await;
    rig.expect(&numbered(10..12)).await;
    rig.rename("app.log.2.gz", "app.log.3.gz");
    rig.rename("app.log.1", "app.log.2");
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(12..15));
    rig.expect(&numbered(10..15)).await;
    rig.compress("app.log.2");
    rig.stop().await;
    rig.start().await;
    rig.append("app.log", text(15..16));
    rig.expect(&numbered(10..16)).await;
}

#[tokio::test]
async fn a_file_that_comes_after_the_start_is_read_whole_and_so_is_its_rotation() {
    let mut rig = Rig::over_app_log(json!({ "startAt": "end" })).await;
    rig.append("app.log", text(0..5));
    rig.expect(&numbered(0..5)).await;
    rig.stop().await;
    rig.append("app.log", text(5..6));
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(6..7));
    rig.start().await;
    rig.expect(&numbered(0..7)).await;
}

#[tokio::test]
async fn start_at_end_begins_with_what_is_added() {
    let mut rig = Rig::new(json!({ "filePath": "app.log", "startAt": "end" }));
    rig.append("app.log", format!("{}half", text(0..5)));
    rig.start().await;
    rig.append("app.log", format!(" a line\n{}", text(5..7)));
    rig.expect(&numbered(5..7)).await;
    rig.stop().await;
    rig.append("app.log", text(7..8));
    rig.start().await;
    rig.expect(&numbered(5..8)).await;
}

#[tokio::test]
async fn a_file_of_another_name_beside_it_is_left_alone() {
    let rig = Rig::over_app_log(json!({})).await;
    for name in ["app.log.bak", "app-2.log", "other.log.1", "my-app.log"] {
        rig.append(name, text(100..105));
    }
    rig.append("app.log", text(0..2));
    rig.expect(&numbered(0..2)).await;
    rig.rename("app.log", "app.log.1");
    rig.append("app.log", text(2..4));
    rig.expect(&numbered(0..4)).await;
}

#[tokio::test]
async fn a_file_moved_to_any_name_in_its_folder_while_stopped_is_read_to_its_end() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..2));
    rig.expect(&numbered(0..2)).await;
    rig.stop().await;
    rig.append("app.log", text(2..4));
    rig.rename("app.log", "saved");
    rig.append("app.log", text(4..6));
    rig.start().await;
    rig.expect(&numbered(0..6)).await;
}

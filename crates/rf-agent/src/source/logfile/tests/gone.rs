//! Files that went while the source did not run, and may have had lines that were not read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::advance;

use super::super::tailer::Tailer;
use super::moved::{Folders, look, pack, read, stop};
use super::rig::append;
use super::rotation::{numbered, text};
use super::trouble::settings;

/// The files that a source misses when it looks for the first time.
fn missed(tailer: &mut Tailer) -> Vec<(PathBuf, u64)> {
    tailer.look_around().1.gone
}

#[tokio::test]
async fn a_file_that_went_while_stopped_is_told_once_with_how_far_it_was_read() {
    let goes: [fn(&Path); 3] = [
        |root| fs::remove_file(root.join("log/app.log")).unwrap(),
        // Where nobody looks, and under a name that nobody knows.
        |root| fs::rename(root.join("log/app.log"), root.join("app.log.1")).unwrap(),
        |root| {
            fs::rename(root.join("log/app.log"), root.join("app.log.1")).unwrap();
            append(&root.join("log/app.log"), b"a new one\n");
        },
    ];
    for go in goes {
        let folders = Folders::new("old/app.log*");
        folders.append("log/app.log", &text(0..300));
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 300);
        go(folders.root.path());
        assert!(missed(&mut tailer).is_empty(), "it is open");
        let mut tailer = folders.start(stop(&tailer));
        let read = u64::try_from(text(0..300).len()).unwrap();
        assert_eq!(missed(&mut tailer), [(folders.path("log/app.log"), read)]);
        assert!(missed(&mut tailer).is_empty());
    }
}

#[tokio::test]
async fn a_file_that_is_found_or_not_configured_any_more_is_not_missed() {
    let moves: [fn(&Path); 4] = [
        |_| {},
        |root| fs::rename(root.join("log/app.log"), root.join("log/saved")).unwrap(),
        |root| fs::rename(root.join("log/app.log"), root.join("old/app.log.1")).unwrap(),
        |root| {
            fs::remove_file(root.join("log/app.log")).unwrap();
            pack(&root.join("old/app.log.1.gz"), &text(0..300));
        },
    ];
    for (number, go) in moves.into_iter().enumerate() {
        let folders = Folders::new("old/app.log*");
        folders.append("log/app.log", &text(0..300));
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 300);
        go(folders.root.path());
        let mut tailer = folders.start(stop(&tailer));
        assert!(missed(&mut tailer).is_empty(), "{number}");
        let records = stop(&tailer);
        folders.remove_all();
        let other = settings(&json!({ "filePath": folders.path("other.log") }));
        assert!(missed(&mut Tailer::new(other, records)).is_empty(), "{number}");
    }
}

#[tokio::test]
async fn a_compressed_file_that_was_read_to_its_end_is_not_missed() {
    let folders = Folders::new("old/app.log*");
    pack(&folders.path("old/app.log.1.gz"), &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer).len(), 300);
    folders.remove("old/app.log.1.gz");
    assert!(missed(&mut folders.start(stop(&tailer))).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rotated_file_that_was_read_and_quiet_is_not_missed() {
    for pattern in ["old/app.log*", "old/*.gz"] {
        let folders = Folders::new(pattern);
        folders.append("log/app.log", &text(0..300));
        let mut tailer = folders.start(Vec::new());
        assert_eq!(look(&mut tailer).len(), 300);
        fs::rename(folders.path("log/app.log"), folders.path("old/app.log.1")).unwrap();
        folders.append("log/app.log", &text(300..310));
        assert_eq!(look(&mut tailer), numbered(300..310));
        advance(Duration::from_secs(61)).await;
        assert_eq!(read(&mut tailer), numbered(0..0));
        let records = stop(&tailer);
        folders.remove_all();
        // To the one that lies where lines are written to, more may have been written.
        let live = (folders.path("log/app.log"), u64::try_from(text(300..310).len()).unwrap());
        assert_eq!(missed(&mut folders.start(records)), [live], "{pattern}");
    }
}

#[tokio::test]
async fn a_rotated_file_that_was_not_quiet_for_long_is_missed() {
    let folders = Folders::new("old/app.log*");
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer).len(), 300);
    fs::rename(folders.path("log/app.log"), folders.path("old/app.log.1")).unwrap();
    assert_eq!(look(&mut tailer), numbered(0..0));
    let records = stop(&tailer);
    folders.remove_all();
    assert_eq!(missed(&mut folders.start(records)).len(), 1);
}

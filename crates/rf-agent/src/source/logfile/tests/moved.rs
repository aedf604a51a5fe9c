//! Files that go into another folder, and are compressed there: told by all that is known of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use serde_json::json;
use tempfile::TempDir;

use super::super::content::Content;
use super::super::record::Record;
use super::super::settings::Settings;
use super::super::tailer::Tailer;
use super::copies::lies_at;
use super::rig::{Rig, append, body, packed};
use super::rotation::{numbered, text};
use super::trouble::{add, cut_in_line, settings};

/// What may lead to the rotated files of `log/app.log`.
const PATTERNS: [&str; 3] = ["old/app.log*", "old/app.log.*", "old/*.gz"];

/// Two folders, of which `log/app.log` and what the pattern matches are asked for.
pub(super) struct Folders {
    pub(super) root: TempDir,
    settings: Arc<Settings>,
}

impl Folders {
    pub(super) fn new(pattern: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["log", "old"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let paths = ["log/app.log", pattern].map(|path| root.path().join(path));
        let settings = settings(&json!({ "filePaths": paths }));
        Self { root, settings }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text.as_bytes());
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Removes every file.
    pub(super) fn remove_all(&self) {
        for folder in ["log", "old"] {
            fs::remove_dir_all(self.path(folder)).unwrap();
        }
    }

    /// A source that is started with what an earlier one remembers.
    pub(super) fn start(&self, records: Vec<(u64, Record)>) -> Tailer {
        Tailer::new(Arc::clone(&self.settings), records)
    }
}

/// With a log of 300 lines that was read.
fn with_a_read_log(pattern: &str) -> (Folders, Tailer) {
    let folders = Folders::new(pattern);
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..300));
    (folders, tailer)
}

/// A compressed file that nobody has written to for a while.
pub(super) fn pack(path: &Path, text: &str) {
    fs::write(path, packed(text, Compression::fast())).unwrap();
    set_age(path, 3600);
}

pub(super) fn set_age(path: &Path, seconds: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

/// All that can be read now.
pub(super) fn read(tailer: &mut Tailer) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let batch = tailer.prepare(true);
        tailer.committed(&batch);
        let texts = batch.events.iter().map(|event| body(event)["content"].clone());
        lines.extend(texts.map(|text| text.as_str().unwrap().to_owned()));
        if batch.is_empty() && !batch.more {
            return lines;
        }
    }
}

/// The same, after a look at the folders.
pub(super) fn look(tailer: &mut Tailer) -> Vec<String> {
    tailer.look_around();
    read(tailer)
}

/// What the source remembers when it is stopped.
pub(super) fn stop(tailer: &Tailer) -> Vec<(u64, Record)> {
    let mut records: Vec<_> =
        tailer.files.iter().map(|file| (file.key, file.stored.clone())).collect();
    records.sort_by_key(|(key, _)| *key);
    records
}

#[tokio::test]
async fn a_file_that_was_moved_and_compressed_while_stopped_is_not_read_again() {
    for pattern in PATTERNS {
        let (folders, tailer) = with_a_read_log(pattern);
        folders.remove("log/app.log");
        pack(&folders.path("old/app.log.1.gz"), &text(0..300));
        folders.append("log/app.log", &text(300..310));
        let mut tailer = folders.start(stop(&tailer));
        assert_eq!(look(&mut tailer), numbered(300..310), "{pattern}");
        // It is known from now on; the next file of this content is another one.
        fs::rename(folders.path("old/app.log.1.gz"), folders.path("old/app.log.2.gz")).unwrap();
        pack(&folders.path("old/app.log.1.gz"), &text(0..300));
        let mut tailer = folders.start(stop(&tailer));
        assert_eq!(look(&mut tailer), numbered(0..300), "{pattern}");
    }
}

#[tokio::test]
async fn the_rest_of_a_file_that_was_seen_in_another_folder_is_read_from_its_compressed_form() {
    let folders = Folders::new("old/app.log*");
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..300));
    fs::rename(folders.path("log/app.log"), folders.path("old/app.log.1")).unwrap();
    assert_eq!(look(&mut tailer), numbered(0..0));
    folders.remove("old/app.log.1");
    pack(&folders.path("old/app.log.2.gz"), &text(0..310));
    let mut tailer = folders.start(stop(&tailer));
    assert_eq!(look(&mut tailer), numbered(300..310));
}

#[tokio::test]
async fn a_file_that_is_moved_and_compressed_before_it_was_read_is_read_once() {
    for pattern in PATTERNS {
        for age in [0, 3600] {
            let (folders, mut tailer) = with_a_read_log(pattern);
            folders.append("log/app.log", &text(300..310));
            folders.remove("log/app.log");
            pack(&folders.path("old/app.log.1.gz"), &text(0..310));
            set_age(&folders.path("old/app.log.1.gz"), age);
            assert_eq!(look(&mut tailer), numbered(300..310), "{pattern} {age}");
            assert_eq!(look(&mut tailer), numbered(0..0), "{pattern} {age}");
        }
    }
}

#[tokio::test]
async fn a_compressed_file_in_the_making_is_waited_for_if_it_begins_as_one_that_is_gone() {
    for pattern in PATTERNS {
        let (folders, mut tailer) = with_a_read_log(pattern);
        folders.remove("log/app.log");
        // Without compression each byte stands for itself.
        let whole = packed(&text(0..300), Compression::none());
        let (first, rest) = whole.split_at(1500);
        append(&folders.path("old/app.log.1.gz"), first);
        assert_eq!(look(&mut tailer), numbered(0..0), "{pattern}");
        append(&folders.path("old/app.log.1.gz"), rest);
        assert_eq!(look(&mut tailer), numbered(0..0), "{pattern}");
    }
}

#[tokio::test]
async fn a_compressed_file_is_looked_into_only_if_a_file_of_its_length_is_gone() {
    for pattern in PATTERNS {
        let (folders, mut tailer) = with_a_read_log(pattern);
        folders.remove("log/app.log");
        // Its rest may still come, so that nothing could be said of its beginning.
        let (first, _rest) = cut_in_line(0..50, 24);
        append(&folders.path("old/app.log.1.gz"), &first);
        set_age(&folders.path("old/app.log.1.gz"), 10);
        assert_eq!(look(&mut tailer), numbered(0..24), "{pattern}");
    }
}

#[tokio::test]
async fn a_compressed_file_beside_the_one_that_it_is_made_of_is_waited_for() {
    let folders = Folders::new("old/*.gz");
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..300));
    fs::rename(folders.path("log/app.log"), folders.path("old/app.log.1")).unwrap();
    pack(&folders.path("old/app.log.1.gz"), &text(0..300));
    assert_eq!(look(&mut tailer), numbered(0..0));
    folders.remove("old/app.log.1");
    assert_eq!(look(&mut tailer), numbered(0..0));
}

#[tokio::test]
async fn a_compressed_file_that_is_not_what_is_gone_is_read() {
    let contents = [
        ("it goes on", text(0..301)),
        ("it ends before", text(0..299)),
        ("another end", format!("{}Line 299\n", text(0..299))),
        ("another beginning", format!("Line 0\n{}", text(1..300))),
    ];
    for pattern in PATTERNS {
        for (what, content) in &contents {
            for is_stopped in [true, false] {
                let (folders, mut tailer) = with_a_read_log(pattern);
                folders.remove("log/app.log");
                pack(&folders.path("old/app.log.1.gz"), content);
                if is_stopped {
                    tailer = folders.start(stop(&tailer));
                }
                let expected: Vec<&str> = content.lines().collect();
                assert_eq!(look(&mut tailer), expected, "{what}: {pattern} {is_stopped}");
            }
        }
    }
}

#[tokio::test]
async fn a_compressed_file_with_the_content_of_one_that_is_there_is_read() {
    for pattern in PATTERNS {
        let (folders, mut tailer) = with_a_read_log(pattern);
        pack(&folders.path("old/app.log.1.gz"), &text(0..300));
        assert_eq!(look(&mut tailer), numbered(0..300), "{pattern}");
    }
}

#[tokio::test]
async fn of_two_compressed_files_with_the_content_of_one_that_is_gone_one_is_read() {
    let folders = Folders::new("old/*.gz");
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..300));
    folders.remove("log/app.log");
    pack(&folders.path("old/app.log.1.gz"), &text(0..300));
    pack(&folders.path("old/other.log.1.gz"), &text(0..300));
    let mut tailer = folders.start(stop(&tailer));
    assert_eq!(look(&mut tailer), numbered(0..300));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_holds_up_no_compressed_one_of_another_log() {
    let folders = Folders::new("old/*.gz");
    let mut tailer = folders.start(Vec::new());
    // A folder can be opened, and not be read.
    let failing = Content::Plain(Arc::new(File::open(folders.root.path()).unwrap()));
    add(&mut tailer, &folders.path("log/other.log"), failing);
    append(&folders.path("old/app.log.1.gz"), &packed(&text(0..300), Compression::fast()));
    assert_eq!(look(&mut tailer), numbered(0..300));
}

#[tokio::test]
async fn a_shorter_file_that_begins_as_one_that_is_there_is_read() {
    let folders = Folders::new("old/app.log*");
    let banner = format!("{}\n", "-".repeat(2000));
    folders.append("log/app.log", &format!("{banner}{}", text(0..300)));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer).len(), 301);
    fs::rename(folders.path("log/app.log"), folders.path("old/app.log.2")).unwrap();
    // It came and went while nobody looked.
    folders.append("old/app.log.1", &format!("{banner}{}", text(300..310)));
    set_age(&folders.path("old/app.log.1"), 60);
    let mut tailer = folders.start(stop(&tailer));
    assert_eq!(look(&mut tailer)[1..], numbered(300..310));
}

/// Rotations into another folder: compressed at the next one, at once, and while the source is stopped.
async fn check(pattern: &str) {
    let mut rig = Rig::new(json!({ "filePaths": ["log/app.log", pattern] }));
    for folder in ["log", "old"] {
        fs::create_dir(rig.path(folder)).unwrap();
    }
    rig.append("log/app.log", text(0..300));
    rig.start().await;
    rig.expect_set(&numbered(0..300)).await;

    rig.rename("log/app.log", "old/app.log.3");
    rig.append("log/app.log", text(300..600));
    rig.expect_set(&numbered(0..600)).await;
    rig.until_record("it is followed", |record| lies_at(record, "old/app.log.3")).await;
    rig.compress("old/app.log.3");
    rig.until_record("it counts as read", |record| lies_at(record, "old/app.log.3.gz")).await;

    // Not all of it may have been read before.
    rig.append("log/app.log", text(600..700));
    rig.rename("log/app.log", "old/app.log.2");
    rig.compress("old/app.log.2");
    rig.append("log/app.log", text(700..1000));
    rig.until_record("it counts as read", |record| lies_at(record, "old/app.log.2.gz")).await;
    rig.expect_set(&numbered(0..1000)).await;

    rig.stop().await;
    rig.rename("log/app.log", "old/app.log.1");
    rig.compress("old/app.log.1");
    rig.append("log/app.log", text(1000..1010));
    rig.start().await;
    rig.until_record("it counts as read", |record| lies_at(record, "old/app.log.1.gz")).await;
    rig.append("log/app.log", text(1010..1020));
    rig.expect_set(&numbered(0..1020)).await;
}

#[tokio::test]
async fn rotation_into_another_folder_repeats_nothing_whenever_it_is_compressed() {
    for pattern in PATTERNS {
        check(pattern).await;
    }
}

//! Files that cannot be read to their end: compressed ones that break off or are still being written, and those that fail.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use rf_core::config::{Problems, parse};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::advance;

use super::super::adopt::MAX_FILES;
use super::super::content::Content;
use super::super::discover::{Discovery, Hidden, Remembered, discover};
use super::super::record::Record;
use super::super::settings::{LogfileSourceConfig, Settings, check};
use super::super::tailer::Tailer;
use super::moved::{Folders, look, pack};
use super::rig::{Rig, packed};
use super::rotation::{numbered, text};
use crate::source::SourceContext;

/// Nobody has written to the file for long.
fn age(rig: &Rig, name: &str) {
    let file = File::options().append(true).open(rig.path(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

/// A compressed file whose bytes stand for themselves, cut behind the first word of this line.
pub(super) fn cut_in_line(lines: std::ops::Range<u32>, line: u32) -> (Vec<u8>, Vec<u8>) {
    let mut first = packed(&text(lines), Compression::none());
    let at = memchr::memmem::find(&first, format!("line {line}\n").as_bytes()).unwrap();
    let rest = first.split_off(at + "line".len());
    (first, rest)
}

fn damaged(files: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("damaged".to_owned(), files)])
}

fn is_given_up(record: &Value) -> bool {
    record["path"].as_str().unwrap().ends_with(".gz") && record["done"] == true
}

#[tokio::test]
async fn a_compressed_file_that_breaks_off_gives_what_is_in_it_and_holds_up_nobody_for_long() {
    let mut rig = Rig::new(json!({ "filePaths": ["app.log*"] }));
    let (first, _lost) = cut_in_line(0..300, 250);
    rig.append("app.log.2.gz", first);
    age(&rig, "app.log.2.gz");
    rig.append("app.log", text(300..310));
    rig.start().await;
    let mut expected = [numbered(0..250), vec!["line".to_owned()], numbered(300..310)].concat();
    rig.expect_set(&expected).await;
    rig.until("it is counted", async |rig| rig.dropped() == damaged(1)).await;
    let bodies = rig.bodies().await;
    assert!(bodies.contains(&json!({ "content": "line", "partial": true })), "{bodies:?}");
    rig.append("app.log", text(310..320));
    expected.extend(numbered(310..320));
    rig.expect_set(&expected).await;
    // It is given up for good.
    rig.stop().await;
    rig.start().await;
    rig.append("app.log", text(320..330));
    expected.extend(numbered(320..330));
    rig.expect_set(&expected).await;
    assert_eq!(rig.dropped(), BTreeMap::new());
}

#[tokio::test]
async fn a_wrong_checksum_costs_no_line() {
    let mut rig = Rig::new(json!({ "filePaths": ["app.log*"] }));
    let mut content = packed(&text(0..300), Compression::fast());
    *content.last_mut().unwrap() ^= 1;
    rig.append("app.log.2.gz", content);
    age(&rig, "app.log.2.gz");
    rig.append("app.log", text(300..310));
    rig.start().await;
    rig.expect(&numbered(0..310)).await;
    rig.until("it is counted", async |rig| rig.dropped() == damaged(1)).await;
}

#[tokio::test]
async fn the_rest_of_a_lost_file_is_read_from_a_compressed_one_as_far_as_that_goes() {
    let mut rig = Rig::over_app_log(json!({})).await;
    rig.append("app.log", text(0..200));
    rig.expect(&numbered(0..200)).await;
    rig.stop().await;
    let (first, _lost) = cut_in_line(0..300, 250);
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.append("app.log.1.gz", first);
    age(&rig, "app.log.1.gz");
    rig.append("app.log", text(300..310));
    rig.start().await;
    let expected = [numbered(0..250), vec!["line".to_owned()], numbered(300..310)].concat();
    rig.expect_set(&expected).await;
}

#[tokio::test]
async fn a_compressed_file_is_read_along_while_it_is_written() {
    let mut rig = Rig::new(json!({ "filePaths": ["app.log*"] }));
    let (first, rest) = cut_in_line(0..300, 250);
    rig.append("app.log.2.gz", first);
    rig.append("app.log", text(300..310));
    rig.start().await;
    rig.until("the live file goes on", async |rig| {
        rig.lines().await.iter().any(|line| line == "line 309")
    })
    .await;
    assert_eq!(rig.lines().await.len(), 260, "what is there is read, and nothing is given up");
    rig.append("app.log.2.gz", rest);
    rig.expect_set(&numbered(0..310)).await;
    assert_eq!(rig.dropped(), BTreeMap::new());
}

#[tokio::test]
async fn what_was_given_up_is_read_on_when_it_is_written_to() {
    let mut rig = Rig::new(json!({ "filePaths": ["app.log*"] }));
    let (first, rest) = cut_in_line(0..300, 250);
    rig.append("app.log.2.gz", first);
    age(&rig, "app.log.2.gz");
    rig.start().await;
    rig.until_record("it is given up", is_given_up).await;
    rig.append("app.log.2.gz", rest);
    let line = ["line", " 250"].map(str::to_owned).to_vec();
    rig.expect(&[numbered(0..250), line, numbered(251..300)].concat()).await;
    // And so is what was read to its end.
    rig.until_record("it is read", is_given_up).await;
    rig.append("app.log.2.gz", packed(&text(300..310), Compression::fast()));
    rig.until("the rest is read", async |rig| rig.lines().await.len() == 311).await;
    assert_eq!(rig.lines().await[301..], numbered(300..310));
}

#[tokio::test]
async fn a_compressed_file_that_is_there_before_its_first_byte_is_unpacked() {
    for name in ["x.log.gz", "x.packed"] {
        let params =
            json!({ "filePaths": ["*.log", "*.gz", "*.packed"], "partialLineTimeout": "1m" });
        let mut rig = Rig::new(params);
        rig.append(name, "");
        rig.append("a.log", "one\n");
        rig.start().await;
        // It was found, too.
        rig.expect(&["one"]).await;
        let content = packed(&text(0..300), Compression::fast());
        let (first, rest) = content.split_at(1);
        rig.append(name, first);
        rig.append("a.log", "two\n");
        rig.expect(&["one", "two"]).await;
        rig.append(name, rest);
        let marks = ["one", "two"].map(str::to_owned).to_vec();
        rig.expect(&[marks, numbered(0..300)].concat()).await;
    }
}

#[tokio::test]
async fn a_plain_file_of_one_byte_is_a_line_without_its_end() {
    // The second is how gzip begins, too.
    for byte in ["x", "\u{1f}"] {
        let rig = Rig::over_app_log(json!({ "partialLineTimeout": "50ms" })).await;
        rig.append("app.log", "");
        rig.append("app.log", byte);
        rig.expect(&[byte]).await;
        rig.append("app.log", "\nnext\n");
        rig.expect(&[byte, "next"]).await;
    }
}

pub(super) fn settings(params: &Value) -> Arc<Settings> {
    let mut problems = Problems::new();
    let document = parse("params", &params.to_string(), &|_| None, &mut problems).unwrap();
    let root = document.root();
    let config: LogfileSourceConfig = root.decode(&mut problems).unwrap();
    let context = SourceContext { id: "s", env_name: "", host_name: "", hook_interval: None };
    Arc::new(check(&context, &config, &root, &mut problems).unwrap())
}

/// Reads from `content` from now on, as from the next file of the family.
pub(super) fn add(tailer: &mut Tailer, family: &Path, content: Content) {
    let path = family.to_owned();
    let record = Record { family: path.clone(), name: path.clone(), path, ..Record::default() };
    let mut file = tailer.track(record);
    file.open(content);
    tailer.files.push(file);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_fails_holds_up_newer_ones_for_a_while_only() {
    for (seconds, events) in [(3, 0), (5, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("app.log");
        fs::write(&live, "line\n").unwrap();
        let mut tailer = Tailer::new(settings(&json!({ "filePath": live })), Vec::new());
        // A folder can be opened, and not be read.
        let failing = Content::Plain(Arc::new(File::open(folder.path()).unwrap()));
        add(&mut tailer, &live, failing);
        add(&mut tailer, &live, Content::open(&live).unwrap().0);
        assert_eq!(tailer.prepare(true).events.len(), 0, "records come first");
        assert_eq!(tailer.prepare(true).events.len(), 0);
        advance(Duration::from_secs(seconds)).await;
        let prepared = tailer.prepare(true);
        assert_eq!(prepared.events.len(), events, "after {seconds} s");
        assert_eq!(prepared.due.is_some(), events == 0, "it is looked at again in time");
    }
}

#[tokio::test]
async fn a_file_that_another_machine_has_deleted_is_looked_for_elsewhere() {
    let folders = Folders::new("old/app.log*");
    folders.append("log/app.log", &text(0..300));
    let mut tailer = folders.start(Vec::new());
    assert_eq!(look(&mut tailer), numbered(0..300));
    folders.remove("log/app.log");
    tailer.files[0].fails(&io::Error::from(io::ErrorKind::StaleNetworkFileHandle));
    pack(&folders.path("log/app.log.1.gz"), &text(0..310));
    assert_eq!(look(&mut tailer), numbered(300..310));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_file_stays_open_until_its_lines_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "one\ntwo\n").unwrap();
    let mut tailer = Tailer::new(settings(&json!({ "filePath": path })), Vec::new());
    add(&mut tailer, &path, Content::open(&path).unwrap().0);
    fs::remove_file(&path).unwrap();
    let records = tailer.prepare(true);
    tailer.committed(&records);
    let batch = tailer.prepare(true);
    assert_eq!(batch.events.len(), 2);
    // While it is being stored, for long, the next one is made.
    advance(Duration::from_secs(60)).await;
    let ahead = tailer.prepare(false);
    assert_eq!(ahead.events.len(), 0);
    // It is too large for the queue.
    tailer.rewind(ahead);
    tailer.rewind(batch);
    for _ in 0..2 {
        let batch = tailer.prepare(true);
        assert_eq!(batch.events.len(), 1, "a line at a time");
        tailer.committed(&batch);
    }
    advance(Duration::from_secs(60)).await;
    tailer.prepare(true);
    assert!(tailer.files[0].content.is_none(), "nothing keeps it open any more");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_in_the_place_of_a_file_that_is_to_be_emptied_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "line\n").unwrap();
    let params = json!({ "filePath": path, "removeAfterSecs": "1us" });
    let mut tailer = Tailer::new(settings(&params), Vec::new());
    add(&mut tailer, &path, Content::open(&path).unwrap().0);
    tailer.files[0].asked = true;
    for events in [0, 1] {
        let batch = tailer.prepare(true);
        assert_eq!(batch.events.len(), events);
        tailer.committed(&batch);
    }
    fs::remove_file(&path).unwrap();
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    advance(Duration::from_secs(1)).await;
    assert_eq!(tailer.prepare(true).events.len(), 0);
    assert!(tailer.files[0].content.is_some(), "it was not emptied");
}

#[tokio::test]
async fn files_that_are_too_many_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let params = json!({ "filePaths": [folder.path().join("*.log")] });
    let mut tailer = Tailer::new(settings(&params), Vec::new());
    for number in 1..MAX_FILES {
        let gone = folder.path().join(format!("{number}.gone"));
        let record = Record { family: gone.clone(), path: gone, done: true, ..Record::default() };
        let file = tailer.track(record);
        tailer.files.push(file);
    }
    for name in ["a.log", "b.log", "c.log"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let (_folders, round) = tailer.look_around();
    assert_eq!(round.left_out.map(|(_, files)| files), Some(2));
    assert_eq!(tailer.files.len(), MAX_FILES);
}

/// What is found of a path or pattern in a folder that `make` has filled; and the folder.
fn found(path: &str, make: impl FnOnce(&Path)) -> (Discovery, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&json!({ "filePaths": [folder.path().join(path)] }));
    make(folder.path());
    (discover(&settings, &Remembered::default()), folder)
}

fn hidden(what: &Hidden) -> (&'static str, &str) {
    match what {
        Hidden::File(error) => ("file", error),
        Hidden::Folder(error) => ("folder", error),
    }
}

#[test]
fn what_keeps_a_file_from_being_read_is_found() {
    let check = |path: &str, make: fn(&Path), at: &str, what: &str, reason: &str| {
        let (found, folder) = found(path, make);
        let told: Vec<_> = found.hidden.iter().map(|(path, what)| (path, hidden(what))).collect();
        assert_eq!(told.len(), 1, "{path}: {told:?}");
        let (place, (kind, error)) = told[0];
        assert_eq!((place, kind), (&folder.path().join(at), what), "{path}");
        assert!(error.to_lowercase().contains(reason), "{path}: {error}");
        assert_eq!(found.absent, Vec::<PathBuf>::new(), "{path}");
    };
    let folder = |root: &Path| fs::create_dir(root.join("a.log")).unwrap();
    check("a.log", folder, "a.log", "file", "is a directory");
    let file = |root: &Path| fs::write(root.join("a"), "").unwrap();
    check("a/b/c.log", file, "a/b", "folder", "not a directory");
    let ring = |root: &Path| symlink("a.log", root.join("a.log")).unwrap();
    check("a.log", ring, "a.log", "file", "symbolic link");
    let device = |root: &Path| symlink("/dev/null", root.join("a.log")).unwrap();
    check("a.log", device, "a.log", "file", "not a regular file");
}

#[test]
fn what_is_excluded_behind_a_link_is_read_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("releases/1/app.log");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "").unwrap();
    symlink("releases/1", folder.path().join("current")).unwrap();
    let [all, linked] = ["**/*.log", "current/*.log"].map(|pattern| folder.path().join(pattern));
    let settings = settings(&json!({ "filePaths": [all], "exclude": [linked] }));
    let found = discover(&settings, &Remembered::default());
    let paths: Vec<&PathBuf> = found.files.iter().map(|found| &found.path).collect();
    assert_eq!(paths, [&file]);
}

#[test]
fn a_folder_that_may_not_be_entered_is_found() {
    for path in ["closed/a.log", "closed/*.log"] {
        let mut may_all = false;
        let (found, folder) = found(path, |root| {
            let closed = root.join("closed");
            fs::create_dir(&closed).unwrap();
            fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
            may_all = fs::read_dir(&closed).is_ok();
        });
        if may_all {
            println!("not tried: this user may enter every folder");
            return;
        }
        let closed = folder.path().join("closed");
        let told: Vec<_> = found.hidden.iter().map(|(path, what)| (path, hidden(what))).collect();
        assert_eq!(told, [(&closed, ("folder", "Permission denied (os error 13)"))], "{path}");
        assert!(found.closed.is_empty(), "{:?}", found.closed);
        fs::set_permissions(closed, Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn what_is_not_there_yet_is_no_trouble() {
    let check = |path: &str, is_absent: bool| {
        let (found, folder) = found(path, |root| fs::write(root.join("a.log"), "").unwrap());
        assert!(found.hidden.is_empty() && found.closed.is_empty(), "{path}: {found:?}");
        let expected = if is_absent { vec![folder.path().join(path)] } else { Vec::new() };
        assert_eq!(found.absent, expected, "{path}");
    };
    check("a.log", false);
    check("*.log", false);
    check("b.log", true);
    check("none/b.log", true);
    check("*.txt", true);
    check("none/*.log", true);
}

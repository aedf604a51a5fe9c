//! The sink's contract, and what happens to files behind its back.

use std::fs;
use std::io::Read;
use std::path::Path;

use rf_core::config::parse;
use rf_queue::StoredEvent;
use rf_queue::{Commit, DeadLetters, QueueId, QueueOptions, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::sink::contract::{Promise, Subject, check_sink_contract};
use crate::worker::Worker;

fn build_sink(folder: &Path, params: &Value) -> Result<Arc<dyn Sink>, String> {
    let mut problems = Problems::new();
    let document = parse("player.json", &params.to_string(), &|_| None, &mut problems).unwrap();
    let context = SinkContext { name: "subject", data_dir: folder, sinks: &["subject"] };
    build(&context, &document.root(), &mut problems).ok_or_else(|| problems.to_string())
}

/// The text of all files of the sink, the finished ones first, as they were finished.
fn all_text(folder: &Path, active: &[&str]) -> String {
    let list = fs::read_to_string(folder.join("file-subject.finished")).unwrap_or_default();
    let names = list.lines().filter_map(|line| serde_json::from_str::<PathBuf>(line).ok());
    let mut text = String::new();
    for name in names.chain(active.iter().map(|name| folder.join(name))) {
        let packed = |ending: &str| PathBuf::from(format!("{}.{ending}", name.display()));
        if packed("gz").exists() {
            let mut gzip = flate2::read::GzDecoder::new(fs::File::open(packed("gz")).unwrap());
            gzip.read_to_string(&mut text).unwrap();
        } else if packed("zst").exists() {
            let file = fs::File::open(packed("zst")).unwrap();
            zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
        } else if name.exists() {
            text.push_str(&fs::read_to_string(name).unwrap());
        }
    }
    text
}

/// The contract's view of a sink with these `params`, whose events are numbers in bodies.
struct Files {
    folder: TempDir,
    params: Value,
    active: &'static [&'static str],
}

impl Subject for Files {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        build_sink(self.folder.path(), &self.params).unwrap()
    }

    fn event(&self, number: usize) -> String {
        json!({ "method": "POST", "path": format!("/{}", number % 3), "body": format!("number={number};") }).to_string()
    }

    fn refused(&self) -> Option<String> {
        Some("two\nlines".to_owned())
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let text = all_text(self.folder.path(), self.active);
        let numbers = text.split("number=").skip(1).filter_map(|rest| rest.split_once(';'));
        let mut numbers: Vec<usize> = numbers.map(|(number, _)| number.parse().unwrap()).collect();
        if self.active.len() > 1 {
            numbers.sort_unstable();
        }
        Box::pin(std::future::ready(numbers))
    }
}

async fn check_contract(params: Value, active: &'static [&'static str]) {
    let folder = tempfile::tempdir().unwrap();
    check_sink_contract(&Files { folder, params, active }).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn one_file_keeps_the_contract() {
    check_contract(json!({ "path": "in/events.ndjson" }), &["in/events.ndjson"]).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn small_compressed_files_keep_the_contract() {
    let params =
        json!({ "path": "e.log", "format": "raw", "rotateBytes": 300, "compress": "gzip" });
    check_contract(params, &["e.log"]).await;
    let params =
        json!({ "path": "e.log", "rotateBytes": 1000, "compress": "zstd", "fsync": "rotation" });
    check_contract(params, &["e.log"]).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_file_for_each_path_keeps_the_contract() {
    let params = json!({ "path": "x/{path}.ndjson", "rotateBytes": 500 });
    check_contract(params, &["x/0.ndjson", "x/1.ndjson", "x/2.ndjson"]).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn an_archive_keeps_the_contract() {
    check_contract(json!({ "path": "a.har", "format": "har", "rotateBytes": 5000 }), &["a.har"])
        .await;
}

/// A queue whose events are written by one sink after the other.
struct Bench {
    folder: TempDir,
    store: Store,
    queue: QueueId,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queues = vec![QueueOptions::new("subject")];
        let options = StoreOptions::new(folder.path().join("q.sqlite3"), 8 << 20, queues);
        let store = Store::open(options).unwrap().store;
        let queue = store.queue("subject").unwrap();
        Self { folder, store, queue }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has the files that are being written begun, and been written last, in 1970.
    async fn age(&self) {
        self.change(|progress| {
            for tracked in progress.files.values_mut() {
                (tracked.since_ms, tracked.last_ms) = (0, 0);
            }
        })
        .await;
    }

    /// Changes what is stored of the files that are being written.
    async fn change(&self, change: impl FnOnce(&mut Progress)) {
        let key = "file:subject".to_owned();
        let stored = self.store.checkpoint(&key).await.unwrap().unwrap();
        let mut progress: Progress = serde_json::from_slice(&stored).unwrap();
        change(&mut progress);
        let value = Some(serde_json::to_vec(&progress).unwrap());
        let checkpoints = vec![Checkpoint { key, value }];
        self.store.commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
    }

    /// What a start of the agent with this file and these new events does until it stops.
    async fn run(&self, params: &Value, contents: &[String]) {
        let sink = build_sink(self.folder.path(), params).unwrap();
        self.run_sink(sink, contents).await;
    }

    async fn run_sink(&self, sink: Arc<dyn Sink>, contents: &[String]) {
        let events = contents.iter().cloned().map(Into::into).collect();
        self.store.commit(Commit::append(self.queue, events)).await.unwrap();
        sink.start(&SinkHost { store: self.store.clone() }).await.unwrap();
        let stop = CancellationToken::new();
        let maintenance = Arc::clone(&sink).run(stop.clone());
        let (store, queue) = (self.store.clone(), self.queue);
        let worker = Worker {
            id: "subject".to_owned(),
            sink,
            store,
            queue,
            stop: stop.clone(),
            observer: None,
            meter: Arc::default(),
            reached: Arc::default(),
            trace: <_>::default(),
        };
        let emptied = async {
            while self.store.usage(self.queue).events > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        tokio::join!(worker.run(), maintenance, emptied);
    }
}

fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| json!({ "body": number.to_string() }).to_string()).collect()
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    events(numbers).into_iter().map(|event| event + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_left_that_broke_off_is_cut() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    bench.run(&params, &events(0..3)).await;
    let torn = lines(0..3) + "{\"body\":\"3\"}\n{\"bo";
    fs::write(bench.path("e.ndjson"), torn).unwrap();
    bench.run(&params, &events(3..5)).await;
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_loss_of_power_the_last_line_is_whole() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson", "fsync": "rotation" });
    bench.run(&params, &events(0..3)).await;
    let mut text = lines(0..3);
    text.truncate(text.len() - 4);
    fs::write(bench.path("e.ndjson"), text).unwrap();
    bench.run(&params, &events(3..5)).await;
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(0..2) + &lines(3..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_there_is_continued_on_a_line_of_its_own() {
    let bench = Bench::new();
    fs::write(bench.path("e.ndjson"), "an old line").unwrap();
    bench.run(&json!({ "path": "e.ndjson" }), &events(0..1)).await;
    let text = fs::read_to_string(bench.path("e.ndjson")).unwrap();
    assert_eq!(text, "an old line\n".to_owned() + &lines(0..1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_taken_away_is_begun_anew() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    bench.run(&params, &events(0..3)).await;
    fs::rename(bench.path("e.ndjson"), bench.path("taken")).unwrap();
    bench.run(&params, &events(3..5)).await;
    assert_eq!(fs::read_to_string(bench.path("taken")).unwrap(), lines(0..3));
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(3..5));
}

/// As where a disk is not mounted, and the folder that it has its place in takes no file.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_away_comes_back_with_all_its_lines() {
    let bench = Bench::new();
    let params = json!({ "path": "disk/e.ndjson" });
    let text = || fs::read_to_string(bench.path("disk/e.ndjson")).unwrap();
    bench.run(&params, &events(0..3)).await;
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    fs::rename(bench.path("disk"), bench.path("away")).unwrap();
    fs::write(bench.path("disk"), "").unwrap();
    let content = events(3..4).remove(0).into();
    let event = StoredEvent { id: u64::MAX >> 1, at_ms: 0, attempts: 0, content };
    let batch = SinkBatch { id: "b".to_owned(), events: vec![event] };
    let refused = sink.write(&batch).await;
    assert!(matches!(&refused, Err(SinkError::Paused(_))), "{refused:?}");
    fs::remove_file(bench.path("disk")).unwrap();
    fs::rename(bench.path("away"), bench.path("disk")).unwrap();
    drop(sink);
    bench.run(&params, &events(4..5)).await;
    assert_eq!(text(), lines(0..3) + &lines(4..5), "after a start");
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    fs::rename(bench.path("disk"), bench.path("away")).unwrap();
    fs::write(bench.path("disk"), "").unwrap();
    assert!(sink.write(&batch).await.is_err());
    fs::remove_file(bench.path("disk")).unwrap();
    fs::rename(bench.path("away"), bench.path("disk")).unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(text(), lines(0..3) + &lines(4..5) + &lines(3..4), "in the same run");
}

/// As where the sink has written beside a disk that was not mounted, and the disk is there at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_of_another_file_than_the_one_that_was_written() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    bench.run(&params, &events(0..3)).await;
    fs::write(bench.path("e.ndjson"), lines(10..40)).unwrap();
    bench.run(&params, &events(3..5)).await;
    let text = fs::read_to_string(bench.path("e.ndjson")).unwrap();
    assert_eq!(text, lines(10..40) + &lines(3..5));
    let bench = Bench::new();
    let params = json!({ "path": "a.har", "format": "har" });
    bench.run(&params, &events(0..1)).await;
    let written = fs::read_to_string(bench.path("a.har")).unwrap();
    let other = written.replace(r#""text":"0""#, r#""text":"7""#);
    fs::write(bench.path("a.har"), &other).unwrap();
    bench.run(&params, &events(1..2)).await;
    assert_eq!(fs::read_to_string(bench.path("a.har.broken")).unwrap(), other);
}

/// As where the folder of a disk that was not mounted had no room for a byte, and the disk is there at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_not_cut_in_the_place_of_one_that_got_nothing() {
    for (left, expected) in [(None, lines(0..2)), (Some("{\"bo"), lines(1..2))] {
        let bench = Bench::new();
        let (path, away) = (bench.path("e.ndjson"), bench.path("away"));
        let params = json!({ "path": "e.ndjson" });
        bench.run(&params, &events(0..1)).await;
        fs::rename(&path, &away).unwrap();
        let lock = bench.path("file-subject.lock");
        let locked = Writer::lock(bench.folder.path(), &lock, FileFormat::Ndjson, Fsync::Batch);
        let mut writer = locked.unwrap().expect("nobody else holds the lock");
        let made = writer.look("e.ndjson", None, 0).unwrap().expect("it is new");
        drop(writer);
        bench.change(|progress| progress.files.extend([("e.ndjson".to_owned(), made)])).await;
        match left {
            Some(left) => fs::write(&path, left).unwrap(),
            None => fs::rename(&away, &path).unwrap(),
        }
        bench.run(&params, &events(1..2)).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}

/// As of many files, of which not all are kept open.
#[test]
fn another_file_is_told_by_its_last_bytes_where_none_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let lock = || {
        let lock = folder.path().join("lock");
        let locked = Writer::lock(folder.path(), &lock, FileFormat::Ndjson, Fsync::Rotation);
        locked.unwrap().expect("nobody else holds the lock")
    };
    let mut writer = lock();
    let mut tracked = writer.look("a", None, 0).unwrap().expect("it is new");
    let files = std::iter::once(("a".to_owned(), tracked)).collect();
    let chunks = [Chunk { path: "a".to_owned(), bytes: b"one\n".to_vec() }];
    let appended = writer.append(&Progress { files, ..Progress::default() }, &chunks).unwrap();
    (tracked.good, tracked.tail) = (appended[0].good, Some(appended[0].tail));
    drop(writer);
    for (text, expected) in [("one\ntorn", None), ("two\nthree\n", Some(10))] {
        fs::write(folder.path().join("a"), text).unwrap();
        let looked = lock().look("a", Some(&tracked), 0).unwrap();
        assert_eq!(looked.map(|looked| looked.good), expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_begun_long_ago_is_finished_with_the_next_write() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson", "rotateAfter": "1h" });
    bench.run(&params, &events(0..2)).await;
    bench.run(&params, &events(2..4)).await;
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(0..4));
    bench.age().await;
    bench.run(&params, &events(4..6)).await;
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(4..6));
    assert_eq!(all_text(bench.folder.path(), &["e.ndjson"]), lines(0..6));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_paths_with_fields_one_that_rests_is_finished_beside_the_others() {
    let bench = Bench::new();
    let event = |path: &str| json!({ "path": path }).to_string();
    let params = json!({ "path": "{path}.ndjson" });
    bench.run(&params, &[event("/a"), event("/b")]).await;
    bench.age().await;
    bench.run(&params, &[event("/b")]).await;
    let is_there = |name: &str| bench.path(name).exists();
    assert_eq!((is_there("a.ndjson"), is_there("b.ndjson")), (false, true));
    assert_eq!(all_text(bench.folder.path(), &[]), event("/a") + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_an_earlier_version_with_a_name_too_long_to_finish_holds_nothing_up() {
    let bench = Bench::new();
    let event = |path: &str| json!({ "path": path }).to_string();
    let params = json!({ "path": "{path}.ndjson" });
    bench.run(&params, &[event("/a")]).await;
    bench.age().await;
    let long = "x".repeat(250);
    let rename = |progress: &mut Progress| {
        let tracked = progress.files.remove("a.ndjson").unwrap();
        progress.files.insert(long.clone(), tracked);
    };
    bench.change(rename).await;
    fs::rename(bench.path("a.ndjson"), bench.path(&long)).unwrap();
    bench.run(&params, &[event("/b")]).await;
    assert_eq!(fs::read_to_string(bench.path("b.ndjson")).unwrap(), event("/b") + "\n");
    assert_eq!(fs::read_to_string(bench.path(&long)).unwrap(), event("/a") + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_surrogate_pair_keeps_no_event_from_its_file() {
    let bench = Bench::new();
    let content = r#"{"path":"/a","body":"\ud83d"}"#.to_owned();
    bench.run(&json!({ "path": "{path}.ndjson" }), std::slice::from_ref(&content)).await;
    assert_eq!(fs::read_to_string(bench.path("a.ndjson")).unwrap(), content + "\n");
}

/// Else the sink would stand still at the first event after it, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_finished_file_can_have_costs_its_event_alone() {
    let bench = Bench::new();
    let params = json!({ "path": "in/{param.a}{param.b}{param.c}.ndjson", "rotateBytes": 1 });
    let event = |bytes: usize| {
        let value = ["x".repeat(bytes)];
        json!({ "params": { "a": value, "b": value, "c": value } }).to_string()
    };
    for bytes in [70, 80, 70] {
        bench.run(&params, &[event(bytes)]).await;
    }
    let files = fs::read_dir(bench.path("in")).unwrap();
    let mut sizes: Vec<usize> = files.map(|file| file.unwrap().file_name().len()).collect();
    sizes.sort_unstable();
    let name = 3 * 70 + ".ndjson".len();
    assert_eq!(sizes, [name, name + "-20260131T091405Z".len()]);
    let letters = DeadLetters::open(&bench.path("q.sqlite3")).unwrap();
    let reasons = letters.list(None, 0, 10).unwrap().into_iter().map(|letter| letter.reason);
    let expected = format!("a name in the path has more than 220 bytes: `{}…`", "x".repeat(40));
    assert_eq!(reasons.collect::<Vec<_>>(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_together_stay_below_their_limit_and_the_newest_stay() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson", "rotateBytes": 1000, "maxTotalBytes": 5000 });
    for round in 0..40 {
        bench.run(&params, &events(round * 20..round * 20 + 20)).await;
    }
    let text = all_text(bench.folder.path(), &["e.ndjson"]);
    assert!((3000..=6000).contains(&text.len()), "{}", text.len());
    assert!(lines(0..800).ends_with(&text), "the newest, without a gap");
    let left = fs::read_dir(bench.folder.path()).unwrap().count();
    assert!(left < 20, "{left} files");
}

#[test]
fn what_cannot_be_compressed_is_removed_in_its_turn_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let finished = Finished::open(list, Compress::Gzip, Some(1500)).unwrap();
    let mut names = Vec::new();
    for number in 0..3 {
        let path = folder.path().join(format!("{number}.log"));
        fs::write(&path, [b'x'; 1000]).unwrap();
        let rename = |to: &Path| {
            names.push(to.to_owned());
            fs::rename(&path, to)
        };
        finished.add(&path, "stamp", rename).unwrap();
    }
    for name in &names {
        // In the way of what would become the compressed file.
        fs::create_dir(format!("{}.part", name.display())).unwrap();
    }
    assert!(finished.tidy(0, &CancellationToken::new()).is_err(), "it says so");
    let left: Vec<bool> = names.iter().map(|name| name.exists()).collect();
    assert_eq!(left, [false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_a_whole_document_after_every_batch() {
    let bench = Bench::new();
    for round in 0..3 {
        bench
            .run(&json!({ "path": "a.har", "format": "har" }), &events(round * 2..round * 2 + 2))
            .await;
        let text = fs::read_to_string(bench.path("a.har")).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["log"]["entries"].as_array().unwrap().len(), round * 2 + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_archive_that_was_damaged_is_kept() {
    let bench = Bench::new();
    let params = json!({ "path": "a.har", "format": "har" });
    let mut damaged = Vec::new();
    for round in 0..3 {
        bench.run(&params, &events(round..round + 1)).await;
        let file = fs::File::options().write(true).open(bench.path("a.har")).unwrap();
        file.set_len(file.metadata().unwrap().len() * 9 / 10).unwrap();
        damaged.push(fs::read_to_string(bench.path("a.har")).unwrap());
    }
    bench.run(&params, &events(3..4)).await;
    let names = ["a.har.broken", "a.har.broken-2", "a.har.broken-3"];
    assert_eq!(names.map(|name| fs::read_to_string(bench.path(name)).unwrap()).to_vec(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_delays_and_doubles_nothing() {
    let bench = Bench::new();
    let params = json!({ "path": "sub/e.ndjson" });
    // A file where the folder should be: every write fails until it is gone.
    fs::write(bench.path("sub"), "in the way").unwrap();
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    let contents = events(0..5);
    let run = bench.run_sink(sink, &contents);
    let mend = async {
        let stored = bench.store.checkpoint("ship:subject");
        assert!(stored.await.is_ok());
        fs::remove_file(bench.path("sub")).unwrap();
    };
    tokio::join!(run, mend);
    assert_eq!(fs::read_to_string(bench.path("sub/e.ndjson")).unwrap(), lines(0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_left_that_failed_is_cut_at_once() {
    let bench = Bench::new();
    let event = |path: &str| json!({ "path": path }).to_string();
    let params = json!({ "path": "{path}.ndjson" });
    bench.run(&params, &[event("/a")]).await;
    // A folder where the second file should be: the write fails when the first has got its line.
    fs::create_dir(bench.path("b.ndjson")).unwrap();
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let stored = |id: u64, path: &str| {
        let content = event(path).into();
        StoredEvent { id, at_ms: 0, attempts: 0, content }
    };
    let id = u64::MAX >> 1;
    let events = vec![stored(id, "/a"), stored(id + 1, "/b")];
    let batch = SinkBatch { id: "b".to_owned(), events };
    let text = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    let refused = sink.write(&batch).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(text("a.ndjson"), event("/a") + "\n");
    fs::remove_dir(bench.path("b.ndjson")).unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(text("a.ndjson"), format!("{0}\n{0}\n", event("/a")));
    assert_eq!(text("b.ndjson"), event("/b") + "\n");
}

/// As where the file may be written, and its folder may not.
#[test]
fn a_file_that_gets_no_name_leaves_none_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let finished = Finished::open(list.clone(), Compress::None, None).unwrap();
    let path = folder.path().join("a.log");
    for stamp in ["one", "two"] {
        let refuse =
            |_: &Path| -> std::io::Result<()> { Err(std::io::ErrorKind::PermissionDenied.into()) };
        assert!(finished.add(&path, stamp, refuse).is_err());
    }
    fs::write(&path, "x").unwrap();
    finished.add(&path, "three", |to| fs::rename(&path, to)).unwrap();
    let listed = fs::read_to_string(list).unwrap();
    let listed: Vec<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    assert!(matches!(listed[..], [only] if only.contains("a-three.log")), "{listed:?}");
}

/// A list that broke off within a character, as on a disk that was full for a moment.
#[test]
fn a_list_that_broke_off_keeps_no_player_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let old = folder.path().join("old.log");
    fs::write(&old, [b'x'; 1000]).unwrap();
    let mut bytes = b"\n\"/archive/m\xc3".to_vec();
    bytes.extend(format!("\n{}", serde_json::to_string(&old).unwrap()).bytes());
    bytes.extend(b"\n\"/archive/m\xc3");
    fs::write(&list, bytes).unwrap();
    let finished = Finished::open(list, Compress::None, Some(100)).unwrap();
    finished.tidy(0, &CancellationToken::new()).unwrap();
    assert!(!old.exists(), "the names that are whole are known");
}

thread_local! {
    /// Length of a file at each sync of this thread.
    static SYNCED: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn count_sync(file: &fs::File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    SYNCED.with_borrow_mut(|synced| synced.push(length));
    Ok(())
}

/// Two batches for the files `a` and `b`, of which `a` gets both; the lengths that were synced.
fn synced(fsync: Fsync) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let locked = Writer::lock(folder.path(), &lock, FileFormat::Ndjson, fsync);
    let mut writer = locked.unwrap().expect("nobody else holds the lock");
    writer.sync = count_sync;
    SYNCED.set(Vec::new());
    let chunk = |path: &str, text: &str| Chunk { path: path.to_owned(), bytes: text.into() };
    let mut progress = Progress::default();
    for chunks in [vec![chunk("a", "1\n"), chunk("b", "12\n")], vec![chunk("a", "123\n")]] {
        for chunk in &chunks {
            let looked = writer.look(&chunk.path, progress.files.get(&chunk.path), 0).unwrap();
            progress.files.extend(looked.map(|tracked| (chunk.path.clone(), tracked)));
        }
        let appended = writer.append(&progress, &chunks).unwrap();
        for (chunk, appended) in chunks.iter().zip(appended) {
            progress.files.get_mut(&chunk.path).unwrap().good = appended.good;
        }
    }
    SYNCED.take()
}

#[test]
fn every_file_of_a_batch_is_synced_with_all_its_bytes_before_the_batch_is_done() {
    assert_eq!(synced(Fsync::Batch), [2, 3, 6]);
    assert!(synced(Fsync::Rotation).is_empty());
}

/// What the disk does not take for good must stay in the queue.
#[test]
fn a_sync_that_fails_fails_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let locked = Writer::lock(folder.path(), &lock, FileFormat::Ndjson, Fsync::Batch);
    let mut writer = locked.unwrap().expect("nobody else holds the lock");
    writer.sync = |_| Err(std::io::Error::from_raw_os_error(5));
    let mut progress = Progress::default();
    let looked = writer.look("a", None, 0).unwrap().unwrap();
    progress.files.insert("a".to_owned(), looked);
    let chunks = [Chunk { path: "a".to_owned(), bytes: b"1\n".to_vec() }];
    let refused = SinkError::from(writer.append(&progress, &chunks).unwrap_err());
    assert!(
        matches!(&refused, SinkError::Paused(reason) if reason.starts_with("a: ")),
        "{refused:?}"
    );
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"", "and it is written again");
    writer.sync = count_sync;
    assert_eq!(writer.append(&progress, &chunks).unwrap()[0].good, 2);
}

/// As of a person who makes room on a full disk.
#[test]
fn a_file_that_somebody_emptied_is_not_filled_again_when_another_fails() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let locked = Writer::lock(folder.path(), &lock, FileFormat::Ndjson, Fsync::Batch);
    let mut writer = locked.unwrap().expect("nobody else holds the lock");
    let mut progress = Progress::default();
    for path in ["a", "b"] {
        let looked = writer.look(path, None, 0).unwrap().expect("it is new");
        progress.files.insert(path.to_owned(), looked);
    }
    let chunks = ["a", "b"].map(|path| Chunk { path: path.to_owned(), bytes: b"line\n".to_vec() });
    let appended = writer.append(&progress, &chunks).unwrap();
    for (tracked, Appended { good, tail }) in progress.files.values_mut().zip(appended) {
        (tracked.good, tracked.tail) = (good, Some(tail));
    }
    fs::write(folder.path().join("b"), "").unwrap();
    writer.sync = |_| Err(std::io::Error::from_raw_os_error(28));
    assert!(writer.append(&progress, &chunks[..1]).is_err());
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((text("a"), text("b")), ("line\n".to_owned(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_do_not_write_one_file() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    let (first, second) = (
        build_sink(bench.folder.path(), &params).unwrap(),
        build_sink(bench.folder.path(), &params).unwrap(),
    );
    let host = SinkHost { store: bench.store.clone() };
    first.start(&host).await.unwrap();
    let error = second.start(&host).await.unwrap_err().to_string();
    assert!(error.contains("another process writes these files"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_else_writes_pauses_the_sink_and_keeps_no_player_from_starting() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    bench.run(&params, &events(0..3)).await;
    let held = fs::OpenOptions::new().append(true).open(bench.path("e.ndjson")).unwrap();
    held.lock().unwrap();
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let content = events(3..4).remove(0).into();
    let event = StoredEvent { id: u64::MAX >> 1, at_ms: 0, attempts: 0, content };
    let batch = SinkBatch { id: "b".to_owned(), events: vec![event] };
    let refused = sink.write(&batch).await;
    let is_told = |reason: &str| reason.contains("e.ndjson: another sink or program writes it");
    assert!(matches!(&refused, Err(SinkError::Paused(reason)) if is_told(reason)), "{refused:?}");
    drop(held);
    sink.write(&batch).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(0..4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_archive_of_the_sink_pauses_it_until_it_is_moved_away() {
    let bench = Bench::new();
    fs::write(bench.path("a.har"), "somebody else's").unwrap();
    let params = json!({ "path": "a.har", "format": "har" });
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let content = events(0..1).remove(0).into();
    let event = StoredEvent { id: 1, at_ms: 0, attempts: 0, content };
    let batch = SinkBatch { id: "b".to_owned(), events: vec![event] };
    let refused = sink.write(&batch).await;
    let is_told = |reason: &str| reason.starts_with("a.har: ") && reason.ends_with("move it away");
    assert!(matches!(&refused, Err(SinkError::Paused(reason)) if is_told(reason)), "{refused:?}");
    fs::rename(bench.path("a.har"), bench.path("moved")).unwrap();
    sink.write(&batch).await.unwrap();
    let text = fs::read_to_string(bench.path("a.har")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["log"]["entries"].as_array().unwrap().len(), 1);
}

/// As where the player's own disk does not let its queue be opened now.
#[tokio::test]
async fn a_queue_that_cannot_be_read_keeps_no_player_from_starting() {
    let bench = Bench::new();
    let sink = build_sink(bench.folder.path(), &json!({ "path": "e.ndjson" })).unwrap();
    bench.store.close().await;
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let event =
        StoredEvent { id: 1, at_ms: 0, attempts: 0, content: events(0..1).remove(0).into() };
    let refused = sink.write(&SinkBatch { id: "b".to_owned(), events: vec![event] }).await;
    let is_told = |reason: &str| reason.contains("the progress of the files cannot be read");
    assert!(matches!(&refused, Err(SinkError::Paused(reason)) if is_told(reason)), "{refused:?}");
    assert!(!bench.path("e.ndjson").exists());
}

/// As where the folder of the player's data may only be read, or lies on a disk that is not mounted yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_made_keeps_no_player_from_starting() {
    let bench = Bench::new();
    let data_dir = bench.path("data");
    std::os::unix::fs::symlink(bench.path("disk"), &data_dir).unwrap();
    let sink = build_sink(&data_dir, &json!({ "path": "e.ndjson" })).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let content = events(0..1).remove(0).into();
    let event = StoredEvent { id: 1, at_ms: 0, attempts: 0, content };
    let batch = SinkBatch { id: "b".to_owned(), events: vec![event] };
    let refused = sink.write(&batch).await;
    let is_told = |reason: &str| reason.contains("file-subject.lock: ");
    assert!(matches!(&refused, Err(SinkError::Paused(reason)) if is_told(reason)), "{refused:?}");
    fs::create_dir(bench.path("disk")).unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("disk/e.ndjson")).unwrap(), lines(0..1));
}

/// As where that disk may be read alone, and the file was taken away meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_written_keeps_no_player_from_starting() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    bench.run(&params, &events(0..2)).await;
    fs::remove_file(bench.path("e.ndjson")).unwrap();
    let conn = rusqlite::Connection::open(bench.path("q.sqlite3")).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
    )
    .unwrap();
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let content = events(2..3).remove(0).into();
    // Behind all that was written: ids begin at the time of the queue's creation.
    let event = StoredEvent { id: u64::MAX / 4, at_ms: 0, attempts: 0, content };
    let batch = SinkBatch { id: "b".to_owned(), events: vec![event] };
    let refused = sink.write(&batch).await;
    assert!(matches!(&refused, Err(SinkError::Paused(_))), "{refused:?}");
    conn.execute_batch("DROP TRIGGER refuse").unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(2..3));
}

#[test]
fn a_wrong_file_is_told_where() {
    let check = |params: Value, expected: &str| {
        let problems = build_sink(Path::new("."), &params).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    };
    check(json!({ "path": "in/" }), "path: expected the path of a file");
    check(json!({ "path": "{host}" }), "path: no field `host`");
    check(json!({ "path": format!("in/{}", "x".repeat(221)) }), "path: a name in the path has");
    check(json!({ "path": "x", "rotateBytes": 0 }), "rotateBytes: expected a size above zero");
    check(
        json!({ "path": "x", "maxTotalBytes": "1MiB" }),
        "maxTotalBytes: expected at least rotateBytes",
    );
}

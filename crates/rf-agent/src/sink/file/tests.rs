//! The sink's contract, and how its files are finished, limited and kept as archives.

mod recovery;
mod refused;
mod total;

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
use crate::stats::SinkMeter;
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
        self.run_until(sink, contents, || self.store.usage(self.queue).events == 0).await;
    }

    async fn run_until(
        &self,
        sink: Arc<dyn Sink>,
        contents: &[String],
        is_over: impl Fn() -> bool,
    ) {
        let events = contents.iter().cloned().map(Into::into).collect();
        self.store.commit(Commit::append(self.queue, events)).await.unwrap();
        sink.start(&SinkHost { store: self.store.clone() }).await.unwrap();
        let stop = CancellationToken::new();
        let maintenance = Arc::clone(&sink).run(stop.clone());
        let worker = self.worker(sink, &stop, &Arc::default());
        let over = async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        tokio::join!(worker.run(), maintenance, over);
    }

    fn worker(
        &self,
        sink: Arc<dyn Sink>,
        stop: &CancellationToken,
        meter: &Arc<SinkMeter>,
    ) -> Worker {
        Worker {
            id: "subject".to_owned(),
            sink,
            store: self.store.clone(),
            queue: self.queue,
            stop: stop.clone(),
            observer: None,
            meter: Arc::clone(meter),
            reached: Arc::default(),
            trace: <_>::default(),
            notes: <_>::default(),
        }
    }
}

/// What writes lines below a folder, without a sink around it.
fn writer_in(folder: &Path, fsync: Fsync) -> Writer {
    let lock = folder.join("file-subject.lock");
    let locked = Writer::lock(folder, &lock, FileFormat::Ndjson, fsync);
    locked.unwrap().expect("nobody else holds the lock")
}

fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| json!({ "body": number.to_string() }).to_string()).collect()
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    events(numbers).into_iter().map(|event| event + "\n").collect()
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
    let params = json!({ "path": "out/{path}.ndjson" });
    bench.run(&params, &[event("/a"), event("/b")]).await;
    bench.age().await;
    bench.run(&params, &[event("/b")]).await;
    let is_there = |name: &str| bench.path(name).exists();
    assert_eq!((is_there("out/a.ndjson"), is_there("out/b.ndjson")), (false, true));
    assert_eq!(all_text(bench.folder.path(), &[]), event("/a") + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_files_than_are_kept_those_that_rest_are_finished() {
    let bench = Bench::new();
    let event = |number: usize| json!({ "path": format!("/{number}") }).to_string();
    let contents: Vec<String> = (0..300).map(event).collect();
    let params = json!({ "path": "out/{path}.ndjson", "fsync": "rotation" });
    bench.run(&params, &contents).await;
    bench.run(&params, &contents[..1]).await;
    let files = fs::read_dir(bench.path("out")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let (finished, active): (Vec<_>, Vec<_>) = names.partition(|name| name.contains('-'));
    assert_eq!((finished.len(), active.len()), (300 - 256, 256));
    assert!(active.iter().any(|name| name == "0.ndjson"), "it was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_an_earlier_version_with_a_name_too_long_to_finish_holds_nothing_up() {
    let bench = Bench::new();
    let event = |path: &str| json!({ "path": path }).to_string();
    let params = json!({ "path": "out/{path}.ndjson" });
    bench.run(&params, &[event("/a")]).await;
    bench.age().await;
    let long = "x".repeat(250);
    let rename = |progress: &mut Progress| {
        let tracked = progress.files.remove("out/a.ndjson").unwrap();
        progress.files.insert(long.clone(), tracked);
    };
    bench.change(rename).await;
    fs::rename(bench.path("out/a.ndjson"), bench.path(&long)).unwrap();
    bench.run(&params, &[event("/b")]).await;
    assert_eq!(fs::read_to_string(bench.path("out/b.ndjson")).unwrap(), event("/b") + "\n");
    assert_eq!(fs::read_to_string(bench.path(&long)).unwrap(), event("/a") + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_surrogate_pair_keeps_no_event_from_its_file() {
    let bench = Bench::new();
    let content = r#"{"path":"/a","body":"\ud83d"}"#.to_owned();
    bench.run(&json!({ "path": "out/{path}.ndjson" }), std::slice::from_ref(&content)).await;
    assert_eq!(fs::read_to_string(bench.path("out/a.ndjson")).unwrap(), content + "\n");
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
async fn finished_files_are_compressed() {
    for (compress, ending) in [("gzip", ".gz"), ("zstd", ".zst")] {
        let bench = Bench::new();
        let params = json!({ "path": "out/e.ndjson", "rotateBytes": 1000, "compress": compress });
        bench.run(&params, &events(0..50)).await;
        let is_packed = || {
            let files = fs::read_dir(bench.path("out")).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            matches!(&names[..], [packed, active] if packed.ends_with(ending) && active == "e.ndjson")
        };
        let is_over = || is_packed() && bench.store.usage(bench.queue).events == 0;
        let sink = build_sink(bench.folder.path(), &params).unwrap();
        let contents = events(50..100);
        let run = bench.run_until(sink, &contents, is_over);
        tokio::time::timeout(Duration::from_secs(20), run).await.expect(compress);
        assert_eq!(all_text(bench.folder.path(), &["out/e.ndjson"]), lines(0..100));
    }
}

/// Captured then, else queued then.
#[test]
fn the_time_in_a_path_is_the_event_s() {
    let path = path_of("%Y-%m-%d/%H%M.ndjson", Path::new(".")).unwrap();
    let renderer = Renderer { path, format: FileFormat::Ndjson, spare: Spare::new(1, 1000) };
    let event = |content: &str, at_ms: u64| StoredEvent {
        id: 1,
        at_ms,
        attempts: 0,
        content: content.to_owned().into(),
    };
    let captured = r#"{"capturedAtUs":1769850845000000}"#;
    let events = [event(captured, 5), event("{}", 1_767_225_660_000), event(captured, 7)];
    let chunks = renderer.chunks(&events).unwrap();
    let lines: Vec<(&str, usize)> = chunks
        .iter()
        .map(|chunk| (chunk.path.as_str(), chunk.bytes.split(|byte| *byte == b'\n').count() - 1))
        .collect();
    assert_eq!(lines, [("2026-01-31/0914.ndjson", 2), ("2026-01-01/0001.ndjson", 1)]);
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

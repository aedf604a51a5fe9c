//! A folder with log files, a store, and the source between them, which can be stopped and started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rf_core::lifecycle::Tasks;
use rf_queue::{Budget, Checkpoint, QueueOptions, Store, StoreOptions, StoredEvent};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::pipeline::Output;
use crate::source::contract::build_source;
use crate::stats::SourceMeter;

/// A test does not wait longer for anything.
pub(super) const SOON: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(5);

pub(super) struct Rig {
    pub(super) folder: TempDir,
    params: Value,
    pub(super) store: Store,
    running: Option<(Tasks, CancellationToken)>,
    /// What the source counted since it was started last.
    meter: Arc<SourceMeter>,
}

impl Rig {
    /// Paths in `params` are relative to the folder. The source does not run yet.
    pub(super) fn new(params: Value) -> Self {
        Self::with_store(params, 64 * 1024 * 1024)
    }

    pub(super) fn with_store(mut params: Value, bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for key in ["filePath", "filePaths"] {
            let Some(value) = params.get_mut(key) else { continue };
            let inside = |name: &Value| json!(folder.path().join(name.as_str().unwrap()));
            *value = match &*value {
                Value::Array(names) => names.iter().map(inside).collect(),
                name => inside(name),
            };
        }
        let queues = vec![QueueOptions::new("q")];
        let options = StoreOptions::new(folder.path().join("q.sqlite3"), bytes, queues);
        let store = Store::open(options).unwrap().store;
        Self { folder, params, store, running: None, meter: Arc::default() }
    }

    /// A source over `app.log`, running.
    pub(super) async fn over_app_log(mut params: Value) -> Self {
        params["filePath"] = json!("app.log");
        let mut rig = Self::new(params);
        rig.start().await;
        rig
    }

    /// Starts it and waits until it has looked at the files and stored what it saw.
    pub(super) async fn start(&mut self) {
        self.start_full();
        self.until("the files are known", async |rig| {
            !rig.store.checkpoints("tail:s:").await.unwrap().is_empty()
        })
        .await;
    }

    /// Starts it, while it may not be able to store anything.
    pub(super) fn start_full(&mut self) {
        let queue = self.store.queue("q").unwrap();
        let (stop, out) = (CancellationToken::new(), Output::new(self.store.clone(), vec![queue]));
        self.meter = Arc::clone(out.meter());
        let tasks = Tasks::new(stop.clone());
        let source = build_source("logfile", &self.params);
        tasks.spawn("source", source.run(out, stop.clone()));
        self.running = Some((tasks, stop));
    }

    pub(super) async fn stop(&mut self) {
        let (tasks, stop) = self.running.take().unwrap();
        stop.cancel();
        tasks.join(SOON).await.unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds text to a file, which is made if it is not there.
    pub(super) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        append(&self.path(name), text.as_ref());
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn copy_and_truncate(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
        File::options().write(true).open(self.path(from)).unwrap().set_len(0).unwrap();
    }

    /// As gzip does it: the compressed file appears, then the plain one goes.
    pub(super) fn compress(&self, name: &str) {
        compress(&self.path(name));
    }

    /// What is remembered of each file, with its key.
    pub(super) async fn records(&self) -> Vec<(String, Value)> {
        let stored = self.store.checkpoints("tail:s:").await.unwrap();
        let record = |stored: Checkpoint| {
            (stored.key, serde_json::from_slice(&stored.value.unwrap()).unwrap())
        };
        stored.into_iter().map(record).collect()
    }

    pub(super) async fn until_record(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        self.until(what, async |rig| rig.records().await.iter().any(|(_, record)| is_it(record)))
            .await;
    }

    pub(super) async fn events(&self) -> Vec<StoredEvent> {
        let all = Budget { events: usize::MAX, bytes: usize::MAX };
        self.store.read(self.store.queue("q").unwrap(), 0, all).await.unwrap()
    }

    /// What is lost, by reason.
    pub(super) fn dropped(&self) -> BTreeMap<String, u64> {
        self.meter.losses.counts().by_reason()
    }

    /// The bodies of the stored events.
    pub(super) async fn bodies(&self) -> Vec<Value> {
        let events = self.events().await;
        events.iter().map(|event| body(&event.content)).collect()
    }

    pub(super) async fn lines(&self) -> Vec<String> {
        let bodies = self.bodies().await;
        bodies.iter().map(|body| body["content"].as_str().unwrap().to_owned()).collect()
    }

    /// Exactly these lines arrive, in this order.
    pub(super) async fn expect<T: AsRef<str>>(&self, lines: &[T]) {
        let expected: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let since = Instant::now();
        let mut news = self.news();
        loop {
            news.mark_unchanged();
            let found = self.lines().await;
            if found == expected {
                return;
            }
            let is_wrong = found.len() > expected.len()
                || !expected.starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(!is_wrong && since.elapsed() < SOON, "found {found:?}\nexpected {expected:?}");
            // Without news the check above ends it.
            timeout(SOON, news.changed()).await.ok();
        }
    }

    /// Changes with every event that is stored.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.store.watch(self.store.queue("q").unwrap())
    }

    /// Exactly these lines arrive, in any order.
    pub(super) async fn expect_set<T: AsRef<str>>(&self, lines: &[T]) {
        let mut expected: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        expected.sort_unstable();
        let since = Instant::now();
        let mut news = self.news();
        loop {
            news.mark_unchanged();
            let mut found = self.lines().await;
            found.sort_unstable();
            if found == expected {
                return;
            }
            assert!(
                found.len() <= expected.len() && since.elapsed() < SOON,
                "found {found:?}\nexpected {expected:?}"
            );
            timeout(SOON, news.changed()).await.ok();
        }
    }

    /// Waits until what is written gets a later time than this file has. The clock of files goes on in steps: a file that is
    /// written over within one of them, to the same length, looks as it did.
    pub(super) async fn until_later_than(&self, name: &str) {
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let (before, probe) = (modified(&self.path(name)), self.path("probe"));
        self.until("the clock of files goes on", async |_| {
            fs::write(&probe, "now").unwrap();
            modified(&probe) > before
        })
        .await;
    }

    /// Looks at each news of the queue until it is so, and now and then for what nobody announces, such as a file's length.
    pub(super) async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let mut news = self.news();
        let waiting = async {
            while !is_so(self).await {
                timeout(LOOK, news.changed()).await.ok();
            }
        };
        timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub(super) fn append(path: &Path, text: &[u8]) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text).unwrap();
}

pub(super) fn packed(text: &str, how: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), how);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn compress(path: &Path) {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut encoder =
        GzEncoder::new(File::create(PathBuf::from(name)).unwrap(), Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    encoder.finish().unwrap();
    fs::remove_file(path).unwrap();
}

pub(super) fn body(event: &[u8]) -> Value {
    let event: Value = serde_json::from_slice(event).unwrap();
    serde_json::from_str(event["body"].as_str().unwrap()).unwrap()
}

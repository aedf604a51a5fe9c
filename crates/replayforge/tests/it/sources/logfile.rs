//! `logfile`: a writer that numbers every line and rotates in every usual way, while the proxy is killed.
//!
//! A line is in the proxy's queue once when one batch has it: a batch that is sent again after a kill has the same key.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::Message;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::server::{Answer, Server};
use crate::support::wait::{SOON, eventually, let_pass};
use crate::support::wire::call;

/// How long lines may take to arrive after a kill, and copies to be looked at.
const DRAIN: Duration = Duration::from_secs(90);

/// What arrived.
#[derive(Default)]
struct Ledger {
    /// Lines by the key of the batch that they came in.
    batches: BTreeMap<String, Vec<String>>,
    /// Lines, and how many batches had them.
    lines: BTreeMap<String, usize>,
    repeated_batches: usize,
}

impl Ledger {
    fn note(&mut self, request: &Message) {
        let key = request.header("Idempotency-Key").expect("every batch has a key");
        let lines = lines_of(request);
        if let Some(known) = self.batches.get(&key) {
            assert_eq!(known, &lines, "batch {key} was sent again with other events");
            self.repeated_batches += 1;
            return;
        }
        for line in &lines {
            *self.lines.entry(line.clone()).or_default() += 1;
        }
        self.batches.insert(key, lines);
    }

    fn order(&self) -> Vec<String> {
        // Keys are UUIDv7: they grow with time.
        self.batches.values().flatten().cloned().collect()
    }
}

fn lines_of(request: &Message) -> Vec<String> {
    let events: Vec<String> = serde_json::from_slice(&request.body).expect("a list of texts");
    let line = |event: &String| {
        let event: Value = serde_json::from_str(event).unwrap();
        let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        body["content"].as_str().unwrap().to_owned()
    };
    events.iter().map(line).collect()
}

/// A proxy over one log file, and the server that its batches go to.
struct Rig {
    proxy: Program,
    ledger: Arc<Mutex<Ledger>>,
    _server: Server,
    folder: TempDir,
}

impl Rig {
    fn start() -> Rig {
        Rig::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Value)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let noting = Arc::clone(&ledger);
        let server = Server::start(0, move |request| {
            noting.lock().note(request);
            Answer::status(200)
        });
        fs::create_dir(folder.path().join("log")).unwrap();
        let mut config = json!({
            "dataDir": folder.path().join("proxy"),
            "sources": [{
                "id": "log", "type": "logfile", "targetSink": "out", "hookInterval": "100ms",
                "params": { "filePath": folder.path().join("log/app.log") },
            }],
            "sinks": [{
                "id": "out", "type": "http", "notRelay": true, "maxMessagesPerMinute": -1,
                "config": { "batchTimeoutSecs": "1ms" },
                "url": format!("http://127.0.0.1:{}/lines", server.port),
            }],
        });
        change(&mut config);
        let proxy = Program::role(folder.path(), "proxy", &config);
        Rig { proxy, ledger, _server: server, folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log/app.log")
    }
}

/// What a rotation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Rename,
    RenameAndCompress,
    CopyAndTruncate,
    CopyTruncateAndCompress,
    /// The content is gone with it, so this waits until all of it has arrived.
    Delete,
    /// The same.
    TruncateAndRefill,
    /// A link, switched to a new file; once that is seen, anything may happen.
    SwitchLink,
}

struct Writer {
    log: PathBuf,
    next: usize,
    turn: usize,
    rng: Rng,
    /// Held where the proxy must run: nobody can read what is deleted while nothing runs.
    calm: Arc<Mutex<()>>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Writer {
    fn run(mut self, manners: &[Manner], stop: &AtomicBool) -> usize {
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..self.rng.usize(1..20) {
                self.write_lines();
                let_pass(Duration::from_millis(self.rng.u64(0..8)));
            }
            let manner = manners[self.rng.usize(0..manners.len())];
            self.rotate(manner);
        }
        self.next
    }

    fn lines(&mut self, count: usize) -> String {
        let line = |n| format!("line {n:06} {}\n", "-".repeat(n * 37 % 300));
        let text = (self.next..self.next + count).map(line).collect();
        self.next += count;
        text
    }

    /// As many programs do, in two pieces now and then.
    fn write_lines(&mut self) {
        let count = self.rng.usize(1..30);
        let text = self.lines(count);
        let mut file = File::options().create(true).append(true).open(&self.log).unwrap();
        let (first, second) = text.split_at(self.rng.usize(0..text.len()));
        file.write_all(first.as_bytes()).unwrap();
        if self.rng.u8(0..4) == 0 {
            let_pass(Duration::from_millis(self.rng.u64(0..20)));
        }
        file.write_all(second.as_bytes()).unwrap();
    }

    fn rotate(&mut self, manner: Manner) {
        match manner {
            Manner::Rename => drop(self.rename()),
            Manner::RenameAndCompress => {
                let aside = self.rename();
                compress(&aside);
            }
            Manner::CopyAndTruncate => drop(self.copy_and_truncate()),
            Manner::CopyTruncateAndCompress => {
                let aside = self.copy_and_truncate();
                compress(&aside);
            }
            Manner::Delete => {
                let calm = Arc::clone(&self.calm);
                let _calm = calm.lock();
                self.wait_until_all_arrived();
                fs::remove_file(&self.log).unwrap();
            }
            Manner::TruncateAndRefill => {
                let calm = Arc::clone(&self.calm);
                let _calm = calm.lock();
                self.wait_until_all_arrived();
                let count = self.rng.usize(1..200);
                let text = self.lines(count);
                fs::write(&self.log, text).unwrap();
            }
            Manner::SwitchLink => self.switch_link(),
        }
    }

    /// `app.log.1` becomes `app.log.2`, and so on.
    fn make_place(&self) -> PathBuf {
        let aside =
            |n: usize, ending: &str| self.log.with_file_name(format!("app.log.{n}{ending}"));
        for n in (1..=self.turn).rev() {
            for ending in ["", ".gz"] {
                if aside(n, ending).exists() {
                    fs::rename(aside(n, ending), aside(n + 1, ending)).unwrap();
                }
            }
        }
        aside(1, "")
    }

    fn rename(&mut self) -> PathBuf {
        let aside = self.make_place();
        self.turn += 1;
        fs::rename(&self.log, &aside).unwrap();
        aside
    }

    fn copy_and_truncate(&mut self) -> PathBuf {
        let aside = self.make_place();
        self.turn += 1;
        fs::copy(&self.log, &aside).unwrap();
        File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
        aside
    }

    fn switch_link(&mut self) {
        let calm = Arc::clone(&self.calm);
        let _calm = calm.lock();
        if !self.log.is_symlink() {
            // What a link takes the place of would be deleted.
            self.rename();
        }
        self.turn += 1;
        point(&self.log, &format!("of-{}", self.turn));
        self.write_lines();
        self.wait_until_all_arrived();
    }

    fn wait_until_all_arrived(&self) {
        eventually("every line so far has arrived", DRAIN, || {
            self.ledger.lock().lines.len() == self.next
        });
    }
}

/// As gzip does it, which leaves links alone.
fn compress(path: &Path) {
    if path.is_symlink() {
        return;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut encoder = GzEncoder::new(File::create(name).unwrap(), Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    encoder.finish().unwrap();
    fs::remove_file(path).unwrap();
}

fn point(link: &Path, target: &str) {
    let new = link.with_file_name("new");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

fn seeded() -> Rng {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("CRASH_SEED={seed}");
    Rng::with_seed(seed)
}

fn check(manners: &'static [Manner]) {
    let mut rng = seeded();
    let mut rig = Rig::start();
    let calm = Arc::new(Mutex::new(()));
    if manners == [Manner::SwitchLink] {
        point(&rig.log(), "of-0");
    }
    let mut writer = Writer {
        log: rig.log(),
        next: 0,
        turn: 0,
        rng: rng.fork(),
        calm: Arc::clone(&calm),
        ledger: Arc::clone(&rig.ledger),
    };
    // A file that was never seen before it was rotated away is nobody's.
    writer.write_lines();
    writer.wait_until_all_arrived();
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let writing: JoinHandle<usize> = std::thread::spawn(move || writer.run(manners, &stopping));
    for _ in 0..12 {
        let_pass(Duration::from_millis(rng.u64(1..400)));
        let calm = calm.lock();
        rig.proxy.kill();
        // The writer goes on, and rotates as ever.
        let_pass(Duration::from_millis(rng.u64(0..400)));
        rig.proxy.restart();
        drop(calm);
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.join().expect("the writer does not panic");
    eventually("every line has arrived", DRAIN, || rig.ledger.lock().lines.len() >= written);
    // Nothing comes late: the proxy has nothing to do any more.
    assert!(rig.proxy.stop().success());
    let ledger = rig.ledger.lock();
    let twice: Vec<_> = ledger.lines.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        twice.is_empty(),
        "{} of {written} lines came more than once: {:?}",
        twice.len(),
        &twice[..twice.len().min(5)]
    );
    assert_eq!(ledger.lines.len(), written, "lines that nobody wrote");
    println!("{written} lines once, {} batches of them again", ledger.repeated_batches);
}

#[test]
fn crash_while_logs_are_renamed_and_compressed() {
    check(&[Manner::Rename, Manner::RenameAndCompress]);
}

#[test]
fn crash_while_logs_are_copied_and_emptied() {
    check(&[Manner::CopyAndTruncate, Manner::CopyTruncateAndCompress]);
}

#[test]
fn crash_while_logs_are_deleted_and_written_anew() {
    check(&[Manner::Delete, Manner::TruncateAndRefill]);
}

#[test]
fn crash_while_a_link_is_switched() {
    check(&[Manner::SwitchLink]);
}

#[test]
fn crash_while_logs_are_rotated_in_every_way() {
    check(&[
        Manner::Rename,
        Manner::RenameAndCompress,
        Manner::CopyAndTruncate,
        Manner::CopyTruncateAndCompress,
        Manner::Delete,
        Manner::TruncateAndRefill,
        Manner::SwitchLink,
    ]);
}

#[test]
fn what_the_kernel_tells_of_is_read_at_once() {
    // Nothing would be found by looking now and then.
    let rig = Rig::with(|config| config["sources"][0]["hookInterval"] = json!("1h"));
    let append = |text: &str| {
        let mut file = File::options().create(true).append(true).open(rig.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let arrives = |line: &str| {
        eventually(line, SOON, || rig.ledger.lock().lines.contains_key(line));
    };
    append("one\n");
    arrives("one");
    append("two\n");
    arrives("two");
    fs::rename(rig.log(), rig.log().with_file_name("app.log.1")).unwrap();
    append("three\n");
    arrives("three");
    append("four\n");
    arrives("four");
}

#[test]
fn what_the_kernel_does_not_tell_of_is_found_by_looking() {
    let rig = Rig::start();
    let arrives = |line: &str| {
        eventually(line, SOON, || rig.ledger.lock().lines.contains_key(line));
    };
    fs::write(rig.log(), "one\n").unwrap();
    arrives("one");
    // What is written under a name in a folder that is not watched is told there alone, as by another machine's writes.
    let elsewhere = rig.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::hard_link(rig.log(), elsewhere.join("name")).unwrap();
    // By then it waits for the next look.
    let_pass(Duration::from_millis(500));
    let mut file = File::options().append(true).open(elsewhere.join("name")).unwrap();
    file.write_all(b"two\n").unwrap();
    arrives("two");
}

#[test]
fn a_line_that_can_never_fit_is_a_dead_letter_and_the_status_page_counts_it() {
    let status = free_port();
    let mut rig = Rig::with(|config| {
        config["portStatusZ"] = json!(status);
        config["enableStatusZ"] = json!(true);
        config["sources"][0]["params"]["maxLineBytes"] = json!("800KiB");
        config["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
    });
    rig.proxy.expect_error("event moved to the dead letters: it can never fit into the queue");
    let (long, cut) = ("y".repeat(700 * 1024), "z".repeat(900 * 1024));
    fs::write(rig.log(), format!("before\n{long}\nbetween\n{cut}\nafter\n")).unwrap();
    eventually("the others have arrived", DRAIN, || {
        rig.ledger.lock().order() == ["before", "between", "after"]
    });
    // A line is in the queue, and may be delivered, before it is counted.
    eventually("the page counts them", SOON, || {
        let source = call(status, "GET", "/statusz", &[], b"").json()["sources"]["log"].take();
        let counts = ["messageSinceStart", "deadLettered", "cutLines"].map(|key| &source[key]);
        println!("{counts:?}");
        counts == [&json!(3), &json!(2), &json!(1)]
    });
    assert!(rig.proxy.stop().success());
    let config = rig.folder.path().join("proxy.json");
    let list = ["dead-letters", "list", "-c", config.to_str().unwrap()];
    let letters = Program::run(rig.folder.path(), &list, &[]).output;
    assert_eq!(letters.matches("can never fit into the queue").count(), 2, "{letters}");
}

#[test]
fn what_keeps_lines_from_being_read_is_said() {
    let rig = Rig::with(|config| {
        let params = &mut config["sources"][0]["params"];
        let folder = Path::new(params["filePath"].as_str().unwrap()).parent().unwrap().to_owned();
        fs::write(folder.join("file"), "").unwrap();
        *params = json!({ "filePaths": [folder.join("none.log"), folder.join("file/app.log")] });
    });
    let line = rig.proxy.wait_for("the file does not exist yet");
    assert!(line.contains(" INFO ") && line.contains("none.log"), "{line}");
    let line = rig.proxy.wait_for("folder cannot be read");
    assert!(line.contains(" WARN ") && line.contains("Not a directory"), "{line}");
}

#[test]
fn a_file_that_went_while_the_proxy_was_down_is_said_with_how_far_it_was_read() {
    let mut rig = Rig::start();
    fs::write(rig.log(), "one\n").unwrap();
    eventually("it has arrived", DRAIN, || rig.ledger.lock().order() == ["one"]);
    rig.proxy.kill();
    fs::rename(rig.log(), rig.folder.path().join("elsewhere")).unwrap();
    fs::write(rig.log(), "two\n").unwrap();
    rig.proxy.restart();
    let line = rig.proxy.wait_for("the file is gone");
    assert!(line.contains(" WARN ") && line.contains("log/app.log"), "{line}");
    assert!(line.contains("offset=4"), "{line}");
}

#[test]
fn a_real_access_log_arrives_line_by_line() {
    let rig = Rig::start();
    let text = include_str!("../../fixtures/access.log");
    let lines: Vec<&str> = text.lines().collect();
    let (before, after) = lines.split_at(lines.len() / 2);
    let mut written = 0;
    for half in [before, after] {
        let bytes: Vec<u8> =
            half.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
        for piece in bytes.chunks(997) {
            let mut file = File::options().create(true).append(true).open(rig.log()).unwrap();
            file.write_all(piece).unwrap();
        }
        written += half.len();
        eventually("the half has arrived", DRAIN, || rig.ledger.lock().order().len() >= written);
        fs::rename(rig.log(), rig.log().with_extension("log.1")).unwrap();
    }
    assert_eq!(rig.ledger.lock().order(), lines);
}

//! The sinks that write to a disk which is full, or which may only be read: they say so, lose nothing, hold nobody else
//! up, and go on by themselves once it takes something.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::support::http::Message;
use crate::support::ports::free_port;
use crate::support::small_disk::SmallDisk;
use crate::support::stack::Stack;
use crate::support::wait::{always_for, eventually};
use crate::support::wire::{call, post};

/// Names a table for every sink that keeps tables.
const TABLE: &str = "ts_counter_hits_60s";
/// A paused sink tries again after up to 30 s.
const NEXT_TRY: Duration = Duration::from_secs(60);
/// As long as nothing must happen.
const A_WHILE: Duration = Duration::from_millis(300);
/// Bytes of an event that needs room of its own.
const LARGE: usize = 20_000;

/// A player with the sink `subject` on a small disk, and the usual target beside it; both get every event.
struct Scene {
    /// Gone before the folder that it is mounted in.
    disk: SmallDisk,
    kind: &'static str,
    status: u16,
    posted: usize,
    stack: Stack,
}

impl Scene {
    fn start(kind: &'static str) -> Scene {
        let (mut disk, status) = (None, free_port());
        let mut stack = Stack::with(|configs| {
            let data = configs.player["dataDir"].as_str().unwrap().to_owned();
            let mounted = SmallDisk::mount(Path::new(&data).with_file_name("disk"));
            let params = match kind {
                "file" => json!({ "path": mounted.path.join("events.ndjson") }),
                _ => json!({ "database": mounted.path.join("events.sqlite3") }),
            };
            let subject = json!({ "name": "subject", "type": kind, "params": params });
            configs.player["sinks"].as_array_mut().unwrap().push(subject);
            configs.player["sources"][0]["sinks"] = json!(["target", "subject"]);
            configs.player["portStatusZ"] = json!(status);
            disk = Some(mounted);
        });
        stack.player.expect_error("sink is paused until this is fixed");
        stack.player.expect_error("cannot be opened; its events wait until");
        let disk = disk.expect("every stack asks for its files once");
        Scene { disk, kind, status, posted: 0, stack }
    }

    fn post(&mut self, events: usize, bytes: usize) {
        for _ in 0..events {
            let number = self.posted;
            self.posted += 1;
            let body = json!({
                "number": number, "serieName": number.to_string(), "timestamp": 60, "value": 1, "status": "ok",
                "text": "x".repeat(bytes),
            });
            post(self.stack.ports.proxy, &format!("/{TABLE}"), body.to_string().as_bytes());
        }
    }

    /// How often each number is stored; `None` while that cannot be told.
    fn stored(&self) -> Option<BTreeMap<usize, usize>> {
        let mut stored = BTreeMap::new();
        if self.kind == "file" {
            let text = std::fs::read_to_string(self.disk.path.join("events.ndjson")).ok()?;
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            for line in whole.lines() {
                let event: Value = serde_json::from_str(line).ok()?;
                let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
                *stored.entry(usize::try_from(body["number"].as_u64()?).ok()?).or_default() += 1;
            }
            return Some(stored);
        }
        let sql = match self.kind {
            "time_series" => {
                format!("SELECT CAST(serie_name AS INTEGER), CAST(count AS INTEGER) FROM {TABLE}")
            }
            _ => format!("SELECT number, count(*) FROM {TABLE} GROUP BY number"),
        };
        let path = self.disk.path.join("events.sqlite3");
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let mut statement = conn.prepare(&sql).ok()?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).ok()?;
        rows.collect::<Result<_, _>>().ok()
    }

    /// Everything that was posted is there, once.
    fn wait_for_all(&self) {
        let expected: BTreeMap<usize, usize> = (0..self.posted).map(|number| (number, 1)).collect();
        eventually("every event is stored once", NEXT_TRY, || {
            self.stored().is_some_and(|stored| stored == expected)
        });
    }

    fn status(&self, path: &str) -> Message {
        call(self.status, "GET", path, &[], b"")
    }

    /// The log, the status page and the answer to "is it ready" name the sink and what is wrong.
    fn wait_until_told(&self, what: &str) {
        // SQLite writes it without a hyphen.
        let says = |text: &str| text.to_lowercase().replace("read-only", "readonly").contains(what);
        eventually("the player is not ready", NEXT_TRY, || {
            let ready = self.status("/readyz");
            ready.status() == 503
                && ready.text().contains("sink `subject` is paused")
                && says(&ready.text())
        });
        assert!(says(&self.status("/statusz").json()["sinks"]["subject"].to_string()));
        let line = self.stack.player.wait_for("sink is paused until this is fixed");
        assert!(says(&line) && line.contains("sink=subject"), "{line}");
    }

    fn wait_until_ready(&self) {
        eventually("the player is ready again", NEXT_TRY, || {
            self.status("/readyz").status() == 200
        });
    }
}

fn check_full_disk(kind: &'static str) {
    let mut scene = Scene::start(kind);
    scene.post(5, 100);
    scene.wait_for_all();
    scene.disk.fill(0);
    scene.post(20, LARGE);
    scene.wait_until_told("full");
    scene.stack.target.wait_for(25);
    scene.stack.player.kill();
    scene.stack.player.restart();
    scene.wait_until_told("full");
    scene.disk.make_room();
    scene.wait_for_all();
    scene.wait_until_ready();
    // What was tried in vain is not written later.
    always_for("nothing comes twice", A_WHILE, || {
        scene.stored().is_none_or(|stored| stored.values().all(|count| *count == 1))
    });
}

fn check_read_only(kind: &'static str) {
    let mut scene = Scene::start(kind);
    scene.post(5, 100);
    scene.wait_for_all();
    scene.stack.player.stop();
    scene.disk.protect();
    scene.stack.player.restart();
    scene.post(5, 100);
    scene.stack.target.wait_for(10);
    scene.wait_until_told("readonly");
    scene.disk.unprotect();
    scene.wait_for_all();
    scene.wait_until_ready();
}

#[test]
fn db_waits_for_room() {
    check_full_disk("db");
}

#[test]
fn time_series_waits_for_room() {
    check_full_disk("time_series");
}

#[test]
fn alert_waits_for_room() {
    check_full_disk("alert");
}

#[test]
fn file_waits_for_room() {
    check_full_disk("file");
}

#[test]
fn db_waits_until_it_may_write() {
    check_read_only("db");
}

#[test]
fn time_series_waits_until_it_may_write() {
    check_read_only("time_series");
}

#[test]
fn alert_waits_until_it_may_write() {
    check_read_only("alert");
}

#[test]
fn file_waits_until_it_may_write() {
    check_read_only("file");
}

/// The first start of all, so that neither the queue is there, nor what the sink keeps beside it.
#[test]
fn a_player_whose_whole_folder_may_only_be_read_starts_with_its_files() {
    let mut mounted = None;
    let mut stack = Stack::with(|configs| {
        let disk = SmallDisk::mount(PathBuf::from(configs.player["dataDir"].as_str().unwrap()));
        disk.protect();
        mounted = Some(disk);
        configs.player["sinks"][0] = json!({
            "name": "target", "type": "file", "params": { "path": "events.ndjson" }, "buffer": { "maxBytes": "8mb" },
        });
    });
    // Gone before the folder that it is mounted in.
    let disk = mounted.expect("every stack asks for its files once");
    // How such a disk is told is for the queue to choose.
    stack.player.expect_error("");
    stack.player.wait_for("the sink's files cannot be opened; its events wait until they can be");
    post(stack.ports.proxy, "/", b"kept");
    disk.unprotect();
    let text = || std::fs::read_to_string(disk.path.join("events.ndjson")).unwrap_or_default();
    eventually("the event is in its file", NEXT_TRY, || text().lines().count() == 1);
}

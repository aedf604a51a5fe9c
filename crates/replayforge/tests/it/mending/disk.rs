//! A full disk and a damaged file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::http::Message;
use crate::support::ports::{Ports, free_port};
use crate::support::program::Program;
use crate::support::small_disk::SmallDisk;
use crate::support::stack::{Configs, Stack, TOKEN};
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// The queue sets some bytes aside once it has held an event and has time: they are what makes the promise. The file is there
/// before its bytes are, and whoever takes the room in between leaves the queue without them.
fn wait_for_reserve(path: &Path) {
    eventually("the reserve", SOON, || fs::metadata(path).is_ok_and(|file| file.len() > 0));
}

/// A proxy on a small disk; relay and player are started when they are needed.
struct Scene {
    proxy: Program,
    disk: SmallDisk,
    target: Target,
    ports: Ports,
    configs: Configs,
    acknowledged: BTreeSet<Vec<u8>>,
    posted: usize,
    folder: TempDir,
}

impl Scene {
    fn start() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(folder.path().join("proxy"));
        let target = Target::start();
        let ports = Ports { target: target.port, ..Ports::free() };
        let configs = Configs::new(folder.path(), ports);
        let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
        // How a full disk is told is for the queue to choose.
        proxy.expect_error("");
        Scene {
            proxy,
            disk,
            target,
            ports,
            configs,
            acknowledged: BTreeSet::new(),
            posted: 0,
            folder,
        }
    }

    fn post(&mut self, bytes: usize) -> Message {
        self.posted += 1;
        let mut body = format!("body {} ", self.posted).into_bytes();
        body.resize(bytes, b'.');
        let answer = call(self.ports.proxy, "POST", "/", &[], &body);
        match answer.status() {
            200 => drop(self.acknowledged.insert(body)),
            503 => assert!(
                answer.header("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()),
                "{answer:?}"
            ),
            other => panic!("{other}: {}", answer.text()),
        }
        answer
    }

    fn wait_for_reserve(&self) {
        wait_for_reserve(&self.disk.path.join("proxy.sqlite3.reserve"));
    }

    /// Posts until one is refused for now.
    fn post_until_refused(&mut self, bytes: usize) -> Message {
        (0..1000)
            .map(|_| self.post(bytes))
            .find(|answer| answer.status() != 200)
            .expect("the disk has an end")
    }

    fn check_all_arrive(&self) {
        let _relay = Program::role(self.folder.path(), "relay", &self.configs.relay);
        let _player = Program::role(self.folder.path(), "player", &self.configs.player);
        self.target.wait_for_bodies(&self.acknowledged, SOON);
        for (key, bodies) in self.target.by_key() {
            assert_eq!(bodies.len(), 1, "{key}: nothing was killed, so nothing is repeated");
        }
    }
}

#[test]
fn a_full_disk_refuses_for_now_and_recovers() {
    let mut scene = Scene::start();
    for _ in 0..10 {
        assert_eq!(scene.post(1000).status(), 200);
    }
    scene.wait_for_reserve();
    let refused = scene.post_until_refused(50_000);
    assert_eq!((refused.status(), refused.text().as_str()), (503, "Server busy, try again later"));
    assert!(scene.acknowledged.len() > 20, "{} fit", scene.acknowledged.len());
    assert!(scene.proxy.is_running());
    scene.check_all_arrive();
    eventually("requests are taken again", SOON, || scene.post(50_000).status() == 200);
    scene.check_all_arrive();
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_is_drained_all_the_same() {
    let mut scene = Scene::start();
    for _ in 0..20 {
        assert_eq!(scene.post(10_000).status(), 200);
    }
    scene.wait_for_reserve();
    scene.disk.fill(0);
    scene.post_until_refused(10_000);
    scene.check_all_arrive();
    scene.disk.make_room();
    eventually("requests are taken again", SOON, || scene.post(10_000).status() == 200);
    scene.check_all_arrive();
}

#[test]
fn an_agent_starts_on_a_full_disk_and_loses_nothing() {
    let mut scene = Scene::start();
    for _ in 0..20 {
        assert_eq!(scene.post(10_000).status(), 200);
    }
    scene.wait_for_reserve();
    scene.disk.fill(0);
    scene.proxy.kill();
    scene.proxy.restart();
    scene.check_all_arrive();
    scene.disk.make_room();
    eventually("requests are taken again", SOON, || scene.post(10_000).status() == 200);
    scene.check_all_arrive();
}

#[test]
fn a_relay_on_a_full_disk_says_so_until_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path().join("relay"));
    let (ports, heart) = (Ports::free(), Target::start());
    let mut configs = Configs::new(folder.path(), ports);
    configs.relay["alerts"] = json!({
        "after": 0, "heartbeatEvery": "1s",
        "heartbeatUrl": format!("http://127.0.0.1:{}/beat", heart.port),
    });
    configs.relay["buckets"]["b"]["dbMaxSizeKb"] = json!(1024);
    let mut relay = Program::role(folder.path(), "relay", &configs.relay);
    // How a full disk is told is for the queue to choose.
    relay.expect_error("");
    let bearer = format!("Bearer {TOKEN}");
    let headers: [(&str, &[u8]); 2] = [("Authorization", bearer.as_bytes()), ("RF-BUCKETS", b"b")];
    let batch = format!("[\"{}\"]", "x".repeat(2000));
    let record = || call(ports.relay, "POST", "/record-batch", &headers, batch.as_bytes());
    assert_eq!(record().status(), 200);
    wait_for_reserve(&disk.path.join("b/relay.sqlite3.reserve"));
    disk.fill(0);
    let get = |path: &str| call(ports.status, "GET", path, &[], b"");
    eventually("a batch is refused for the disk", SOON, || {
        let answer = record();
        answer.status() == 429
            && answer.text().contains("the relay's disk accepts no writes now: b")
    });
    let ready = get("/readyz");
    assert_eq!(ready.status(), 503);
    let text = "bucket b: its database does not work: the disk is full";
    assert!(ready.text().contains(text), "{}", ready.text());
    let report = get("/statusz").json()["report"].clone();
    assert_eq!(report["level"], "bad");
    assert!(report["disk"]["percent"].as_u64() >= Some(95), "{report}");
    relay.wait_for("TROUBLE relay itself: its disk is ");
    relay.wait_for("TROUBLE bucket b: its database does not work");
    relay.wait_for("no heartbeat: the database of a bucket does not work");
    let beats = heart.count();
    disk.make_room();
    eventually("batches are taken again", SOON, || record().status() == 200);
    eventually("the relay is ready", SOON, || get("/readyz").status() == 200);
    eventually("the heart beats again", SOON, || heart.count() > beats);
    relay.wait_for("RECOVERED bucket b: disk, after");
}

#[test]
fn a_player_on_a_full_disk_delivers_what_it_has_and_leaves_the_rest_at_the_relay() {
    let mut mounted = None;
    let mut stack = Stack::with(|configs| {
        let path = configs.player["dataDir"].as_str().unwrap();
        mounted = Some(SmallDisk::mount(PathBuf::from(path)));
        configs.player["sinks"][0]["buffer"] = json!({ "maxBytes": "8mb" });
    });
    // Gone before the folder that it is mounted in.
    let disk = mounted.expect("every stack asks for its files once");
    // How a full disk is told is for the queue to choose.
    stack.player.expect_error("");
    stack.target.go_away();
    let mut posted = BTreeSet::new();
    let mut post = |events: usize, port: u16| {
        for _ in 0..events {
            let mut body = format!("body {} ", posted.len()).into_bytes();
            body.resize(10_000, b'.');
            assert_eq!(call(port, "POST", "/", &[], &body).status(), 200);
            posted.insert(body);
        }
        posted.clone()
    };
    let at_the_player = post(20, stack.ports.proxy);
    let status = stack.ports.status;
    let bucket =
        || call(status, "GET", "/statusz", &[], b"").json()["report"]["buckets"][0].clone();
    // Not only those that the proxy has shipped so far.
    eventually("the player has them", SOON, || {
        let bucket = bucket();
        bucket["received"] == 20 && bucket["events"] == 0
    });
    wait_for_reserve(&disk.path.join("player.sqlite3.reserve"));
    disk.fill(0);
    let all = post(200, stack.ports.proxy);
    stack.player.kill();
    stack.player.restart();
    stack.target.come_back();
    stack.target.wait_for_bodies(&at_the_player, SOON);
    disk.make_room();
    stack.target.wait_for_bodies(&all, SOON);
}

/// Databases that were set aside; not their WAL.
fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let time = path.display().to_string().split(".corrupt-").nth(1).map(str::to_owned);
        time.is_some_and(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
    };
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_one).collect()
}

/// The two numbers in `... N events salvaged, M could not be read`.
fn salvaged_and_lost(line: &str) -> (usize, usize) {
    let before =
        |text: &str| line.split(text).next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    (before(" events salvaged"), before(" could not be read"))
}

/// Writes garbage over so many pages, a third of the way into the file.
fn damage(store: &Path, pages: usize) {
    let mut file = File::options().write(true).open(store).unwrap();
    let third = file.metadata().unwrap().len() / 3 / 4096 * 4096;
    assert!(third > 100_000, "the events are in the database: {third}");
    file.seek(SeekFrom::Start(third)).unwrap();
    file.write_all(&b"garbage!".repeat(4096 / 8 * pages)).unwrap();
}

#[test]
fn a_damaged_database_is_set_aside_and_the_rest_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let (mut configs, status) = (Configs::new(folder.path(), ports), free_port());
    configs.proxy["portStatusZ"] = json!(status);
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.expect_error("database was damaged");
    let body = |n: usize| format!("{n:05} {}", "text ".repeat(300)).into_bytes();
    for n in 0..300 {
        assert_eq!(call(ports.proxy, "POST", "/", &[], &body(n)).status(), 200);
    }
    assert!(proxy.stop().success());

    damage(&folder.path().join("proxy/proxy.sqlite3"), 1);

    proxy.restart();
    let line = proxy.wait_for("database was damaged");
    let (salvaged, lost) = salvaged_and_lost(&line);
    assert_eq!(salvaged + lost, 300, "{line}");
    assert!((1..=10).contains(&lost), "one bad page costs its own events: {line}");
    assert!(line.contains(" ERROR "), "data was lost: {line}");
    eventually("the loss is counted", SOON, || {
        let told = call(status, "GET", "/node-info", &[], b"").json();
        told["sinks"]["out"]["dropped"] == json!({ "damaged": lost })
    });
    assert_eq!(set_aside(&folder.path().join("proxy")).len(), 1, "kept for a person");
    assert_eq!(call(ports.proxy, "POST", "/", &[], b"new").status(), 200);

    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let _player = Program::role(folder.path(), "player", &configs.player);
    let received = target.wait_for(salvaged + 1);
    let bodies: BTreeSet<Vec<u8>> = received.iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies.len(), salvaged + 1);
    let known: BTreeSet<Vec<u8>> = (0..300).map(body).chain([b"new".to_vec()]).collect();
    assert!(bodies.is_subset(&known) && bodies.contains(&b"new"[..]));
}

#[test]
fn a_database_that_is_damaged_under_way_ends_the_program_and_is_salvaged_at_its_next_start() {
    const EVENTS: usize = 1500;
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let configs = Configs::new(folder.path(), ports);
    let mut proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let body = |n: usize| format!("{n:05} {}", "text ".repeat(1000)).into_bytes();
    // More than the store keeps in memory, so that it has to read what is damaged.
    for n in 0..EVENTS {
        assert_eq!(call(ports.proxy, "POST", "/", &[], &body(n)).status(), 200);
    }
    damage(&folder.path().join("proxy/proxy.sqlite3"), 16);
    let _relay = Program::role(folder.path(), "relay", &configs.relay);
    let mut player = Program::role(folder.path(), "player", &configs.player);
    player.expect_error("event moved to the dead letters");
    proxy.expect_error("proxy.sqlite3");
    proxy.expect_error("queue");
    assert_eq!(
        proxy.wait_for_end().code(),
        Some(1),
        "whose store is broken must not go on: {}",
        proxy.log()
    );
    assert!(proxy.log().contains("salvaged at the next start"), "{}", proxy.log());

    proxy.restart();
    proxy.expect_error("database was damaged");
    let (salvaged, lost) = salvaged_and_lost(&proxy.wait_for("database was damaged"));
    assert!((1..=60).contains(&lost) && salvaged > 300, "{salvaged} salvaged, {lost} lost");
    let arrived =
        || target.requests().into_iter().map(|request| request.body).collect::<BTreeSet<_>>();
    // An event whose tail was overwritten is no request any more, and becomes a letter of the player; what was under way
    // when the damage was seen may be at the relay whole.
    let list = ["dead-letters", "list", "--json", "-c", "player.json"];
    let letters = || Program::run(folder.path(), &list, &[]).output.lines().count();
    eventually("all others arrive", SOON, || arrived().len() + letters() >= EVENTS - lost);
    assert!(letters() <= 16, "{} events of 16 pages", letters());
    assert!(arrived().is_subset(&(0..EVENTS).map(body).collect()));
}

#[test]
fn a_file_that_is_no_database_at_all_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let configs = Configs::new(folder.path(), ports);
    fs::create_dir(folder.path().join("proxy")).unwrap();
    fs::write(folder.path().join("proxy/proxy.sqlite3"), "not a database ".repeat(1000)).unwrap();
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    proxy.wait_for("database was damaged");
    assert_eq!(call(ports.proxy, "POST", "/", &[], b"new").status(), 200);
    let kept = set_aside(&folder.path().join("proxy")).pop().expect("the file is kept");
    let kept = fs::read(kept).unwrap();
    assert!(kept.ends_with(b"not a database not a database "), "what it holds is still there");
}

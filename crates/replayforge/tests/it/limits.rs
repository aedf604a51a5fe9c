//! Floods: no file grows beyond its limit at any moment, what was acknowledged is kept, and a drain gives the space back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::bucket::drain;
use crate::support::ports::{Ports, free_port};
use crate::support::program::Program;
use crate::support::stack::{Configs, Stack, TOKEN};
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually};
use crate::support::wire::{call, post};

/// At the least; on a slow machine it goes on until it was one.
const FLOOD: Duration = Duration::from_secs(4);
/// More than twice of what any of the limits holds.
const REQUESTS: usize = 600;
/// Fewer looks at the files are too few to tell.
const SAMPLES: u64 = 500;

/// Lengths of all files of a folder that belong to the database `name`.
fn sizes(folder: &Path, name: &str) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_part = |path: &PathBuf| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(is_part);
    // One that is removed just now has no length.
    let mut sizes: Vec<_> = paths
        .filter_map(|path| Some((path.clone(), std::fs::metadata(&path).ok()?.len())))
        .collect();
    sizes.sort();
    sizes
}

fn total(folder: &Path, name: &str) -> u64 {
    // The lengths are not read at one moment: only two readings that agree are a sum that there has been.
    let mut before = sizes(folder, name);
    loop {
        let now = sizes(folder, name);
        if now == before {
            return now.iter().map(|(_, length)| length).sum();
        }
        before = now;
    }
}

/// Looks at the files all the time.
struct Sampler {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    samples: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Sampler {
    fn start(folder: PathBuf, name: &'static str) -> Sampler {
        let (stop, most, samples) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let shared = (Arc::clone(&stop), Arc::clone(&most), Arc::clone(&samples));
        let thread = std::thread::spawn(move || {
            let (stop, most, samples) = shared;
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(total(&folder, name), Ordering::Relaxed);
                samples.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_micros(500));
            }
        });
        Sampler { stop, most, samples, thread }
    }

    /// The files never took more than `limit`, and came near to it.
    fn check(self, limit: u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler does not panic");
        let (most, samples) =
            (self.most.load(Ordering::Relaxed), self.samples.load(Ordering::Relaxed));
        println!("{samples} samples, at most {most} of {limit} bytes");
        assert!(samples > SAMPLES, "{samples} samples are too few to tell");
        assert!(most <= limit, "{most} bytes on disk, the limit is {limit}");
        assert!(most > limit / 2, "{most} bytes on disk: the flood was none");
    }
}

/// Clients that send as fast as they can, each number once; what they were answered.
fn flood(
    sampler: &Sampler,
    send: impl Fn(usize) -> u16 + Send + Sync + 'static,
) -> Vec<(usize, u16)> {
    let send = Arc::new(send);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (send, answers, next) =
                (Arc::clone(&send), Arc::clone(&answers), Arc::clone(&next));
            let samples = Arc::clone(&sampler.samples);
            std::thread::spawn(move || {
                let started = Instant::now();
                let is_one = || {
                    next.load(Ordering::Relaxed) >= REQUESTS
                        && samples.load(Ordering::Relaxed) > SAMPLES
                };
                while started.elapsed() < FLOOD || !is_one() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let status = send(number);
                    answers.lock().push((number, status));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("clients do not panic"));
    let mut answers = std::mem::take(&mut *answers.lock());
    answers.sort_unstable();
    answers
}

/// Small ones, large ones, and some that are no text.
fn body(number: usize) -> Vec<u8> {
    let length = [10, 300, 700, 2_000, 9_000, 40_000][number % 6] + number % 97;
    let filling = if number.is_multiple_of(11) { 0xff } else { b'.' };
    let mut body = format!("{number} ").into_bytes();
    body.resize(length, filling);
    body
}

fn statuses(answers: &[(usize, u16)], status: u16) -> Vec<usize> {
    answers.iter().filter(|(_, other)| *other == status).map(|(number, _)| *number).collect()
}

const BUFFER: u64 = 2 * 1024 * 1024;

/// A proxy with a small buffer and no relay, flooded; then everything is let go. What was answered 200, what arrived, and the
/// proxy behind its folder, which must be there for as long as it runs.
fn check_buffer(when_full: &str) -> (Vec<(usize, u16)>, BTreeSet<Vec<u8>>, TempDir, Program) {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start();
    let ports = Ports { target: target.port, ..Ports::free() };
    let mut configs = Configs::new(folder.path(), ports);
    configs.proxy["sinks"][0]["buffer"] = json!({ "maxBytes": "2MiB", "whenFull": when_full });
    let home = folder.path().join("proxy");
    let sampler = Sampler::start(home.clone(), "proxy.sqlite3");
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let answers =
        flood(&sampler, move |number| call(ports.proxy, "POST", "/", &[], &body(number)).status());

    let relay = Program::role(folder.path(), "relay", &configs.relay);
    let player = Program::role(folder.path(), "player", &configs.player);
    // The newest are there with either policy, and when they have arrived everything before them has.
    let newest: BTreeSet<Vec<u8>> =
        statuses(&answers, 200).iter().rev().take(10).map(|number| body(*number)).collect();
    target.wait_for_bodies(&newest, SOON);
    sampler.check(BUFFER);
    eventually("the drained files are small", SOON, || total(&home, "proxy.sqlite3") < BUFFER / 4);
    post(ports.proxy, "/after", b"after the drain");
    target.wait_for_bodies(&BTreeSet::from([b"after the drain".to_vec()]), SOON);
    let arrived: Vec<Vec<u8>> = target.requests().into_iter().map(|request| request.body).collect();
    let distinct: BTreeSet<Vec<u8>> = arrived.iter().cloned().collect();
    assert_eq!(arrived.len(), distinct.len(), "nothing comes twice");
    drop((player, relay));
    (answers, distinct, folder, proxy)
}

#[test]
fn a_buffer_that_rejects_stays_in_its_bytes_and_keeps_what_it_took() {
    let (answers, arrived, _folder, proxy) = check_buffer("reject");
    let (taken, refused) = (statuses(&answers, 200), statuses(&answers, 503));
    assert_eq!(taken.len() + refused.len(), answers.len(), "{answers:?}");
    assert!(
        taken.len() > 50 && refused.len() > 50,
        "{} taken, {} refused",
        taken.len(),
        refused.len()
    );
    let expected: BTreeSet<Vec<u8>> =
        taken.into_iter().map(body).chain([b"after the drain".to_vec()]).collect();
    assert!(arrived == expected, "{} arrived of {}", arrived.len(), expected.len());
    assert!(proxy.log().contains("size limit is reached"), "{}", proxy.log());
}

#[test]
fn a_buffer_that_drops_stays_in_its_bytes_and_keeps_the_newest() {
    let (answers, arrived, _folder, proxy) = check_buffer("dropOldest");
    assert_eq!(statuses(&answers, 200).len(), answers.len(), "nothing is refused");
    let dropped = answers.len() + 1 - arrived.len();
    assert!(dropped > 50, "the flood was none: {dropped} dropped of {}", answers.len());
    // Numbers of different clients are not in order, but nearly: the newest half of what arrived is without a gap.
    let held = arrived.len();
    let newest: Vec<Vec<u8>> =
        answers.iter().rev().take(held / 2).map(|(number, _)| body(*number)).collect();
    assert!(newest.iter().all(|body| arrived.contains(body)), "the oldest go, not the newest");
    let line = proxy.wait_for("dropped=");
    assert!(line.contains(" WARN ") && line.contains("queue=out"), "{line}");
}

const BUCKET: u64 = 1024 * 1024;

/// A bucket of 1 MiB, flooded by senders of the original's protocol; what they were answered, and what is left in it.
fn check_bucket(when_full: &str) -> (Vec<(usize, u16)>, BTreeSet<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let mut config = Configs::new(folder.path(), ports).relay;
    config["buckets"]["b"] = json!({ "auth": TOKEN, "dbMaxSizeKb": 1024, "whenFull": when_full });
    let home = folder.path().join("relay/b");
    let sampler = Sampler::start(home.clone(), "relay.sqlite3");
    let _relay = Program::role(folder.path(), "relay", &config);
    let answers = flood(&sampler, move |number| {
        let event =
            String::from_utf8_lossy(&body(number)[..body(number).len().min(12_000)]).into_owned();
        let parts: Vec<String> =
            (0..number % 5 + 1).map(|part| format!("{number}/{part} {event}")).collect();
        let headers = [("RF-BUCKETS", &b"b"[..]), ("Authorization", b"Bearer token-of-b")];
        call(ports.relay, "POST", "/record-batch", &headers, json!(parts).to_string().as_bytes())
            .status()
    });
    let number = |content: String| content.split('/').next().unwrap().parse::<usize>().unwrap();
    let left: BTreeSet<usize> = drain(ports.relay, "b", TOKEN).into_iter().map(number).collect();
    sampler.check(BUCKET);
    eventually("the drained files are small", SOON, || total(&home, "relay.sqlite3") < BUCKET / 3);
    (answers, left)
}

#[test]
fn a_bucket_that_rejects_stays_in_its_bytes_and_keeps_what_it_took() {
    let (answers, left) = check_bucket("reject");
    let (taken, refused) = (statuses(&answers, 200), statuses(&answers, 429));
    assert_eq!(taken.len() + refused.len(), answers.len(), "{answers:?}");
    assert!(
        taken.len() > 20 && refused.len() > 20,
        "{} taken, {} refused",
        taken.len(),
        refused.len()
    );
    assert_eq!(left, taken.into_iter().collect());
}

#[test]
fn a_bucket_that_drops_stays_in_its_bytes_and_keeps_the_newest() {
    let (answers, left) = check_bucket("dropOldest");
    assert_eq!(statuses(&answers, 200).len(), answers.len(), "nothing is refused");
    assert!(left.len() < answers.len(), "the flood was none");
    let newest: BTreeSet<usize> =
        answers.iter().rev().take(left.len() / 2).map(|(number, _)| *number).collect();
    assert!(newest.is_subset(&left), "the oldest go, not the newest");
}

/// 150 events have passed a limit of 50 a second: neither at once, nor as slowly as a tenth of it would let them, which takes
/// half a minute. What a slow disk needs to take them from their clients does not count for the latter.
fn check_pace(started: Instant, posted: Instant, at_least: Duration, limit: &str) {
    let (took, waited) = (started.elapsed(), posted.elapsed());
    assert!(took >= at_least, "{limit}: {took:?}");
    assert!(waited < Duration::from_secs(25), "{limit}: {waited:?}");
}

#[test]
fn a_limited_player_delays_and_loses_nothing() {
    let stack = Stack::with(|configs| {
        configs.player["sinks"][0]["params"]["maxEventsPerSecond"] = json!(50);
    });
    let started = Instant::now();
    for n in 0..150 {
        post(stack.ports.proxy, &format!("/{n}"), b"");
    }
    let posted = Instant::now();
    let received = stack.target.wait_for(150);
    // A second's worth may go at once.
    check_pace(started, posted, Duration::from_millis(1900), "maxEventsPerSecond");
    assert!(
        received.iter().enumerate().all(|(n, request)| request.target() == format!("/{n}")),
        "in order"
    );
}

#[test]
fn a_limited_proxy_delays_and_loses_nothing() {
    for (limit, value) in [("maxEventsPerSecond", json!(50)), ("maxBytesPerSecond", json!("25KB"))]
    {
        let stack = Stack::with(|configs| {
            configs.proxy["sinks"][0][limit] = value;
            configs.proxy["sinks"][0]["config"] = json!({ "batchMaxEvents": 10 });
        });
        let started = Instant::now();
        // 500 bytes each, with what the event says of itself.
        for n in 0..150 {
            post(stack.ports.proxy, &format!("/{n}"), &[b'x'; 300]);
        }
        let posted = Instant::now();
        let received = stack.target.wait_for(150);
        check_pace(started, posted, Duration::from_millis(1500), limit);
        assert!(
            received.iter().enumerate().all(|(n, request)| request.target() == format!("/{n}")),
            "{limit}: in order"
        );
    }
}

#[test]
fn sends_a_minute_are_limited_and_what_waits_goes_together() {
    let status = free_port();
    let stack = Stack::with(|configs| {
        configs.proxy["sinks"][0]["maxMessagesPerMinute"] = json!(5);
        configs.proxy["portStatusZ"] = json!(status);
    });
    let started = Instant::now();
    // A minute's sends may go at once, and then one every 12 s.
    let sends = || {
        let page = call(status, "GET", "/statusz", &[], b"").json();
        let sends = page["sinks"]["out"]["batchCounter"].as_u64().unwrap();
        let took = started.elapsed();
        assert!(sends <= 5 + took.as_secs() / 12, "{sends} sends in {took:?}");
        sends
    };
    for n in 0..5 {
        post(stack.ports.proxy, &format!("/{n}"), b"");
        stack.target.wait_for(n + 1);
    }
    // The minute's sends are spent, and the next one comes 12 s after the first: together with all that waits. One by one, these
    // would take three minutes.
    for n in 5..20 {
        post(stack.ports.proxy, &format!("/{n}"), b"");
    }
    eventually("all of them", SOON, || sends() >= 6 && stack.target.count() >= 20);
    assert_eq!(stack.target.count(), 20);
}

#[test]
fn an_event_over_the_payload_limit_is_kept_as_a_dead_letter() {
    let mut stack = Stack::with(|configs| {
        configs.proxy["sinks"][0]["config"] = json!({ "maxPayloadBytes": 20_000 });
    });
    stack.proxy.expect_error("dead letters");
    post(stack.ports.proxy, "/small", b"1");
    post(stack.ports.proxy, "/large", &[b'x'; 30_000]);
    post(stack.ports.proxy, "/behind", b"2");
    let received = stack.target.wait_for(2);
    assert_eq!((received[0].target(), received[1].target()), ("/small", "/behind"));
    let config = stack.folder().join("proxy.json").display().to_string();
    let list =
        || Program::run(stack.folder(), &["dead-letters", "list", "-c", &config], &[]).output;
    eventually("the letter is listed", SOON, || list().contains("maxPayloadBytes"));
    assert_eq!(list().lines().count(), 2, "{}", list());
    // What is not delivered is logged.
    stack.proxy.wait_for("maxPayloadBytes");
}

#[test]
fn a_pulled_event_that_can_never_fit_is_a_dead_letter_and_those_behind_it_go_on() {
    let mut stack = Stack::with(|configs| {
        configs.player["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
    });
    let told = "event moved to the dead letters: it can never fit into the queue";
    stack.player.expect_error(told);
    post(stack.ports.proxy, "/small", b"1");
    post(stack.ports.proxy, "/large", &[b'x'; 700 * 1024]);
    post(stack.ports.proxy, "/behind", b"2");
    let received = stack.target.wait_for(2);
    assert_eq!((received[0].target(), received[1].target()), ("/small", "/behind"));
    let config = stack.folder().join("player.json").display().to_string();
    let list =
        || Program::run(stack.folder(), &["dead-letters", "list", "-c", &config], &[]).output;
    eventually("the letter is listed", SOON, || !list().contains("no dead letters"));
    assert_eq!(list().matches("can never fit into the queue").count(), 1, "{}", list());
    // It was acknowledged: the next start does not find it again.
    assert!(stack.player.stop().success());
    stack.player.restart();
    post(stack.ports.proxy, "/after", b"3");
    assert_eq!(stack.target.wait_for(3)[2].target(), "/after");
    assert_eq!(stack.player.log().matches(told).count(), 0, "{}", stack.player.log());
}

/// Where no thread is to be had, as in a container with too low a limit, the one that is there does the work.
#[test]
fn a_thread_for_blocking_work_stays_in_an_idle_program() {
    /// Tokio's own patience with idle threads is 10 s.
    const IDLE: Duration = Duration::from_secs(12);
    let folder = tempfile::tempdir().unwrap();
    let configs = Configs::new(folder.path(), Ports::free());
    let proxy = Program::role(folder.path(), "proxy", &configs.proxy);
    let cores = std::thread::available_parallelism().unwrap().get();
    let of_runtime = || proxy.threads().iter().filter(|name| *name == "tokio-rt-worker").count();
    eventually("all threads have their names", SOON, || of_runtime() > cores);
    always_for("there is one thread more than there are cores", IDLE, || of_runtime() > cores);
}

//! A child process works through a script and is killed at every step in turn; what it was told must be there.
//!
//! The script is plain data, so that the parent knows what the store must hold after so many of its actions. What the
//! child was told (it says so on its standard output) must be there; the action that was killed must be there wholly or
//! not at all.

mod script;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::step::armed::VARIABLE;
use crate::{DeadLetters, Store, SystemClock};
pub(super) use script::queues;
use script::{Action, Expected, QUEUES};

const FOLDER: &str = "RF_QUEUE_CRASH_FOLDER";

/// Set when the child has only to open the store, and to take over what lies there.
const ONLY_OPEN: &str = "RF_QUEUE_CRASH_ONLY_OPEN";

/// Children at a time.
const AT_ONCE: usize = 8;

/// Not a test by itself: what the other tests start and kill.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    if std::env::var(ONLY_OPEN).is_ok() {
        return only_open(Path::new(&folder)).await;
    }
    let store = script::open(Path::new(&folder), Arc::new(SystemClock::default())).unwrap().store;
    for (done, action) in script::actions().iter().enumerate() {
        action.perform(&store, Path::new(&folder)).await;
        println!("\nDONE {}", done + 1);
    }
    store.close().await;
    println!("\nSURVIVED");
}

async fn only_open(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(20);
    let opened = loop {
        match script::open(folder, Arc::new(SystemClock::default())) {
            // Other children, between fork and exec, have the lock of the test that makes them.
            Err(crate::OpenError::InUse { .. }) if Instant::now() < until => {
                tokio::task::yield_now().await;
            }
            opened => break opened.unwrap(),
        }
    };
    opened.store.close().await;
    println!("\nSURVIVED");
}

/// Runs the child until it is killed at `step`; the number of actions that it was told of, and whether it survived.
fn run_child(folder: &Path, step: u32, settings: &[(&str, &str)]) -> (usize, bool) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["tests::crash::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(VARIABLE, step.to_string())
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text
        .lines()
        .filter_map(|line| line.strip_prefix("DONE "))
        .filter_map(|n| n.parse().ok())
        .next_back();
    let (survived, killed) =
        (text.contains("SURVIVED"), String::from_utf8_lossy(&output.stderr).contains("crash at"));
    assert!(
        survived != killed,
        "neither killed nor done:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (told.unwrap_or(0), survived)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_at_every_odd_step_loses_nothing_that_was_told() {
    crash_at((1..).step_by(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_at_every_even_step_loses_nothing_that_was_told() {
    crash_at((2..).step_by(2)).await;
}

async fn crash_at(mut steps: impl Iterator<Item = u32>) {
    for killed in (0..).step_by(AT_ONCE) {
        // Side by side, because each of them mostly waits for the disk.
        let children: JoinSet<bool> = steps.by_ref().take(AT_ONCE).map(kill_and_check).collect();
        if children.join_all().await.contains(&true) {
            assert!(
                killed > 60,
                "about {killed} steps: the script no longer reaches what it should"
            );
            return;
        }
    }
}

/// Whether the child survived, having fewer steps than that.
async fn kill_and_check(step: u32) -> bool {
    let actions = script::actions();
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    let (told, survived) =
        tokio::task::spawn_blocking(move || run_child(&path, step, &[])).await.unwrap();
    assert!(!survived || told == actions.len());
    check(folder.path(), &actions, told, step).await;
    survived
}

/// Opens what the killed child left.
async fn check(folder: &Path, actions: &[Action], told: usize, step: u32) {
    let Ok(opened) = script::open(folder, Arc::new(SystemClock::default())) else {
        panic!("step {step}: the store cannot be opened");
    };
    assert_eq!(opened.notices, [], "step {step}");
    let store = opened.store;
    // A dead letter that was marked before the kill goes back now and not in the middle of looking.
    store.poke().await.unwrap();
    let found = observe(&store, folder).await;
    let without = Expected::after(&actions[..told]);
    let with = Expected::after(&actions[..(told + 1).min(actions.len())]);
    assert!(
        found == without || found == with,
        "step {step}: {found:?}\nis neither {without:?}\nnor {with:?}"
    );
    check_counters(&store, folder, step);
    if let Some(action) = actions.get(told) {
        check_repeat(&store, folder, action, found == with, step).await;
        assert_eq!(
            observe(&store, folder).await,
            with,
            "step {step}: after the action was done again"
        );
    }
    // What nobody holds can be had, and only that.
    let leased = store
        .lease(store.queue(QUEUES[0]).unwrap(), super::rig::EVERYTHING, super::rig::TTL)
        .await
        .unwrap();
    let free = super::rig::texts(&leased.events);
    let is_free = free == with.not_leased()
        || actions.get(told).is_some_and(Action::is_lease) && free == without.not_leased();
    assert!(is_free, "step {step}: {free:?} of {:?}", with.not_leased());
    store.close().await;
}

async fn observe(store: &Store, folder: &Path) -> Expected {
    let mut found = Expected::default();
    for (index, name) in QUEUES.iter().enumerate() {
        let events =
            store.read(store.queue(name).unwrap(), 0, super::rig::EVERYTHING).await.unwrap();
        assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
        found.queues[index] = events.iter().map(|event| script::label(&event.content)).collect();
    }
    for key in script::KEYS {
        if let Some(value) = store.checkpoint(key).await.unwrap() {
            found.checkpoints.insert(key, String::from_utf8(value).unwrap());
        }
    }
    let letters =
        DeadLetters::open(&folder.join(script::FILE)).unwrap().list(None, 0, 100).unwrap();
    found.dead = letters.iter().map(|letter| script::label(&letter.content)).collect();
    found
}

/// Counters in memory, counters on disk and the rows themselves agree.
fn check_counters(store: &Store, folder: &Path, step: u32) {
    let conn = Connection::open(folder.join(script::FILE)).unwrap();
    for (row, name) in (1..).zip(QUEUES) {
        let usage = store.usage(store.queue(name).unwrap());
        let stored = crate::limits::stored_bytes_sql();
        let tables = crate::schema::event_tables(&conn, row).unwrap();
        let tables = tables.into_iter().map(|number| crate::schema::event_table(row, number));
        let all =
            tables.map(|table| format!("SELECT id, content FROM {table}")).collect::<Vec<_>>();
        let count = format!(
            "SELECT count(*), coalesce(sum(length(content)), 0), coalesce(sum({stored}), 0) FROM ({})
             WHERE id > (SELECT removed FROM queues WHERE id = {row})",
            all.join(" UNION ALL ")
        );
        let triple = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?));
        let rows: (u64, u64, u64) = conn.query_row(&count, [], triple).unwrap();
        let kept = "SELECT events, bytes, stored FROM queues WHERE name = ?1";
        let kept: (u64, u64, u64) = conn.query_row(kept, [name], triple).unwrap();
        assert_eq!(kept, rows, "step {step}: {name}");
        assert_eq!((usage.events, usage.bytes), (rows.0, rows.1), "step {step}: {name}");
    }
}

/// The sender who was not answered tries again: with a batch id nothing is stored twice, without one it is for the test
/// to do again only what was not done.
async fn check_repeat(store: &Store, folder: &Path, action: &Action, was_done: bool, step: u32) {
    if let Some(commit) = action.batch() {
        let receipt = store.commit(commit).await.unwrap();
        let expected = was_done || action.is_repeat();
        assert_eq!(receipt.duplicate, expected, "step {step}: {action:?}");
    } else if !was_done {
        action.perform(store, folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_while_the_originals_file_is_taken_over() {
    check_taking_over(|folder, contents| {
        super::migration::original(&folder.join(script::FILE), contents);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_while_a_damaged_file_is_salvaged() {
    check_taking_over(|folder, contents| {
        super::damage::store_without_header(&folder.join(script::FILE), contents);
    })
    .await;
}

/// However often opening is killed, in the end every event is there once.
async fn check_taking_over(make: fn(&Path, &[String])) {
    for first in (1..).step_by(AT_ONCE) {
        // Side by side, because each of them mostly waits for the disk.
        let children: JoinSet<Option<u32>> =
            (first..).take(AT_ONCE).map(|step| take_over(step, make)).collect();
        if let Some(step) = children.join_all().await.into_iter().flatten().min() {
            assert!(step > 8, "only {step} steps");
            return;
        }
    }
}

/// The step, when the child survived, having fewer steps than that.
async fn take_over(step: u32, make: fn(&Path, &[String])) -> Option<u32> {
    let contents: Vec<String> = (0..700).map(|n| format!("{n} {}", "x".repeat(n % 300))).collect();
    let folder = TempDir::new().unwrap();
    let (path, made_of) = (folder.path().to_owned(), contents.clone());
    let killing = move || {
        make(&path, &made_of);
        let (_, survived) = run_child(&path, step, &[(ONLY_OPEN, "1")]);
        run_child(&path, step / 2 + 1, &[(ONLY_OPEN, "1")]);
        survived
    };
    let survived = tokio::task::spawn_blocking(killing).await.unwrap();
    let opened = script::open(folder.path(), Arc::new(SystemClock::default())).unwrap();
    let store = opened.store;
    let events =
        store.read(store.queue(QUEUES[0]).unwrap(), 0, super::rig::EVERYTHING).await.unwrap();
    assert!(
        super::rig::texts(&events) == contents,
        "step {step}: {} of {} events",
        events.len(),
        contents.len()
    );
    check_counters(&store, folder.path(), step);
    store.close().await;
    survived.then_some(step)
}

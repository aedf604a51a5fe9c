//! Files of the original program.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::rig::{MIB, Rig, set, texts};
use crate::{Commit, Import, Notice, QueueOptions, StoreOptions};

/// A relay bucket as the original writes it.
pub(super) fn original(path: &Path, contents: &[String]) {
    bucket(path, "FULL", contents);
}

fn bucket(path: &Path, auto_vacuum: &str, contents: &[String]) {
    let mut conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA auto_vacuum={auto_vacuum};
         CREATE TABLE wrap_calls (id INTEGER PRIMARY KEY, content TEXT, timestamp INTEGER);
         CREATE INDEX idx_timestamp ON wrap_calls (timestamp);
         INSERT INTO wrap_calls VALUES (5, NULL, 7);"
    ))
    .unwrap();
    let transaction = conn.transaction().unwrap();
    for (id, content) in (11..).zip(contents) {
        let row = params![id, content, 1_600_000_000 + id];
        transaction.execute("INSERT INTO wrap_calls VALUES (?1, ?2, ?3)", row).unwrap();
    }
    transaction.commit().unwrap();
}

fn sink(path: &Path, contents: &[&str]) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("CREATE TABLE sink_events (id INTEGER PRIMARY KEY, content TEXT)").unwrap();
    for content in contents {
        conn.execute("INSERT INTO sink_events (content) VALUES (?1)", [content]).unwrap();
    }
}

/// A store whose queue takes over the file of a proxy's sink, which is not there yet.
fn importing() -> (Rig, PathBuf) {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    let path = rig.path().with_file_name("a-sink.sqlite3");
    rig.options.imports = vec![Import { path: path.clone(), queue: "q".to_owned() }];
    (rig, path)
}

#[tokio::test]
async fn a_bucket_is_taken_over_in_place_with_its_ids_and_times() {
    let contents: Vec<String> = (0..900).map(|n| format!("event {n} \u{e4}")).collect();
    for auto_vacuum in ["FULL", "NONE"] {
        let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
        bucket(rig.path(), auto_vacuum, &contents);
        rig.open().unwrap();
        assert_eq!(rig.notices, [Notice::Migrated { from: rig.path().to_owned(), events: 900 }]);
        let events = rig.all().await;
        assert_eq!(texts(&events), contents);
        assert_eq!((events[0].id, events[0].at_ms), (11, 1_600_000_011_000));
        assert_eq!(rig.ack(vec![11, 12]).await, 2, "what a player pulled from the original");
        rig.append(&["new"]).await.unwrap();
        assert_eq!(rig.lease(1000).await.1.len(), 899);
        assert!(rig.ids().await.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(!rig.beside(".original").exists());
        rig.reopen().await;
        assert_eq!((rig.notices.len(), rig.usage().events), (0, 899));
    }
}

#[tokio::test]
async fn times_are_understood_in_every_form_and_those_that_are_none_are_now() {
    const THEN: u64 = 1_600_000_000_000;
    const NOW: u64 = 1_700_000_000_000;
    let rows = [
        ("1600000000", THEN),
        ("'1600000000'", THEN),
        ("'2020-09-13 12:26:40'", THEN),
        ("'2020-09-13T12:26:40Z'", THEN),
        ("'2020-09-13T14:26:40.25+02:00'", THEN),
        ("NULL", NOW),
        ("0", NOW),
        ("-5", NOW),
        ("''", NOW),
        ("'soon'", NOW),
        ("x'00'", NOW),
    ];
    for declared in ["DATETIME DEFAULT CURRENT_TIMESTAMP", "TEXT", "INTEGER", ""] {
        let mut queue = QueueOptions::new("q");
        queue.max_age = Some(std::time::Duration::from_secs(200_000_000));
        let mut rig = Rig::closed(MIB, vec![queue]);
        let conn = Connection::open(rig.path()).unwrap();
        let table = format!(
            "CREATE TABLE wrap_calls (id INTEGER PRIMARY KEY, content TEXT, timestamp {declared})"
        );
        conn.execute_batch(&table).unwrap();
        for (time, _) in rows {
            let insert = "INSERT INTO wrap_calls (content, timestamp)";
            conn.execute(&format!("{insert} VALUES (?1, {time})"), [time]).unwrap();
        }
        conn.close().unwrap();
        rig.open().unwrap();
        let taken: Vec<(String, u64)> = rig
            .all()
            .await
            .iter()
            .map(|event| (String::from_utf8(event.content.to_vec()).unwrap(), event.at_ms))
            .collect();
        assert_eq!(taken, rows.map(|(time, at_ms)| (time.to_owned(), at_ms)), "{declared}");
    }
}

#[tokio::test]
async fn a_part_of_a_second_counts_and_a_time_to_come_is_now() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    let conn = Connection::open(rig.path()).unwrap();
    conn.execute_batch(
        "CREATE TABLE wrap_calls (id INTEGER PRIMARY KEY, content TEXT, timestamp);
         INSERT INTO wrap_calls VALUES (1, 'a', 1600000000.5), (2, 'b', 9e300);",
    )
    .unwrap();
    conn.close().unwrap();
    rig.open().unwrap();
    let times: Vec<u64> = rig.all().await.iter().map(|event| event.at_ms).collect();
    assert_eq!(times, [1_600_000_000_500, 1_700_000_000_000]);
}

#[tokio::test]
async fn a_bucket_without_times_is_taken_over() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    let conn = Connection::open(rig.path()).unwrap();
    conn.execute_batch(
        "CREATE TABLE wrap_calls (id INTEGER PRIMARY KEY, content TEXT);
         INSERT INTO wrap_calls VALUES (7, 'a');",
    )
    .unwrap();
    conn.close().unwrap();
    rig.open().unwrap();
    let events = rig.all().await;
    assert_eq!((events[0].id, events[0].at_ms, events.len()), (7, 1_700_000_000_000, 1));
}

#[tokio::test]
async fn an_empty_bucket_is_taken_over_without_a_word() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    bucket(rig.path(), "FULL", &[]);
    rig.open().unwrap();
    assert_eq!(rig.notices, []);
    rig.append(&["a"]).await.unwrap();
}

#[tokio::test]
async fn a_bucket_larger_than_the_limit_comes_piece_by_piece() {
    let contents: Vec<String> = (0..3000).map(|n| format!("{n} {}", "x".repeat(900))).collect();
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    bucket(rig.path(), "FULL", &contents);
    let (mut got, mut starts) = (Vec::new(), 0);
    while got.len() < contents.len() {
        rig.open().unwrap();
        let files = ["", "-wal", "-shm", ".reserve"]
            .map(|s| std::fs::metadata(rig.beside(s)).map_or(0, |m| m.len()));
        assert!(files.iter().sum::<u64>() <= MIB);
        let (_, events) = rig.lease(10_000).await;
        assert!(!events.is_empty(), "start {starts}");
        got.extend(texts(&events));
        rig.ack(events.iter().map(|event| event.id).collect()).await;
        rig.close().await;
        starts += 1;
    }
    assert!(got == contents);
    assert!((4..8).contains(&starts), "{starts} starts");
    assert!(!rig.beside(".original").exists());
}

#[tokio::test]
async fn files_of_a_proxy_feed_their_queues() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q"), QueueOptions::new("r")]);
    let file = |name: &str| rig.path().with_file_name(name);
    let imports = [
        ("q", file("a-sink.sqlite3")),
        ("r", file("b-sink.sqlite3")),
        ("r", file("none-sink.sqlite3")),
    ];
    sink(&imports[0].1, &["a", "b"]);
    sink(&imports[1].1, &["c"]);
    let import =
        |(queue, path): &(&str, PathBuf)| Import { path: path.clone(), queue: (*queue).to_owned() };
    rig.options = StoreOptions { imports: imports.iter().map(import).collect(), ..rig.options };
    rig.open().unwrap();
    let migrated =
        |index: usize, events| Notice::Migrated { from: imports[index].1.clone(), events };
    assert_eq!(rig.notices, [migrated(0, 2), migrated(1, 1)]);
    assert_eq!(rig.texts().await, ["a", "b"]);
    assert_eq!(rig.store().usage(rig.queue("r")).events, 1);
    assert!(
        !imports[0].1.exists() && imports[0].1.with_file_name("a-sink.sqlite3.migrated").exists()
    );
    rig.reopen().await;
    assert_eq!(rig.notices, []);
    rig.close().await;
    sink(&imports[0].1, &["d"]);
    rig.open().unwrap();
    assert_eq!(rig.notices, [migrated(0, 1)], "somebody went back to the original for a while");
    assert_eq!(rig.texts().await, ["a", "b", "d"]);
}

#[tokio::test]
async fn a_file_for_a_queue_that_is_not_configured_is_left_alone() {
    let mut rig = Rig::closed(MIB, vec![QueueOptions::new("q")]);
    let path = rig.path().with_file_name("a-sink.sqlite3");
    sink(&path, &["a"]);
    rig.options = StoreOptions {
        imports: vec![Import { path: path.clone(), queue: "?".into() }],
        ..rig.options
    };
    rig.open().unwrap();
    assert_eq!((rig.notices.len(), rig.usage().events), (0, 0));
    assert!(path.exists());
}

#[tokio::test]
async fn a_damaged_file_of_a_proxy_is_left_alone() {
    let (mut rig, path) = importing();
    std::fs::write(&path, "this is a text\n".repeat(1000)).unwrap();
    rig.open().unwrap();
    rig.append(&["a"]).await.unwrap();
    assert_eq!((rig.notices.len(), rig.texts().await), (0, vec!["a".to_owned()]));
    assert!(path.exists());
}

#[tokio::test]
async fn what_lies_before_the_damage_of_a_proxys_file_is_taken_over() {
    let (mut rig, path) = importing();
    let contents: Vec<String> = (0..40).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
    sink(&path, &contents.iter().map(String::as_str).collect::<Vec<_>>());
    // The last page, with the newest events.
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        rig.open().unwrap();
        let texts = rig.texts().await;
        assert!((30..40).contains(&texts.len()), "{}", texts.len());
        assert_eq!(texts, contents[..texts.len()]);
        rig.close().await;
    }
    assert!(path.exists());
}

/// Else the events before it would be taken over again and again, until the store is full.
#[tokio::test]
async fn an_id_that_leads_back_is_damage_of_a_proxys_file() {
    let (mut rig, path) = importing();
    let contents: Vec<String> = (0..40).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
    sink(&path, &contents.iter().map(String::as_str).collect::<Vec<_>>());
    let mut bytes = std::fs::read(&path).unwrap();
    // The first row of a page: its id stands before the four bytes that describe it.
    let content = contents[20].as_bytes();
    let at = bytes.windows(content.len()).position(|part| part == content).unwrap();
    assert_eq!(bytes[at - 5], 21);
    bytes[at - 5] = 5;
    // The last page, so that events are read one by one.
    let end = bytes.len();
    bytes[end - 4096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        rig.open().unwrap();
        assert_eq!(rig.texts().await, contents[..20]);
        rig.close().await;
    }
}

#[tokio::test]
async fn what_the_original_queued_while_it_was_back_is_taken_over() {
    let (mut rig, path) = importing();
    let migrated = |events| Notice::Migrated { from: path.clone(), events };
    // Each file is a new one, whose ids begin at 1.
    sink(&path, &["a", "b", "c"]);
    rig.open().unwrap();
    assert_eq!(rig.notices, [migrated(3)]);
    rig.close().await;
    sink(&path, &["d", "e"]);
    rig.open().unwrap();
    assert_eq!(rig.notices, [migrated(2)]);
    // As if killed before it was forgotten how far the file was taken over.
    let key = format!("import:{}:sink_events", path.display());
    let checkpoints = vec![set(&key, "2 2 1")];
    rig.store().commit(Commit { checkpoints, ..Commit::default() }).await.unwrap();
    rig.close().await;
    sink(&path, &["f", "g"]);
    rig.open().unwrap();
    assert_eq!(rig.notices, [migrated(2)]);
    assert_eq!(rig.texts().await, ["a", "b", "c", "d", "e", "f", "g"]);
    let kept = ["", "-2", "-3"].map(|n| path.with_file_name(format!("a-sink.sqlite3.migrated{n}")));
    assert!(kept.iter().all(|file| file.exists()), "none is overwritten");
}

//! What a disk, a queue or another process refuses: it delays, and costs or doubles nothing.

use super::super::finished::Active;
use super::*;

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
    let params = json!({ "path": "out/{path}.ndjson" });
    bench.run(&params, &[event("/a")]).await;
    // A folder where the second file should be: the write fails when the first has got its line.
    fs::create_dir(bench.path("out/b.ndjson")).unwrap();
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let stored = |id: u64, path: &str| {
        let content = event(path).into();
        StoredEvent { id, at_ms: 0, attempts: 0, content }
    };
    let id = u64::MAX >> 1;
    let events = vec![stored(id, "/a"), stored(id + 1, "/b")];
    let batch = SinkBatch::new("b", events);
    let text = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    let refused = sink.write(&batch).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(text("out/a.ndjson"), event("/a") + "\n");
    fs::remove_dir(bench.path("out/b.ndjson")).unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(text("out/a.ndjson"), format!("{0}\n{0}\n", event("/a")));
    assert_eq!(text("out/b.ndjson"), event("/b") + "\n");
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

/// It may lie on another disk than the file.
#[test]
fn a_list_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("no-folder/list");
    let finished = Finished::open(list.clone(), Compress::None, None).unwrap();
    let path = folder.path().join("a.log");
    fs::write(&path, "x").unwrap();
    let refused = finished.add(&path, "one", |to| fs::rename(&path, to)).unwrap_err();
    assert!(refused.to_string().starts_with(&format!("{}: ", list.display())), "{refused}");
    assert!(path.exists(), "it has its name still");
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
    finished.tidy(&Active::default(), &CancellationToken::new()).unwrap();
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
    let mut writer = writer_in(folder.path(), fsync);
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
    let mut writer = writer_in(folder.path(), Fsync::Batch);
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
    let mut writer = writer_in(folder.path(), Fsync::Batch);
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
    let batch = SinkBatch::new("b", [event]);
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
    let batch = SinkBatch::new("b", [event]);
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
    let refused = sink.write(&SinkBatch::new("b", [event])).await;
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
    let batch = SinkBatch::new("b", [event]);
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
    let batch = SinkBatch::new("b", [event]);
    let refused = sink.write(&batch).await;
    assert!(matches!(&refused, Err(SinkError::Paused(_))), "{refused:?}");
    conn.execute_batch("DROP TRIGGER refuse").unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap(), lines(2..3));
}

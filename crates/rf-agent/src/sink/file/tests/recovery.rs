//! What a start, or the next write, finds in place of what was written: torn lines, other files, none.

use super::*;

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
    let batch = SinkBatch::new("b", [event]);
    let refused = sink.write(&batch).await;
    let is_told = |reason: &str| reason.contains("/disk is not a folder: move it away");
    assert!(matches!(&refused, Err(SinkError::Paused(reason)) if is_told(reason)), "{refused:?}");
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
        let mut writer = writer_in(bench.folder.path(), Fsync::Batch);
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
    let lock = || writer_in(folder.path(), Fsync::Rotation);
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

/// What leaves a queue that is nearly full takes several transactions, and a kill may come between two of them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_before_the_queue_knows_that_its_file_has_it() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson" });
    let long =
        |number: usize| json!({ "body": format!("{number} {}", "x".repeat(900)) }).to_string();
    let mut all = Vec::new();
    loop {
        let some: Vec<String> = (all.len()..all.len() + 100).map(long).collect();
        let events = some.iter().cloned().map(Into::into).collect();
        if bench.store.commit(Commit::append(bench.queue, events)).await.is_err() {
            break;
        }
        all.extend(some);
    }
    let conn = rusqlite::Connection::open(bench.path("q.sqlite3")).unwrap();
    conn.execute_batch(
        "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints WHEN NEW.key = 'file:subject' BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
    )
    .unwrap();
    let is_written = || fs::metadata(bench.path("e.ndjson")).is_ok_and(|file| file.len() > 1 << 20);
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    bench.run_until(sink, &[], is_written).await;
    assert_eq!(bench.store.usage(bench.queue).events, all.len() as u64);
    conn.execute_batch("DROP TRIGGER refuse").unwrap();
    bench.run(&params, &[]).await;
    let found = fs::read_to_string(bench.path("e.ndjson")).unwrap();
    assert!(found == all.join("\n") + "\n", "{} of {} lines", found.lines().count(), all.len());
}

/// What the sink stores by itself when it finishes a file then overtakes the progress that is to be stored with the removal.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_files_were_finished_beside_a_refused_removal_each_event_is_there_once() {
    const BATCHES: usize = 14;
    let bench = Bench::new();
    // Each batch begins a file.
    let params = json!({ "path": "e.ndjson", "rotateBytes": 1000 });
    let all = events(0..BATCHES * MAX_BATCH);
    let content = all.iter().cloned().map(Into::into).collect();
    bench.store.commit(Commit::append(bench.queue, content)).await.unwrap();
    let refuse = |sql: &str| {
        let queue = rusqlite::Connection::open(bench.path("q.sqlite3")).unwrap();
        queue.execute_batch(sql).unwrap();
    };
    refuse("CREATE TRIGGER refuse BEFORE UPDATE ON queues BEGIN SELECT RAISE(ABORT, 'no'); END");
    let sink = build_sink(bench.folder.path(), &params).unwrap();
    sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
    let (stop, meter) = (CancellationToken::new(), Arc::<SinkMeter>::default());
    let worker = bench.worker(sink, &stop, &meter);
    let finished = || {
        let list = fs::read_to_string(bench.path("file-subject.finished"));
        list.unwrap_or_default().lines().count()
    };
    let some_are_finished = async {
        while meter.health.paused().is_none() || finished() < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = worker.run() => panic!("the worker must wait for the queue"),
        () = some_are_finished => {}
    }
    assert_eq!(bench.store.usage(bench.queue).events, all.len() as u64);
    refuse("DROP TRIGGER refuse");
    bench.run(&params, &[]).await;
    assert!(all_text(bench.folder.path(), &["e.ndjson"]) == lines(0..BATCHES * MAX_BATCH));
}

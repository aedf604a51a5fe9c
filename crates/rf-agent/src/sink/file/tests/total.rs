//! `maxTotalBytes`: which files go, when, and when not.

use super::super::finished::Active;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn all_files_together_stay_below_their_limit_and_the_newest_stay() {
    let bench = Bench::new();
    let params = json!({ "path": "e.ndjson", "rotateBytes": 1000, "maxTotalBytes": 5000 });
    for round in 0..40 {
        bench.run(&params, &events(round * 20..round * 20 + 20)).await;
    }
    let text = all_text(bench.folder.path(), &["e.ndjson"]);
    assert!((3000..=6000).contains(&text.len()), "{}", text.len());
    assert!(lines(0..800).ends_with(&text), "the newest, without a gap");
    let left = fs::read_dir(bench.folder.path()).unwrap().count();
    assert!(left < 20, "{left} files");
}

/// The text of a file, whatever its name says of it.
fn unpacked(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = String::new();
    match bytes.as_slice() {
        [0x1f, 0x8b, ..] => {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text).unwrap();
        }
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    text
}

fn unpacked_file(finished: &Path, compress: &str) -> String {
    let ending = match compress {
        "zstd" => ".zst",
        "gzip" => ".gz",
        _ => "",
    };
    let path = PathBuf::from(format!("{}{ending}", finished.display()));
    // It is compressed while the next file is written.
    unpacked(if path.exists() { &path } else { finished })
}

/// Whoever sends events may know when a file was finished.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_a_finished_file_is_in_none() {
    for (path, compress) in
        [("in/{body.k}.ndjson", "zstd"), ("in/{body.k}", "gzip"), ("in/{body.k}", "none")]
    {
        let bench = Bench::new();
        let params = json!({ "path": path, "rotateBytes": 300, "compress": compress });
        let event = |name: &str, number: usize| {
            let body = json!({ "k": name, "number": number, "fill": "x".repeat(200) });
            json!({ "body": body.to_string() }).to_string()
        };
        let numbered = |name: &str, numbers: std::ops::Range<usize>| -> Vec<String> {
            numbers.map(|number| event(name, number)).collect()
        };
        bench.run(&params, &numbered("a", 0..1)).await;
        bench.run(&params, &numbered("a", 1..2)).await;
        let list = fs::read_to_string(bench.path("file-subject.finished")).unwrap();
        let finished: PathBuf = serde_json::from_str(list.lines().last().unwrap()).unwrap();
        let name = finished.file_name().unwrap().to_str().unwrap().trim_end_matches(".ndjson");
        let before = unpacked_file(&finished, compress);
        let named = [name.to_owned(), format!("{name}.zst"), format!("{name}.gz")];
        for (number, name) in (2..).zip(&named) {
            bench.run(&params, &[event(name, number)]).await;
        }
        bench.run(&params, &numbered("a", 5..6)).await;
        assert_eq!(unpacked_file(&finished, compress), before, "{path} {compress}");
        let texts = fs::read_dir(bench.path("in")).unwrap();
        let text: String = texts.map(|file| unpacked(&file.unwrap().path())).collect();
        for number in 0..6 {
            let wanted = format!("\\\"number\\\":{number},");
            assert_eq!(text.matches(&wanted).count(), 1, "{path} {compress}: {number} in {text}");
        }
    }
}

/// Else it would stay until another file is finished, which may take `rotateBytes` more.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_goes_when_a_file_that_is_being_written_grows_beyond_the_limit() {
    for fsync in ["batch", "rotation"] {
        let bench = Bench::new();
        let mut params = json!({ "path": "e.ndjson", "rotateBytes": 3000, "maxTotalBytes": 3500 });
        params["fsync"] = json!(fsync);
        let sink = build_sink(bench.folder.path(), &params).unwrap();
        sink.start(&SinkHost { store: bench.store.clone() }).await.unwrap();
        let stop = CancellationToken::new();
        let maintenance = Arc::clone(&sink).run(stop.clone());
        let listed = || fs::read_to_string(bench.path("file-subject.finished")).unwrap();
        let write = async {
            // The second finishes the first; with the fourth they are too large together.
            for (id, bytes) in (1..).zip([2900, 200, 200, 200, 200]) {
                let content = json!({ "body": "x".repeat(bytes) }).to_string().into();
                let event = StoredEvent { id, at_ms: 0, attempts: 0, content };
                sink.write(&SinkBatch::new("b", [event])).await.unwrap();
            }
            while listed().contains("ndjson") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(maintenance, write) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("the oldest goes");
        let files = fs::read_dir(bench.folder.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = names.filter(|name| name.ends_with(".ndjson")).collect();
        assert_eq!(left, ["e.ndjson"]);
        assert_eq!(fs::read_to_string(bench.path("e.ndjson")).unwrap().lines().count(), 4);
    }
}

/// Where there is nothing to remove, nobody looks at all files with each batch.
#[test]
fn files_are_looked_at_again_when_those_that_are_being_written_have_grown_enough() {
    let folder = tempfile::tempdir().unwrap();
    let finished = Finished::open(folder.path().join("list"), Compress::None, Some(3500)).unwrap();
    let path = folder.path().join("active.log");
    fs::write(&path, [b'x'; 500]).unwrap();
    let above = || {
        let active = Active { files: vec![(path.clone(), 500)], fsync: Fsync::Batch };
        finished.tidy(&active, &CancellationToken::new()).unwrap();
        [1500, 1501, 5000].map(|bytes| finished.is_above(bytes))
    };
    assert_eq!(above(), [false, false, false], "none is finished");
    let names = finish(&finished, folder.path(), 2);
    assert_eq!(above(), [false, true, true]);
    fs::remove_file(&path).unwrap();
    assert_eq!(above(), [false, false, true], "what was taken away makes room");
    assert!(names.iter().all(|name| name.exists()));
}

/// Finishes so many files of 1000 bytes; their names.
fn finish(finished: &Finished, folder: &Path, count: usize) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for number in 0..count {
        let path = folder.join(format!("{number}.log"));
        fs::write(&path, [b'x'; 1000]).unwrap();
        let rename = |to: &Path| {
            names.push(to.to_owned());
            fs::rename(&path, to)
        };
        finished.add(&path, "stamp", rename).unwrap();
    }
    names
}

#[test]
fn what_cannot_be_compressed_is_removed_in_its_turn_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let finished = Finished::open(list, Compress::Gzip, Some(1500)).unwrap();
    let names = finish(&finished, folder.path(), 3);
    for name in &names {
        // In the way of what would become the compressed file.
        fs::create_dir(format!("{}.part", name.display())).unwrap();
    }
    let tidied = finished.tidy(&Active::default(), &CancellationToken::new());
    assert!(tidied.is_err(), "it says so");
    let left: Vec<bool> = names.iter().map(|name| name.exists()).collect();
    assert_eq!(left, [false, false, true]);
}

/// What would be lost with the power must not have cost what is safe.
#[test]
fn nothing_is_removed_before_what_replaces_it_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let finished = Finished::open(list, Compress::None, Some(1500)).unwrap();
    let names = finish(&finished, folder.path(), 2);
    // It leads to itself, so that it cannot be synced.
    let path = folder.path().join("active.log");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let tidy = |fsync| {
        let active = Active { files: vec![(path.clone(), 0)], fsync };
        finished.tidy(&active, &CancellationToken::new())
    };
    let left = || names.iter().map(|name| name.exists()).collect::<Vec<_>>();
    assert!(tidy(Fsync::Rotation).is_err(), "it says so");
    assert_eq!(left(), [true, true]);
    // With each batch: it was synced already.
    tidy(Fsync::Batch).unwrap();
    assert_eq!(left(), [false, true]);
}

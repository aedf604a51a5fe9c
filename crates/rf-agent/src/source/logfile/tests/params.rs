//! The keys of `params`, one by one; and the queue that is full.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use rf_core::config::{Problems, parse};
use rf_queue::{Commit, DeadLetters, FullReason};
use serde_json::{Value, json};

use super::super::settings::{LogfileSourceConfig, check};
use super::rig::{Rig, SOON};
use crate::source::{SOURCES, SourceContext};

fn problems(params: &Value) -> String {
    let mut problems = Problems::new();
    let document = parse("params", &params.to_string(), &|_| None, &mut problems).unwrap();
    let kind = SOURCES.iter().find(|kind| kind.name == "logfile").unwrap();
    let context = SourceContext { id: "s", env_name: "", host_name: "", hook_interval: None };
    let built = (kind.build)(&context, &document.root(), &mut problems);
    assert_eq!(built.is_none(), problems.has_errors());
    problems.to_string()
}

#[test]
fn wrong_keys_are_told() {
    for (params, told) in [
        (json!({}), "filePath"),
        (json!({ "filePaths": ["/a/[x"] }), "not a pattern"),
        (json!({ "filePath": "/" }), "error: filePath: expected a file, \"/\" is a folder"),
        (json!({ "filePaths": ["a", "/"] }), "error: filePaths[1]: expected a file"),
        (json!({ "filePath": "/a/*.log" }), "warning: filePath: a literal path"),
        (json!({ "filePath": "a", "maxLineBytes": 1 }), "maxLineBytes"),
        (json!({ "filePath": "a", "encoding": "utf-7" }), "encoding"),
        (json!({ "filePath": "a", "multiline": {} }), "exactly one"),
        (json!({ "filePath": "a", "multiline": { "start": "a", "end": "b" } }), "exactly one"),
        (
            json!({ "filePath": "a", "multiline": { "start": "(" } }),
            "multiline.start: not a regular expression: unclosed group",
        ),
    ] {
        let found = problems(&params);
        assert!(found.contains(told), "{params}: {found}");
    }
}

#[test]
fn all_wrong_keys_are_told_at_their_places() {
    let params = json!({
        "filePath": "/", "filePaths": ["a", "/y[", "b", "/z["], "exclude": ["c", "d["],
        "maxLineBytes": 1, "multiline": { "continue": "(", "maxLines": 0, "timeout": 0 },
    });
    let found = problems(&params);
    let expected = [
        "filePath: expected a file, \"/\" is a folder",
        "filePaths[1]: \"/y[\" is not a pattern: ",
        "filePaths[3]: \"/z[\" is not a pattern: ",
        "exclude[1]: \"d[\" is not a pattern: ",
        "maxLineBytes: expected 16 to 16777216 bytes",
        "multiline.maxLines: expected more than zero",
        "multiline.timeout: expected a time above zero",
        "multiline.continue: not a regular expression: unclosed group",
    ];
    for told in expected {
        assert!(found.contains(&format!("error: {told}")), "{told} of {found}");
    }
    assert_eq!(found.lines().count(), expected.len(), "{found}");
}

#[test]
fn the_keys_of_the_original_are_taken() {
    let params = json!({ "filePath": "/var/log/x.log", "removeAfterSecs": 3600, "fingerprintLines": 3, "httpPath": "/logs" });
    assert_eq!(problems(&params), "");
}

#[test]
fn the_hook_interval_is_that_of_the_looks() {
    let poll = |hook_interval: Option<Duration>| {
        let mut problems = Problems::new();
        let document = parse("params", r#"{ "filePath": "a" }"#, &|_| None, &mut problems).unwrap();
        let root = document.root();
        let config: LogfileSourceConfig = root.decode(&mut problems).unwrap();
        let context = SourceContext { id: "s", env_name: "", host_name: "", hook_interval };
        check(&context, &config, &root, &mut problems).unwrap().poll
    };
    assert_eq!(poll(None), Duration::from_secs(1));
    for interval in [Duration::from_millis(300), Duration::from_secs(3600)] {
        assert_eq!(poll(Some(interval)), interval);
    }
}

#[tokio::test]
async fn patterns_find_files_also_later_and_say_whose_line_it_is() {
    let params = json!({ "filePaths": ["**/*.log"], "exclude": ["secret*"], "httpPath": "/logs" });
    let mut rig = Rig::new(params);
    rig.append("a.log", "of a\n");
    rig.append("secret.log", "hidden\n");
    rig.append("b.txt", "other\n");
    rig.start().await;
    rig.expect_set(&["of a"]).await;
    fs::create_dir(rig.path("sub")).unwrap();
    rig.append("sub/c.log", "of c\n");
    rig.expect_set(&["of a", "of c"]).await;
    let events = rig.events().await;
    for event in &events {
        let event: Value = serde_json::from_slice(&event.content).unwrap();
        let file = event["file"].as_str().unwrap();
        assert_eq!(event["path"], "/logs");
        let letter = event["body"].as_str().unwrap().chars().nth(15).unwrap();
        assert!(file.ends_with(&format!("{letter}.log")), "{event}");
    }
}

#[tokio::test]
async fn a_file_is_emptied_when_all_of_it_is_stored() {
    let rig = Rig::over_app_log(json!({ "removeAfterSecs": "300ms" })).await;
    rig.append("app.log", "one\ntwo\n");
    rig.expect(&["one", "two"]).await;
    rig.until("emptied", async |rig| fs::metadata(rig.path("app.log")).unwrap().len() == 0).await;
    rig.append("app.log", "three\n");
    rig.expect(&["one", "two", "three"]).await;
    rig.until("emptied", async |rig| fs::metadata(rig.path("app.log")).unwrap().len() == 0).await;
}

#[tokio::test]
async fn a_full_queue_pauses_the_reading_and_nothing_is_passed_over_or_emptied() {
    let params = json!({ "filePath": "app.log", "removeAfterSecs": "1ms" });
    let mut rig = Rig::with_store(params, 1024 * 1024);
    let queue = rig.store.queue("q").unwrap();
    // Fill it to the brim.
    let mut filler = 0;
    for size in [64 * 1024, 4096, 256, 16] {
        loop {
            match rig.store.commit(Commit::append(queue, vec![Bytes::from(vec![b'f'; size])])).await
            {
                Ok(_) => filler += 1,
                Err(rf_queue::CommitError::Full {
                    reason: FullReason::Queue | FullReason::Store,
                    ..
                }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let lines: Vec<String> = (0..3000).map(|n| format!("line {n} {}", "x".repeat(100))).collect();
    rig.append("app.log", lines.join("\n") + "\n");
    let size = fs::metadata(rig.path("app.log")).unwrap().len();
    rig.start_full();
    let mut found = Vec::new();
    let mut news = rig.news();
    while found.len() < lines.len() {
        news.mark_unchanged();
        // Room is made bit by bit; what comes is as it was written.
        let events = rig.events().await;
        let ids = events.iter().map(|event| event.id).collect();
        rig.store.ack(queue, ids).await.unwrap();
        let new = events.iter().filter(|event| event.content.first() != Some(&b'f'));
        found.extend(
            new.map(|event| {
                super::rig::body(&event.content)["content"].as_str().unwrap().to_owned()
            }),
        );
        // What empties the file stores its last lines before.
        let is_emptied = fs::metadata(rig.path("app.log")).unwrap().len() != size;
        if is_emptied {
            let left = rig.events().await.len();
            assert_eq!(found.len() + left, lines.len(), "emptied too soon");
        } else if found.len() < lines.len() {
            tokio::time::timeout(SOON, news.changed()).await.expect("more lines come").unwrap();
        }
    }
    assert!(filler > 10);
    assert_eq!(found, lines);
    rig.until("emptied", async |rig| fs::metadata(rig.path("app.log")).unwrap().len() == 0).await;
}

#[tokio::test]
async fn a_line_that_can_never_fit_is_buried_with_its_place_in_the_file() {
    let mut rig =
        Rig::with_store(json!({ "filePath": "app.log", "maxLineBytes": "650KiB" }), 1024 * 1024);
    rig.append("app.log", format!("before\n{}\nafter\n", "x".repeat(700_000)));
    rig.start().await;
    rig.expect(&["before", "after"]).await;
    rig.stop().await;
    rig.append("app.log", "again\n");
    rig.start().await;
    rig.expect(&["before", "after", "again"]).await;
    let letters = DeadLetters::open(&rig.path("q.sqlite3")).unwrap().list(None, 0, 10).unwrap();
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    assert!(letter.reason.contains("can never fit into the queue"), "{}", letter.reason);
    assert!(letter.content.windows(1000).any(|part| part.iter().all(|byte| *byte == b'x')));
}

#[tokio::test]
async fn a_file_is_known_by_its_first_lines() {
    let mut rig = Rig::over_app_log(json!({ "fingerprintLines": 2 })).await;
    rig.append("app.log", "head a\nhead b\none\n");
    rig.expect(&["head a", "head b", "one"]).await;
    rig.stop().await;
    rig.append("app.log", "two\n");
    rig.start().await;
    rig.expect(&["head a", "head b", "one", "two"]).await;
    rig.stop().await;
    // Written anew, longer than before, with another beginning.
    fs::write(rig.path("app.log"), "head c\nhead d\nthree\nfour\nfive\n").unwrap();
    rig.start().await;
    rig.expect(&["head a", "head b", "one", "two", "head c", "head d", "three", "four", "five"])
        .await;
}

#[tokio::test]
async fn behind_those_lines_a_file_may_change() {
    let filler = "x".repeat(100);
    for (lines, is_same) in [(1, true), (2, false), (0, false)] {
        let mut rig = Rig::over_app_log(json!({ "fingerprintLines": lines })).await;
        rig.append("app.log", format!("head\none\n{filler}\n"));
        let before = ["head", "one", &filler];
        rig.expect(&before).await;
        rig.stop().await;
        fs::write(rig.path("app.log"), format!("head\nONE\n{filler}\nnew\n")).unwrap();
        rig.start().await;
        let after = if is_same { vec!["new"] } else { vec!["head", "ONE", &filler, "new"] };
        rig.expect(&[&before[..], &after[..]].concat()).await;
    }
}

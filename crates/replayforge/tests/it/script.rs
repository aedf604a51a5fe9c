//! `replayforge script`: scripts tried, tested and measured by their writers, without anything running.

use tempfile::TempDir;

use crate::support::program::{Finished, Program};

const SCRIPT: &str = r#"
local count = 0
function Process(content, emit)
    count = count + 1
    if content == "drop" then drop("not wanted") return end
    if content == "dead" then dead("too odd") return end
    if content == "bad" then local nothing = nil; nothing() end
    info("seen", count)
    emit("out", count .. " " .. content)
    if content == "twice" then emit("other", "again") end
end
"#;

const TESTS: &str = r#"{
  "tests": [
    { "name": "passes on", "steps": [{ "input": "a", "emits": [{ "sink": "out", "content": "1 a" }] }] },
    { "name": "drops", "steps": [{ "input": "drop", "dropped": "not wanted" }] },
  ],
}
"#;

/// A folder with `my.lua`, its tests and `events.txt`.
fn folder(events: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "my.lua", SCRIPT);
    write(&folder, "my.test.json", TESTS);
    write(&folder, "events.txt", events);
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn read(folder: &TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

fn script(folder: &TempDir, args: &str) -> Finished {
    let args: Vec<&str> = std::iter::once("script").chain(args.split(' ')).collect();
    Program::run(folder.path(), &args, &[])
}

#[test]
fn run_shows_what_is_emitted_and_how_events_ended() {
    let folder = folder("a\r\ndrop\n\ndead\ntwice\nbad\nb");
    let run = script(&folder, "run my.lua --input events.txt");
    // A failure costs its event alone: the script goes on counting.
    assert_eq!(run.output, "out\t1 a\nout\t4 twice\nother\tagain\nout\t6 b\n");
    assert_eq!(run.code, Some(1));
    let told: Vec<&str> = run.log.lines().filter(|line| !line.contains(" INFO ")).collect();
    let expected = [
        "dropped: line 2: not wanted",
        "dead: line 4: too odd",
        "failed: line 6: my.lua:7: attempt to call a nil value (local 'nothing')",
    ];
    assert_eq!(told, expected);
    assert!(run.log.contains("seen 4"), "{}", run.log);
}

#[test]
fn run_ends_well_when_nothing_failed_and_knows_the_sinks_it_is_given() {
    let folder = folder("a\ntwice\n");
    assert_eq!(script(&folder, "run my.lua --input events.txt").code, Some(0));
    let run = script(&folder, "run my.lua --input events.txt --sinks out,errors");
    assert_eq!((run.code, run.output.as_str()), (Some(1), "out\t1 a\n"));
    let reason =
        "failed: line 2: my.lua:10: emit: no sink has the name `other`; known: out, errors";
    assert!(run.log.contains(reason), "{}", run.log);
    // Standard input is empty here.
    assert_eq!(script(&folder, "run my.lua --input -").code, Some(0));
}

#[test]
fn modules_are_found_beside_the_script_and_then_below_the_working_directory() {
    let folder = folder("a\n");
    let main = "local one, two = require('one'), require('lib.two')
        function Process(content, emit) emit('out', one .. two) end";
    write(&folder, "scripts/main.lua", main);
    write(&folder, "scripts/one.lua", "return 'beside '");
    write(&folder, "one.lua", "return 'below '");
    write(&folder, "lib/two.lua", "return 'below'");
    let run = script(&folder, "run scripts/main.lua --input events.txt");
    assert_eq!((run.output.as_str(), run.code), ("out\tbeside below\n", Some(0)), "{}", run.log);
    std::fs::remove_file(folder.path().join("lib/two.lua")).unwrap();
    let run = script(&folder, "run scripts/main.lua --input events.txt");
    assert!(run.log.contains("module `lib.two` (scripts/lib/two.lua)"), "{}", run.log);
}

#[test]
fn a_long_line_of_a_log_is_cut() {
    let folder = folder("a\n");
    write(&folder, "my.lua", "function Process() info(('x'):rep(20000)) info('short') end");
    let run = script(&folder, "run my.lua --input events.txt");
    let lines: Vec<&str> = run.log.lines().filter(|line| line.contains(" INFO ")).collect();
    assert!(lines[0].contains("xxx…"), "{lines:?}");
    assert!(lines[0].len() < 9_000 && lines[1].contains("short"), "{} bytes", lines[0].len());
}

#[test]
fn run_wraps_lines_and_whole_files() {
    let folder = folder("{\"a\": 1}\nGET /\n");
    write(&folder, "my.lua", "function Process(content, emit) emit(\"o\", content) end");
    let check = |args: &str, expected: &[&[&str]]| {
        let run = script(&folder, &format!("run my.lua --input events.txt {args}"));
        let lines: Vec<&str> = run.output.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{args}: {run:?}");
        for (line, parts) in lines.iter().zip(expected) {
            assert!(parts.iter().all(|part| line.contains(part)), "{args}: {line}");
        }
    };
    check("--event raw", &[&["o\t{\"a\": 1}"], &["o\tGET /"]]);
    check(
        "--event http",
        &[
            &[r#""method":"POST","path":"/""#, r#""body":"{\"a\": 1}""#, "application/json"],
            &[r#""body":"GET /""#, "text/plain"],
        ],
    );
    check(
        "--event logline",
        &[
            &[r#""ip":"127.0.0.1""#, r#""body":"{\"content\":\"{\\\"a\\\": 1}\"}""#],
            &[r#""body":"{\"content\":\"GET /\"}""#],
        ],
    );
    check("--event http --whole", &[&[r#""body":"{\"a\": 1}\nGET /\n""#]]);
}

#[test]
fn what_cannot_be_run_is_told() {
    let folder = folder("a\n");
    write(&folder, "broken.lua", "function Process(");
    write(&folder, "sink.lua", "function TransformBatch(messages, request) return messages end");
    let check = |args: &str, reason: &str| {
        let run = script(&folder, args);
        assert_eq!((run.code, run.output.as_str()), (Some(1), ""), "{run:?}");
        assert!(run.log.contains(reason), "{}", run.log);
    };
    check("run none.lua --input events.txt", "none.lua: No such file");
    check("run my.lua --input none.txt", "none.txt: No such file");
    check("run broken.lua --input events.txt", "broken.lua:1: ");
    check(
        "run sink.lua --input events.txt",
        "scripts of sinks are tried with `replayforge script test`",
    );
    check("bench broken.lua --input events.txt", "broken.lua:1: ");
    check("test events.txt", "events.txt: it has no test file: ");
    write(&folder, "empty/readme.txt", "");
    check("test empty", "empty: no test file in this folder");
}

#[test]
fn test_takes_a_script_a_test_file_or_a_folder() {
    let folder = folder("");
    for (args, shown) in [
        ("test my.lua", "my.test.json"),
        ("test my.test.json", "my.test.json"),
        ("test .", "./my.test.json"),
        ("test", "./my.test.json"),
    ] {
        let run = script(&folder, args);
        let expected = format!("ok      {shown}: 2 tests\n1 test file: 2 tests passed, 0 failed\n");
        assert_eq!((run.code, run.output.as_str()), (Some(0), expected.as_str()), "{run:?}");
    }
    write(&folder, "deep/er/own.lua", SCRIPT);
    write(&folder, "deep/er/own.test.json", TESTS);
    // Not ours to test.
    write(&folder, "node_modules/own.test.json", "{");
    write(&folder, ".git/own.test.json", "{");
    let run = script(&folder, "test");
    assert!(run.output.ends_with("2 test files: 4 tests passed, 0 failed\n"), "{run:?}");
}

#[test]
fn a_failing_test_shows_the_difference_and_update_takes_it_over() {
    let folder = folder("");
    let wrong = TESTS.replace("1 a", "one a");
    write(&folder, "my.test.json", &wrong);
    let run = script(&folder, "test my.lua");
    let expected = r#"FAILED  my.test.json: 1 of 2 tests

  my.test.json:3: "passes on", step 1 (- expected, + got)
    - emit to out: "one a"
    + emit to out: "1 a"

1 test file: 1 test passed, 1 failed
"#;
    assert_eq!((run.code, run.output.as_str()), (Some(1), expected));
    let run = script(&folder, "test my.lua --update");
    let expected = "updated    my.test.json: 1 step, without the comments in them\n1 test file: 1 step rewritten\n";
    assert_eq!((run.code, run.output.as_str()), (Some(0), expected), "{run:?}");
    assert!(read(&folder, "my.test.json").contains(r#""content": "1 a""#));
    assert_eq!(script(&folder, "test my.lua").code, Some(0));
    let now = read(&folder, "my.test.json");
    assert_eq!(script(&folder, "test --update").code, Some(0));
    assert_eq!(read(&folder, "my.test.json"), now);
}

#[test]
fn a_broken_test_file_is_told_with_its_place_and_the_others_still_run() {
    let folder = folder("");
    write(&folder, "a.lua", SCRIPT);
    write(&folder, "a.test.json", "{\n  \"test\": [] }");
    let run = script(&folder, "test");
    assert_eq!(run.code, Some(78), "{run:?}");
    let reason = "./a.test.json:2:3: test file: no key `test`; known: sinks, limits, env, grokPatterns, unsafeScripts, tests";
    assert_eq!(run.log.trim_end(), reason);
    assert!(run.output.ends_with("2 test files: 2 tests passed, 0 failed, 1 broken\n"), "{run:?}");
}

#[test]
fn bench_measures() {
    let folder = folder("a\ntwice\ndrop\nb\n");
    let run = script(&folder, "bench my.lua --input events.txt --seconds 1");
    assert_eq!(run.code, Some(0), "{run:?}");
    let value = |name: &str| {
        let line = run.output.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace()
            .nth_back(usize::from(name == "VM memory" || name == "dropped"))
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{line}"))
    };
    assert!(value("events/s") > 1000.0 && value("VM memory") > 1.0, "{}", run.output);
    let rounded = |name| (value(name) * 10.0).round();
    assert_eq!((rounded("emitted an event"), value("dropped").round()), (10.0, 25.0));
    write(&folder, "events.txt", "a\nbad\n");
    let run = script(&folder, "bench my.lua --input events.txt --seconds 1");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.log.contains("the first reason: my.lua:7: "), "{}", run.log);
}

//! Test files, run and updated as users do it: in a folder, beside their script.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Report, run_file, test_file_of, update_file};

/// Functions that are there in every version of this crate.
const SCRIPT: &str = r#"
local count = 0
function Process(content, emit)
    count = count + 1
    if content == "bad" then local nothing = nil; nothing() end
    if content == "drop" then drop("not wanted") return end
    if content == "dead" then dead("too odd") return end
    if content == "none" then return end
    if content == "loop" then while true do end end
    if content == "env" then emit("out", os.getenv("TOKEN") or "unset") return end
    emit("out", content)
    if content == "twice" then emit("other", count .. "\nlines") end
end
function TimerHandler(emit) emit("out", "tick " .. os.time()) end
function TransformBatch(messages, request)
    if messages[1] == "bad" then local nothing = nil; nothing() end
    request.path = "v1/" .. #messages
    request.headers["X-Count"] = tostring(#messages)
    return { "[" .. table.concat(messages, ",") .. "]" }, request
end
"#;

struct Folder(TempDir);

impl Folder {
    fn new(script: &str, tests: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.0.path().join("my.lua"), script).unwrap();
        std::fs::write(folder.file(), tests).unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("my.test.json")
    }
}

fn one_test(steps: &str) -> String {
    format!(r#"{{ "tests": [{{ "name": "it", "steps": [{steps}] }}] }}"#)
}

fn passes(steps: &str) {
    let folder = Folder::new(SCRIPT, &one_test(steps));
    let report = run_file(&folder.file()).unwrap();
    assert_eq!(report, Report { passed: 1, failures: Vec::new() }, "{steps}");
}

fn fails(steps: &str, diff: &str) {
    let folder = Folder::new(SCRIPT, &one_test(steps));
    let report = run_file(&folder.file()).unwrap();
    let told: String = report.failures.iter().map(|failure| failure.diff.as_str()).collect();
    assert_eq!((report.passed, report.failed(), told.as_str()), (0, 1, diff), "{steps}");
}

fn refused(tests: &str, error: &str) {
    let folder = Folder::new(SCRIPT, tests);
    let told = run_file(&folder.file()).unwrap_err();
    let told = told.to_string().replace(&folder.file().display().to_string(), "F");
    assert_eq!(told, error, "{tests}");
}

#[test]
fn what_happens_as_expected_passes() {
    passes(r#"{ "input": "a", "emits": [{ "sink": "out", "content": "a" }] }"#);
    passes(r#"{ "input": "none" }, { "input": "none", "emits": [] }"#);
    passes(
        r#"{ "input": "drop", "dropped": "not wanted" }, { "input": "dead", "dead": "too odd" }"#,
    );
    passes(
        r#"{ "input": { "b": 1, "a": [1.5] }, "emits": [{ "sink": "out", "content": "{\"b\":1,\"a\":[1.5]}" }] }"#,
    );
    passes(
        r#"{ "input": "{\"a\": 1, \"b\": 2}", "emits": [{ "sink": "out", "content": { "b": 2, "a": 1 } }] }"#,
    );
    passes(
        r#"{ "input": "twice", "emits": [{ "sink": "out", "content": "twice" }, { "sink": "other", "content": "1\nlines" }] }"#,
    );
}

#[test]
fn what_happens_otherwise_is_told_by_the_line() {
    fails(
        r#"{ "input": "a", "emits": [{ "sink": "other", "content": "a" }] }"#,
        "- emit to other: \"a\"\n+ emit to out: \"a\"\n",
    );
    fails(r#"{ "input": "a" }"#, "- nothing is emitted\n+ emit to out: \"a\"\n");
    fails(r#"{ "input": "none", "dropped": "x" }"#, "- dropped: \"x\"\n+ nothing is emitted\n");
    fails(
        r#"{ "input": "drop", "dead": "not wanted" }"#,
        "- dead: \"not wanted\"\n+ dropped: \"not wanted\"\n",
    );
    // A text is not its JSON: blanks count.
    fails(
        r#"{ "input": "{\"a\": 1}", "emits": [{ "sink": "out", "content": "{\"a\":1}" }] }"#,
        "- emit to out: \"{\\\"a\\\":1}\"\n+ emit to out: \"{\\\"a\\\": 1}\"\n",
    );
    // Of JSON only what differs is marked, whatever the order of its keys.
    fails(
        r#"{ "input": { "b": { "y": 1, "x": 2 }, "a": [1, 2] }, "emits": [{ "sink": "out", "content": { "a": [1, 3], "b": { "x": 2, "y": 1 } } }] }"#,
        "  emit to out:\n    {\n      \"a\": [\n        1,\n-       3\n+       2\n      ],\n      \"b\": {\n        \"x\": 2,\n  ... 3 equal lines\n",
    );
}

#[test]
fn a_failure_tells_its_step_and_line() {
    let steps = "\n{ \"input\": \"none\" },\n{ \"input\": \"x\" },\n{ \"input\": \"none\" }";
    let folder = Folder::new(SCRIPT, &one_test(steps));
    let report = run_file(&folder.file()).unwrap();
    let [failure] = report.failures.as_slice() else { panic!("{report:?}") };
    assert_eq!((failure.test.as_str(), failure.step, failure.line), ("it", 2, 3));
}

#[test]
fn variables_go_on_after_a_step_that_fails() {
    passes(
        r#"{ "input": "none" },
           { "input": "bad", "failed": "my.lua:5: attempt to call a nil value" },
           { "input": "twice", "emits": [{ "sink": "out", "content": "twice" }, { "sink": "other", "content": "3\nlines" }] }"#,
    );
    fails(r#"{ "input": "none", "failed": "nil" }"#, "- failed: \"nil\"\n+ nothing is emitted\n");
}

#[test]
fn the_clock_stands_but_for_ticks() {
    let folder = Folder::new(
        SCRIPT,
        r#"{ "sinks": ["out"], "tests": [
            { "name": "default", "steps": [{ "tick": 0, "emits": [{ "sink": "out", "content": "tick 1767225600" }] }] },
            { "name": "own", "clock": "1970-01-01T00:01:00Z", "steps": [{ "tick": "1m30s", "emits": [{ "sink": "out", "content": "tick 150" }] }] },
        ] }"#,
    );
    assert_eq!(run_file(&folder.file()).unwrap(), Report { passed: 2, failures: Vec::new() });
}

#[test]
fn what_is_remembered_is_given_and_outlives_a_failure() {
    let script = r#"
        local calls = 0
        function Process(content, emit)
            calls = calls + 1
            local seen = kv_get("seen") or { count = 0 }
            if content == "bad" then kv_set("seen", 5); lua_error("bad") end
            seen.count = seen.count + 1
            kv_set("seen", seen)
            if content == "drop" then drop("but remembered") return end
            emit("out", calls .. " " .. seen.count .. " " .. type(kv_get("text")))
        end
    "#;
    let out = |text: &str| format!(r#""emits": [{{ "sink": "out", "content": "{text}" }}]"#);
    let tests = format!(
        r#"{{ "tests": [
            {{ "name": "given", "kv": {{ "seen": {{ "count": 40 }}, "text": "5" }}, "steps": [
                {{ "input": "a", {} }}, {{ "input": "bad", "failed": "bad" }}, {{ "input": "drop", "dropped": "but remembered" }}, {{ "input": "a", {} }}] }},
            {{ "name": "each test has its own", "steps": [{{ "input": "a", {} }}] }},
        ] }}"#,
        out("1 41 string"),
        out("4 43 string"),
        out("1 1 nil"),
    );
    let report = run_file(&Folder::new(script, &tests).file()).unwrap();
    assert_eq!(report, Report { passed: 2, failures: Vec::new() });
}

#[test]
fn batches() {
    passes(
        r#"{ "batch": ["1", { "a": 2 }], "messages": [[1, { "a": 2 }]], "path": "v1/2", "headers": { "X-Count": "2" } }"#,
    );
    passes(
        r#"{ "batch": ["bad"], "failed": "attempt to call" }, { "batch": ["1"], "messages": ["[1]"], "path": "v1/1", "headers": { "X-Count": "1" } }"#,
    );
    fails(
        r#"{ "batch": ["1"] }"#,
        "- message: \"1\"\n+ message: \"[1]\"\n+ path: \"v1/1\"\n+ header X-Count: \"1\"\n",
    );
}

#[test]
fn a_hook_that_is_not_there_fails() {
    let check = |step: &str, reason: &str| {
        let folder = Folder::new("local nothing = 1", &one_test(step));
        let report = run_file(&folder.file()).unwrap();
        let failure = report.failures.first().unwrap();
        assert!(failure.diff.contains(reason), "{report:?}");
    };
    check(r#"{ "input": "a" }"#, "no function Process");
    check(r#"{ "tick": "1s" }"#, "no function TimerHandler");
    check(r#"{ "batch": [] }"#, "no function TransformBatch");
}

#[test]
fn limits_sinks_and_variables_come_from_the_file() {
    let folder = Folder::new(
        SCRIPT,
        r#"{ "sinks": ["out"], "limits": { "callTime": "20ms", "emittedBytes": "5B" }, "env": { "TOKEN": "a\"\\\n1" }, "tests": [
            { "name": "sink", "steps": [{ "input": "twice", "failed": "no sink has the name `other`; known: out" }] },
            { "name": "time", "steps": [{ "input": "loop", "failed": "my.lua:9: the script took longer" }] },
            { "name": "bytes", "steps": [{ "input": "longer than that", "failed": "emit: more than 5 bytes" }] },
            { "name": "env", "steps": [{ "input": "env", "emits": [{ "sink": "out", "content": "a\"\\\n1" }] }] },
        ] }"#,
    );
    let report = run_file(&folder.file()).unwrap();
    assert_eq!(report.passed + report.failed(), 4);
    // Where the text names no line the reason is still the limit's.
    assert!(report.failures.iter().all(|failure| failure.test == "time"), "{report:?}");
    // The machine's variables are hidden: PATH is set wherever tests run.
    let script = SCRIPT.replace("TOKEN", "PATH");
    let step = r#"{ "input": "env", "emits": [{ "sink": "out", "content": "unset" }] }"#;
    let folder = Folder::new(&script, &one_test(step));
    assert_eq!(run_file(&folder.file()).unwrap().passed, 1);
}

#[test]
fn events_are_wrapped_as_sources_do() {
    passes(
        r#"{ "input": { "a": 1 }, "event": "http", "request": { "method": "PUT", "path": "/x?y=1", "headers": { "x-a": ["b", "c"] } },
             "emits": [{ "sink": "out", "content": {
                "ip": "127.0.0.1:50000", "method": "PUT", "path": "/x", "params": { "y": ["1"] }, "headers": { "X-A": ["b", "c"] },
                "body": "{\"a\":1}", "target": "/x?y=1", "eventId": "019b76da-a800-7000-8000-000000000001", "capturedAtUs": 1767225600000000 } }] }"#,
    );
    passes(
        r#"{ "input": "GET \"/\"", "event": "logline", "emits": [{ "sink": "out", "content": {
                "ip": "127.0.0.1", "method": "POST", "path": "/", "params": {}, "headers": { "Content-Type": ["application/json"] },
                "body": "{\"content\":\"GET \\\"/\\\"\"}", "eventId": "019b76da-a800-7000-8000-000000000001", "capturedAtUs": 1767225600000000 } }] }"#,
    );
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    refused("", "F:1:1: the file is empty: expected an object");
    refused("{ \"tests\": [", "F:1:12: unterminated array");
    refused(
        "{\n  \"é\": 1, tests: [] }",
        "F:2:3: test file: no key `é`; known: sinks, limits, env, grokPatterns, unsafeScripts, tests",
    );
    refused("{ tests: 1 }", "F:1:10: tests: expected a list, not a number");
    refused("{ tests: [] }", "F:1:10: tests: expected at least one");
    refused("{ sinks: [] }", "F:1:1: the key `tests` is missing");
    refused(
        "{ tests: [{ name: \"a\", name: \"b\" }] }",
        "F:1:24: test: the key `name` occurs twice",
    );
    refused(
        "{ limits: { memory: 1 }, tests: [] }",
        "F:1:13: limits: no key `memory`; known: memoryBytes, callTime, emittedEvents, emittedBytes, logLines",
    );
    let step = |step: &str, message: &str| refused(&one_test(step), &format!("F:1:{message}"));
    step("{}", "39: step: expected one of `input`, `tick`, `batch` and `body`");
    step(
        r#"{ "input": "a", "tick": "1s" }"#,
        "39: step: expected one of `input`, `tick`, `batch` and `body`",
    );
    step(
        r#"{ "tick": "soon" }"#,
        "49: expected a duration such as \"300ms\" or \"2h45m\", or a number of seconds",
    );
    step(
        r#"{ "tick": 1, "emit": [] }"#,
        "52: step with `tick`: no key `emit`; known: tick, emits, dropped, dead, failed",
    );
    refused(
        "{ tests: [{ name: \"a\", kv: { k: null }, steps: [] }] }",
        "F:1:33: kv: a key that does not exist has no value: leave it out",
    );
    step(r#"{ "input": 5 }"#, "50: expected a text, an object or a list, not a number");
    step(r#"{ "input": "a", "event": "https" }"#, "64: event: expected raw, http or logline");
    step(
        r#"{ "input": "a", "request": {} }"#,
        "66: request: expected only beside \"event\": \"http\"",
    );
    step(
        r#"{ "input": "a", "dead": "x", "dropped": "y" }"#,
        "39: step: expected one of `dropped`, `dead` and `failed` at the most",
    );
    step(
        r#"{ "input": "a", "dead": "x", "emits": [{ "sink": "a", "content": "b" }] }"#,
        "39: step: nothing is emitted by an event that is dropped, dead or failed",
    );
    let deep = run_file(&Folder::new(SCRIPT, &"[".repeat(1_000_000)).file()).unwrap_err();
    assert!(deep.message.contains("nesting"), "{deep}");
    let long = " ".repeat(super::MAX_FILE_BYTES + 1);
    refused(&long, "F: longer than 4194304 bytes");
}

#[test]
fn a_script_that_is_not_there_or_cannot_be_loaded() {
    let folder = Folder::new("function (", &one_test(r#"{ "input": "a" }"#));
    let report = run_file(&folder.file()).unwrap();
    let [failure] = report.failures.as_slice() else { panic!("{report:?}") };
    assert_eq!((failure.step, failure.line), (0, 1));
    assert!(failure.diff.contains("my.lua:1:"), "{}", failure.diff);
    assert_eq!(update_file(&folder.file()).unwrap().failures, report.failures);
    std::fs::remove_file(folder.0.path().join("my.lua")).unwrap();
    let error = run_file(&folder.file()).unwrap_err().to_string();
    assert!(error.contains("the script my.lua beside it"), "{error}");
}

#[test]
fn the_test_file_of_a_script() {
    let folder = Folder::new(SCRIPT, "{}");
    assert_eq!(test_file_of(&folder.0.path().join("my.lua")), Some(folder.file()));
    assert_eq!(test_file_of(&folder.0.path().join("other.lua")), None);
    assert_eq!(test_file_of(&folder.file()), None);
}

const BEFORE: &str = r#"{
  // Kept.
  "tests": [
    {
      "name": "all",
      "steps": [
        { "input": "none" }, // Kept, too.
        { "input": "twice", /* lost */ "dropped": "no" },
        { "input": { "a": [1] }, "event": "raw", "emits": [{ "sink": "out", "content": { "a": 1 } }] },
        { "input": "drop" },
        { "batch": ["1"] },
        { "input": "bad" },
      ],
    },
  ],
}
"#;

const AFTER: &str = r#"{
  // Kept.
  "tests": [
    {
      "name": "all",
      "steps": [
        { "input": "none" }, // Kept, too.
        {
          "input": "twice",
          "emits": [
            {
              "sink": "out",
              "content": "twice"
            },
            {
              "sink": "other",
              "content": "2\nlines"
            }
          ]
        },
        {
          "input": {
            "a": [
              1
            ]
          },
          "event": "raw",
          "emits": [
            {
              "sink": "out",
              "content": {
                "a": [
                  1
                ]
              }
            }
          ]
        },
        {
          "input": "drop",
          "dropped": "not wanted"
        },
        {
          "batch": [
            "1"
          ],
          "messages": [
            "[1]"
          ],
          "path": "v1/1",
          "headers": {
            "X-Count": "1"
          }
        },
        {
          "input": "bad",
          "failed": "my.lua:5: attempt to call a nil value (local 'nothing')"
        },
      ],
    },
  ],
}
"#;

#[test]
fn an_update_writes_what_happened_and_nothing_else() {
    let folder = Folder::new(SCRIPT, BEFORE);
    assert_eq!(update_file(&folder.file()).unwrap().steps, 5);
    assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), AFTER);
    assert_eq!(run_file(&folder.file()).unwrap().passed, 1);
    assert_eq!(update_file(&folder.file()).unwrap().steps, 0);
    assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), AFTER);
}

#[test]
fn grok_patterns_of_ones_own_are_known_to_a_test() {
    let script =
        "function Process(content, emit) emit('out', grok_parse('%{ORDER:id}', content)) end";
    let tests = |patterns: &str| {
        format!(
            r#"{{ "grokPatterns": {patterns}, "tests": [{{ "name": "it", "steps": [
                {{ "input": "order AB-12!", "emits": [{{ "sink": "out", "content": {{ "id": "AB-12" }} }}] }}
            ] }}] }}"#
        )
    };
    let folder = Folder::new(script, &tests(r#"{ "ORDER": "[A-Z]{2}-[0-9]+" }"#));
    assert_eq!(run_file(&folder.file()).unwrap().passed, 1);
    let patterns = folder.0.path().join("patterns");
    std::fs::create_dir(&patterns).unwrap();
    std::fs::write(patterns.join("own"), "ORDER [A-Z]{2}-[0-9]+\n").unwrap();
    std::fs::write(folder.file(), tests("\"patterns\"")).unwrap();
    assert_eq!(run_file(&folder.file()).unwrap().passed, 1);
    std::fs::write(folder.file(), tests(r#"{ "ORDER": "(" }"#)).unwrap();
    let error = run_file(&folder.file()).unwrap_err().to_string();
    assert!(error.contains("grokPatterns: grok pattern `ORDER`"), "{error}");
    std::fs::write(folder.file(), tests("7")).unwrap();
    let error = run_file(&folder.file()).unwrap_err().to_string();
    assert!(error.contains("grokPatterns: expected an object, not a number"), "{error}");
}

#[test]
fn a_body_is_given_to_extract_status_and_an_update_writes_the_status() {
    let script = "function extractStatus(json)
        kv_set('seen', (kv_get('seen') or 0) + 1)
        local check = json_decode(json)
        if check.code == 7 then return {} end
        return check.code >= 500 and 'HTTP ' .. check.code or 'ok ' .. kv_get('seen')
    end";
    let steps = r#"
        { "body": { "code": 502 }, "status": "HTTP 502" },
        { "body": { "code": 7 }, "failed": "extractStatus returned table" },
        { "body": "{\"code\":200}", "status": "ok 2" }"#;
    let folder = Folder::new(script, &one_test(steps));
    let report = run_file(&folder.file()).unwrap();
    assert_eq!(report.failures, [], "what a failed call remembered is undone");
    std::fs::write(folder.file(), one_test(r#"{ "body": { "code": 503 } }"#)).unwrap();
    let report = run_file(&folder.file()).unwrap();
    assert_eq!(report.failures[0].diff, "- status: \"\"\n+ status: \"HTTP 503\"\n");
    assert_eq!(update_file(&folder.file()).unwrap().steps, 1);
    assert!(std::fs::read_to_string(folder.file()).unwrap().contains(r#""status": "HTTP 503""#));
    assert_eq!(run_file(&folder.file()).unwrap().passed, 1);
}

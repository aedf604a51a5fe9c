//! `exec`: the programs of the example lose nothing through kills, and programs of all manners are got along with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{bodies, contents, proxy};
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually, eventually_some, let_pass};

const FILES: u64 = 60;

fn example(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/exec-source").join(program)
}

/// Kills proxy and program several times while files are added; each must arrive, and be gone then.
fn check_spool(interpreter: &str, program: &str) {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let params = json!({ "command": [interpreter, example(program), &spool] });
    let mut proxy = proxy(folder.path(), &target, "exec", &params);
    for number in 0..FILES {
        let new = spool.join("new");
        fs::write(&new, json!({ "number": number }).to_string()).unwrap();
        fs::rename(&new, spool.join(format!("{number:03}.json"))).unwrap();
        if number % 15 == 14 {
            let_pass(Duration::from_millis(number * 7));
            proxy.kill();
            proxy.restart();
        }
    }
    let came = || bodies(&target).iter().map(|body| body["number"].as_u64().unwrap()).collect();
    let all: BTreeSet<u64> = (0..FILES).collect();
    eventually("every file has come", SOON, || all == came());
    eventually("every file is gone", SOON, || fs::read_dir(&spool).unwrap().count() == 0);
}

#[test]
fn the_example_in_shell_loses_nothing_through_kills() {
    check_spool("sh", "spool.sh");
}

#[test]
fn the_example_in_python_loses_nothing_through_kills() {
    check_spool("python3", "spool.py");
}

#[test]
fn a_program_may_write_all_it_has_before_it_reads_an_answer() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let script = r#"
import json, sys
for number in range(20000):
    print(json.dumps({"id": number, "content": "x"}))
sys.stdout.flush()
answers = [json.loads(sys.stdin.readline())["ack"] for _ in range(20000)]
print(json.dumps({"content": "in order: " + str(answers == list(range(20000)))}), flush=True)
sys.stdin.read()
"#;
    let params = json!({ "command": ["python3", "-c", script] });
    let _proxy = proxy(folder.path(), &target, "exec", &params);
    eventually("all events and the last", SOON, || contents(&target).len() == 20_001);
    assert!(contents(&target).contains(&"in order: True".to_owned()));
}

#[test]
fn a_program_that_has_closed_its_output_gets_its_answers() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    // More answers than its input holds wait when it closes its output. It is started again, but only the first life counts.
    let script = r#"
import json, os, sys
for number in range(4000):
    print(json.dumps({"id": "%0200d" % number, "content": "x"}))
sys.stdout.flush()
os.close(1)
answers = sum(1 for line in sys.stdin)
open("answers", "x").write(str(answers))
"#;
    let params = json!({ "command": ["python3", "-c", script], "workingDir": folder.path() });
    let _proxy = proxy(folder.path(), &target, "exec", &params);
    let answers = eventually_some("the answers are counted", SOON, || {
        let text = fs::read_to_string(folder.path().join("answers")).ok()?;
        text.parse::<usize>().ok()
    });
    assert_eq!(answers, 4000);
}

#[test]
fn lines_that_are_no_events_are_refused_and_a_program_that_ends_comes_again() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    // Tells what it was answered, and then ends.
    let script = r#"
import json, sys
for line in ['no JSON', '{"id": "a", "path": 7}', '{"id": "b", "content": "%s"}' % ("x" * 2000)]:
    print(line, flush=True)
    answer = json.loads(sys.stdin.readline())
    print(json.dumps({"content": str(answer["refused"]) + ": " + answer["reason"]}), flush=True)
"#;
    let params = json!({ "command": ["python3", "-c", script], "maxLineBytes": 1000 });
    let proxy = proxy(folder.path(), &target, "exec", &params);
    eventually("two lives", SOON, || contents(&target).len() >= 6);
    let told = contents(&target);
    assert!(told[0].starts_with("None: expected an event"), "{told:?}");
    assert!(told[1].starts_with("a: expected an event"), "{told:?}");
    assert!(told[2].starts_with("None: the line is longer than maxLineBytes"), "{told:?}");
    proxy.wait_for("the program has ended and is started again");
}

#[test]
fn a_program_that_does_not_read_its_answers_is_started_again() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let script = r#"
import json, signal
for number in range(8000):
    print(json.dumps({"id": "%0200d" % number, "content": "x"}), flush=True)
signal.pause()
"#;
    let params = json!({ "command": ["python3", "-c", script] });
    let proxy = proxy(folder.path(), &target, "exec", &params);
    let line = proxy.wait_for("the program does not read its answers");
    assert!(line.contains("the program is started again"), "{line}");
}

#[test]
fn a_program_that_cannot_be_run_says_why() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({ "command": ["/no/such/program"] });
    let proxy = proxy(folder.path(), &target, "exec", &params);
    let told = proxy.wait_for("sources[0].params.command: the program cannot be run: No such file");
    assert!(told.contains(" WARN "), "{told}");
    let line = proxy.wait_for("the program is started again");
    assert!(line.contains("/no/such/program: No such file or directory"), "{line}");
    assert!(line.contains(" pause_ms="), "numbers do not count where lines are muted: {line}");
}

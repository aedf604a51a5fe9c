//! `replayforge demo`: what a new user sees first.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::program::Program;
use crate::support::wait::{SOON, eventually};

/// Demos take the usual ports when they are free, so those of several tests would race for them: one at a time.
fn turn() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

/// The curl line, its quotes and blanks taken as a shell would: it has none that matter but around words.
fn curl_line(demo: &Program) -> Vec<String> {
    let line = demo.wait_for_output("    curl ");
    line.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

fn run_line(line: &[String]) -> String {
    let mut command = Command::new(&line[0]);
    let output =
        command.args(["--silent", "--show-error", "--max-time", "60"]).args(&line[1..]).output();
    let output = output.expect("curl is there: test.sh installs it");
    assert!(output.status.success(), "{line:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn end(demo: &mut Program, requests: usize) {
    demo.signal(Signal::INT);
    let status = demo.wait_for_end();
    assert!(status.success(), "{status}: {}", demo.log());
    let noun = if requests == 1 { "request" } else { "requests" };
    let summary =
        format!("\n{requests} {noun} captured and relayed, {requests} replayed to the target.\n");
    assert!(demo.output().contains(&summary), "{}", demo.output());
}

#[test]
fn the_printed_line_works_and_its_way_is_shown() {
    let (_turn, folder) = (turn(), tempfile::tempdir().unwrap());
    let mut demo = Program::start(
        folder.path(),
        &["demo"],
        &[("TMPDIR", &folder.path().display().to_string())],
    );
    let line = curl_line(&demo);
    assert_eq!(run_line(&line), "Request received");
    let shown = demo.wait_for_output("POST /orders?id=1");
    assert!(
        shown.contains("captured")
            && shown.contains("relayed +")
            && shown.contains("replayed +")
            && shown.contains(" ms"),
        "{shown}"
    );
    assert_eq!(run_line(&line), "Request received");
    eventually("the second line", SOON, || demo.output().matches("POST /orders?id=1").count() == 2);
    end(&mut demo, 2);
    assert_eq!(demo.log(), "", "nothing to complain about");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn taken_ports_are_no_reason_not_to_start() {
    // Whoever has them: another program, or we.
    let (_turn, folder) = (turn(), tempfile::tempdir().unwrap());
    let _held = [8080, 8081, 8082].map(|port| TcpListener::bind(("127.0.0.1", port)));
    let mut demo = Program::start(folder.path(), &["demo"], &[]);
    let line = curl_line(&demo);
    let url = line.last().unwrap();
    assert!(![":8080/", ":8081/", ":8082/"].iter().any(|port| url.contains(port)), "{url}");
    assert_eq!(run_line(&line), "Request received");
    demo.wait_for_output("POST /orders?id=1");
    end(&mut demo, 1);
}

#[test]
fn a_given_folder_is_kept_with_its_files() {
    let (_turn, folder) = (turn(), tempfile::tempdir().unwrap());
    let kept = folder.path().join("kept");
    let mut demo =
        Program::start(folder.path(), &["demo", "--dir", &kept.display().to_string()], &[]);
    assert_eq!(run_line(&curl_line(&demo)), "Request received");
    demo.wait_for_output("POST /orders?id=1");
    end(&mut demo, 1);
    for file in [
        "proxy.json",
        "relay.json",
        "player.json",
        "proxy/proxy.sqlite3",
        "relay/demo/relay.sqlite3",
        "player/player.sqlite3",
    ] {
        assert!(Path::exists(&kept.join(file)), "{file}");
    }
    // What was captured is nobody else's.
    for name in ["", "proxy.json", "proxy", "proxy/proxy.sqlite3", "relay/demo/relay.sqlite3"] {
        let mode = std::fs::metadata(kept.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    // Its files are ones that a user could go on with.
    for role in ["proxy", "relay", "player"] {
        let file = kept.join(format!("{role}.json")).display().to_string();
        assert_eq!(
            Program::run(folder.path(), &["check", "-c", &file], &[]).code,
            Some(0),
            "{role}"
        );
    }
}

#[test]
fn a_second_demo_in_a_folder_is_refused_and_changes_no_file() {
    let (_turn, folder) = (turn(), tempfile::tempdir().unwrap());
    let kept = folder.path().join("kept").display().to_string();
    let mut demo = Program::start(folder.path(), &["demo", "--dir", &kept], &[]);
    let line = curl_line(&demo);
    let files = || {
        let text = |role: &str| std::fs::read_to_string(format!("{kept}/{role}.json")).unwrap();
        ["relay", "player", "proxy"].map(text)
    };
    let before = files();
    let second = Program::run(folder.path(), &["demo", "--dir", &kept], &[]);
    assert!(second.code == Some(1) && second.log.contains("in use"), "{second:?}");
    assert_eq!(files(), before);
    assert_eq!(run_line(&line), "Request received");
    demo.wait_for_output("POST /orders?id=1");
    end(&mut demo, 1);
}

#[test]
fn a_demo_that_is_stopped_at_once_ends_well() {
    let (_turn, folder) = (turn(), tempfile::tempdir().unwrap());
    let mut demo = Program::start(folder.path(), &["demo"], &[]);
    demo.wait_for_output("curl");
    end(&mut demo, 0);
}

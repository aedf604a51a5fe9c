//! `stdin`: a pipe into the program, as users write it in a shell.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{LAST_WAIT, LOST, bodies, proxy_file, wait_for_bodies};
use crate::support::ports::free_port;
use crate::support::program::write_config;
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually, eventually_some};
use crate::support::wire::post;

/// A proxy that reads a pipe of the test's; ended with the test, whatever becomes of it.
struct Piped {
    child: Child,
}

impl Piped {
    fn start(folder: &Path, file: &Value) -> Piped {
        let config = write_config(folder, "proxy", file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_replayforge"));
        command.args(["proxy", "-c", &config]).current_dir(folder).env_remove("LOG_LEVEL");
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        Piped { child: command.spawn().unwrap() }
    }

    fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn close(&mut self) {
        self.child.stdin = None;
    }

    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// It must end by itself, well.
    fn finish(self) -> String {
        let (status, log) = self.end();
        assert!(status.success() && !log.contains(" ERROR "), "{status}\n{log}");
        log
    }

    /// It must end by itself.
    fn end(mut self) -> (ExitStatus, String) {
        let status = eventually_some("the proxy ends", SOON, || self.child.try_wait().unwrap());
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut log).unwrap();
        (status, log)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How long what is queued is delivered at the end: a machine that needs longer keeps the rest for the next start.
const FLUSH: Duration = Duration::from_secs(5);

/// Starts the proxy, with nothing to read, until so many events have come in all.
fn deliver_rest(folder: &Path, file: &Value, target: &Target, count: usize) {
    eventually("the rest is delivered", SOON, || {
        if bodies(target).len() >= count {
            return true;
        }
        let mut proxy = Piped::start(folder, file);
        proxy.close();
        proxy.finish();
        false
    });
}

fn lines(target: &Target, count: usize) -> Vec<String> {
    let bodies = wait_for_bodies(target, count);
    bodies.iter().map(|body| body["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_lines_of_a_pipe_are_delivered_and_the_program_ends_with_it() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let file = proxy_file(folder.path(), &target, "stdin", &json!({ "path": "/import" }));
    let mut proxy = Piped::start(folder.path(), &file);
    let expected: Vec<String> = (0..5000).map(|number| format!("line {number}")).collect();
    proxy.write(&expected.join("\n"));
    let closed = Instant::now();
    proxy.close();
    let log = proxy.finish();
    assert!(log.contains("all sources have ended"), "{log}");
    if closed.elapsed() >= FLUSH {
        deliver_rest(folder.path(), &file, &target, expected.len());
    }
    assert_eq!(lines(&target, 5000), expected);
    assert_eq!(super::events(&target)[0]["path"], "/import");
}

#[test]
fn what_cannot_be_delivered_at_the_end_is_kept_for_the_next_start() {
    let (folder, mut target) = (tempfile::tempdir().unwrap(), Target::start());
    target.go_away();
    let file = proxy_file(folder.path(), &target, "stdin", &json!({}));
    let mut proxy = Piped::start(folder.path(), &file);
    proxy.write("one\n");
    proxy.close();
    proxy.finish();
    target.come_back();
    let mut proxy = Piped::start(folder.path(), &file);
    proxy.write("two\n");
    proxy.close();
    proxy.finish();
    assert_eq!(lines(&target, 2), ["one", "two"]);
}

#[test]
fn a_proxy_with_another_source_goes_on_after_the_end() {
    let (folder, target, port) = (tempfile::tempdir().unwrap(), Target::start(), free_port());
    let mut file = proxy_file(folder.path(), &target, "stdin", &json!({}));
    let http = json!({
        "id": "web", "type": "http", "targetSink": "out",
        "params": { "listenPort": port, "listenAddress": "127.0.0.1" },
    });
    file["sources"].as_array_mut().unwrap().push(http);
    let mut proxy = Piped::start(folder.path(), &file);
    proxy.write("last words");
    proxy.close();
    assert_eq!(lines(&target, 1), ["last words"]);
    post(port, "/after", b"\"x\"");
    wait_for_bodies(&target, 2);
    proxy.stop();
    proxy.finish();
}

#[test]
fn a_stop_keeps_what_was_read_and_marks_a_torn_line() {
    eventually("a stop in time", SOON, || {
        let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
        let file = proxy_file(folder.path(), &target, "stdin", &json!({}));
        let mut proxy = Piped::start(folder.path(), &file);
        proxy.write("whole\n");
        wait_for_bodies(&target, 1);
        // Read together, so that both have been when the first is there.
        proxy.write("also whole\ntorn");
        wait_for_bodies(&target, 2);
        let asked = Instant::now();
        proxy.stop();
        let (status, log) = proxy.end();
        if asked.elapsed() >= LAST_WAIT && log.contains(LOST) {
            return false;
        }
        assert!(status.success() && !log.contains(" ERROR "), "{status}\n{log}");
        let bodies = wait_for_bodies(&target, 3);
        assert_eq!(bodies[1], json!({ "content": "also whole" }));
        assert_eq!(bodies[2], json!({ "content": "torn", "truncated": true }));
        true
    });
}

#[test]
fn a_full_queue_holds_up_the_writer_and_no_line_is_lost() {
    const COUNT: usize = 100;
    let (folder, mut target) = (tempfile::tempdir().unwrap(), Target::start());
    target.go_away();
    let mut file = proxy_file(folder.path(), &target, "stdin", &json!({}));
    file["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
    let mut proxy = Piped::start(folder.path(), &file);
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let proxy = &mut proxy;
        let written_now = &written;
        scope.spawn(move || {
            for number in 0..COUNT {
                proxy.write(&format!("{number} {}\n", "x".repeat(50_000)));
                written_now.fetch_add(1, Ordering::Relaxed);
            }
            proxy.close();
        });
        // The writer is held up when it has not moved for a while.
        let (mut before, mut quiet) = (0, 0);
        eventually("the writer is held up", SOON, || {
            let now = written.load(Ordering::Relaxed);
            quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
            before = now;
            quiet > 50
        });
        assert!(before < COUNT);
        always_for("the writer waits", Duration::from_millis(100), || {
            written.load(Ordering::Relaxed) < COUNT
        });
        target.come_back();
    });
    proxy.finish();
    let numbers: Vec<usize> = lines(&target, COUNT)
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn two_sources_cannot_share_standard_input() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let mut file = proxy_file(folder.path(), &target, "stdin", &json!({}));
    let mut second = file["sources"][0].clone();
    second["id"] = json!("second");
    file["sources"].as_array_mut().unwrap().push(second);
    let config = write_config(folder.path(), "proxy", &file);
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_replayforge"))
        .args(["proxy", "-c", &config])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&stderr);
    assert!(!status.success() && log.contains("already reads standard input"), "{log}");
}

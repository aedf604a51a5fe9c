//! `status`, `top` and `tap`, against a real relay.

use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::stack::{Stack, TOKEN};
use crate::support::wait::{SOON, eventually, eventually_some};
use crate::support::wire::call;

fn run(stack: &Stack, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let finished = Program::run(stack.folder(), args, env);
    (finished.code, finished.output, finished.log)
}

#[test]
fn status_says_what_the_page_says() {
    let stack = Stack::with(|configs| {
        configs.relay["statusAuth"] = json!("s3cret");
        configs.relay["expectedNodes"] = json!(["db-1"]);
        configs.relay["alerts"] = json!({ "diskPercent": 100, "nodeSilentAfter": "1s" });
    });
    let url = format!("http://127.0.0.1:{}", stack.ports.status);
    let token = [("RF_STATUS_TOKEN", "s3cret")];
    let text = eventually_some("one is missing", SOON, || {
        let (code, text, _) = run(&stack, &["status", "--relay", &url], &token);
        assert_eq!(code, Some(0));
        text.contains(": 1 in trouble, 0 to be watched\n").then_some(text)
    });
    assert!(text.contains("TROUBLE node db-1: missing: expected (expectedNodes)"), "{text}");
    let (_, json_text, _) = run(&stack, &["status", "--relay", &url, "--json"], &token);
    let report: Value = serde_json::from_str(&json_text).unwrap();
    assert_eq!((&report["level"], &report["buckets"][0]["name"]), (&json!("bad"), &json!("b")));

    let (code, _, log) = run(&stack, &["status", "--relay", &url], &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("set RF_STATUS_TOKEN"), "{log}");
    let wrong = [("RF_STATUS_TOKEN", "wrong")];
    let (code, _, log) = run(&stack, &["status", "--relay", &url], &wrong);
    assert_eq!(code, Some(1));
    assert!(log.contains("refuses the token from RF_STATUS_TOKEN or"), "{log}");
    let (code, _, log) = run(&stack, &["status", "--relay", "http://127.0.0.1:1"], &[]);
    assert!(code == Some(1) && log.contains("cannot connect to 127.0.0.1:1"), "{log}");
}

#[test]
fn a_wrong_port_is_named() {
    let status = free_port();
    let stack = Stack::with(|configs| configs.proxy["portStatusZ"] = json!(status));
    let check = |args: &[&str], code: i32, expected: &str| {
        let finished = run(&stack, args, &[("RF_BUCKET_TOKEN", TOKEN)]);
        assert!(finished.0 == Some(code) && finished.2.contains(expected), "{finished:?}");
    };
    let relay = format!("127.0.0.1:{}", stack.ports.status);
    assert_eq!(run(&stack, &["status", "--relay", &relay], &[]).0, Some(0), "without http://");
    let tls = format!("https://{relay}");
    check(&["status", "--relay", &tls], 1, "no TLS is spoken there: is it http:// instead");
    let proxy = format!("http://127.0.0.1:{status}");
    let expected = "this is the status port of a proxy or a player: expected that of a relay";
    check(&["status", "--relay", &proxy], 1, expected);
    let source = format!("http://127.0.0.1:{}", stack.ports.proxy);
    let expected = format!("{source}/ answers, but not as the status port of a relay");
    check(&["status", "--relay", &source], 1, &expected);
    let api = format!("http://127.0.0.1:{}", stack.ports.relay);
    check(&["status", "--relay", &api], 1, "404 Not Found: is it a status port (portStatusZ)?");
    let id = "0198f0c2-5b1e-7c43-9d0a-3f1d6c0f7a11";
    let traced = run(&stack, &["trace", id, "--relay", &api], &[]);
    let expected =
        format!("{api}/trace/{id} answered 404 Not Found: is it a status port (portStatusZ)?\n");
    assert!(traced.0 == Some(1) && traced.2.starts_with(&expected), "{traced:?}");
    let expected = format!("{source}: it answers, but not as a status port (portStatusZ)\n");
    check(&["trace", id, "--relay", &source], 1, &expected);
    let below = format!("{api}/below");
    let expected = format!("{below} has no such path: is it a relay's API (its `port`)");
    check(&["tap", "--relay", &below, "--bucket", "b"], 1, &expected);
    let expected =
        "answered, but not as a relay's API: is it the relay's `port`, not `portStatusZ`?";
    check(&["tap", "--relay", &relay, "--bucket", "b"], 1, expected);
    check(&["tap", "--relay", "ftp://x", "--bucket", "b"], 2, "expected http://HOST:PORT");
}

#[test]
fn top_draws_again_and_says_when_it_is_not_up_to_date() {
    let mut stack = Stack::with(|configs| configs.relay["alerts"] = json!({ "diskPercent": 100 }));
    let url = format!("http://127.0.0.1:{}", stack.ports.status);
    let top = Program::start(stack.folder(), &["top", "--relay", &url, "--every", "1"], &[]);
    top.wait_for_output("all is well");
    stack.relay.stop();
    top.wait_for_output("NOT UP TO DATE");
    stack.relay.restart();
}

#[test]
fn top_ends_when_nobody_reads_it_any_more() {
    let stack = Stack::start();
    let url = format!("http://127.0.0.1:{}", stack.ports.status);
    let mut shell = Command::new("sh");
    // The status of a pipe is that of its last program.
    let script = r#"{ "$0" top --relay "$1" --every 1; echo "top: $?" >&2; } | head -n 1"#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_replayforge"), &url]);
    let output = shell.output().expect("a shell");
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "top: 0\n");
}

#[test]
fn a_relay_that_stays_silent_keeps_nobody_from_leaving() {
    let folder = tempfile::tempdir().unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", relay.local_addr().unwrap());
    let (url, id) = (url.as_str(), "0198f0c2-5b1e-7c43-9d0a-3f1d6c0f7a11");
    for (args, code) in [
        (vec!["status", "--relay", url], None),
        (vec!["trace", id, "--relay", url], None),
        (vec!["top", "--relay", url], Some(0)),
    ] {
        let mut asking = Program::start(folder.path(), &args, &[]);
        let _silent = relay.accept().unwrap();
        asking.signal(Signal::TERM);
        assert_eq!(asking.wait_for_end().code(), code, "{args:?}");
        // Had it waited until its own time was over, it would have said so.
        assert_eq!(asking.output() + &asking.log(), "", "{args:?}");
    }
}

#[test]
fn tap_shows_what_passes_while_a_player_takes_it() {
    let stack = Stack::start();
    let url = format!("http://127.0.0.1:{}", stack.ports.relay);
    let args = ["tap", "--relay", &url, "--bucket", "b", "--filter", "wanted", "--limit", "2"];
    let mut tap = Program::start(stack.folder(), &args, &[("RF_BUCKET_TOKEN", TOKEN)]);
    // There is no telling from outside when a tap has begun: send until it shows one.
    eventually("an event is shown", SOON, || {
        call(stack.ports.proxy, "POST", "/wanted", &[], b"x");
        call(stack.ports.proxy, "POST", "/other", &[], b"x");
        tap.output().contains("\"path\":\"/wanted\"")
    });
    call(stack.ports.proxy, "POST", "/wanted", &[], b"x");
    assert_eq!(tap.wait_for_end().code(), Some(0));
    assert!(!tap.output().contains("/other"), "{}", tap.output());
    // The target has got them all the same.
    eventually("the player has delivered", SOON, || stack.target.count() >= 3);

    let (code, _, log) =
        run(&stack, &["tap", "--relay", &url, "--bucket", "b"], &[("RF_BUCKET_TOKEN", "no")]);
    assert!(code == Some(1) && log.contains("401"), "{log}");
}

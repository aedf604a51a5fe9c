//! A relay by itself: who is refused, and whose its folder is.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::ports::{Ports, free_port};
use crate::support::program::{Program, write_config};
use crate::support::stack::{Configs, TOKEN};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// A relay's file with free ports and the folder `relay`.
fn config(folder: &Path) -> Value {
    Configs::new(folder, Ports::free()).relay
}

#[test]
fn a_refused_token_is_told_in_the_log_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let relay = Program::role(folder.path(), "relay", &config);
    let port = u16::try_from(config["port"].as_u64().unwrap()).unwrap();
    for (bucket, token) in [("b, made-up", "guessed-token"), ("made-up", TOKEN)] {
        let bearer = format!("Bearer {token}");
        let headers: [(&str, &[u8]); 2] =
            [("RF-BUCKETS", bucket.as_bytes()), ("Authorization", bearer.as_bytes())];
        assert_eq!(call(port, "GET", "/first-batch", &headers, b"").status(), 401);
    }
    let refused = "request refused: unknown bucket or wrong token peer=127.0.0.1";
    let told = || relay.log().matches(refused).count() == 2;
    eventually("both are told", SOON, told);
    let line = relay.wait_for(refused);
    assert!(line.contains(" WARN ") && line.ends_with("bucket=b"), "{line}");
    let log = relay.log();
    let unsaid = ["made-up", "guessed-token", TOKEN];
    assert!(!unsaid.iter().any(|text| log.contains(text)), "{log}");
}

#[test]
fn a_refused_token_is_told_with_the_host_unless_many_names_are_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let relay = Program::role(folder.path(), "relay", &config);
    let port = u16::try_from(config["port"].as_u64().unwrap()).unwrap();
    let refuse = |host: &str| {
        let headers: [(&str, &[u8]); 3] = [
            ("RF-BUCKET", b"b"),
            ("Authorization", b"Bearer wrong"),
            ("RF-HOSTNAME", host.as_bytes()),
        ];
        assert_eq!(call(port, "GET", "/first-batch", &headers, b"").status(), 401);
    };
    refuse("web-1");
    relay.wait_for("wrong token peer=127.0.0.1 host=web-1 bucket=b");
    for n in 0..30 {
        refuse(&format!("made-up-{n}"));
    }
    relay.wait_for("wrong token (muted for 3 minutes) peer=127.0.0.1 bucket=b");
    assert_eq!(relay.log().matches("host=made-up-").count(), 19, "{}", relay.log());
}

#[test]
fn a_second_relay_on_one_folder_ends_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = config(folder.path());
    let running = Program::role(folder.path(), "relay", &first);
    let mut second = first.clone();
    second["port"] = json!(free_port());
    second["portStatusZ"] = json!(free_port());
    let path = write_config(folder.path(), "second", &second);
    let ended = Program::run(folder.path(), &["relay", "-c", &path], &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.log.contains("is in use by another relay"), "{ended:?}");
    // Written at a relay's stop, so not yet.
    assert!(!folder.path().join("relay/.relay-status.json").exists());
    drop(running);
    assert!(folder.path().join("relay/.relay-status.json").exists());
}

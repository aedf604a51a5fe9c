//! examples/exec-source: the README's two files become events, and are gone.

use super::rig::Example;
use crate::support::wait::{SOON, eventually};

#[test]
fn files_become_events_and_are_gone() {
    let example = Example::set_up("exec-source", &[]);
    let proxy = example.start("proxy -c");
    example.run("spool/shell/new");
    example.run("spool/python/new");
    for number in 1..=2 {
        let line = proxy.wait_for_output(&format!(r#"\"order\": {number}"#));
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["path"], "/spool", "{line}");
    }
    let spools = ["shell", "python"].map(|name| example.folder().join("spool").join(name));
    eventually("the files are gone", SOON, || {
        spools.iter().all(|spool| std::fs::read_dir(spool).unwrap().count() == 0)
    });
    assert_eq!(proxy.output().matches("order").count(), 2, "once each");
}

//! `repeatfile` and `system-stats`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::{bodies, contents, events, proxy};
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};

#[test]
fn the_lines_of_a_file_come_again_and_again_as_they_are() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let file = folder.path().join("lines");
    fs::write(&file, "{\"path\":\"/a\"}\nplain text\n").unwrap();
    let params = json!({ "filePath": file, "interval": 10 });
    let _proxy = proxy(folder.path(), &target, "repeatfile", &params);
    eventually("three rounds", SOON, || contents(&target).len() >= 6);
    let expected = ["{\"path\":\"/a\"}", "plain text"];
    assert_eq!(contents(&target)[..6], expected.repeat(3));
    // A change counts from the next round on.
    fs::write(&file, "new\n").unwrap();
    eventually("the change", SOON, || contents(&target).ends_with(&["new".to_owned()]));
}

#[test]
fn statistics_come_at_their_interval_under_the_names_of_the_original() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start());
    let params = json!({ "intervalSeconds": 1, "exclude": ["pressure_*", "diskio_*"] });
    let mut file = super::proxy_file(folder.path(), &target, "system-stats", &params);
    file["envName"] = json!("prod");
    file["hostName"] = json!("web1");
    let _proxy = crate::support::program::Program::role(folder.path(), "proxy", &file);
    let has = |name: &str| bodies(&target).iter().any(|body| body["serieName"] == name);
    // The second sample is the first with the processors.
    eventually("two samples", SOON, || has("cpu_percent"));
    for body in bodies(&target) {
        let id = format!("{}{}", body["serieName"].as_str().unwrap(), body["timestamp"]);
        assert_eq!(body["id"], id);
        assert_eq!((&body["envName"], &body["hostName"]), (&json!("prod"), &json!("web1")));
    }
    let paths: BTreeSet<_> =
        events(&target).iter().map(|event| event["path"].to_string()).collect();
    assert_eq!(paths, BTreeSet::from(["\"ts_gauge_systemstats_1s\"".to_owned()]));
    assert!(has("memory_host_used") && has("disk_free") && has("network_lo_dropin"));
    assert!(!bodies(&target).iter().any(|body| body["serieName"].to_string().contains("pressure")));
}

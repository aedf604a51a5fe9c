//! Alerts of a relay about nodes, and its heartbeat, as a service gets them.

use serde_json::json;

use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

#[test]
fn trouble_and_its_end_are_told_once_and_the_heart_beats() {
    let folder = tempfile::tempdir().unwrap();
    let (service, heart, port) = (Target::start(), Target::start(), free_port());
    let config = json!({
        "port": port, "listenAddress": "127.0.0.1", "dataDir": folder.path().join("data"),
        "expectedNodes": ["web-1"],
        "buckets": { "b": { "auth": "t" } },
        "alerts": {
            "after": 0,
            "notify": { "hook": { "url": format!("http://127.0.0.1:{}/hook", service.port), "contentType": "json" } },
            "heartbeatUrl": format!("http://127.0.0.1:{}/beat", heart.port),
            "heartbeatEvery": "1s",
        },
    });
    let mut relay = Program::role(folder.path(), "relay", &config);
    let told = || -> Vec<String> {
        service.requests().iter().map(crate::support::http::Message::text).collect()
    };
    eventually("the missing node is told", SOON, || {
        told().iter().any(|text| text.contains("TROUBLE node web-1: missing"))
    });
    eventually("the heart beats", SOON, || heart.count() >= 2);

    relay.stop();
    relay.restart();
    let headers: [(&str, &[u8]); 3] =
        [("Authorization", b"Bearer t"), ("RF-BUCKET", b"b"), ("RF-HOSTNAME", b"web-1")];
    assert_eq!(call(port, "POST", "/node-info", &headers, b"{}").status(), 200);
    eventually("its end is told", SOON, || {
        told().iter().any(|text| text.contains("RECOVERED node web-1: silent"))
    });
    let troubles = told().iter().filter(|text| text.contains("TROUBLE")).count();
    assert_eq!(troubles, 1, "a restart tells nothing again: {:?}", told());
}

//! examples/inline-capture: traffic passes unchanged, and the collector gets what may be known of it.

use serde_json::Value;

use super::rig::{Example, number, ports};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{Wire, call};

/// What the README asks for; the server shows it in its page.
const PAGE: &str = "/?token=secret&page=2";

#[test]
fn answers_come_back_and_copies_show_no_secret() {
    let [server, collector, proxy] = ports();
    let replaced = [("3000", &*server), ("9000", &collector), ("8080", &proxy)];
    let example = Example::set_up("inline-capture", &replaced);
    let _server = example.start_other("http.server");
    eventually("the server listens", SOON, || Wire::try_connect(number(&server)).is_ok());
    let mut collector = example.start("collector.json");
    let _proxy = example.start("proxy.json");
    let page = example.run("curl");
    let direct = call(number(&server), "GET", PAGE, &[], b"").text();
    assert_eq!(page, direct, "the server's own answer");

    let batch = collector.wait_for_output("page=2");
    assert!(batch.contains("***") && !batch.contains("Bearer secret"), "{batch}");
    let outer: Value = serde_json::from_str(&batch).unwrap();
    let events: Vec<String> = serde_json::from_str(outer["body"].as_str().unwrap()).unwrap();
    let [event] = &events[..] else { panic!("{events:?}") };
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["headers"]["Authorization"][0], "***", "{event}");
    assert_eq!(event["target"], "/?token=***&page=2", "{event}");
    assert_eq!(event["response"]["status"], 200, "{event}");
    // The page shows the URL that it was asked for, which is masked there, too.
    assert_eq!(event["response"]["body"], page.replace("token=secret", "token=***"));

    // Without the collector the answers come all the same.
    assert!(collector.stop().success());
    for _ in 0..20 {
        assert_eq!(call(number(&proxy), "GET", PAGE, &[], b"").text(), page);
    }
}

//! examples/no-message-alert: silence and its end are told once each, also when the player is killed meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rig::{Example, number, ports};
use crate::support::target::Target;
use crate::support::wait::{SOON, always_for, eventually_some};
use crate::support::wire::post;

/// The subjects of the alerts, in the order of their coming. One that is under way while the player is killed comes again
/// under its key: HTTP targets get everything at least once.
fn subjects(hook: &Target) -> Vec<String> {
    let mut alerts = hook.requests();
    let mut keys = BTreeSet::new();
    alerts.retain(|alert| keys.insert(alert.header("Idempotency-Key")));
    let subject = |alert: &crate::support::http::Message| {
        assert_eq!(alert.start, "POST /alerts HTTP/1.1");
        assert_eq!(alert.header("Content-Type").as_deref(), Some("application/json"));
        let body = alert.json();
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        body["subject"].as_str().unwrap().to_owned()
    };
    alerts.iter().map(subject).collect()
}

#[test]
fn silence_is_told_once_and_so_is_its_end() {
    let (target, hook) = (Target::start(), Target::start());
    let hook_url = format!("http://127.0.0.1:{}", hook.port);
    let [relay, proxy] = ports();
    let example = Example::set_up(
        "no-message-alert",
        &[
            ("8080", &proxy),
            ("8081", &relay),
            ("8082", &target.port.to_string()),
            ("https://hooks.example.com", &hook_url),
            // Five minutes are too long to wait for.
            ("local SILENCE = 300", "local SILENCE = 2"),
            ("hookInterval: \"10s\"", "hookInterval: \"100ms\""),
        ],
    );
    // The stand-in for the target listens where the test's own does.
    example.leave_out("target.json");
    let _relay = example.start("relay -c");
    let _proxy = example.start("http-replay/proxy.json");
    let mut player = example.start("player -c");
    // The next silence may have been told already, on a machine that is slow.
    let wait_for_alerts = |count: usize| {
        let alerts = eventually_some("one more alert", SOON, || {
            Some(subjects(&hook)).filter(|alerts| alerts.len() >= count)
        });
        let alternating = ["No messages", "Messages again"].into_iter().cycle();
        assert_eq!(alerts, alternating.take(alerts.len()).collect::<Vec<_>>());
    };

    // None has ever come.
    wait_for_alerts(1);
    post(number(&proxy), "/orders?id=1", b"first");
    wait_for_alerts(2);
    assert_eq!(target.wait_for(1)[0].target(), "/orders?id=1");
    wait_for_alerts(3);
    // It is known to be silent, and it is not told again.
    player.kill();
    player.restart();
    always_for("nothing more is told", Duration::from_secs(3), || subjects(&hook).len() == 3);
    post(number(&proxy), "/orders?id=2", b"second");
    wait_for_alerts(4);
    assert_eq!(target.wait_for(2)[1].body, b"second");
}

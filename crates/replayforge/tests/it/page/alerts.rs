use super::*;
use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::post;

/// The whole way: events are posted to a proxy, and their alarm is seen, silenced and heard again at the player.
#[test]
fn what_is_wrong_comes_first_and_can_be_silenced() {
    let port = free_port();
    let stack = Stack::with(|configs| {
        configs.player["exposedPort"] = port.into();
        configs.player["sources"][0]["sinks"] = json!(["Watchdog"]);
        let params = json!({
            "database": "watch.sqlite3",
            "scripts": { "both": { "heartbeatInterval": "1s" } },
        });
        configs.player["sinks"] =
            json!([{ "name": "Watchdog", "id": "watch", "type": "alert", "params": params }]);
    });
    for table in ["/web", "/both"] {
        for _ in 0..3 {
            post(stack.ports.proxy, table, json!({ "status": HOSTILE }).to_string().as_bytes());
        }
    }
    post(stack.ports.proxy, "/mail", br#"{"status":"ok"}"#);

    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/#/watch"));
    // The events are on their way while the page asks every ten seconds; `r` asks at once.
    browser.wait_for("h1", "Watchdog");
    browser.wait_for("h1 .id", "watch");
    // One has bad events, and then no more of them.
    eventually("both alarms are seen", SOON, || {
        browser.press(&["r"]);
        browser.texts(".pill") == ["missing", "bad", "bad", "ok"]
    });
    browser.wait_for(".note", "2 of 3 tables need a look.");
    assert_eq!(browser.texts(".card b"), ["both", "web", "mail"]);
    browser.wait_for(".card", "no event for more than 1 s\nbad for");
    browser.wait_for(".card", HOSTILE);

    browser.choose(".card.bad select", "4 hours");
    browser.click(".card.bad button");
    browser.wait_for(".card.bad", "silenced until");
    browser.click(".card.bad button");
    browser.wait_for(".card.bad button", "Silence");
    browser.click(".title button");
    browser.wait_for(".title", "silenced until");
    assert!(browser.text(".card button").is_none(), "all are silent already");
    browser.click(".title button");
    browser.wait_for(".title button", "Silence all");

    browser.click(".card.bad a");
    browser.wait_for(".count", "3 rows");
    assert_eq!(browser.log(), Vec::<String>::new());
    assert_eq!(browser.run("return window.hit ?? null;"), Value::Null);
}

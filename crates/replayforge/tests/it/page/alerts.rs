use super::*;
use crate::support::stack::Stack;
use crate::support::wait::eventually_some;
use crate::support::wire::post;

/// A stack whose player watches tables with these `scripts`, and shows them on this port.
fn watched(port: u16, scripts: &Value) -> Stack {
    Stack::with(|configs| {
        configs.player["exposedPort"] = port.into();
        configs.player["sources"][0]["sinks"] = json!(["Watchdog"]);
        let params = json!({ "database": "watch.sqlite3", "scripts": scripts });
        configs.player["sinks"] =
            json!([{ "name": "Watchdog", "id": "watch", "type": "alert", "params": params }]);
    })
}

/// The whole way: events are posted to a proxy, and their alarm is seen, silenced and heard again at the player.
#[test]
fn what_is_wrong_comes_first_and_can_be_silenced() {
    let port = free_port();
    let stack = watched(port, &json!({ "both": { "heartbeatInterval": "1s" } }));
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
    // Not the button of the other table, which has said so all the time: a click while the page is still to be drawn would be
    // lost.
    browser.wait_for("[data-table=both] button", "Silence");
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

#[test]
fn a_choice_in_the_making_hides_nothing_and_is_kept() {
    let port = free_port();
    let scripts = json!({
        "web": { "consecutiveBad": 2, "outOf": 3 },
        "quiet": { "silencedUntil": "2100-06-15T12:00:00Z" },
    });
    let stack = watched(port, &scripts);
    let tell = |table: &str, statuses: &[&str]| {
        for status in statuses {
            post(stack.ports.proxy, table, json!({ "status": status }).to_string().as_bytes());
        }
    };
    tell("/web", &["down", "down", "ok"]);
    tell("/mail", &["ok"]);
    tell("/quiet", &["ok"]);
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/#/watch"));
    browser.wait_for("h1", "Watchdog");
    eventually("the alarm is seen", SOON, || {
        browser.press(&["r"]);
        browser.texts(".pill") == ["bad", "ok", "ok"]
    });
    browser.wait_for(".note", "1 of 3 tables needs a look.");
    browser.wait_for(".card.bad", ": \u{201c}down\u{201d}, the last event was good");
    browser.wait_for(".card", "silenced by the configuration until 2100-06-15");
    assert_eq!(browser.texts(".card button"), ["Silence", "Silence"], "the file's has no end");

    browser.choose(".card.bad select", "4 hours");
    browser.run("document.querySelector('.card.bad select').focus();");
    tell("/mail", &["down", "down", "down"]);
    // The page asks again by itself.
    browser.wait_for(".note", "2 of 3 tables need a look.");
    assert_eq!(browser.texts(".card b"), ["mail", "web", "quiet"]);
    assert_eq!(browser.texts(".pill"), ["bad", "bad", "ok"]);
    let chosen = "return document.activeElement.matches('li:nth-child(2) select') && document.activeElement.value;";
    assert_eq!(browser.run(chosen), "4h");
    // Drawn anew once the focus is elsewhere, the choice still holds; so does the focus of a button.
    browser.run(
        "document.querySelector('li:nth-child(2) select').id = 'before';
        document.querySelector('li:nth-child(2) button').focus();",
    );
    browser.press(&["r"]);
    browser.wait_until_gone("#before");
    let kept = "return document.activeElement.matches('li:nth-child(2) button')
        && document.querySelector('li:nth-child(2) select').value;";
    assert_eq!(browser.run(kept), "4h");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn an_order_on_the_way_out_asks_for_nothing_more_and_one_that_fails_says_why() {
    let port = free_port();
    let mut stack = watched(port, &json!({}));
    let browser = Browser::start();
    let open = || browser.open(&format!("http://127.0.0.1:{port}/#/watch"));
    open();
    browser.wait_for(".note", "No tables yet");
    // The page gets the answer to its order when the test says so.
    browser.run(
        "const told = new Promise((tell) => { window.tell = tell; });
        const real = window.fetch;
        window.asked = [];
        window.fetch = async (url, options) => {
            asked.push(url.pathname);
            const answer = await real(url, options);
            if (options.method === 'POST') {
                window.isAnswered = answer.ok;
                await told;
            }
            return answer;
        };
        document.querySelector('.title button').click();
        location.hash = '#/';",
    );
    browser.wait_for("h1", "Sinks");
    eventually("all are silenced", SOON, || browser.run("return window.isAnswered;") == true);
    browser.run("asked.length = 0; tell();");
    assert_eq!(browser.run("return asked;"), json!([]));

    open();
    browser.wait_for(".title button", "End");
    stack.player.kill();
    browser.click(".title button");
    let said = eventually_some("why it failed", SOON, || {
        browser.text(".note.wrong").filter(|text| !text.is_empty())
    });
    assert_eq!(said, "the server cannot be reached");
}

#[test]
fn a_button_that_is_pressed_while_the_page_asks_does_what_it_says() {
    let port = free_port();
    let stack = watched(port, &json!({}));
    post(stack.ports.proxy, "/web", br#"{"status":"ok"}"#);
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/#/watch"));
    browser.wait_for(".card button", "Silence");
    // The third answer: it has asked for states and silences, and goes on to ask again.
    click_while_it_asks(&browser, ".card button", 3);
    browser.wait_for(".card", "silenced until");
    assert_eq!(browser.log(), Vec::<String>::new());
}

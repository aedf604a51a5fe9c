//! What a person sees of the whole system when things break: the page in a browser, and that JSON, metrics and the page
//! say the same.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::stack::{Stack, TOKEN};
use crate::support::wait::{SOON, eventually};
use crate::support::wire::call;

/// An agent tells of itself, as a proxy called `host`.
fn tell(relay: u16, host: &str, sink: &Value) {
    let headers: [(&str, &[u8]); 3] = [
        ("Authorization", b"Bearer token-of-b"),
        ("RF-BUCKET", b"b"),
        ("RF-HOSTNAME", host.as_bytes()),
    ];
    let info = json!({
        "role": "proxy", "version": "1.2.3",
        "sources": { "in": { "type": "http", "sinks": ["out"] } },
        "sinks": { "out": sink },
    });
    let answer = call(relay, "POST", "/node-info", &headers, info.to_string().as_bytes());
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

fn well() -> Value {
    json!({ "type": "relay", "wiredTo": { "buckets": ["b"] }, "shipped": 5 })
}

#[test]
fn the_page_follows_what_happens_without_a_reload() {
    let stack = Stack::with(|configs| {
        configs.relay["expectedNodes"] = json!(["web-1", "db-1"]);
        // The disk of the machine that runs this is none of the test's.
        configs.relay["alerts"] = json!({ "diskPercent": 100, "nodeSilentAfter": "1s" });
    });
    let (relay, status) = (stack.ports.relay, stack.ports.status);
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{status}/"));
    browser.wait_for("#verdict", "2 things are wrong");
    browser.wait_for("#summary", "missing: expected (expectedNodes)");
    let command = format!("replayforge status --relay http://127.0.0.1:{status}/");
    assert_eq!(browser.text("#command"), Some(command));

    tell(relay, "web-1", &well());
    tell(
        relay,
        "db-1",
        &json!({ "type": "relay", "paused": "401: unknown bucket or wrong token" }),
    );
    browser.wait_for("#verdict", "1 thing is wrong");
    browser.wait_for("#summary", "sink out is paused until somebody acts: 401");
    browser.wait_for("[id='node-db-1/proxy']", "trouble");
    browser.wait_for("[id='node-web-1/proxy']", "ok");

    tell(relay, "db-1", &well());
    browser.wait_for("#verdict", "All is well");
    call(stack.ports.proxy, "POST", "/orders?id=1", &[], b"one");
    // The stack's own proxy and player are seen by what they do.
    browser.wait_for("#bucket-b", "1");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_sink_with_usual_numbers_is_seen_whole() {
    let stack = Stack::with(|configs| configs.relay["alerts"] = json!({ "diskPercent": 100 }));
    let mut counts = vec![0; 18];
    counts[6] = 1_234_567;
    let sink = json!({
        "type": "relay", "target": "http://127.0.0.1:8081", "wiredTo": { "buckets": ["orders"] },
        "shipped": 1_234_567, "retried": 1234, "deadLetters": 12, "dropped": { "full": 1234 },
        "latency": { "counts": counts, "sumMs": 5 },
        "queue": { "events": 12_345, "bytes": 50, "maxBytes": 100 },
    });
    tell(stack.ports.relay, "usual", &sink);
    let browser = Browser::start();
    browser.resize(1280, 900);
    browser.open(&format!("http://127.0.0.1:{}/node?id=usual%2Fproxy", stack.ports.status));
    browser.wait_for("td[data-label=To]", "orders at http://127.0.0.1:8081");
    browser.wait_for("td[data-label=Latency]", "≤\u{a0}100\u{a0}ms");
    let hidden = "const table = document.querySelector('[aria-label=Sinks]');
         return table.scrollWidth - table.clientWidth;";
    let hidden = browser.run(hidden).as_u64().unwrap();
    assert!(hidden <= 1, "{hidden}");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_table_with_wide_numbers_scrolls_within_itself() {
    let stack = Stack::with(|configs| configs.relay["alerts"] = json!({ "diskPercent": 100 }));
    let sink = json!({
        "type": "http", "target": "http://orders.internal.example.com:8080",
        "delivered": 123_456_789_012_u64, "retried": 123_456, "deadLetters": 98_765,
        "dropped": { "full": 1_234_567 },
        "queue": { "events": 12_345_678_901_u64, "bytes": 50, "maxBytes": 100 },
    });
    tell(stack.ports.relay, "wide", &sink);
    let browser = Browser::start();
    browser.resize(1100, 900);
    browser.open(&format!("http://127.0.0.1:{}/node?id=wide%2Fproxy", stack.ports.status));
    browser.wait_for("[data-label=Queued]", "12,345,678,901");
    let name = browser.run("return document.querySelector('td[data-label=To]').offsetWidth;");
    assert!(name.as_u64().unwrap() >= 150, "{name}");
    let last_cell_is_seen = |scrolled: bool| {
        browser.run(&format!(
            "const table = document.querySelector('[aria-label=Sinks]');
             table.scrollLeft = {scrolled} ? 10000 : 0;
             const edge = table.getBoundingClientRect().right + 1;
             return table.querySelector('[data-label=Latency]').getBoundingClientRect().right <= edge;"
        ))
    };
    assert_eq!((last_cell_is_seen(false), last_cell_is_seen(true)), (json!(false), json!(true)));
    let panels_that_scroll = "return [...document.querySelectorAll('.panel')].filter(
            (panel) => panel.scrollWidth > panel.clientWidth).length;";
    assert_eq!(browser.run(panels_that_scroll), 0);
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn a_hostile_name_is_only_a_name_and_an_event_needs_its_token() {
    let stack = Stack::with(|configs| configs.relay["alerts"] = json!({ "diskPercent": 100 }));
    let name = "<img src=x onerror=document.title='owned'>";
    tell(stack.ports.relay, name, &well());
    let headers: [(&str, &[u8]); 2] =
        [("Authorization", b"Bearer token-of-b"), ("RF-BUCKET", b"b")];
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{}/", stack.ports.status));
    browser.wait_for("#nodes", name);
    browser.click("#nodes tr[id*='img'] a");
    browser.wait_for("h1", name);
    assert_ne!(browser.run("return document.title;"), "owned");
    assert_eq!(browser.run("return document.images.length;"), 0);
    assert_eq!(call(stack.ports.relay, "GET", "/first-batch", &headers, b"").status(), 404);

    browser.open(&format!("http://127.0.0.1:{}/bucket?name=b", stack.ports.status));
    browser.wait_for("#events", "The bucket's token");
    browser.run(&format!("document.querySelector('[name=token]').value = '{TOKEN}x';"));
    browser.click("#events button");
    browser.wait_for("#events", "does not open the bucket");
    browser.run(&format!("document.querySelector('[name=token]').value = '{TOKEN}';"));
    browser.click("#events button");
    browser.wait_for("#events", "The bucket is empty.");
    // The refused form is an error in the console, and the only one.
    assert!(browser.log().iter().all(|line| line.contains("403")), "{:?}", browser.log());
}

#[test]
fn json_and_metrics_and_the_page_agree() {
    let folder = tempfile::tempdir().unwrap();
    let (port, status) = (free_port(), free_port());
    let config = json!({
        "port": port, "listenAddress": "127.0.0.1", "portStatusZ": status, "dataDir": folder.path().join("data"),
        "buckets": { "b": { "auth": TOKEN, "dbMaxSizeKb": 1024 } },
    });
    let _relay = Program::role(folder.path(), "relay", &config);
    let queue = json!({ "events": 1234, "bytes": 90, "maxBytes": 100 });
    tell(port, "web-1", &json!({ "type": "relay", "queue": queue }));
    let text = |path: &str, accept: &str| {
        call(status, "GET", path, &[("Accept", accept.as_bytes())], b"").text()
    };
    let page: Value = serde_json::from_str(&text("/statusz", "")).unwrap();
    let node = &page["report"]["nodes"][0];
    assert_eq!((&node["queued"], &node["fillPercent"]), (&json!(1234), &json!(90)));
    let why = node["why"][0]["text"].as_str().unwrap();
    assert_eq!(why, "the queue of sink out is 90 % full: 90 B of 100 B");
    let metric = r#"replayforge_sink_queue_events{node="web-1/proxy",env="",role="proxy",sink="out",type="relay"} 1234"#;
    assert!(text("/metrics", "").lines().any(|line| line == metric));
    // The overview is a second old at the most.
    eventually("the page says it too", SOON, || {
        let html = text("/", "text/html");
        html.contains(why) && html.contains("1,234") && html.contains("1 warning")
    });
}

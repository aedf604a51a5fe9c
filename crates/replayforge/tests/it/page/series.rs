use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::support::stack::Stack;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

/// The whole way: points are posted to a proxy, and seen at the player.
#[test]
fn series_are_seen_small_and_large() {
    let port = free_port();
    let stack = Stack::with(|configs| {
        configs.player["exposedPort"] = port.into();
        configs.player["sources"][0]["sinks"] = json!(["stats"]);
        configs.player["sinks"] = json!([{ "name": "stats", "type": "time_series", "params": { "database": "stats.sqlite3" } }]);
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (serie, value) in [("cpu", 20), (HOSTILE, 7)] {
        for env in ["prod", "staging"] {
            for minute in 0..20 {
                // None is near to where the last 15 minutes begin: rows stand at whole minutes, and the page asks seconds later.
                let minutes_ago = if minute < 10 { 40 - minute } else { 20 - minute };
                let point = json!({
                    "serieName": serie, "envName": env, "value": value + minute, "timestamp": now - 60 * minutes_ago,
                });
                post(stack.ports.proxy, "/ts_gauge_machine_60s", point.to_string().as_bytes());
            }
        }
    }
    let browser = Browser::start();
    let open = |place: &str| browser.open(&format!("http://127.0.0.1:{port}/#{place}"));
    let headers: [(&str, &[u8]); 1] = [("Host", b"localhost")];
    eventually("the points are there", SOON, || {
        let rows = call(port, "GET", "/stats/query-table/ts_gauge_machine_60s", &headers, b"");
        rows.status() == 200 && rows.json().as_array().is_some_and(|rows| rows.len() >= 80)
    });
    open("/stats");
    browser.wait_for(".card b", "cpu");
    browser.wait_for(".latest", "39");
    let title = "return document.querySelector(\".card[href*='cpu'] b\").title;";
    assert_eq!(browser.run(title), "cpu");
    assert!(browser.texts(".card b").contains(&HOSTILE.to_owned()));
    // Of the last 24 hours there are 40 minutes: they have all of the chart.
    let points = "return document.querySelector(\".card[href*='cpu'] path.line\").getAttribute('d').split('L').length;";
    let points = browser.run(points).as_u64().unwrap();
    assert!(points >= 15, "{points}");
    browser.click(".card[href*='cpu']");
    browser.wait_for(".note", "40 points");
    assert_eq!(browser.texts(".legend li"), ["prod", "staging"]);
    browser.choose("select[name='env']", "staging");
    browser.wait_for(".note", "20 points");
    // Two choices before the page is drawn again: both hold.
    browser.run(
        "for (const [name, value] of [['aggregate', 'max'], ['range', '15m']]) {
             const select = document.querySelector(`select[name=${name}]`);
             select.value = value;
             select.dispatchEvent(new Event('change'));
         }",
    );
    browser.wait_for(".note", "10 points");
    let aggregate = browser.run("return document.querySelector('select[name=aggregate]').value;");
    assert_eq!(aggregate, "max");
    browser.run("document.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));");
    browser.wait_for(".readout", "staging 39");
    browser.click(".tabs a:nth-child(2)");
    browser.wait_for(".count", "80 rows");
    assert_eq!(browser.log(), Vec::<String>::new());
    assert_eq!(browser.run("return window.hit ?? null;"), Value::Null);
}

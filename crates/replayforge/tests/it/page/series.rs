use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::support::stack::Stack;
use crate::support::wait::eventually_some;
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
    wait_for_chart(&browser);
    browser.run("document.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));");
    browser.wait_for(".readout", "staging 39");
    browser.click(".tabs a:nth-child(2)");
    browser.wait_for(".count", "80 rows");
    assert_eq!(browser.log(), Vec::<String>::new());
    assert_eq!(browser.run("return window.hit ?? null;"), Value::Null);
}

/// A player with a time series sink `stats`, whose database is filled before, and a browser before it.
fn with_series(fill: &str) -> (TempDir, Program, Browser, u16) {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let database = Connection::open(folder.path().join("data/stats.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE ts_gauge_machine_60s (timestamp INTEGER NOT NULL, serie_name TEXT NOT NULL, env_name TEXT NOT NULL,
                value REAL, metadata TEXT, PRIMARY KEY (serie_name, env_name, timestamp));",
        )
        .unwrap();
    database.execute_batch(fill).unwrap();
    drop(database);
    let more = json!({
        "sources": [{ "name": "b", "relayAuthenticationBearer": "t", "sinks": ["stats"] }],
        "sinks": [{ "name": "stats", "type": "time_series", "params": { "database": "stats.sqlite3" } }],
    });
    let player = player(folder.path(), port, &more);
    (folder, player, Browser::start(), port)
}

#[test]
fn a_series_of_many_environments_is_charted() {
    let fill = "WITH RECURSIVE env(e) AS (SELECT 0 UNION ALL SELECT e + 1 FROM env WHERE e < 599),
            step(s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM step WHERE s < 279)
        INSERT INTO ts_gauge_machine_60s
            SELECT (unixepoch() / 300 - s) * 300, 'cpu', printf('env%03d', e), e + s, NULL FROM env, step;";
    let (_folder, _player, browser, port) = with_series(fill);
    browser.open(&format!("http://127.0.0.1:{port}/#/stats/ts_gauge_machine_60s?.series=cpu"));
    browser.wait_for_within(".note", "points, 584 lines are left out", SOON * 3);
    browser.wait_for(".legend li", "env000");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn series_with_long_names_are_as_many_as_can_be_asked_for() {
    let fill = "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 69)
        INSERT INTO ts_gauge_machine_60s SELECT unixepoch() / 60 * 60, i || replace(hex(zeroblob(125)), '0', 'ü'), '', i, NULL FROM n;";
    let (_folder, _player, browser, port) = with_series(fill);
    browser.open(&format!("http://127.0.0.1:{port}/#/stats/ts_gauge_machine_60s"));
    browser.wait_for(".note", "57 further series are in the list above.");
    browser.wait_for(".latest", "10");
    assert_eq!(browser.texts(".card").len(), 3);
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn large_values_that_differ_little_stay_within_their_chart() {
    let fill = "WITH RECURSIVE step(s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM step WHERE s < 100)
        INSERT INTO ts_gauge_machine_60s
            SELECT (unixepoch() / 60 - s) * 60, 'large', '', 9007199254740100 - s, NULL FROM step;";
    let (_folder, _player, browser, port) = with_series(fill);
    browser.open(&format!("http://127.0.0.1:{port}/#/stats/ts_gauge_machine_60s?.series=large"));
    browser.wait_for(".note", "101 points");
    let heights = "const path = document.querySelector('.plot path.line');
        return path ? path.getAttribute('d').slice(1).split(/[ML]/).map((point) => Number(point.split(' ')[1])) : [];";
    let heights = eventually_some("the line", SOON, || {
        let heights: Vec<f64> = serde_json::from_value(browser.run(heights)).unwrap();
        (heights.len() > 1).then_some(heights)
    });
    assert!(heights.iter().all(|height| (0.0..=300.0).contains(height)), "{heights:?}");
    let rises = heights.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(rises == 0 && heights[0] > heights[100] + 100.0, "{heights:?}");
    assert_eq!(browser.log(), Vec::<String>::new());
}

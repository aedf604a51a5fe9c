//! The player's server and its page, as a browser sees them.

mod alerts;
mod chart;
mod looks;
mod rows;
mod series;
mod server;

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::wait::{SOON, eventually};

/// A text that would be an element, a script and a way out of an attribute, were it not escaped.
const HOSTILE: &str = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>'\"&amp;";

/// A player with a database `shop` at `/shop/`, a sink that keeps nothing, and a browser before it.
struct Shown {
    browser: Browser,
    port: u16,
    _player: Program,
    _folder: TempDir,
}

impl Shown {
    /// The database is filled before the player opens it.
    fn with(fill: impl FnOnce(&Connection)) -> Shown {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        fill(&Connection::open(folder.path().join("data/shop.sqlite3")).unwrap());
        let player = player(folder.path(), port, &json!({}));
        Shown { browser: Browser::start(), port, _player: player, _folder: folder }
    }

    /// Opens a place of the page: what stands behind its `#`.
    fn open(&self, place: &str) {
        self.browser.open(&format!("http://127.0.0.1:{}/#{place}", self.port));
    }

    /// Nothing that the data holds has run, nothing was refused, nothing failed.
    fn assert_clean(&self) {
        assert_eq!(self.browser.log(), Vec::<String>::new());
        assert_eq!(self.browser.run("return window.hit ?? null;"), Value::Null);
        assert_eq!(
            self.browser.run("return document.querySelectorAll('main img, main script').length;"),
            0
        );
    }
}

/// Waits until a chart is drawn: that is later than its numbers are told, with the next picture of the page, for only then it
/// has a width.
fn wait_for_chart(browser: &Browser) {
    browser.wait_for(".plot svg", "");
}

/// Presses the mouse's button on the element and lets it go when the page has had answers to `answers` questions meanwhile, the
/// first of which it was told to ask.
fn click_while_it_asks(browser: &Browser, selector: &str, answers: u64) {
    browser.hold(selector);
    browser.run(
        "const real = window.fetch;
        window.answers = 0;
        window.fetch = async (...asked) => {
            const answer = await real(...asked);
            window.answers += 1;
            return answer;
        };",
    );
    browser.press(&["r"]);
    eventually("the page has asked", SOON, || {
        browser.run("return window.answers;").as_u64() >= Some(answers)
    });
    browser.let_go();
}

/// A player that pulls from nobody; `more` are further keys of its file.
fn player(folder: &Path, port: u16, more: &Value) -> Program {
    let mut config = json!({
        "relayUrl": "http://127.0.0.1:1/",
        "dataDir": folder.join("data"),
        "sources": [{ "name": "b", "relayAuthenticationBearer": "t", "sinks": ["target"] }],
        "sinks": [
            { "name": "shop", "type": "db", "params": { "database": "shop.sqlite3" } },
            {
                "name": HOSTILE,
                "id": "t1",
                "type": "http",
                "params": { "targetHost": "http://127.0.0.1:1" },
                "metadata": { "note": HOSTILE },
            },
        ],
        "exposedPort": port,
    });
    config["sources"][0]["sinks"] = json!([HOSTILE]);
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    Program::role(folder, "player", &config)
}

/// `count` orders, one every ten seconds up to now: every tenth is `failed`, the others are `ok`.
fn orders(database: &Connection, count: u32) {
    database
        .execute_batch(
            "CREATE TABLE orders (id TEXT PRIMARY KEY, _rpf_id INTEGER, _rpf_last_updated_idx INTEGER, timestamp INTEGER,
                customer TEXT, total REAL, status TEXT, express BOOLEAN, address TEXT);",
        )
        .unwrap();
    database
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO orders SELECT printf('ord-%07d', i), i, unixepoch(), unixepoch() - (?1 - i) * 10,
                CASE WHEN i % 5 = 0 THEN ?2 ELSE 'Anna ' || (i % 7) END, i * 7919 % 100003 / 100.0,
                CASE WHEN i % 10 = 0 THEN 'failed' ELSE 'ok' END, i % 2, '{\"city\":\"Köln\",\"zip\":' || i || '}' FROM n",
            (count, HOSTILE),
        )
        .unwrap();
    // As the sink makes them when it writes.
    database
        .execute_batch(
            "CREATE INDEX orders_number ON orders (_rpf_id); CREATE INDEX orders_time ON orders (timestamp, status);",
        )
        .unwrap();
}

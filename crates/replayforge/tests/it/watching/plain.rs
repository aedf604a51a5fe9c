//! The page without scripts, with the keyboard alone, on a phone and in the dark.

use serde_json::json;

use crate::support::browser::{Browser, key};
use crate::support::stack::TOKEN;
use crate::support::system::System;
use crate::support::wait::{SOON, eventually};

/// What is not within the width of the window, but for what scrolls by itself and what only readers of screens get.
const TOO_WIDE: &str = "return [...document.querySelectorAll('body *')].filter((element) => {
        const box = element.getBoundingClientRect();
        const scrolls = (one) => one && (/auto|scroll/.test(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
        return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1) && !scrolls(element.parentElement) && !element.matches('.skip:not(:focus)');
    }).map((element) => element.outerHTML.slice(0, 120));";
const PAPER: &str = "return getComputedStyle(document.body).backgroundColor;";
const LOG_LINE: &str = "<script>document.title='owned'</script>";

fn system() -> System {
    let system = System::with(|relay| {
        relay["expectedNodes"] = json!(["web-1", "db-9"]);
        relay["alerts"]["nodeSilentAfter"] = json!("1s");
    });
    system.wait_until_told(4);
    eventually("the other is missing", SOON, || system.statusz()["report"]["level"] == "bad");
    system
}

#[test]
fn without_scripts_it_is_tables_and_forms() {
    let mut system = system();
    system.players[0].stop();
    system.post(0, "/orders?id=7", format!("{{\"note\":\"{LOG_LINE}\"}}").as_bytes());
    eventually("the event waits", SOON, || system.bucket("orders")["events"] == 1);
    let browser = Browser::start();
    browser.without_scripts();
    browser.open(&system.page(""));
    browser.wait_for("#verdict", "1 thing is wrong");
    browser.wait_for("#nodes", "web-1");
    browser.wait_for("#bucket-orders [data-label=Waiting]", "1");
    assert!(browser.text("input").is_none(), "the filter is the script's");
    let reload = "return document.querySelector('meta[http-equiv=refresh]')?.content;";
    assert_eq!(browser.run(reload), "15");

    browser.click("#bucket-orders a");
    browser.wait_for("h1", "orders");
    browser.type_into("[name=token]", TOKEN);
    browser.click("#events button");
    // One alone is open. Decoded, with its body as the JSON that it is; and still only text.
    browser.wait_for("#events pre", &format!("\"note\": \"{LOG_LINE}\""));
    assert_ne!(browser.run("return document.title;"), "owned");
    browser.click(".way a");
    browser.click("#nodes a[href*=web]");
    browser.wait_for("h1", "web-1 proxy");
    browser.wait_for("main", "Buckets that it writes to");
    assert_eq!(browser.log(), Vec::<String>::new());
    system.players[0].restart();
}

/// What has the focus, as a person would name it; panics when it cannot be seen that it has.
fn focused(browser: &Browser) -> String {
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle;");
    let name = browser.run(
        "const e = document.activeElement;
         return (e.getAttribute('aria-label') ?? e.textContent).trim().replace(/\\s+/g, ' ');",
    );
    let name = name.as_str().unwrap_or_default().to_owned();
    assert_eq!(outline, "solid", "the focus on {name:?} is not seen");
    name
}

/// Presses Tab; a browser that is busy moves the focus a little later.
fn tab(browser: &Browser) -> String {
    browser.run("window.left = document.activeElement;");
    browser.press(&[key::TAB]);
    eventually("the focus moves", SOON, || {
        browser.run("return ![window.left, document.body].includes(document.activeElement);")
            == true
    });
    focused(browser)
}

#[test]
fn the_keyboard_reaches_everything_in_the_order_of_the_page() {
    let system = system();
    let browser = system.overview();
    browser.wait_for("#nodes", "desk-2");
    let mut order = Vec::new();
    for _ in 0..8 {
        order.push(tab(&browser));
    }
    let expected = [
        "Skip to the content",
        "ReplayForge",
        "Filter nodes and buckets",
        "node db-9",
        "Map of nodes and buckets; the tables below say the same",
    ];
    assert_eq!(order[..expected.len()], expected, "{order:?}");
    assert!(order[5].starts_with("db-9 (unknown): missing"), "boxes of the map: {order:?}");
    // What has the focus keeps it while the page changes below it, and a box comes before it.
    let stays = focused(&browser);
    browser.run("document.querySelector('#map a.box').remove(); window.seen = document.querySelector('header .facts').textContent;");
    eventually("the page is fresh", SOON, || {
        browser.run("return window.seen !== document.querySelector('header .facts').textContent;")
            == true
    });
    eventually("the box is back", SOON, || {
        browser.run("return document.querySelector('#map a.box').textContent.includes('db-9');")
            == true
    });
    assert_eq!(focused(&browser), stays);
    browser.press(&[key::ENTER]);
    browser.wait_for(".way", "Overview");

    browser.open(&system.page(""));
    browser.wait_for("#nodes", "desk-2");
    assert_eq!(tab(&browser), "Skip to the content");
    browser.press(&[key::ENTER]);
    assert_eq!(tab(&browser), "node db-9", "the skip link leads to the content");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn it_fits_a_phone_and_the_dark() {
    let system = system();
    system.post(0, "/orders", b"1");
    system.targets[0].wait_for(1);
    let browser = system.overview();
    browser.wait_for("#nodes", "desk-2");
    assert_eq!(browser.run(PAPER), "rgb(245, 246, 248)");
    for (width, height) in [(1280, 860), (390, 844)] {
        browser.resize(width, height);
        for path in
            ["", "node?id=desk%2D1%2Fplayer", "node?id=db%2D9", "bucket?name=orders", "node?id=x"]
        {
            browser.open(&system.page(path));
            browser.wait_for("main", "");
            assert_eq!(browser.run(TOO_WIDE), json!([]), "/{path} at {width}");
        }
    }
    browser.prefer_dark();
    assert_eq!(browser.run(PAPER), "rgb(18, 22, 29)");
    let log = browser.log();
    assert!(log.iter().all(|line| line.contains("node?id=x") && line.contains("404")), "{log:?}");
}

use super::*;
use crate::support::browser::key;

#[test]
fn rows_are_counted_over_time() {
    let shown = Shown::with(|database| orders(database, 300));
    let browser = &shown.browser;
    shown.open("/shop/orders");
    browser.wait_for(".count", "rows");
    browser.click(".tabs a:nth-child(2)");
    browser.wait_for(".note", "300 rows, a bar is 15 min");
    assert_eq!(browser.texts(".legend li"), ["ok", "failed"]);
    wait_for_chart(browser);
    let bars = "return document.querySelectorAll('svg rect.mood-bad').length;";
    assert!(browser.run(bars).as_u64().unwrap() >= 3, "50 minutes are four or five bars");
    browser.choose("select[name=range]", "last 15 minutes");
    browser.wait_for(".note", "a bar is 10 s");
    wait_for_chart(browser);
    browser.run("document.querySelector('.plot').focus();");
    browser.press(&[key::ESCAPE]);
    browser.run("document.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));");
    browser.wait_for(".readout", "failed 1");
    browser.click(".as-table summary");
    browser.wait_for(".as-table td", "1");
    browser.choose("select[name=range]", "all of the time");
    browser.wait_for(".note", "300 rows");
    shown.assert_clean();
}

#[test]
fn statuses_of_one_mood_are_told_apart_also_in_the_dark() {
    let shown = Shown::with(|database| {
        orders(database, 300);
        let statuses = "UPDATE orders SET status = 'paid' WHERE _rpf_id % 3 = 1 AND status = 'ok';
            UPDATE orders SET status = 'done' WHERE _rpf_id % 3 = 2 AND status = 'ok';
            UPDATE orders SET status = 'error' WHERE _rpf_id % 20 = 0;";
        database.execute_batch(statuses).unwrap();
    });
    let browser = &shown.browser;
    shown.open("/shop/orders/chart");
    browser.wait_for(".note", "300 rows");
    assert_eq!(browser.texts(".legend li").len(), 5);
    wait_for_chart(browser);
    let colours = |selector: &str, style: &str| {
        let script = format!(
            "return new Set([...document.querySelectorAll('{selector}')].map((e) => getComputedStyle(e).{style})).size;"
        );
        browser.run(&script)
    };
    for is_dark in [false, true] {
        if is_dark {
            browser.prefer_dark();
        }
        assert_eq!(colours(".swatch", "backgroundColor"), 5, "dark: {is_dark}");
        assert_eq!(colours(".plot rect", "fill"), 5, "dark: {is_dark}");
    }
    shown.assert_clean();
}

#[test]
fn days_begin_at_midnight_also_where_clocks_are_changed() {
    let shown = Shown::with(|database| {
        // From 2026-10-22, an hour apart. In Berlin the 25th has 25 hours.
        database
            .execute_batch(
                "CREATE TABLE visits (id TEXT PRIMARY KEY, _rpf_id INTEGER, timestamp INTEGER);
                 WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 167)
                 INSERT INTO visits SELECT 'v' || i, i + 1, 1792627200 + i * 3600 FROM n;",
            )
            .unwrap();
    });
    let browser = &shown.browser;
    browser.live_in("Europe/Berlin");
    shown.open("/shop/visits/chart?.span=all");
    browser.wait_for(".note", "168 rows");
    browser.wait_for(".plot .axis", "10-28");
    let days = browser.texts(".plot .axis[text-anchor=middle]");
    assert_eq!(days[..6], ["10-23", "10-24", "10-25", "10-26", "10-27", "10-28"], "{days:?}");
    shown.assert_clean();
}

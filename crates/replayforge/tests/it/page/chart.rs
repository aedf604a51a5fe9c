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
    let bars = "return document.querySelectorAll('svg rect.mood-bad').length;";
    assert!(browser.run(bars).as_u64().unwrap() >= 3, "50 minutes are four bars at the most");
    browser.choose("select[name=range]", "last 15 minutes");
    browser.wait_for(".note", "a bar is 10 s");
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

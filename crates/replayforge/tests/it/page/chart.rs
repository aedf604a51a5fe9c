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

use super::*;

const WIDER: &str = "return document.documentElement.scrollWidth > innerWidth;";
const PAPER: &str = "return getComputedStyle(document.body).backgroundColor;";

#[test]
fn it_fits_a_phone_and_the_dark() {
    let shown = Shown::with(|database| orders(database, 300));
    let browser = &shown.browser;
    browser.resize(360, 740);
    // Each with what only it shows, and shows last: what is drawn after that would close the menu below.
    for (place, selector, text) in [
        ("/", "h1", "Sinks"),
        ("/shop", ".count", "100 rows"),
        ("/shop/orders?status=failed&customer_contains=a", ".count", "30 rows"),
        ("/shop/orders/chart", ".plot svg", ""),
    ] {
        shown.open(place);
        browser.wait_for(selector, text);
        assert_eq!(browser.run(WIDER), false, "{place} is wider than a phone");
    }
    assert!(browser.text("nav .sinks").is_none(), "the menu is closed");
    browser.click("nav summary");
    browser.wait_for("nav .sinks", "shop");
    assert_eq!(browser.run(PAPER), "rgb(251, 250, 248)");
    browser.prefer_dark();
    assert_eq!(browser.run(PAPER), "rgb(23, 22, 20)");
    shown.assert_clean();
}

use super::*;
use crate::support::browser::key;
use crate::support::wait::eventually_some;

#[test]
fn sinks_and_tables_are_found() {
    let shown = Shown::with(|database| {
        orders(database, 3);
        database
            .execute_batch("CREATE TABLE empty_one (id TEXT PRIMARY KEY, _rpf_id INTEGER)")
            .unwrap();
    });
    let browser = &shown.browser;
    shown.open("/");
    browser.wait_for(".card", "shop");
    assert!(browser.texts(".card b").contains(&HOSTILE.to_owned()));
    browser.click(".card[href='#/t1']");
    browser
        .wait_for("main", "A sink of type http sends events on: there is nothing to look at here.");
    browser.click("nav a[href='#/shop']");
    browser.wait_for(".card", "orders");
    browser.click(".card[href='#/shop/empty_one']");
    browser.wait_for(".empty", "This table has no rows.");
    browser.click("nav a[href='#/shop/orders']");
    browser.wait_for(".count", "3 rows");
    shown.open("/nowhere");
    browser.wait_for("main", "No sink has the id nowhere.");
    shown.open("/shop/nothing");
    browser.wait_for("main", "no table `nothing`; known: empty_one, orders");
    // What was asked for in vain is in the console, and nothing else; the console may come a moment later than the page.
    let log = eventually_some("the console tells of it", SOON, || {
        Some(browser.log()).filter(|log| !log.is_empty())
    });
    assert!(log.iter().all(|line| line.contains("404")), "{log:?}");
    shown.assert_clean();
}

#[test]
fn a_sink_is_called_by_its_name_and_says_what_it_does() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    orders(&Connection::open(folder.path().join("data/shop.sqlite3")).unwrap(), 3);
    let long = "x".repeat(300);
    let more = json!({
        "sources": [{ "name": "b", "relayAuthenticationBearer": "t", "sinks": ["Our shop"] }],
        "sinks": [
            { "name": "Our shop", "id": "shop", "type": "db", "params": { "database": "shop.sqlite3" } },
            { "name": "kept", "type": "file", "params": { "path": "kept.ndjson" } },
            { "name": long, "id": "said", "type": "log", "params": {} },
        ],
    });
    let _player = player(folder.path(), port, &more);
    let browser = Browser::start();
    let open = |place: &str| browser.open(&format!("http://127.0.0.1:{port}/#{place}"));
    open("/");
    browser.wait_for(".card[href='#/kept']", "writes events to files");
    browser.wait_for(".card[href='#/said']", "writes events to the log, or to a file of its own");
    // A long name is cut where it is shown, and whole where it is pointed at.
    let card = "document.querySelector(\".card[href='#/said']\")";
    let height = browser.run(&format!("return {card}.querySelector('b').offsetHeight;"));
    assert!(height.as_u64().unwrap() < 60, "{height}");
    assert_eq!(browser.run(&format!("return {card}.querySelector('b').title;")), json!(long));
    open("/shop/orders");
    browser.wait_for("h1", "Our shop shop / orders");
    browser.wait_for("nav .name", "Our shop shop");
    browser.wait_for("h1 .id", "shop");
    open("/kept");
    browser.wait_for("h2", "kept");
    assert!(browser.text("h2 .id").is_none(), "name and id are the same");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn numbers_that_are_missing_stand_below_numbers_and_only_rows_scroll() {
    let shown = Shown::with(|database| {
        orders(database, 150);
        let empty = "UPDATE orders SET total = NULL WHERE _rpf_id % 3 = 0; UPDATE orders SET address = NULL;";
        database.execute_batch(empty).unwrap();
    });
    let browser = &shown.browser;
    browser.resize(1280, 900);
    shown.open("/shop/orders");
    browser.wait_for(".count", "100 rows");
    let alignments = |column: &str| {
        let script = format!(
            "const at = [...document.querySelectorAll('thead th')].findIndex((th) => th.textContent.startsWith('{column}'));
             const cells = [...document.querySelectorAll('tr')].map((row) => row.children[at]);
             return [...new Set(cells.map((cell) => getComputedStyle(cell).textAlign))];"
        );
        browser.run(&script)
    };
    assert_eq!(alignments("total"), json!(["right"]));
    assert_ne!(alignments("address"), json!(["right"]), "nothing is there that is a number");
    let page_scrolls = "return document.documentElement.scrollHeight > innerHeight;";
    assert_eq!(browser.run(page_scrolls), false);
    let room = "const rows = document.querySelector('.rows > .scroll');
        return rows.scrollHeight > rows.clientHeight ? rows.clientHeight : 0;";
    assert!(browser.run(room).as_u64().unwrap() > 500, "the rows have what is left");
    shown.assert_clean();
}

#[test]
fn rows_are_sorted_filtered_and_paged() {
    let shown = Shown::with(|database| orders(database, 250));
    let browser = &shown.browser;
    let ids = || browser.texts("tbody td:nth-child(2)");
    let begins_with = |id: &str| ids().first().is_some_and(|first| first == id);
    shown.open("/shop/orders");
    browser.wait_for(".count", "100 rows, more follow");
    assert_eq!(browser.texts("thead th")[..3], ["timestamp", "id", "customer"]);
    assert_eq!(ids().len(), 100);
    assert!(begins_with("ord-0000250"));
    // No column that is seen has an arrow.
    browser.wait_for(".count", "last written first");

    browser.click("[data-page='Next page']");
    eventually("the second page", SOON, || begins_with("ord-0000150"));
    browser.click("[data-page='Next page']");
    browser.wait_for(".count", "50 rows");
    assert_eq!(ids().last().unwrap(), "ord-0000001");
    assert!(browser.text("[data-page='Next page'][href]").is_none(), "there is no further page");
    browser.click("[data-page='Previous page']");
    eventually("the second page again", SOON, || {
        begins_with("ord-0000150") && ids().last().is_some_and(|id| id == "ord-0000051")
    });
    browser.click("[data-page='Previous page']");
    eventually("the first page again", SOON, || begins_with("ord-0000250"));
    browser.wait_for(".count", "100 rows, more follow");
    browser.click("[data-page='Last page']");
    eventually("the last page", SOON, || ids().last().is_some_and(|id| id == "ord-0000001"));

    // Sorting by a column with equal values neither loses nor repeats a row over the pages.
    shown.open("/shop/orders?order=status:asc");
    browser.wait_for("thead th[aria-sort=ascending]", "status");
    browser.wait_for(".count", "100 rows, more follow");
    let count = browser.text(".count").unwrap();
    assert!(!count.contains("first"), "the arrow tells it: {count}");
    let mut seen = ids();
    for _ in 0..2 {
        let first = ids()[0].clone();
        browser.click("[data-page='Next page']");
        // Between two pages there may be none for a moment.
        seen.extend(eventually_some("another page", SOON, || {
            let ids = ids();
            ids.first().is_some_and(|id| *id != first).then_some(ids)
        }));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 250);

    browser.click("thead th:nth-child(4) button");
    browser.wait_for("thead th[aria-sort=ascending]", "total");
    browser.choose("select[name=column]", "status");
    browser.choose("select[name=test]", "is");
    browser.type_into("input[name=value]", "failed");
    browser.press(&[key::ENTER]);
    browser.wait_for(".count", "25 rows");
    browser.wait_for(".chip q", "failed");
    browser.choose("select[name=column]", "customer");
    browser.type_into("input[name=value]", "' OR 1=1 --");
    browser.press(&[key::ENTER]);
    browser.wait_for(".empty", "No row matches.");
    browser.click(".chip:last-child button");
    browser.wait_for(".count", "25 rows");
    // Two choices before the page is drawn again: both hold.
    browser.run(
        "document.querySelector('th[aria-sort] button').click();
         document.querySelector('.chip button').click();",
    );
    browser.wait_for(".count", "100 rows, more follow");
    browser.wait_for("thead th[aria-sort=descending]", "total");
    shown.assert_clean();
}

#[test]
fn columns_may_be_called_as_parameters_are() {
    let shown = Shown::with(|database| {
        database
            .execute_batch(
                "CREATE TABLE o (id TEXT PRIMARY KEY, _rpf_id INTEGER, \"limit\" INTEGER, \"order\" TEXT, \"after\" INTEGER, \"constructor\" TEXT);
                 INSERT INTO o VALUES ('a', 1, 5, 'zz', 1, ''), ('b', 2, 7, 'q', NULL, 'k'), ('c', 3, NULL, 'zz', 2, '');",
            )
            .unwrap();
    });
    let browser = &shown.browser;
    let ids = || browser.texts("tbody td:first-child");
    shown.open("/shop/o");
    browser.wait_for(".count", "3 rows");
    for (column, value, expected) in
        [("limit", "5", vec!["a"]), ("after", "2", vec!["c"]), ("order", "zz", vec!["c", "a"])]
    {
        browser.choose("select[name=column]", column);
        browser.choose("select[name=test]", "is");
        browser.type_into("input[name=value]", value);
        browser.press(&[key::ENTER]);
        browser.wait_for(".chip b", column);
        eventually(column, SOON, || ids() == expected);
        browser.click(".chip button");
        browser.wait_for(".count", "3 rows");
    }
    browser.click("tbody tr:nth-child(2)");
    browser.click("dialog button[aria-label='Only rows with this limit']");
    eventually("the row with this limit", SOON, || ids() == ["b"]);
    // As somebody might write it.
    shown.open("/shop/o?limit=5");
    eventually("the condition", SOON, || ids() == ["a"]);
    // What every object of a script has is no choice of somebody.
    shown.open("/shop/o?constructor=k");
    eventually("the condition", SOON, || ids() == ["b"]);
    browser.click("thead th:first-child button");
    browser.wait_for("thead th[aria-sort=ascending]", "id");
    browser.wait_for(".chip q", "k");
    browser.wait_for(".count", "1 row");
    shown.assert_clean();
}

#[test]
fn whole_numbers_keep_all_of_their_digits() {
    let shown = Shown::with(|database| {
        database
            .execute_batch(
                "CREATE TABLE o (id TEXT PRIMARY KEY, _rpf_id INTEGER, big INTEGER, body TEXT);
                 INSERT INTO o VALUES ('a', 1, 1234567890123456789, '{\"big\":-1234567890123456789}'), ('b', 2, 7, '');",
            )
            .unwrap();
    });
    let browser = &shown.browser;
    shown.open("/shop/o");
    browser.wait_for(".count", "2 rows");
    browser.wait_for("tbody td.number", "1234567890123456789");
    browser.click("tbody tr:nth-child(2)");
    browser.wait_for("dialog pre", "\"big\": -1234567890123456789");
    browser.click("dialog button[aria-label='Only rows with this big']");
    browser.wait_for(".chip q", "1234567890123456789");
    browser.wait_for(".count", "1 row");
    browser.wait_for("tbody td.number", "1234567890123456789");
    shown.assert_clean();
}

#[test]
fn a_download_says_how_much_it_is() {
    let shown = Shown::with(|database| orders(database, 101));
    let browser = &shown.browser;
    shown.open("/shop/orders");
    browser.wait_for(".downloads", "at most 100,000 rows");
    shown.open("/shop/orders?status=failed");
    browser.wait_for(".count", "10 rows");
    let downloads = browser.text(".downloads").unwrap();
    assert!(!downloads.contains("at most"), "{downloads}");
}

#[test]
fn the_keyboard_is_enough() {
    let shown = Shown::with(|database| orders(database, 150));
    let browser = &shown.browser;
    shown.open("/shop/orders");
    browser.wait_for(".count", "100 rows");
    browser.press(&["n"]);
    browser.wait_for(".count", "50 rows");
    browser.press(&["p"]);
    browser.wait_for(".count", "100 rows");
    browser.press(&["j", "j", key::ENTER]);
    browser.wait_for("dialog h2", "ord-0000149");
    browser.press(&[key::ESCAPE]);
    browser.wait_until_gone("dialog");
    eventually("the focus is back", SOON, || {
        browser.run("return document.activeElement.dataset.row ?? null;") == "1"
    });
    browser.press(&["/"]);
    browser.press(&["A", "n", "n", "a", " ", "3", key::ENTER]);
    browser.wait_for(".chip q", "Anna 3");
    browser.press(&["?"]);
    browser.wait_for("dialog", "next and previous page");
    browser.press(&[key::ESCAPE]);
    browser.wait_until_gone("dialog");
    shown.assert_clean();
}

#[test]
fn a_row_is_shown_in_full_and_as_text() {
    let shown = Shown::with(|database| orders(database, 20));
    let browser = &shown.browser;
    shown.open("/shop/orders?status=failed");
    browser.wait_for(".count", "2 rows");
    assert_eq!(browser.texts("tbody td")[2], HOSTILE);
    assert_eq!(browser.text(".pill.bad").as_deref(), Some("failed"));
    browser.click("tbody tr");
    browser.wait_for("dialog pre", HOSTILE);
    browser.wait_for("dialog pre", "\"city\": \"Köln\",");
    browser.click("dialog button[aria-label='Only rows with this customer']");
    browser.wait_for(".chip q", HOSTILE);
    browser.wait_for(".count", "2 rows");
    shown.assert_clean();
}

#[test]
fn a_row_that_is_pressed_while_the_page_asks_is_opened() {
    let shown = Shown::with(|database| orders(database, 20));
    let browser = &shown.browser;
    shown.open("/shop/orders");
    browser.wait_for(".count", "20 rows");
    browser.click("button[aria-pressed=false]");
    browser.wait_for("button[aria-pressed=true]", "Live");
    // The second answer: it has asked for the rows, and goes on to ask again.
    click_while_it_asks(browser, "tbody tr:nth-child(2)", 2);
    browser.wait_for("dialog h2", "ord-0000019");
    shown.assert_clean();
}

/// That such a page is read from an index is asked of SQLite itself, in the tests of the sink `db`.
#[test]
fn a_million_rows_are_a_page_at_a_time() {
    let shown = Shown::with(|database| orders(database, 1_000_000));
    let browser = &shown.browser;
    for (place, first) in [
        ("/shop/orders", "ord-1000000"),
        ("/shop/orders?.at=last", "ord-0000100"),
        ("/shop/orders?order=_rpf_id:asc&.at=after:500000", "ord-0500001"),
        ("/shop/orders?order=timestamp:asc&.at=before:900001", "ord-0899901"),
    ] {
        shown.open("/");
        shown.open(place);
        eventually(place, SOON, || {
            browser.text("tbody td:nth-child(2)").is_some_and(|id| id == first)
        });
    }
    shown.open("/shop/orders/chart?.span=24h");
    browser.wait_for(".note", " rows, a bar is 15 min");
    shown.assert_clean();
}

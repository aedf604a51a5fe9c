//! Values that SQLite compares in its own way, and views.

use serde_json::json;

use super::api::ids;
use super::{open, rig};

#[tokio::test]
async fn a_text_among_numbers_is_neither_more_nor_less() {
    let mut rig = rig().await;
    for (id, n) in [("a", "5"), ("b", "\"n/a\""), ("c", "50"), ("d", "null")] {
        rig.post("/t", &format!(r#"{{"id":"{id}","n":{n}}}"#)).await;
    }
    for (query, expected) in
        [("n_gt=10", "c"), ("n_gte=5", "ac"), ("n_lt=10", "a"), ("n_lte=50", "ac"), ("n=n/a", "b")]
    {
        assert_eq!(ids(&rig.json(&format!("/query-table/t?{query}")).await), expected, "{query}");
    }
}

/// As half of a hash may be.
#[tokio::test]
async fn a_text_that_would_be_infinity_stays_a_text() {
    let mut rig = rig().await;
    for (id, n) in [("a", "1"), ("b", "\"12e456\""), ("c", "-2.5"), ("d", "null")] {
        rig.post("/t", &format!(r#"{{"id":"{id}","n":{n}}}"#)).await;
    }
    open(&rig).execute_batch("CREATE VIEW v AS SELECT id, coalesce(n, id) AS n FROM t").unwrap();
    assert_eq!(rig.json("/find/t/b").await["n"], json!("12e456"));
    for (query, expected) in [
        ("t?n=12e456", "b"),
        ("t?n_in=1,12e456", "ab"),
        ("t?n_ne=12e456", "acd"),
        ("t?n_null=false", "abc"),
        ("t?n_gt=0", "a"),
        ("t?n_lt=1e400", "ac"),
        ("t?n_gt=-1e400", "ac"),
        ("v?n=12e456", "b"),
    ] {
        assert_eq!(ids(&rig.json(&format!("/query-table/{query}")).await), expected, "{query}");
    }
}

/// SQLite knows no type of what a view computes, and makes no number of a text beside it.
#[tokio::test]
async fn a_column_without_a_type_is_asked_for_numbers_and_texts() {
    let mut rig = rig().await;
    for (id, n) in [("a", 0), ("b", 1), ("c", 2), ("d", 10)] {
        rig.post("/t", &format!(r#"{{"id":"{id}","n":{n}}}"#)).await;
    }
    for id in ["e", "f"] {
        rig.post("/t", &format!(r#"{{"id":"{id}","s":"{}"}}"#, if id == "e" { "1" } else { "x" }))
            .await;
    }
    open(&rig).execute_batch("CREATE VIEW v AS SELECT id, coalesce(n, s) AS any FROM t").unwrap();
    for (query, expected) in [
        ("any=1", "be"),
        ("any=1.0", "b"),
        ("any=x", "f"),
        ("any_ne=1", "acdf"),
        ("any_ne=x", "abcde"),
        ("any_in=0,1,x", "abef"),
        ("any_gt=1", "cd"),
        ("any_gte=1", "bcd"),
        ("any_lt=2", "ab"),
        ("any_lte=2", "abc"),
        ("any_gt=2x", "f"),
        ("any_lt=x", "e"),
    ] {
        let rows = rig.json(&format!("/query-table/v?{query}&order=id")).await;
        assert_eq!(ids(&rows), expected, "{query}");
    }
}

#[tokio::test]
async fn a_view_may_compute_and_what_it_may_not_is_said() {
    let mut rig = rig().await;
    for n in [1, 2] {
        rig.post("/t", &format!(r#"{{"n":{n}}}"#)).await;
    }
    open(&rig)
        .execute_batch(
            "CREATE VIEW good AS SELECT sum(n) AS s, avg(n) AS a, upper('x') AS u FROM t;
             CREATE VIEW bad AS SELECT randomblob(10) AS r FROM t;
             CREATE VIEW inner AS SELECT name FROM _rpf_tables;
             CREATE VIEW broken AS SELECT gone FROM t;",
        )
        .unwrap();
    assert_eq!(rig.json("/query-table/good").await, json!([{ "s": 3, "a": 1.5, "u": "X" }]));
    let columns = rig.json("/all-columns/").await;
    let columns: Vec<&String> = columns.as_object().unwrap().keys().collect();
    assert_eq!(columns, ["bad", "good", "inner", "t"], "without the one that does not work");
    for (view, reason) in [
        ("bad", "not authorized to use function: randomblob"),
        ("inner", "access to _rpf_tables.name is prohibited"),
        ("broken", "no such column: gone"),
    ] {
        let (status, message) = rig.refusal(&format!("/query-table/{view}")).await;
        assert_eq!(status, 400, "{view}: {message}");
        let expected = format!("this view, or table, cannot be queried: {reason}");
        assert!(message.starts_with(&expected), "{view}: {message}");
    }
}

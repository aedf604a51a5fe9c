//! What SQLite makes of the questions of the server's page: a page of rows comes out of an index, so it costs the same in
//! a table of any size.

use rusqlite::{Connection, params_from_iter};

use super::{open, rig};
use crate::sink::table::query::RowQuery;
use crate::sink::table::schema::Table;

/// The steps of a query.
fn plan(conn: &Connection, table: &Table, query: &str) -> Vec<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (sql, values) = RowQuery::read(&pairs, table).unwrap().statement(conn, table).unwrap();
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = explain.query_map(params_from_iter(values), |row| row.get(3)).unwrap();
    steps.map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_page_of_rows_looks_at_no_others() {
    let mut rig = rig().await;
    for time in [10, 20, 30] {
        let row = format!(r#"{{"id":"{time}","timestamp":{time},"status":"ok"}}"#);
        rig.post("/orders", &row).await;
    }
    let conn = open(&rig);
    let table = Table::load(&conn, "orders").unwrap().unwrap();
    for query in [
        // The first page and the last one, and one behind a row and before it.
        "order=_rpf_id:desc&limit=101",
        "order=_rpf_id:asc&limit=101",
        "order=_rpf_id:asc&limit=101&after=2",
        "order=_rpf_id:desc&limit=101&after=2",
        "order=timestamp:desc&limit=101",
        "order=timestamp:asc&limit=101",
        "order=timestamp:asc&limit=101&after=2",
        "order=timestamp:desc&limit=101&after=2",
    ] {
        for step in plan(&conn, &table, query) {
            let is_on_the_way = step.contains(" USING INDEX ") || step.contains(" COVERING INDEX ");
            // Rows of one time may have to be sorted by their numbers; all rows never.
            let sorts_a_part = step.contains("TEMP B-TREE") && !step.ends_with("FOR ORDER BY");
            assert!(is_on_the_way || sorts_a_part, "{query}: {step}");
        }
    }
}

#[tokio::test]
async fn an_order_without_an_index_looks_at_all_rows() {
    let mut rig = rig().await;
    rig.post("/orders", r#"{"id":"a","customer":"Ann"}"#).await;
    let conn = open(&rig);
    let table = Table::load(&conn, "orders").unwrap().unwrap();
    let steps = plan(&conn, &table, "order=customer:desc&limit=101");
    assert_eq!(steps, ["SCAN orders", "USE TEMP B-TREE FOR ORDER BY"]);
}

//! What SQLite makes of the questions of the server's page: a page of rows comes out of an index, so it costs the same in
//! a table of any size.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};

use super::{open, rig};
use crate::sink::table::query::RowQuery;
use crate::sink::table::row_api;
use crate::sink::table::schema::Table;

/// The statement of a query, with its values.
fn statement(conn: &Connection, table: &Table, query: &str) -> (String, Vec<Sql>) {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    RowQuery::read(&pairs, table).unwrap().statement(conn, table).unwrap()
}

/// The steps of a query.
fn plan(conn: &Connection, table: &Table, query: &str) -> Vec<String> {
    let (sql, values) = statement(conn, table, query);
    steps(conn, &sql, values)
}

fn steps(conn: &Connection, sql: &str, values: Vec<Sql>) -> Vec<String> {
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

#[tokio::test]
async fn an_answer_has_so_many_rows_and_no_more() {
    let mut rig = rig().await;
    rig.post("/orders", "{}").await;
    let conn = open(&rig);
    let table = Table::load(&conn, "orders").unwrap().unwrap();
    for (query, rows) in
        [("order=id", 10_000), ("limit=7", 7), ("limit=100000", 100_000), ("limit=100001", 100_000)]
    {
        let (sql, _) = statement(&conn, &table, query);
        assert!(sql.ends_with(&format!(" LIMIT {rows}")), "{query}: {sql}");
    }
}

/// With a status, and without.
#[tokio::test]
async fn rows_are_counted_along_an_index_alone() {
    let mut rig = rig().await;
    rig.post("/orders", r#"{"timestamp":10,"status":"ok","total":5}"#).await;
    rig.post("/visits", r#"{"timestamp":10,"total":5}"#).await;
    let conn = open(&rig);
    for name in ["orders", "visits"] {
        let table = Table::load(&conn, name).unwrap().unwrap();
        let status = table.column("status").map(|(_, column)| column);
        let sql = row_api::times_of(&table, status);
        let steps = steps(&conn, &sql, vec![Sql::Integer(1), Sql::Integer(20)]);
        let is_in_index = |step: &String| step.contains(" USING COVERING INDEX ");
        assert!(steps.len() == 1 && steps.iter().all(is_in_index), "{sql}: {steps:?}");
    }
}

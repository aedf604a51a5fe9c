//! What SQLite makes of the statements: none of them walks over a backlog.

use super::rig::{MIB, Rig};
use crate::QueueOptions;
use crate::sql::{self, QueueSql};

/// Searches, and scans that end at their first row.
fn check(conn: &rusqlite::Connection, statement: &str) {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let holes = explain.parameter_count();
    let params = rusqlite::params_from_iter(vec![1; holes]);
    let plan: Vec<String> =
        explain.query_map(params, |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let ends_at_once = statement.ends_with("ORDER BY id LIMIT 1");
    for step in plan {
        assert!(!step.contains("TEMP B-TREE"), "{statement}: {step}");
        let is_scan = step.starts_with("SCAN") && step != "SCAN CONSTANT ROW";
        assert!(!is_scan || ends_at_once, "{statement}: {step}");
    }
}

#[tokio::test]
async fn no_statement_of_the_hot_path_scans() {
    let mut rig = Rig::with(MIB, vec![QueueOptions::new("q")]);
    rig.close().await;
    let conn = rusqlite::Connection::open(rig.path()).unwrap();
    let sql = QueueSql::new(1, 0);
    let QueueSql { number: _, insert, adopt, read, sizes, measure, delete, empty: _, head, ends } =
        sql;
    for statement in [insert, adopt, read, sizes, measure, delete, head, ends] {
        check(&conn, &statement);
    }
    let fixed = [
        sql::SAVE_COUNTERS,
        sql::PUT_LEASE,
        sql::DELETE_LEASE,
        sql::PUT_CHECKPOINT,
        sql::DELETE_CHECKPOINT,
        sql::GET_CHECKPOINT,
        sql::FIND_BATCH,
        sql::MOVE_BATCH,
        sql::PUT_BATCH,
        sql::PRUNE_BATCHES,
        sql::PUT_DEAD,
        sql::OLDEST_DEAD,
        sql::NEXT_RETRY,
        sql::GET_RETRY,
        sql::DELETE_DEAD,
    ];
    for statement in fixed {
        check(&conn, statement);
    }
}

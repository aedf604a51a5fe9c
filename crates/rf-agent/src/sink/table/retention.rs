//! Old rows are removed in small steps, each a job between two batches, so that writing hardly waits.

use std::time::Duration;

use rusqlite::{Connection, params};
use tokio_util::sync::CancellationToken;

use super::row_table::UPDATED;
use super::schema::{Table, own_tables};
use super::timestamp;
use super::writer::Writer;

/// Rows that one step removes.
const STEP_ROWS: u32 = 500;
/// Pages that one step gives back to the disk.
const STEP_PAGES: u32 = 256;
/// Pause between two steps, in which batches are written.
const BREATH: Duration = Duration::from_millis(20);
/// Pause between two rounds: a tenth of the rows' life within these bounds.
const ROUND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What one step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more to remove.
    More,
    /// Nothing is old any more.
    Done,
}

/// Runs `step` until nothing is left to remove, again and again until `stop`.
pub(crate) async fn run<S: 'static>(
    writer: &Writer<S>,
    sink: &str,
    row_ttl: Duration,
    stop: &CancellationToken,
    step: fn(&mut S, Duration) -> rusqlite::Result<Step>,
) {
    let round = (row_ttl / 10).clamp(ROUND.0, ROUND.1);
    loop {
        let pause = match writer.call(move |state| step(state, row_ttl)).await {
            Ok(Ok(Step::More)) => BREATH,
            Ok(Ok(Step::Done)) => round,
            Ok(Err(error)) => {
                tracing::warn!(sink, %error, "old rows cannot be removed, trying again later");
                round
            }
            Err(error) => {
                tracing::warn!(sink, %error, "old rows cannot be removed, trying again later");
                round
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Removes up to [`STEP_ROWS`] rows of a table whose `column` is below `before`.
pub(crate) fn remove_older(
    conn: &Connection,
    table: &Table,
    column: &str,
    before: i64,
) -> rusqlite::Result<Step> {
    // A column of that name, which any event may make, says nothing of the row. Without any there is nothing to name old rows by.
    let Some(row_id) = table.row_id() else { return Ok(Step::Done) };
    let name = &table.name;
    let sql = format!(
        "DELETE FROM {name} WHERE {row_id} IN (SELECT {row_id} FROM {name} WHERE {column} < ?1 ORDER BY {column} LIMIT ?2)"
    );
    let removed = conn.prepare_cached(&sql)?.execute(params![before, STEP_ROWS])?;
    if removed == 0 {
        return Ok(Step::Done);
    }
    give_back(conn)?;
    Ok(Step::More)
}

/// Gives up to [`STEP_PAGES`] free pages back to the disk. Without effect in a file of the original's, which was made to keep
/// its size.
pub(crate) fn give_back(conn: &Connection) -> rusqlite::Result<Step> {
    let mut vacuum = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    // Each page is a row of the answer: what is not asked for is not given back.
    let mut answer = vacuum.query([])?;
    let mut pages = 0;
    while answer.next()?.is_some() {
        pages += 1;
    }
    Ok(if pages < STEP_PAGES { Step::Done } else { Step::More })
}

/// One step for tables of rows: the first one with rows that were not written for `row_ttl` loses some of them.
pub(crate) fn remove_old_rows(conn: &Connection, row_ttl: Duration) -> rusqlite::Result<Step> {
    let ttl = i64::try_from(row_ttl.as_secs()).unwrap_or(i64::MAX);
    let before = timestamp::now_seconds().saturating_sub(ttl);
    for name in own_tables(conn)? {
        let Some(table) = Table::load(conn, name.as_str())? else { continue };
        if table.column(UPDATED).is_some()
            && remove_older(conn, &table, UPDATED, before)? == Step::More
        {
            return Ok(Step::More);
        }
    }
    // Large rows leave more pages than their own steps have given back.
    give_back(conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::table::connect;

    #[test]
    fn the_room_of_rows_that_are_gone_goes_back_to_the_disk() {
        // Of the larger ones a step removes more pages than it gives back.
        for bytes in [500, 10_000] {
            let folder = tempfile::tempdir().unwrap();
            let conn = connect::writer(&folder.path().join("x.sqlite3"), None).unwrap();
            let rows = 2 * STEP_ROWS;
            conn.execute_batch(&format!(
                "CREATE TABLE t (id TEXT, {UPDATED} INTEGER);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO t SELECT hex(zeroblob({bytes})), 1 FROM n;"
            ))
            .unwrap();
            let number =
                |pragma: &str| -> u32 { conn.query_row(pragma, [], |row| row.get(0)).unwrap() };
            let pages = || number("PRAGMA page_count");
            let full = pages();
            assert!(full > 100, "{full}");
            assert_eq!(remove_old_rows(&conn, Duration::from_secs(1)).unwrap(), Step::More);
            assert_eq!(number("SELECT count(*) FROM t"), rows - STEP_ROWS, "one step");
            while remove_old_rows(&conn, Duration::from_secs(1)).unwrap() == Step::More {}
            assert_eq!(number("PRAGMA freelist_count"), 0, "{bytes}");
            assert!(pages() < 10, "{} of {full} pages", pages());
        }
    }

    #[test]
    fn a_column_that_is_called_as_sqlites_own_number_takes_no_row_along() {
        for columns in
            ["a INTEGER, b INTEGER", "rowid INTEGER, b INTEGER", "ROWID INTEGER, oid INTEGER"]
        {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(&format!("CREATE TABLE t (id TEXT, {UPDATED} INTEGER, {columns})"))
                .unwrap();
            let now = timestamp::now_seconds();
            for (id, updated) in [("old", now - 100), ("new", now), ("older", now - 200)] {
                conn.execute("INSERT INTO t VALUES (?1, ?2, 1, 1)", params![id, updated]).unwrap();
            }
            let step = || remove_old_rows(&conn, Duration::from_secs(50)).unwrap();
            assert_eq!([step(), step()], [Step::More, Step::Done], "{columns}");
            let left: String =
                conn.query_row("SELECT group_concat(id) FROM t", [], |row| row.get(0)).unwrap();
            assert_eq!(left, "new", "{columns}");
        }
    }
}

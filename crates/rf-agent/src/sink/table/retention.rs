//! Old rows are removed in small steps, each a job between two batches, so that writing hardly waits.

use std::time::Duration;

use rusqlite::{Connection, params};
use tokio_util::sync::CancellationToken;

use super::identifier::Identifier;
use super::row_table::UPDATED;
use super::schema::{Table, tables};
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
                tracing::warn!(sink, %error, "old rows are not removed now");
                round
            }
            Err(error) => {
                tracing::warn!(sink, %error, "old rows are not removed now");
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
    table: &Identifier,
    column: &str,
    before: i64,
) -> rusqlite::Result<Step> {
    let sql = format!(
        "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} < ?1 ORDER BY {column} LIMIT ?2)"
    );
    let removed = conn.prepare_cached(&sql)?.execute(params![before, STEP_ROWS])?;
    if removed == 0 {
        return Ok(Step::Done);
    }
    // Without effect in a file of the original's, which was made to keep its size.
    conn.execute_batch(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    Ok(Step::More)
}

/// One step for tables of rows: the first one with rows that were not written for `row_ttl` loses some of them.
pub(crate) fn remove_old_rows(conn: &Connection, row_ttl: Duration) -> rusqlite::Result<Step> {
    let ttl = i64::try_from(row_ttl.as_secs()).unwrap_or(i64::MAX);
    let before = timestamp::now_seconds().saturating_sub(ttl);
    for name in tables(conn)? {
        let Some(table) = Table::load(conn, name.as_str())? else { continue };
        if !table.is_view
            && table.column(UPDATED).is_some()
            && remove_older(conn, &table.name, UPDATED, before)? == Step::More
        {
            return Ok(Step::More);
        }
    }
    Ok(Step::Done)
}

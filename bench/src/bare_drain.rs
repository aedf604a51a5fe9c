//! `bare-drain`: the least that reading and deleting a backlog costs; what relay pull and acknowledge is measured against.
//!
//! A loop on one thread: read 1000 rows, then delete them by id range in a synced transaction, until none is left.

use std::path::PathBuf;

use anyhow::Context;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use crate::sample::BATCH_EVENTS;
use crate::{bare_db, out};

/// Reads and deletes what `bare-insert` left, 1000 rows at a time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Database file
    #[arg(long)]
    db: PathBuf,
}

/// Drains and prints rows/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let db = bare_db::open(&args.db).with_context(|| args.db.display().to_string())?;
    let start = Instant::now();
    let mut rows = 0_usize;
    let mut bytes = 0_usize;
    while let Some(batch) = read(&db, BATCH_EVENTS)? {
        rows += batch.contents.len();
        bytes += batch.contents.iter().map(Vec::len).sum::<usize>();
        remove(&db, &batch)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(rows > 0, "{} holds no rows: run bare-insert first", args.db.display());
    out::figures(&serde_json::json!({
        "events": rows,
        "bytes": bytes,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(rows as f64 / seconds),
    }))
}

/// Rows that were read and are still there.
pub(crate) struct Read {
    last_id: i64,
    pub(crate) contents: Vec<Vec<u8>>,
}

/// Removes what was read, in a transaction of its own.
pub(crate) fn remove(db: &Connection, read: &Read) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM events WHERE id <= ?1")?.execute([read.last_id])?;
    Ok(())
}

/// The oldest rows, so many at the most; None when the table is empty.
pub(crate) fn read(db: &Connection, most: usize) -> rusqlite::Result<Option<Read>> {
    let mut select = db.prepare_cached("SELECT id, content FROM events ORDER BY id LIMIT ?1")?;
    let mut rows = select.query(params![most])?;
    let mut last_id = None;
    let mut contents = Vec::with_capacity(most);
    while let Some(row) = rows.next()? {
        last_id = Some(row.get(0)?);
        contents.push(row.get(1)?);
    }
    Ok(last_id.map(|last_id| Read { last_id, contents }))
}

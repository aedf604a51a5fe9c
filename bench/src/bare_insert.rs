//! `bare-insert`: the least that a durable insert costs; what relay ingest is measured against.
//!
//! A loop on one thread: one transaction a batch, the same rows that `relay-load` sends. No HTTP, no JSON, no zstd.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use crate::sample::{self, BATCH_EVENTS, Batch};
use crate::sink_sample::Kind;
use crate::{bare_db, out};

/// Inserts batches of 1000 rows of 700 bytes into a database, a synced transaction each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Database file
    #[arg(long)]
    db: PathBuf,
    /// Batches to insert
    #[arg(long, default_value_t = 500)]
    batches: usize,
}

/// Inserts and prints rows/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let batches = sample::batches();
    let mut db = bare_db::open(&args.db).with_context(|| args.db.display().to_string())?;
    let start = Instant::now();
    for batch in batches.iter().cycle().take(args.batches) {
        insert(&mut db, batch)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let rows = args.batches * BATCH_EVENTS;
    out::figures(&serde_json::json!({
        "events": rows,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(rows as f64 / seconds),
    }))
}

/// Inserts the batch in one transaction.
pub(crate) fn insert(db: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut insert =
            transaction.prepare_cached("INSERT INTO events (at, content) VALUES (?1, ?2)")?;
        for (at, event) in (0_i64..).zip(batch) {
            insert.execute(params![at, event.as_bytes()])?;
        }
    }
    transaction.commit()
}

/// A table that holds the events of so many batches, as a queue does.
pub(crate) fn filled(path: &Path, kind: Kind, batches: usize) -> rusqlite::Result<Connection> {
    let mut db = bare_db::open(path)?;
    for number in 0..batches {
        let batch = kind.batch(number).into_iter().map(|sample| sample.event).collect();
        insert(&mut db, &batch)?;
    }
    Ok(db)
}

//! `bare-rows`: the least that a durable write into a table with indexes costs; what the sinks with tables are measured
//! against, and how a million rows come into a database for the queries.
//!
//! A loop on one thread: one synced transaction a batch, the rows that `sink-load` sends as events. No HTTP, no JSON. With
//! `--queue` a batch of events is also read from a table, and removed from it, in a synced transaction, once the rows are
//! there: what a sink with a durable queue cannot do without.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, params_from_iter};
use tokio::time::Instant;

use crate::sample::BATCH_EVENTS;
use crate::sink_sample::{Kind, Sample};
use crate::{bare_drain, bare_insert, memory, out};

/// Inserts batches of 1000 rows into a table with indexes, a synced transaction each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Database file
    #[arg(long)]
    db: PathBuf,
    /// Database of a table that events come from; it is filled first, which does not count
    #[arg(long)]
    queue: Option<PathBuf>,
    /// Which table
    #[arg(long, value_enum)]
    kind: Kind,
    /// Batches to insert
    #[arg(long, default_value_t = 200)]
    batches: usize,
}

/// Inserts and prints rows/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut db = open(args).with_context(|| args.db.display().to_string())?;
    let fill = |path: &PathBuf| bare_insert::filled(path, args.kind, args.batches);
    let queue = args.queue.as_ref().map(fill).transpose()?;
    drop(memory::Warm::take()?);
    let mut spent = Duration::ZERO;
    for number in 0..args.batches {
        // Made outside of the clock: the counterpart gets its values for nothing.
        let batch = args.kind.batch(number);
        let start = Instant::now();
        let taken =
            queue.as_ref().map(|queue| bare_drain::read(queue, BATCH_EVENTS)).transpose()?;
        insert(&mut db, args.kind, batch)?;
        if let (Some(queue), Some(taken)) = (&queue, taken.flatten()) {
            bare_drain::remove(queue, &taken)?;
        }
        spent += start.elapsed();
    }
    let rows = args.batches * BATCH_EVENTS;
    let seconds = spent.as_secs_f64();
    out::figures(&serde_json::json!({
        "events": rows,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(rows as f64 / seconds),
    }))
}

fn open(args: &Args) -> rusqlite::Result<Connection> {
    let db = Connection::open(&args.db)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let _mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // What the sinks have: with the 2 MB of a new connection the loop would wait for its own indexes.
    db.pragma_update(None, "cache_size", -32 * 1024)?;
    db.execute_batch(args.kind.schema())?;
    Ok(db)
}

fn insert(db: &mut Connection, kind: Kind, batch: Vec<Sample>) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut insert = transaction.prepare_cached(kind.insert())?;
        for sample in batch {
            insert.execute(params_from_iter(sample.values))?;
        }
    }
    transaction.commit()
}

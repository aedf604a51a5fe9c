//! `sink-drain`: how fast a player's queue goes into the database of its sink.
//!
//! The sink is held back by a lock on its database until the player has pulled everything; then the clock starts with the
//! first batch and ends with the last. So it measures what the sink does, and the player's queue that it empties, but
//! neither relay nor network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use tokio::time::{Instant, sleep};

use crate::out;
use crate::sink_sample::Kind;

/// How often the rows are counted: their number is the last row's, so it costs nothing.
const POLL: Duration = Duration::from_millis(5);
/// Nothing here may take longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until a player has pulled its events, lets its sink write them, and says how fast that was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The player's own database
    #[arg(long)]
    queue: PathBuf,
    /// The sink's database
    #[arg(long)]
    db: PathBuf,
    /// Which table
    #[arg(long, value_enum)]
    kind: Kind,
    /// Events that come
    #[arg(long)]
    expect: u64,
}

/// Measures and prints events/s.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    let lock = opened(&args.db, until).await?;
    lock.busy_timeout(PATIENCE)?;
    lock.execute_batch("BEGIN IMMEDIATE")?;
    let queue = opened(&args.queue, until).await?;
    let before = rows(&lock, args.kind);
    while waiting(&queue) + before < args.expect {
        anyhow::ensure!(Instant::now() < until, "{} of {} pulled", waiting(&queue), args.expect);
        sleep(POLL).await;
    }
    lock.execute_batch("ROLLBACK")?;
    let mut first = (before, Instant::now());
    loop {
        let now = rows(&lock, args.kind);
        if first.0 == before && now > before {
            first = (now, Instant::now());
        }
        if now >= args.expect {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "{now} of {} written", args.expect);
        sleep(POLL).await;
    }
    let seconds = first.1.elapsed().as_secs_f64();
    let events = args.expect - first.0;
    out::figures(&serde_json::json!({
        "events": events,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(events as f64 / seconds),
    }))
}

/// A database that another process makes.
async fn opened(path: &Path, until: Instant) -> anyhow::Result<Connection> {
    loop {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match Connection::open_with_flags(path, flags) {
            Ok(db)
                if db
                    .query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))
                    .is_ok_and(|mode| mode == "wal") =>
            {
                return Ok(db);
            }
            _ if Instant::now() < until => sleep(POLL).await,
            other => return other.with_context(|| path.display().to_string()),
        }
    }
}

/// Rows of the table; none while there is no table.
fn rows(db: &Connection, kind: Kind) -> u64 {
    let sql = format!("SELECT coalesce(max(rowid), 0) FROM {}", kind.table());
    db.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
}

/// Events in the player's queues.
fn waiting(queue: &Connection) -> u64 {
    queue
        .query_row("SELECT coalesce(sum(events), 0) FROM queues", [], |row| row.get(0))
        .unwrap_or(0)
}

//! `sink-drain`: how fast a player's queue goes into the database or the file of its sink.
//!
//! The sink is held back by a lock on what it writes until the player has pulled everything; then the clock starts with the
//! first batch and ends with the last. So it measures what the sink does, and the player's queue that it empties, but
//! neither relay nor network.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use tokio::time::{Instant, sleep};

use crate::sample::BATCH_EVENTS;
use crate::sink_sample::Kind;
use crate::{memory, out};

/// How often the rows are counted: their number is the last row's or the file's length, so it costs nothing.
const POLL: Duration = Duration::from_millis(5);
/// Nothing here may take longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until a player has pulled its events, lets its sink write them, and says how fast that was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The player's own database
    #[arg(long)]
    queue: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    /// Which events
    #[arg(long, value_enum)]
    kind: Kind,
    /// Batches of 1000 events that come
    #[arg(long)]
    batches: usize,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The sink's database
    #[arg(long)]
    db: Option<PathBuf>,
    /// The sink's file, with an event a line
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Measures and prints events/s.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    let expect = u64::try_from(args.batches * BATCH_EVENTS)?;
    let target = Target::held(&args, until).await?;
    let queue = opened(&args.queue, until).await?;
    let before = target.written()?;
    while waiting(&queue) + before < expect {
        anyhow::ensure!(Instant::now() < until, "{} of {expect} pulled", waiting(&queue));
        sleep(POLL).await;
    }
    // The sink tries again when it will, which may be seconds from now.
    let mut warm = Some(memory::Warm::take()?);
    target.release()?;
    let mut first = (before, Instant::now());
    loop {
        let now = target.written()?;
        if first.0 == before && now > before {
            drop(warm.take());
            first = (now, Instant::now());
        }
        if now >= expect {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "{now} of {expect} written");
        sleep(POLL).await;
    }
    let seconds = first.1.elapsed().as_secs_f64();
    let events = expect - first.0;
    out::figures(&serde_json::json!({
        "events": events,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(events as f64 / seconds),
    }))
}

/// What the sink writes, as another program sees it.
enum Target {
    Table(Connection, Kind),
    /// With the length of the file after each event.
    Lines(File, Vec<u64>),
}

impl Target {
    /// Locked, so that the sink has to wait.
    async fn held(args: &Args, until: Instant) -> anyhow::Result<Self> {
        if let Some(path) = &args.target.file {
            let named = || path.display().to_string();
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(named)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(named)?;
            file.try_lock().with_context(named)?;
            return Ok(Self::Lines(file, ends(args.kind, args.batches)));
        }
        let path = args.target.db.as_deref().context("neither --db nor --file")?;
        let db = opened(path, until).await?;
        db.busy_timeout(PATIENCE)?;
        db.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self::Table(db, args.kind))
    }

    fn release(&self) -> anyhow::Result<()> {
        match self {
            Self::Table(db, _) => Ok(db.execute_batch("ROLLBACK")?),
            Self::Lines(file, _) => Ok(file.unlock()?),
        }
    }

    /// Events that are there; none while there is no table.
    fn written(&self) -> anyhow::Result<u64> {
        match self {
            Self::Table(db, kind) => {
                let sql = format!("SELECT coalesce(max(rowid), 0) FROM {}", kind.table());
                Ok(db.query_row(&sql, [], |row| row.get(0)).unwrap_or(0))
            }
            Self::Lines(file, ends) => {
                let length = file.metadata()?.len();
                let longest = ends.last().copied().unwrap_or(0);
                anyhow::ensure!(
                    length <= longest,
                    "{length} bytes are more than the {longest} of all events"
                );
                Ok(u64::try_from(ends.partition_point(|end| *end <= length))?)
            }
        }
    }
}

/// The length of the file after each event.
fn ends(kind: Kind, batches: usize) -> Vec<u64> {
    let events = (0..batches).flat_map(|number| kind.batch(number));
    let lengths = events.map(|sample| sample.event.len() as u64 + 1);
    lengths
        .scan(0, |end, length| {
            *end += length;
            Some(*end)
        })
        .collect()
}

/// A database that another process makes.
pub(crate) async fn opened(path: &Path, until: Instant) -> anyhow::Result<Connection> {
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

/// Events in the queues of an agent.
pub(crate) fn waiting(queue: &Connection) -> u64 {
    queue
        .query_row("SELECT coalesce(sum(events), 0) FROM queues", [], |row| row.get(0))
        .unwrap_or(0)
}

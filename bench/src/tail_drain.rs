//! `tail-drain`: how fast the lines of a file come into a proxy's queue, from the moment that the file is there.
//!
//! The queue counts its events in the transaction that stores them, so what is seen here is durable.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use crate::out;
use crate::sink_drain::{opened, waiting};

/// How often the queue is asked for its count, which is one row.
const POLL: Duration = Duration::from_millis(5);
/// Nothing here may take longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Moves a log file to where a proxy looks, and waits until its lines are queued.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy's database
    #[arg(long)]
    queue: PathBuf,
    /// The finished file
    #[arg(long)]
    from: PathBuf,
    /// Where the proxy looks for it
    #[arg(long)]
    to: PathBuf,
    /// Its lines
    #[arg(long)]
    lines: u64,
}

/// Measures and prints lines/s and MB/s.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let bytes = std::fs::metadata(&args.from).with_context(|| args.from.display().to_string())?;
    let queue = opened(&args.queue, Instant::now() + PATIENCE).await?;
    let start = Instant::now();
    std::fs::rename(&args.from, &args.to).with_context(|| args.to.display().to_string())?;
    await_events(&queue, args.lines, start).await?;
    figures(args.lines, bytes.len(), start)
}

/// Waits until a proxy's queue has so many events.
#[derive(Debug, clap::Args)]
pub(crate) struct AwaitArgs {
    /// The proxy's database
    #[arg(long)]
    queue: PathBuf,
    /// Events that come
    #[arg(long)]
    expect: u64,
}

/// Prints how long it took.
pub(crate) async fn wait(args: AwaitArgs) -> anyhow::Result<()> {
    let queue = opened(&args.queue, Instant::now() + PATIENCE).await?;
    let start = Instant::now();
    await_events(&queue, args.expect, start).await?;
    let seconds = out::rounded(start.elapsed().as_secs_f64());
    out::figures(&serde_json::json!({ "events": args.expect, "seconds": seconds }))
}

async fn await_events(queue: &Connection, expect: u64, start: Instant) -> anyhow::Result<()> {
    loop {
        let count = waiting(queue);
        anyhow::ensure!(count <= expect, "{count} events are queued, {expect} lines were written");
        if count == expect {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "{count} of {expect} lines are queued");
        sleep(POLL).await;
    }
}

/// Prints what reading a whole file came to.
pub(crate) fn figures(lines: u64, bytes: u64, start: Instant) -> anyhow::Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    out::figures(&serde_json::json!({
        "lines": lines,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(lines as f64 / seconds),
        "mb_per_second": out::rounded(bytes as f64 / 1e6 / seconds),
    }))
}

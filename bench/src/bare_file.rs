//! `bare-file`: the least that durable lines in a file cost; what the `file` sink is measured against.
//!
//! A loop on one thread: the rows that `sink-load` sends as events, put together to one write a batch, and synced. No HTTP,
//! no JSON, no queue.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::out;
use crate::sample::BATCH_EVENTS;
use crate::sink_sample::Kind;

/// Writes batches of lines to a file, each synced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File
    #[arg(long)]
    file: PathBuf,
    /// Which events
    #[arg(long, value_enum)]
    kind: Kind,
    /// Batches of 1000 events to write
    #[arg(long, default_value_t = 200)]
    batches: usize,
    /// As many of them make one write
    #[arg(long, default_value_t = 1)]
    together: usize,
}

/// Writes and prints lines/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let spent = write_all(args).with_context(|| args.file.display().to_string())?;
    let rows = args.batches * BATCH_EVENTS;
    let seconds = spent.as_secs_f64();
    out::figures(&serde_json::json!({
        "events": rows,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(rows as f64 / seconds),
    }))
}

fn write_all(args: &Args) -> std::io::Result<Duration> {
    let mut file = created(&args.file)?;
    let mut spent = Duration::ZERO;
    let numbers: Vec<usize> = (0..args.batches).collect();
    for numbers in numbers.chunks(args.together.max(1)) {
        // Made outside of the clock: the counterpart gets its events for nothing.
        let batch: Vec<String> = numbers
            .iter()
            .flat_map(|number| args.kind.batch(*number))
            .map(|sample| sample.event)
            .collect();
        let start = Instant::now();
        let mut lines = Vec::new();
        for event in &batch {
            lines.extend_from_slice(event.as_bytes());
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_data()?;
        spent += start.elapsed();
    }
    Ok(spent)
}

fn created(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::create_new(path)
}

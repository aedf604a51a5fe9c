//! `bare-file`: the least that durable lines in a file cost; what the `file` sink is measured against.
//!
//! A loop on one thread: the rows that `sink-load` sends as events, put together to one write a batch, and synced. No HTTP,
//! no JSON. With `--queue` they come out of a table, and each batch is removed from it, in a synced transaction, once it is in
//! the file: what a sink with a durable queue cannot do without.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::bare_drain::{self, Read};
use crate::sample::BATCH_EVENTS;
use crate::sink_sample::Kind;
use crate::{bare_insert, memory, out};

/// Writes batches of lines to a file, each synced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File
    #[arg(long)]
    file: PathBuf,
    /// Database of a table that they come from; it is filled first, which does not count
    #[arg(long)]
    queue: Option<PathBuf>,
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
    let file = created(&args.file).with_context(|| args.file.display().to_string())?;
    let spent = match &args.queue {
        Some(path) => from_queue(args, path, file)?,
        None => from_memory(args, file)?,
    };
    let rows = args.batches * BATCH_EVENTS;
    let seconds = spent.as_secs_f64();
    out::figures(&serde_json::json!({
        "events": rows,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(rows as f64 / seconds),
    }))
}

/// The rows are made outside of the clock: the counterpart gets its events for nothing.
fn from_memory(args: &Args, mut file: File) -> anyhow::Result<Duration> {
    drop(memory::Warm::take()?);
    let mut spent = Duration::ZERO;
    let numbers: Vec<usize> = (0..args.batches).collect();
    for numbers in numbers.chunks(args.together.max(1)) {
        let events = numbers.iter().flat_map(|number| args.kind.batch(*number));
        let batch: Vec<Vec<u8>> = events.map(|sample| sample.event.into_bytes()).collect();
        let start = Instant::now();
        write(&mut file, &batch)?;
        spent += start.elapsed();
    }
    Ok(spent)
}

fn from_queue(args: &Args, path: &Path, mut file: File) -> anyhow::Result<Duration> {
    let db = bare_insert::filled(path, args.kind, args.batches)
        .with_context(|| path.display().to_string())?;
    drop(memory::Warm::take()?);
    let start = Instant::now();
    while let Some(batch) = bare_drain::read(&db, args.together.max(1) * BATCH_EVENTS)? {
        let Read { contents, .. } = &batch;
        write(&mut file, contents)?;
        bare_drain::remove(&db, &batch)?;
    }
    Ok(start.elapsed())
}

fn write(file: &mut File, batch: &[Vec<u8>]) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for event in batch {
        lines.extend_from_slice(event);
        lines.push(b'\n');
    }
    file.write_all(&lines)?;
    file.sync_data()
}

fn created(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::create_new(path)
}

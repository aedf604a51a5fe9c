//! `log-write`: a log file for the benchmarks of tailing, all at once or by the clock.
//!
//! Lines look like those of an access log and no two are alike. By the clock each line is a write of its own, as a
//! program writes them that logs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::out;

/// The same lines in every run, so that rounds can be compared.
const SEED: u64 = 29;
/// How often lines are written by the clock.
const TICK: Duration = Duration::from_millis(1);

/// Writes a log file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; lines are added to it
    #[arg(long)]
    file: PathBuf,
    /// Bytes of a line with its end
    #[arg(long, default_value_t = 240)]
    line_bytes: usize,
    /// How many
    #[arg(long)]
    lines: u64,
    /// Lines a second; without it as fast as they can be written
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

/// Writes the lines and prints how long it took.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let told = || args.file.display().to_string();
    let file = File::options().create(true).append(true).open(&args.file).with_context(told)?;
    let mut rng = Rng::with_seed(SEED);
    let start = Instant::now();
    match args.rate {
        None => {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            for number in 0..args.lines {
                file.write_all(line(&mut rng, number, args.line_bytes).as_bytes())?;
            }
            file.flush()?;
            // What the disk still has to do would be charged to the reader.
            file.get_ref().sync_all()?;
        }
        Some(rate) => by_the_clock(&args, rate, file, start, &mut rng).await?,
    }
    out::figures(&serde_json::json!({
        "lines": args.lines,
        "bytes": args.lines * args.line_bytes as u64,
        "seconds": out::rounded(start.elapsed().as_secs_f64()),
    }))
}

async fn by_the_clock(
    args: &Args,
    rate: u64,
    mut file: File,
    start: Instant,
    rng: &mut Rng,
) -> anyhow::Result<()> {
    let mut written = 0;
    let mut tick = start;
    while written < args.lines {
        tick += TICK;
        sleep_until(tick).await;
        // By the time that is, not by the ticks: one that comes late writes what is due since.
        let due = start.elapsed().as_secs_f64() * rate as f64;
        while written < args.lines && (written as f64) < due {
            file.write_all(line(rng, written, args.line_bytes).as_bytes())?;
            written += 1;
        }
    }
    Ok(())
}

/// A line of exactly `bytes`, or what its fixed parts need.
fn line(rng: &mut Rng, number: u64, bytes: usize) -> String {
    let mut line = format!(
        "203.0.113.{} - - [26/Nov/2026:06:22:26 +0000] \"GET /shop/items/{number:010} HTTP/1.1\" 200 {} \"https://shop.example/\" \"",
        rng.u8(..),
        rng.u16(..),
    );
    const END: &str = "\"\n";
    while line.len() + END.len() < bytes {
        line.push(rng.alphanumeric());
    }
    line.push_str(END);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_size_and_differ() {
        let mut rng = Rng::with_seed(SEED);
        let lines: Vec<String> = (0..100).map(|number| line(&mut rng, number, 240)).collect();
        assert!(lines.iter().all(|line| line.len() == 240 && line.matches('\n').count() == 1));
        let distinct: std::collections::HashSet<&String> = lines.iter().collect();
        assert_eq!(distinct.len(), lines.len());
    }

    #[tokio::test]
    async fn by_the_clock_all_lines_are_written_in_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.log");
        let args = Args { file: file.clone(), line_bytes: 120, lines: 50, rate: Some(1000) };
        let start = Instant::now();
        run(args).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(49));
        assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 50);
    }
}

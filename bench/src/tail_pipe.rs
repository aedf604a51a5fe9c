//! `tail-pipe`: how fast `tail -F` gives a file away to a reader that does nothing with it, as `cat > /dev/null` would.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::Instant;

use crate::tail_drain::figures;

/// Reads a file through a pipe from `tail -F`, to its end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The log file
    #[arg(long)]
    file: PathBuf,
    /// Its lines
    #[arg(long)]
    lines: u64,
}

/// Reads as many bytes as the file has and prints lines/s and MB/s.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let expected =
        std::fs::metadata(&args.file).with_context(|| args.file.display().to_string())?.len();
    let start = Instant::now();
    let mut tail = Command::new("tail")
        .args(["-n", "+1", "-F"])
        .arg(&args.file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("tail")?;
    let mut pipe = tail.stdout.take().context("the child has a pipe")?;
    let mut block = vec![0; 128 * 1024];
    let mut got = 0;
    while got < expected {
        let count = pipe.read(&mut block).await?;
        anyhow::ensure!(count > 0, "tail has ended after {got} of {expected} bytes");
        got += count as u64;
    }
    figures(args.lines, got, start)
}

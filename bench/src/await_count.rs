//! `await-count`: waits until a `bare-server` has received what was acknowledged at the other end of the way, then
//! says how fast that was and what is missing.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use hyper::Method;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::out;

/// How often the counters are read: rarely enough to cost the target nothing.
const POLL: Duration = Duration::from_millis(100);

/// The counters must stand still for so long before the way counts as drained: events whose answer the load generator
/// did not wait for, and repeats, still arrive after the last acknowledged one.
const QUIET: Duration = Duration::from_secs(1);

/// Waits until everything acknowledged has arrived at a bare server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the bare server, as in <http://127.0.0.1:8000>
    url: String,
    /// Events that the load generator saw acknowledged
    #[arg(long)]
    accepted: u64,
    /// Which counter counts the events
    #[arg(long, value_enum)]
    by: By,
    /// When the load began, Unix time in milliseconds
    #[arg(long)]
    since_ms: u64,
    /// Gives up after so many seconds without an arrival, and reports what is missing
    #[arg(long, default_value_t = 20)]
    patience: u64,
}

/// A counter of the bare server.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// Strings in JSON arrays: batches
    Events,
    /// Distinct `Idempotency-Key`: single requests, repeats counted once
    Keys,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
struct Counts {
    requests: u64,
    events: u64,
    keys: u64,
    refused: u64,
    last_at_ms: u64,
}

impl Counts {
    fn by(&self, by: By) -> u64 {
        match by {
            By::Events => self.events,
            By::Keys => self.keys,
        }
    }
}

/// Waits and prints delivered events/s over load and drain, and what was lost.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let counts = settled(&args).await?;
    anyhow::ensure!(counts.refused == 0, "the target could not read {} requests", counts.refused);
    let delivered = counts.by(args.by);
    let seconds = counts.last_at_ms.saturating_sub(args.since_ms) as f64 / 1000.0;
    // What arrived beyond the acknowledged (requests in flight at the end of the load, repeats) is no merit.
    let counted = delivered.min(args.accepted);
    out::figures(&serde_json::json!({
        "accepted": args.accepted,
        "delivered": delivered,
        "lost": args.accepted.saturating_sub(delivered),
        "surplus": delivered.saturating_sub(args.accepted),
        "requests": counts.requests,
        // Batches carry no keys: there a repeat only shows as surplus.
        "repeats": matches!(args.by, By::Keys).then(|| counts.requests.saturating_sub(counts.keys)),
        "seconds": out::rounded(seconds),
        "per_second": if seconds > 0.0 { out::rounded(counted as f64 / seconds) } else { 0.0 },
    }))
}

/// The counters when enough has arrived and they stand still, or when nothing arrives any more.
async fn settled(args: &Args) -> anyhow::Result<Counts> {
    let client = Client::new();
    let url = format!("{}/_count", args.url.trim_end_matches('/'));
    let mut seen: Option<Counts> = None;
    let mut changed = Instant::now();
    loop {
        let body = client.send_ok(Method::GET, &url, &[], Bytes::new()).await?;
        let counts: Counts = serde_json::from_slice(&body).context("answer of /_count")?;
        if seen != Some(counts) {
            seen = Some(counts);
            changed = Instant::now();
        }
        let still = changed.elapsed();
        let complete = counts.by(args.by) >= args.accepted;
        if still >= Duration::from_secs(args.patience) || (complete && still >= QUIET) {
            return Ok(counts);
        }
        sleep(POLL).await;
    }
}

//! `relay-drain`: what players do to a relay: pull 1000 events with a lease, acknowledge them, until the bucket is empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::out;
use crate::sample::BATCH_EVENTS;

/// The relay's answer to a pull from an empty bucket.
const EMPTY: u16 = 404;

/// Pulls 1000 events with a lease and acknowledges them, until the bucket is empty or enough were taken.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the relay, as in <http://127.0.0.1:8081>
    url: String,
    /// Bucket to read
    #[arg(long, default_value = "b")]
    bucket: String,
    /// Its token
    #[arg(long, default_value = "t")]
    token: String,
    /// Pulls at most so many batches of 1000 events; the rest stays
    #[arg(long, default_value_t = usize::MAX)]
    batches: usize,
    /// The run is void unless it got so many events
    #[arg(long)]
    expect: Option<usize>,
    /// Players that share the bucket, each with one connection
    #[arg(long, default_value_t = 2)]
    connections: usize,
}

/// One event of `GET /first-batch`.
#[derive(Deserialize)]
struct Pulled<'a> {
    id: u64,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// What one player took.
#[derive(Default)]
struct Taken {
    events: usize,
    bytes: usize,
}

/// Drains and prints events/s.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let pulls = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut players = JoinSet::new();
    for _ in 0..args.connections {
        players.spawn(player(args.clone(), Arc::clone(&pulls)));
    }
    let mut all = Taken::default();
    while let Some(taken) = players.join_next().await {
        let taken = taken??;
        all.events += taken.events;
        all.bytes += taken.bytes;
    }
    let seconds = start.elapsed().as_secs_f64();
    if let Some(expected) = args.expect {
        anyhow::ensure!(all.events == expected, "pulled {} events, not {expected}", all.events);
    }
    out::figures(&serde_json::json!({
        "events": all.events,
        "bytes": all.bytes,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(all.events as f64 / seconds),
    }))
}

async fn player(args: Args, pulls: Arc<AtomicUsize>) -> anyhow::Result<Taken> {
    let client = Client::new();
    let relay = args.url.trim_end_matches('/');
    let pull = format!("{relay}/first-batch?limit={BATCH_EVENTS}&lease=30s");
    let acknowledge = format!("{relay}/acknowledge-batch");
    let bearer = format!("Bearer {}", args.token);
    let headers = [("authorization", bearer.as_str()), ("rf-bucket", args.bucket.as_str())];
    let mut taken = Taken::default();
    while pulls.fetch_add(1, Ordering::Relaxed) < args.batches {
        let answer = client.send(Method::GET, &pull, &headers, Bytes::new()).await?;
        if answer.status == EMPTY {
            break;
        }
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(answer.status == 200, "{pull} answered {}: {text}", answer.status);
        let batch: Vec<Pulled<'_>> =
            serde_json::from_slice(&answer.body).context("answer of first-batch")?;
        taken.events += batch.len();
        taken.bytes += batch.iter().map(|event| event.content.get().len()).sum::<usize>();
        client.send_ok(Method::DELETE, &acknowledge, &headers, acknowledgement(&batch)?).await?;
    }
    Ok(taken)
}

/// The protocol wants ids as strings.
fn acknowledgement(batch: &[Pulled<'_>]) -> anyhow::Result<Bytes> {
    let ids: Vec<String> = batch.iter().map(|event| event.id.to_string()).collect();
    Ok(serde_json::to_vec(&serde_json::json!({ "ids": ids }))?.into())
}

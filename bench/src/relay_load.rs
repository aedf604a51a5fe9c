//! `relay-load`: what a fleet of shipping agents does to a relay: zstd batches of 1000 events, each with its own batch id.
//!
//! The batches are made and compressed before the clock starts: the relay is measured, not its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::out;
use crate::sample::{self, BATCH_EVENTS};

/// Posts zstd batches of 1000 events of 700 bytes to a relay.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the relay, as in <http://127.0.0.1:8081>
    url: String,
    /// Bucket to write to
    #[arg(long, default_value = "b")]
    bucket: String,
    /// Its token
    #[arg(long, default_value = "t")]
    token: String,
    /// Batches to send
    #[arg(long, default_value_t = 500)]
    batches: usize,
    /// Connections, each with one batch in flight
    #[arg(long, default_value_t = 4)]
    connections: usize,
}

/// What all connections share.
struct Load {
    args: Args,
    bodies: Vec<Bytes>,
    next: AtomicUsize,
    /// Makes the batch ids of this run differ from those of every other.
    run: u128,
}

/// Sends and prints events/s; any answer but 2xx makes the run void.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let bodies =
        sample::batches().iter().map(sample::zstd_body).collect::<anyhow::Result<Vec<_>>>()?;
    let connections = args.connections;
    let events = args.batches * BATCH_EVENTS;
    let load = Arc::new(Load { args, bodies, next: AtomicUsize::new(0), run: fastrand::u128(..) });
    let start = Instant::now();
    let mut open = JoinSet::new();
    for _ in 0..connections {
        open.spawn(connection(Arc::clone(&load)));
    }
    while let Some(outcome) = open.join_next().await {
        outcome??;
    }
    let seconds = start.elapsed().as_secs_f64();
    out::figures(&serde_json::json!({
        "events": events,
        "seconds": out::rounded(seconds),
        "per_second": out::rounded(events as f64 / seconds),
    }))
}

async fn connection(load: Arc<Load>) -> anyhow::Result<()> {
    let client = Client::new();
    let url = format!("{}/record-batch", load.args.url.trim_end_matches('/'));
    let bearer = format!("Bearer {}", load.args.token);
    loop {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        if number >= load.args.batches {
            return Ok(());
        }
        let batch_id = format!("{:032x}-{number}", load.run);
        let headers = [
            ("authorization", bearer.as_str()),
            ("rf-buckets", load.args.bucket.as_str()),
            ("rf-batch-id", batch_id.as_str()),
            ("content-type", "application/json"),
            ("content-encoding", "zstd"),
        ];
        client
            .send_ok(Method::POST, &url, &headers, load.bodies[number % load.bodies.len()].clone())
            .await?;
    }
}

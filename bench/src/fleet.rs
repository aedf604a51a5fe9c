//! `fleet`: what many proxies and players tell a relay: node-info message after message, as their minutes would bring them,
//! and a few events into each bucket, so that the relay knows who writes where.
//!
//! Nodes are in pairs: a proxy that ships to two buckets, and a player that reads one of them. Each tells as much as a
//! real one does: two components, a histogram, twenty log lines. One in fifty is in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::out;

/// Events that each proxy writes to each of its buckets, and each player reads.
const EVENTS: usize = 3;
/// One node in so many has a sink that waits for a person.
const TROUBLED: usize = 50;
/// The longest memory that a relay has of a node: an hour of messages.
const MESSAGES: usize = 60;
/// Log lines that a component tells.
const LOG_LINES: usize = 20;

/// Tells a relay of so many nodes, an hour of messages of each, and uses its buckets `bucket-000`, `bucket-001` and so on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the relay, as in <http://127.0.0.1:8081>
    url: String,
    /// Nodes, half of them proxies
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Buckets
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..))]
    buckets: u16,
    /// The token of all buckets
    #[arg(long, default_value = "t")]
    token: String,
    /// Connections
    #[arg(long, default_value_t = 4)]
    connections: usize,
}

/// Tells, and prints how much that was.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let fleet = Arc::new(Fleet { args: args.clone(), next: AtomicUsize::new(0) });
    let mut open = JoinSet::new();
    for _ in 0..args.connections {
        open.spawn(connection(Arc::clone(&fleet)));
    }
    let mut bytes = 0;
    while let Some(told) = open.join_next().await {
        bytes += told??;
    }
    out::figures(&json!({
        "nodes": args.nodes,
        "buckets": args.buckets,
        "seconds": out::rounded(start.elapsed().as_secs_f64()),
        "told_mib": out::rounded(bytes as f64 / 1024.0 / 1024.0),
    }))
}

/// What all connections share.
struct Fleet {
    args: Args,
    next: AtomicUsize,
}

/// One node after the other, each with all of its messages; bytes of their newest ones.
async fn connection(fleet: Arc<Fleet>) -> anyhow::Result<usize> {
    let client = Client::new();
    let mut bytes = 0;
    loop {
        let number = fleet.next.fetch_add(1, Ordering::Relaxed);
        if number >= fleet.args.nodes {
            return Ok(bytes);
        }
        let node = Node::new(number, &fleet.args);
        node.move_events(&client).await?;
        for message in 0..MESSAGES {
            let body = node.tell(message).to_string();
            if message + 1 == MESSAGES {
                bytes += body.len();
            }
            node.call(&client, (Method::POST, "node-info"), &node.buckets[0], body.into()).await?;
        }
    }
}

/// A proxy or a player.
struct Node {
    number: usize,
    is_proxy: bool,
    host: String,
    url: String,
    bearer: String,
    buckets: Vec<String>,
}

impl Node {
    fn new(number: usize, args: &Args) -> Self {
        let buckets = usize::from(args.buckets);
        let (pair, is_proxy) = (number / 2, number.is_multiple_of(2));
        let name = |bucket: usize| format!("bucket-{:03}", bucket % buckets);
        let mut used = vec![name(pair)];
        if is_proxy {
            used.push(name(pair + buckets / 2));
        }
        Self {
            number,
            is_proxy,
            host: format!("{}-{pair:03}.example", if is_proxy { "web" } else { "desk" }),
            url: args.url.trim_end_matches('/').to_owned(),
            bearer: format!("Bearer {}", args.token),
            buckets: used,
        }
    }

    async fn call(
        &self,
        client: &Client,
        (method, path): (Method, &str),
        bucket: &str,
        body: Bytes,
    ) -> anyhow::Result<u16> {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("rf-bucket", bucket),
            ("rf-buckets", bucket),
            ("rf-hostname", self.host.as_str()),
            ("rf-env-name", if self.number.is_multiple_of(3) { "staging" } else { "prod" }),
            ("content-type", "application/json"),
        ];
        let url = format!("{}/{path}", self.url);
        let answer = client.send(method, &url, &headers, body).await?;
        // An empty bucket is no failure.
        anyhow::ensure!(
            (200..300).contains(&answer.status) || answer.status == 404,
            "{url} answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(answer.status)
    }

    async fn move_events(&self, client: &Client) -> anyhow::Result<()> {
        for bucket in &self.buckets {
            if self.is_proxy {
                let events = serde_json::to_vec(&vec!["{}"; EVENTS])?;
                let status = self
                    .call(client, (Method::POST, "record-batch"), bucket, events.into())
                    .await?;
                anyhow::ensure!(status == 200, "bucket {bucket} does not take events: {status}");
            } else {
                self.call(client, (Method::GET, "first-batch"), bucket, Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// The body of its `message`th node-info; counters grow from one to the next.
    fn tell(&self, message: usize) -> Value {
        let now = unix_ms().unwrap_or_default();
        let done = (message + 1) * (50 + self.number % 100);
        let wired = json!({ "relay": self.url, "buckets": self.buckets });
        let (ours, other) = if self.is_proxy { ("relay", "http") } else { ("http", "db") };
        let mut sink = json!({
            "type": ours, "shipped": done, "delivered": 0, "retried": 3, "bytes": done * 700,
            "queue": { "events": done % 40, "bytes": done * 9, "maxBytes": 1 << 28, "oldestAtMs": now - 900 },
            "lastSuccessAtMs": now - 100,
            "latency": { "counts": [done, 9, 9, 7, 5, 5, 3, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0], "sumMs": done * 3 },
            "recentLogs": log_lines(now),
        });
        if self.is_proxy {
            sink["wiredTo"] = wired.clone();
        }
        if self.number.is_multiple_of(TROUBLED) {
            sink["paused"] = json!("401 Unauthorized: unknown bucket or wrong token");
        }
        let mut source = json!({
            "type": if self.is_proxy { "http" } else { "relay" }, "sinks": ["main", "second"],
            "received": done, "emitted": done, "stored": done, "bytes": done * 700, "lastSuccessAtMs": now - 200,
        });
        if !self.is_proxy {
            source["wiredTo"] = wired;
        }
        json!({
            "role": if self.is_proxy { "proxy" } else { "player" }, "version": "1.0.0", "startedAtMs": 1_700_000_000_000_u64,
            "clockMs": now, "everySecs": 60, "envName": "prod",
            "memoryProcess": 24 << 20, "memoryHostTotal": 16_u64 << 30, "memoryHostFree": 6_u64 << 30,
            "memoryHostUsedPct": 62.5, "cpuPercentHost": self.number % 90, "diskTotal": 1_u64 << 38,
            "diskFree": 1_u64 << 37, "diskUsedPct": 50.0,
            "sources": { "in": source },
            "sinks": { "main": sink, "second": { "type": other, "delivered": done, "lastSuccessAtMs": now } },
        })
    }
}

fn log_lines(now: u64) -> Value {
    let line = |n: usize| {
        json!({
            "atMs": now - 1000 * n as u64, "level": "warn",
            "text": format!("batch 4f3a{n:04x} was answered 503 Service Unavailable, tried again in {n} s"),
        })
    };
    (0..LOG_LINES).rev().map(line).collect()
}

fn unix_ms() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::try_from(since.as_millis())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_the_buckets_among_them() {
        let args = Args {
            url: "http://127.0.0.1:1/".to_owned(),
            nodes: 500,
            buckets: 300,
            token: "t".to_owned(),
            connections: 1,
        };
        let nodes: Vec<Node> = (0..args.nodes).map(|number| Node::new(number, &args)).collect();
        let hosts: std::collections::HashSet<&str> =
            nodes.iter().map(|node| node.host.as_str()).collect();
        assert_eq!(hosts.len(), 500);
        let used: std::collections::HashSet<&String> =
            nodes.iter().flat_map(|node| &node.buckets).collect();
        assert_eq!(used.len(), 300);
        let troubled = nodes.iter().filter(|node| {
            let told = node.tell(0);
            assert_eq!(told["role"] == "proxy", node.is_proxy);
            told["sinks"]["main"]["paused"].is_string()
        });
        assert_eq!(troubled.count(), 10);
    }
}
